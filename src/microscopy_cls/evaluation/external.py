"""Figures outside the cross-validation: what the finished model is worth on images that no fold ever saw."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from microscopy_cls.evaluation.cached_squares import CachedSquares
from microscopy_cls.evaluation.external_images import ExternalImages
from microscopy_cls.evaluation.figures import Figure, figure, figures
from microscopy_cls.evaluation.intervals import Array
from microscopy_cls.evaluation.scores import Predicted, scores_of_answers

Json = dict[str, Any]
Answer = Callable[[CachedSquares], Array]
OVERALL = ("accuracy", "f1_macro", "balanced_accuracy", "ece")
DROPPED = ("accuracy", "balanced_accuracy", "f1_macro")


def external_metrics(
    external: ExternalImages,
    answer: Answer,
    metrics: Mapping[str, Any],
    classes: list[str],
    *,
    resamples: int,
    seed: int = 0,
) -> Json:
    """The entries `test_split` and `external_test` of `metrics.json`.

    The drop is out-of-fold minus external: positive where the model is worse outside. Out of fold a single member
    answers, outside all of them together, which is usually a little better: the drop is rather too small.

    Args:
        external: the images.
        answer: squares uint8 (b, size_px, size_px, 3) to the whole model's calibrated probabilities (b, classes).
        metrics: out of fold, as `out_of_fold_metrics` gives them.
        classes: in index order.
        resamples: of the groups, for the intervals.

    Returns:
        `source, num_images, num_groups`; `OVERALL`, each a figure (`ece` of calibrated probabilities); `drop` of
        `DROPPED`, each a figure; `per_class`: `recall` (values None for a class without images, which no macro mean
        counts either) and `num_images`; `failed` and `set_aside`: images that are not counted.
    """
    images = external.images
    truth = pd.Categorical(images["label"], categories=classes).codes.astype(np.int64)
    outside = Predicted(truth, answer(external.squares))
    found = _overall_and_per_class(outside, images, classes, resamples, seed)
    return {
        "source": external.source,
        "num_images": len(images),
        "num_groups": int(images["group"].nunique()),
        **found,
        "drop": {name: drop(metrics[name], found[name]) for name in DROPPED},
        "failed": external.counts.get("unreadable", 0),
        "set_aside": {status: external.counts.get(status, 0) for status in ("copy", "duplicate", "conflict")},
    }


def _overall_and_per_class(
    outside: Predicted, images: pd.DataFrame, classes: list[str], resamples: int, seed: int
) -> Json:
    def scores(weights: Array) -> dict[str, Array]:
        overall, per_class = scores_of_answers(outside, weights)
        return {name: overall[name] for name in OVERALL} | {"recall": per_class["recall"]}

    groups_of = [int(images.loc[images["label"] == name, "group"].nunique()) for name in classes]
    shares: dict[str, Any] = dict.fromkeys(set(OVERALL) - {"ece"}, images["group"].nunique()) | {"recall": groups_of}
    found = figures(scores, images["group"].to_numpy(dtype=object), resamples=resamples, seed=seed, shares=shares)
    recalls = found.pop("recall")
    counts = np.bincount(outside.truth, minlength=len(classes))
    per_class = {
        name: {"recall": recall, "num_images": int(count)}
        for name, recall, count in zip(classes, recalls, counts, strict=True)
    }
    return found | {"per_class": per_class}


def drop(inside: Mapping[str, Any], outside: Mapping[str, Any]) -> Figure:
    """Difference of two figures that share no image, with an interval from theirs.

    Zou and Donner 2008, doi:10.1002/sim.3095: the distances from the values to the ends add up like standard errors.
    Unlike the difference of resamples it has a width where all images are right, too.
    """
    value = inside["value"] - outside["value"]
    down = math.hypot(inside["value"] - inside["ci_low"], outside["ci_high"] - outside["value"])
    up = math.hypot(inside["ci_high"] - inside["value"], outside["value"] - outside["ci_low"])
    return figure(value, value - down, value + up)
