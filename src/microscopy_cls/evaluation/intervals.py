"""95 % intervals by bootstrap over groups: images of one patient, slide or day come and go together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

Array = NDArray[np.float64]
LEVEL = 0.95
FEW = 8  # groups; of so many the outer quantiles are still among 1,000 resamples: 0.6 % on each side
CELLS_AT_ONCE = 8_000_000  # weights held in memory at a time: 64 MB; no score takes more than a few times that

Scores = Callable[[Array], dict[str, Array]]


def group_resamples(groups: NDArray[np.object_], num: int, seed: int) -> Iterator[Array]:
    """Weights of `num` resamples of the groups with replacement, in chunks of shape (b, n).

    The weight of an image is how often its group was drawn. Percentile bootstrap over clusters: Field and Welsh
    2007, doi:10.1111/j.1467-9868.2007.00593.x.
    """
    codes, names = pd.factorize(groups, sort=True)
    rng = np.random.default_rng(seed)
    size = max(1, CELLS_AT_ONCE // len(groups))
    for start in range(0, num, size):
        draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=min(size, num - start))
        yield draws[:, codes].astype(np.float64)


def interval(values: Array, num_groups: int) -> tuple[Array, Array]:
    """Lower and upper end over the first axis; resamples without a value (NaN) do not count.

    Resamples of n groups spread too little, by sqrt((n - 1) / n), and their quantiles are those of a normal
    distribution where Student's with n - 1 degrees is due. From `FEW` groups on the quantiles go further out (the
    expanded percentile interval: Hesterberg 2015, doi:10.1080/00031305.2015.1089789). Of fewer, there are none further
    out, so their mean and spread make Student's interval: over two groups, 18 spreads to each side.

    Args:
        values: of the resamples, (num, ...).
        num_groups: that were resampled. Of one group there is no interval: NaN.
    """
    unknown = np.isnan(values).all(0)
    known = np.where(unknown, 0, values)  # nanpercentile warns of columns without any value
    reach = _reach(num_groups)
    if num_groups >= FEW:
        tail = float(norm.sf(reach))
        low, high = np.nanpercentile(known, [100 * tail, 100 * (1 - tail)], axis=0)
    else:
        middle, spread = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
        low, high = middle - reach * spread, middle + reach * spread
    return np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)


def _reach(num_groups: int) -> float:
    """How many of the resamples' standard deviations an interval of `LEVEL` reaches to each side; NaN for one group."""
    if num_groups < 2:
        return np.nan
    return float(np.sqrt(num_groups / (num_groups - 1)) * student.ppf((1 + LEVEL) / 2, num_groups - 1))


def with_intervals(
    scores: Scores, groups: NDArray[np.object_], folds: NDArray[np.int64], num: int, seed: int
) -> Iterator[tuple[str, Array, Array, Array, Array]]:
    """Each score's value on all images, interval, and value on each fold.

    Args:
        scores: weights (b, n) to named arrays (b, ...).
        groups, folds: of each image, shape (n,).
        num: resamples.

    Yields:
        name, value (...), low (...), high (...), fold values (folds, ...). The interval is stretched to hold the value:
        resampling itself raises the calibration error.
    """
    every = np.ones((1, len(groups)))
    each = (folds[None, :] == np.unique(folds)[:, None]).astype(np.float64)
    whole, per_fold = scores(every), scores(each)
    resampled = [scores(weights) for weights in group_resamples(groups, num, seed)]
    num_groups = len(np.unique(groups))
    for name, value in whole.items():
        low, high = interval(np.concatenate([part[name] for part in resampled]), num_groups)
        yield name, value[0], np.minimum(low, value[0]), np.maximum(high, value[0]), per_fold[name]


def end_where_all_agree(num_groups: int) -> float:
    """Lower end for a share of 1: resampling answers that are all right never finds a wrong one.

    The exact end for as many independent trials as there are groups: Clopper and Pearson 1934,
    doi:10.1093/biomet/26.4.404. For 8 groups 0.63, for 100 groups 0.96.
    """
    return float(((1 - LEVEL) / 2) ** (1 / num_groups))
