"""Prediction sets that hold the right class as often as was asked for, in each class by itself.

Split conformal prediction by class: Vovk 2012, arXiv:1209.2673, section 3; the score one minus the calibrated
probability of the class is Sadinle, Lei and Wasserman 2019, doi:10.1080/01621459.2017.1395341. The promise is for
images drawn like these and answered by one member that never saw them; of the mean of several members it is none.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.evaluation.figures import figures
from microscopy_cls.evaluation.held_out import Fit, HeldOut, Ints
from microscopy_cls.evaluation.intervals import Array
from microscopy_cls.model.doubt import prediction_sets, softmax

Json = dict[str, Any]


def class_thresholds(probs: Array, truth: Ints, target: float) -> Array:
    """The probability from which on each class is in the set, (classes,).

    A class with too few images to promise anything by itself takes the threshold of all images together, as Ding et
    al. 2023, arXiv:2306.09335, do with rare classes.

    Args:
        probs: calibrated, (n, classes).
        truth: class indices (n,).
        target: the coverage asked for.
    """
    given = probs[np.arange(len(truth)), truth]
    common = _threshold(given, target) or 0.0
    own = [_threshold(given[truth == label], target) for label in range(probs.shape[1])]
    return np.array([common if one is None else one for one in own])


def cross_fitted_sets(held_out: HeldOut, fit: Fit, target: float) -> NDArray[np.bool_]:
    """Which classes each image's set holds, (n, classes), by the scaling and the thresholds that the other folds give.

    Both are fitted on the same images: the scaling has so few parameters that the coverage of five runs on real images
    moved by less than 0.006, and fits nested within the other folds would cost as many times more as there are folds.
    """
    sets = np.zeros(held_out.logits.shape, bool)
    for fold in np.unique(held_out.folds):
        inside = held_out.folds == fold
        scaling = fit(held_out.logits[~inside], held_out.truth[~inside])
        known = softmax(scaling.scaled(held_out.logits[~inside]))
        thresholds = class_thresholds(known, held_out.truth[~inside], target)
        sets[inside] = prediction_sets(softmax(scaling.scaled(held_out.logits[inside])), thresholds)
    return sets


def conformal_report(
    held_out: HeldOut, sets: NDArray[np.bool_], thresholds: Array, target: float, *, resamples: int
) -> Json:
    """The section `conformal` of `metrics.json`; coverage is of the cross-fitted sets, thresholds are the bundle's."""
    truth, size = held_out.truth, sets.sum(1)
    is_covered = sets[np.arange(len(truth)), truth]
    of_class = np.eye(len(held_out.classes))[truth]

    def scores(weights: Array) -> dict[str, Array]:
        total = weights.sum(1)
        return {"coverage": weights @ is_covered / total, "mean_set_size": weights @ size / total}

    def by_class(weights: Array) -> dict[str, Array]:
        with np.errstate(invalid="ignore"):  # a resample without the class: NaN
            return {"coverage": (weights * is_covered) @ of_class / (weights @ of_class)}

    each = [held_out.num_groups(truth == label) for label in range(len(held_out.classes))]
    per_class = figures(by_class, held_out.groups, resamples=resamples, shares={"coverage": each})["coverage"]
    counts = {name: int((truth == label).sum()) for label, name in enumerate(held_out.classes)}
    return {
        "target_coverage": target,
        **figures(scores, held_out.groups, resamples=resamples, shares={"coverage": held_out.num_groups()}),
        "coverage_per_class": dict(zip(held_out.classes, per_class, strict=True)),
        "set_sizes": {str(num): int((size == num).sum()) for num in range(len(held_out.classes) + 1) if num in size},
        "thresholds": dict(zip(held_out.classes, thresholds.tolist(), strict=True)),
        "num_calibration": counts,
        "coarse_classes": [name for name, num in counts.items() if is_coarse(num, target)],
    }


def is_coarse(num: int, target: float) -> bool:
    """Whether a class's threshold hangs on its single worst image, or has none to hang on: below 19 images for 0.9."""
    return _rank(num, target) < 2


def _threshold(given: Array, target: float) -> float | None:
    """The probability that the right share of images reaches, counting one image to come; None for too few images."""
    rank = _rank(len(given), target)
    return float(np.sort(given)[rank - 1]) if rank >= 1 else None


def _rank(num: int, target: float) -> int:
    """Which of the class's lowest probabilities is the threshold, from 1; 0 for too few images."""
    return num + 1 - math.ceil(round((num + 1) * target, 9))  # 10 * 0.9 is a little more than 9
