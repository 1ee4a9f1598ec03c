"""Statistics of two answers to the same questions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest, t

from microscopy_cls.evaluation.intervals import Array


def same_division(first: pd.Series, second: pd.Series) -> bool:
    """Whether two columns divide the same rows alike, whatever the names of the parts."""
    return bool(np.array_equal(pd.factorize(first)[0], pd.factorize(second)[0]))


def corrected_t_test(differences: Array, num_tested: NDArray[np.int64], num_images: int) -> dict[str, float] | None:
    """Corrected resampled t-test over folds: Nadeau and Bengio 2003, doi:10.1023/A:1024068626366.

    Over the folds of r repeats it is that of Bouckaert and Frank 2004, doi:10.1007/978-3-540-24775-3_3.

    Folds share most of their training images, so their differences vary too little; the correction adds what tested
    and trained images are to each other. With few folds it finds large differences only.

    Args:
        differences: of one metric, a fold each, (r * k,).
        num_tested: images of each fold, (r * k,).
        num_images: of all folds of a repeat.

    Returns:
        `t`, `p_value` (two-sided) and `num_folds`; None where the folds do not vary or a fold has no value.
    """
    num = len(differences)
    variance = float(np.var(differences, ddof=1))
    if not variance > 0:  # NaN too
        return None
    share = num_tested.mean() / (num_images - num_tested).mean()
    statistic = float(np.mean(differences)) / math.sqrt((1 / num + share) * variance)
    p_value = float(2 * t.sf(abs(statistic), num - 1))
    return {"t": round(statistic, 6), "p_value": round(p_value, 6), "num_folds": num}


def discordant(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> dict[str, Any]:
    """Images that only one of the two gets right, and McNemar's exact p-value (1947, doi:10.1007/BF02295996).

    It takes images for independent, which images of one patient or slide are not: information, no verdict.
    """
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p_value = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return {"only_a_right": only_a, "only_b_right": only_b, "mcnemar_p_value": p_value}
