"""Two classes: sensitivity, specificity and average precision, at a threshold that the tested fold did not choose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.evaluation.scores import Array, average_precision


def youden_threshold(positive: NDArray[np.bool_], score: Array) -> float:
    """The score from which on to say "positive" so that sensitivity + specificity is largest (Youden 1950).

    Halfway to the next lower score, so that the choice does not hang on one image's last digit.
    """
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], positive[order]
    last = np.flatnonzero(np.r_[np.diff(ranked) != 0, True])
    gain = np.cumsum(hits)[last] / max(1, hits.sum()) - np.cumsum(~hits)[last] / max(1, (~hits).sum())
    best = int(np.argmax(gain))
    below = ranked[last[best + 1]] if best + 1 < len(last) else 0.0
    return float((ranked[last[best]] + below) / 2)


def cross_fitted_calls(positive: NDArray[np.bool_], score: Array, folds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each image is called positive, by the threshold that the other folds choose: (n,)."""
    called = np.zeros(len(score), bool)
    for fold in np.unique(folds):
        inside = folds == fold
        called[inside] = score[inside] >= youden_threshold(positive[~inside], score[~inside])
    return called


def binary_scores(
    positive: NDArray[np.bool_], called: NDArray[np.bool_], score: Array, weights: Array
) -> dict[str, Array]:
    """Sensitivity, specificity and average precision for weightings (b, n), each (b,)."""
    truths, others = weights @ positive, weights @ ~positive
    with np.errstate(invalid="ignore"):  # a resample without one of the classes has no value: NaN
        return {
            "sensitivity": weights @ (positive & called) / truths,
            "specificity": weights @ (~positive & ~called) / others,
            "average_precision": average_precision(positive, score, weights),
        }
