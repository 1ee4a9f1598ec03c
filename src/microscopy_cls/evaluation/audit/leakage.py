"""What a random split would have published: the same cheap classifier under random and under grouped folds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.dataset.folds import assign_folds
from microscopy_cls.errors import FoldError
from microscopy_cls.evaluation.audit.answers import Codes, Task
from microscopy_cls.evaluation.figures import figures
from microscopy_cls.evaluation.intervals import Array
from microscopy_cls.system.progress import progress

NUM_SEEDS = 5  # divisions that are averaged
MAX_IMAGES = 10_000  # neighbours cost the square of it: ten seconds on two cores, by extrapolation from 5,000
MIN_GROUPS = 50  # of a large set: none of them may be more than this part of the images
BLOCK = 500  # images whose distances are held at a time

Json = dict[str, Any]


def measure_leakage(images: pd.DataFrame, thumbnails: Array, task: Task) -> Json:
    """Compare folds that divide groups with folds that do not.

    Args:
        images: n rows of a manifest, all in a fold.
        thumbnails: grey in 24 x 24 px, (n, 576).

    Returns:
        `random`, `grouped` and `inflation` (their difference, image by image) as figures; `classifier`; `metric`.
        Above `MAX_IMAGES`, of a seeded choice of groups.
    """
    kept = _some_groups(task)
    chosen, truth = images.iloc[kept], task.truth[kept]
    num = len(np.unique(task.folds))
    random = [_dealt(truth, num, task.seed + other) for other in range(NUM_SEEDS)]
    grouped = [task.folds[kept], *_other_folds(chosen, num, task.seed)]
    right = _right_by_neighbour(_standardised(thumbnails[kept]), truth, np.stack([*random, *grouped]))
    parts = {"random": right[: len(random)].mean(0), "grouped": right[len(random) :].mean(0)}
    parts["inflation"] = parts["random"] - parts["grouped"]

    def means(weights: Array) -> dict[str, Array]:
        return {name: weights @ values / weights.sum(1) for name, values in parts.items()}

    found = figures(means, task.groups[kept], resamples=task.resamples, seed=task.seed, shares={})
    return found | {"classifier": "nearest neighbour on 24 x 24 px of grey", "metric": "accuracy"}


def _some_groups(task: Task) -> Codes:
    """Rows of at most `MAX_IMAGES` images, in order: of a seeded choice of groups, large ones cut to a part.

    Whole groups, because a leak lies within them; but in their thousands a part of each shows it too, and few groups
    would say nothing of folds that keep groups apart.
    """
    codes, names = pd.factorize(task.groups, sort=True)
    if len(codes) <= MAX_IMAGES:
        return np.arange(len(codes))
    rng = np.random.default_rng(task.seed)
    most = max(MAX_IMAGES // MIN_GROUPS, MAX_IMAGES // len(names))
    order = rng.permutation(len(codes))
    order = order[pd.Series(codes[order]).groupby(codes[order]).cumcount().to_numpy() < most]
    chosen = rng.permutation(len(names))
    running = np.cumsum(np.bincount(codes[order])[chosen])
    return np.sort(order[np.isin(codes[order], chosen[running <= MAX_IMAGES])])


def _dealt(truth: Codes, num: int, seed: int) -> Codes:
    """Random folds with class shares alike: the images of each class, shuffled, are dealt out in turn."""
    order = np.random.default_rng(seed).permutation(len(truth))
    order = order[np.argsort(truth[order], kind="stable")]
    folds = np.empty(len(truth), np.int64)
    folds[order] = np.arange(len(truth)) % num
    return folds


def _other_folds(images: pd.DataFrame, num: int, seed: int) -> Iterator[Codes]:
    """Further grouped folds beside the manifest's own."""
    image_ids, labels, groups = images[["image_id", "label", "split_group"]].to_numpy(dtype=object).T
    for other in range(1, NUM_SEEDS):
        try:
            yield assign_folds(image_ids, labels, groups, num, seed + other)
        except FoldError:  # very unequal groups: this seed leaves a class in one fold, others need not
            continue


def _right_by_neighbour(points: NDArray[np.float32], truth: Codes, divisions: Codes) -> Array:
    """Whether the nearest image of the other folds has the right class, for each division: (d, n) of 0 and 1."""
    right = np.empty(divisions.shape)
    norms = (points**2).sum(1)
    for start in progress(range(0, len(points), BLOCK), "neighbours", unit="block"):
        rows = slice(start, start + BLOCK)
        distances = norms[None, :] - 2 * points[rows] @ points.T
        for folds, answers in zip(divisions, right, strict=True):
            allowed = np.where(folds[rows, None] == folds[None, :], np.float32(np.inf), distances)
            answers[rows] = truth[allowed.argmin(1)] == truth[rows]
    return right


def _standardised(thumbnails: Array) -> NDArray[np.float32]:
    """Each pixel with mean 0 and spread 1 over the images; one that is the same in all stays 0."""
    centred = thumbnails - thumbnails.mean(0)
    scaled: NDArray[np.float32] = (centred / np.maximum(centred.std(0), 1e-6)).astype(np.float32)
    return scaled
