"""Figures as the files have them: a value and its interval, None where there is no number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.evaluation.intervals import Scores, end_where_all_agree, with_intervals

Figure = dict[str, float | None]


def figure(value: float, low: float, high: float, num_groups: int = 0) -> Figure:
    """`value, ci_low, ci_high`.

    Args:
        value, low, high: NaN where there is none.
        num_groups: behind a share, whose interval lies between 0 and 1 and has a width also where all or none agree;
            0 for what is no share.
    """
    if num_groups:
        low, high = max(0.0, low), min(1.0, high)
    if num_groups and value == low == 1:
        low = end_where_all_agree(num_groups)
    if num_groups and value == high == 0:
        high = 1 - end_where_all_agree(num_groups)
    return {"value": number(value), "ci_low": number(low), "ci_high": number(high)}


def figures(
    scores: Scores,
    groups: NDArray[np.object_],
    *,
    resamples: int,
    seed: int = 0,
    shares: Mapping[str, int | Sequence[int]],
) -> dict[str, Any]:
    """Scores of all images with intervals.

    Args:
        scores: weights (b, n) to named arrays, (b,) or (b, parts).
        groups: of each image.
        resamples: of the groups.
        seed: of the resamples.
        shares: how many groups stand behind the scores that are shares of images, or behind each part of them.

    Returns:
        Under each name a figure, or a list of them where a score has parts.
    """
    found: dict[str, Any] = {}
    one_fold = np.zeros(len(groups), np.int64)
    for name, value, low, high, _ in with_intervals(scores, groups, one_fold, resamples, seed):
        counts = np.broadcast_to(shares.get(name, 0), value.shape)
        rows = np.stack([value, low, high, counts], axis=-1).reshape(-1, 4).tolist()
        shown = [figure(point, start, end, int(num)) for point, start, end, num in rows]
        found[name] = shown if value.ndim else shown[0]
    return found


def number(value: float) -> float | None:
    """A value with six decimals, None for NaN."""
    return None if math.isnan(value) else round(float(value), 6)
