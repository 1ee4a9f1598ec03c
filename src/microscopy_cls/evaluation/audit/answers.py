"""A classifier's held-out answers, and how much better than chance they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.evaluation.figures import figures
from microscopy_cls.evaluation.intervals import Array
from microscopy_cls.evaluation.scores import Predicted, class_totals

Json = dict[str, Any]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """Which class each of n images has, and what must not be divided.

    Attributes:
        truth: class index, (n,).
        folds: the fold in which each image is held out, (n,).
        groups: names, (n,); the bootstrap draws these.
        classes: names, in index order.
        resamples: of the groups.
        seed: of everything drawn by chance.
    """

    truth: Codes
    folds: Codes
    groups: NDArray[np.object_]
    classes: list[str]
    resamples: int
    seed: int

    @property
    def chance(self) -> float:
        """Accuracy of always naming the commonest class."""
        return float(np.bincount(self.truth).max() / len(self.truth))


def task_of(images: pd.DataFrame, resamples: int, seed: int) -> Task:
    """The task that rows of a manifest or of the out-of-fold table (with `split_group` added) set."""
    classes, truth = np.unique(images["label"].to_numpy(str), return_inverse=True)
    folds, groups = images["fold"].to_numpy(np.int64), images["split_group"].to_numpy(object)
    return Task(truth.astype(np.int64), folds, groups, [str(name) for name in classes], resamples, seed)


def score_answers(task: Task, predicted: Codes) -> Json:
    """Score held-out answers.

    Args:
        predicted: class index, (n,).

    Returns:
        Figures `{value, ci_low, ci_high}`: `accuracy`; `balanced_accuracy`; `skill`, the share of the way from chance
        to perfection, (accuracy - chance) / (1 - chance); `class_skill`, for each class its recall less the share of
        the other classes' images that are taken for it, because a mark on one class of many hardly moves the accuracy.
    """
    answers = Predicted(task.truth, np.eye(len(task.classes))[predicted])

    def scores(weights: Array) -> dict[str, Array]:
        return _scores(*class_totals(answers, weights), task.chance)

    found = figures(scores, task.groups, resamples=task.resamples, seed=task.seed, shares={})
    return found | {"class_skill": dict(zip(task.classes, found["class_skill"], strict=True))}


def _scores(hits: Array, support: Array, named: Array, chance: float) -> dict[str, Array]:
    """Scores of the totals of each class, (b, classes); a class without images in a resample does not count there.

    Chance is that of all images: the commonest class of a resample would be commoner by the luck of the draw.
    """
    total = support.sum(1)
    recall = hits / np.where(support > 0, support, np.nan)
    others = total[:, None] - support
    taken = (named - hits) / np.where(others > 0, others, np.nan)
    accuracy = hits.sum(1) / total
    return {
        "accuracy": accuracy,
        "balanced_accuracy": np.nansum(recall, axis=1) / (support > 0).sum(1),
        "skill": (accuracy - chance) / (1 - chance),
        "class_skill": recall - taken,
    }
