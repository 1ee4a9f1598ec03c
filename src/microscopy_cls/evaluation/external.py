"""Figures outside the cross-validation: what the finished model is worth on images that no fold ever saw."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.evaluation.cached_squares import CachedSquares
from microscopy_cls.evaluation.external_images import ExternalImages
from microscopy_cls.evaluation.figures import Figure, figure, figures
from microscopy_cls.evaluation.held_out import HeldOut
from microscopy_cls.evaluation.intervals import Array
from microscopy_cls.evaluation.scores import Predicted, scores_of_answers

Json = dict[str, Any]
Answer = Callable[[CachedSquares], Array]
OVERALL = ("accuracy", "f1_macro", "balanced_accuracy", "ece")
DROPPED = ("accuracy", "balanced_accuracy", "f1_macro")


def external_metrics(
    external: ExternalImages,
    answer: Answer,
    held_out: HeldOut,
    calibrated: Array,
    *,
    resamples: int,
    seed: int = 0,
) -> Json:
    """The entries `test_split` and `external_test` of `metrics.json`.

    The drop is out-of-fold minus external: positive where the model is worse outside. Calibrated on both sides, since
    scaling each class by itself changes answers and hides a loss, or makes one up. Out of fold a single member answers,
    outside all of them together, which is usually a little better: the drop is rather too small.

    Args:
        external: the images.
        answer: squares uint8 (b, size_px, size_px, 3) to the whole model's calibrated probabilities (b, classes).
        held_out: the images of the folds.
        calibrated: their probabilities, calibrated on the other folds, (n, classes).
        resamples: of the groups, for the intervals.

    Returns:
        `source, num_images, num_groups`; `OVERALL`, each a figure; `per_class`: `recall` (values None for a class
        without images, which no macro mean counts either) and `num_images`; `inside`: these figures of the calibrated
        out-of-fold answers, `per_class` without `num_images`; `drop` of `DROPPED`, each a figure; `failed` and
        `set_aside`: images that are not counted.
    """
    images, classes = external.images, list(held_out.classes)
    truth = pd.Categorical(images["label"], categories=classes).codes.astype(np.int64)
    groups, answers = images["group"].to_numpy(dtype=object), answer(external.squares)
    outside = _overall_and_per_class(Predicted(truth, answers), groups, classes, resamples, seed)
    inside = _overall_and_per_class(Predicted(held_out.truth, calibrated), held_out.groups, classes, resamples, seed)
    for row, count in zip(outside["per_class"].values(), np.bincount(truth, minlength=len(classes)), strict=True):
        row["num_images"] = int(count)
    return {
        "source": external.source,
        "num_images": len(images),
        "num_groups": int(images["group"].nunique()),
        **outside,
        "inside": inside,
        "drop": {name: drop(inside[name], outside[name]) for name in DROPPED},
        "failed": external.counts.get("unreadable", 0),
        "set_aside": {status: external.counts.get(status, 0) for status in ("copy", "duplicate", "conflict")},
    }


def _overall_and_per_class(
    predicted: Predicted, groups: NDArray[np.object_], classes: list[str], resamples: int, seed: int
) -> Json:
    def scores(weights: Array) -> dict[str, Array]:
        overall, per_class = scores_of_answers(predicted, weights)
        return {name: overall[name] for name in OVERALL} | {"recall": per_class["recall"]}

    groups_of = [len(set(groups[predicted.truth == label])) for label in range(len(classes))]
    shares: dict[str, Any] = dict.fromkeys(set(OVERALL) - {"ece"}, len(set(groups))) | {"recall": groups_of}
    found = figures(scores, groups, resamples=resamples, seed=seed, shares=shares)
    recalls = found.pop("recall")
    return found | {"per_class": {name: {"recall": one} for name, one in zip(classes, recalls, strict=True)}}


def drop(inside: Mapping[str, Any], outside: Mapping[str, Any]) -> Figure:
    """Difference of two figures that share no image, with an interval from theirs.

    Zou and Donner 2008, doi:10.1002/sim.3095: the distances from the values to the ends add up like standard errors.
    Unlike the difference of resamples it has a width where all images are right, too.
    """
    value = inside["value"] - outside["value"]
    down = math.hypot(inside["value"] - inside["ci_low"], outside["ci_high"] - outside["value"])
    up = math.hypot(inside["ci_high"] - inside["value"], outside["value"] - outside["ci_low"])
    return figure(value, value - down, value + up)
