"""What a model trained on all images takes over from the folds, since no image is left to fit it on.

Its calibration is that of all out-of-fold answers together, its prediction sets have the same thresholds as the folds'.
Novelty is told by features, and each network has its own: what the refit knows is spanned by features of images that it
was trained on, and a threshold for that is found on the folds, where images lie beyond them that were not trained on.
None of it was tried on the refit itself. How images look hangs on no network, and is taken over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file

from microscopy_cls.config import Paths
from microscopy_cls.dataset.cache import open_pixels
from microscopy_cls.dataset.manifest import trainable
from microscopy_cls.errors import DataError
from microscopy_cls.evaluation.assemble import Bundle
from microscopy_cls.evaluation.cached_squares import CachedSquares
from microscopy_cls.evaluation.doubt import Doubt, Json
from microscopy_cls.evaluation.held_out import HeldOut, Ints
from microscopy_cls.evaluation.novelty import MAX_IMAGES, span, threshold_of
from microscopy_cls.evaluation.usual import spread_over_groups
from microscopy_cls.model.answers import member_answers
from microscopy_cls.model.bundle import WITHOUT_FOLD
from microscopy_cls.model.doubt import Experience

Features = NDArray[np.float32]


def refit_doubt(
    doubt: Doubt, held_out: HeldOut, seen: Features, seen_by: Callable[[int, Ints], Features], *, seed: int
) -> Doubt:
    """The fits for the one member that was trained on all images.

    Args:
        doubt: of the folds' members.
        held_out: their answers, n images.
        seen: features of the same images by the refit, (n, d).
        seen_by: features of images that a fold's member was trained on, from the fold and places among the n.
        seed: of choices among images.
    """
    distances = []
    for fold in np.unique(held_out.folds).tolist():
        outside = np.flatnonzero(held_out.folds != fold)
        chosen = outside[spread_over_groups(held_out.groups[outside], MAX_IMAGES, seed)]
        distances.append(span(seen_by(fold, chosen)).novelty(held_out.features[held_out.folds == fold]))
    known = span(seen[spread_over_groups(held_out.groups, MAX_IMAGES, seed)])
    known = replace(known, threshold=threshold_of(np.concatenate(distances)))
    usual = next(iter(doubt.experience.values())).usual
    scaling = doubt.calibrated.fit(held_out.logits, held_out.truth)
    return replace(
        doubt,
        calibrated=replace(doubt.calibrated, by_fold={WITHOUT_FOLD: scaling}),
        experience={WITHOUT_FOLD: Experience(known, usual)},
    )


def doubt_of_refit(
    paths: Paths, manifest: pd.DataFrame, image_ids: pd.Series, held_out: HeldOut, doubt: Doubt, tested: Bundle, *,
    seed: int,
) -> Doubt:  # fmt: skip
    """`refit_doubt` from what the run left.

    Args:
        image_ids: of the images of `held_out`.
        tested: the bundle of the folds' members.

    Raises:
        DataError: the refit was trained on other images.
    """
    of_image = trainable(manifest).reset_index(names="row").set_index("image_id")["row"]
    rows = of_image.loc[image_ids].to_numpy(np.int64)
    members, pixels = {member.fold: member for member in tested.info.members}, open_pixels(paths.prepared)

    def seen_by(fold: int, places: Ints) -> Features:
        return member_answers(tested.folder, tested.info, members[fold], CachedSquares(pixels, rows[places]))[1]

    return refit_doubt(doubt, held_out, _seen(paths.refit_answers, rows), seen_by, seed=seed)


def refit_report(paths: Paths) -> Json:
    """The section `refit` of `metrics.json`: `num_epochs` that it was trained for, `tested`: where those are that were.

    A probe has one epoch.
    """
    return {"num_epochs": len(pd.read_csv(paths.refit_answers.with_name("curves.csv"))), "tested": str(paths.tested)}


def _seen(path: Path, rows: Ints) -> Features:
    """Features that the refit gave the images that it was trained on, in the order of rows of the pixel cache."""
    found = load_file(path)
    if not np.array_equal(np.sort(rows), np.sort(found["rows"])):
        raise DataError(f"{path}: the refit was trained on other images. Train again with --restart.")
    order = np.argsort(found["rows"])
    seen: Features = found["features"][order[np.searchsorted(found["rows"], rows, sorter=order)]]
    return seen
