"""Which rows of the pixel cache a fold trains on, chooses by and is tested on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.config import Paths
from microscopy_cls.config.schema import Folds
from microscopy_cls.dataset.folds import split_validation
from microscopy_cls.dataset.manifest import class_names, fold_column, num_folds, read_manifest
from microscopy_cls.errors import DataError
from microscopy_cls.training.parts import Part

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class FoldData:
    """Rows of the pixel cache, each int64 (n,): trained on, choosing the epoch, and tested once at the end.

    Of the refit, `test` is what it was trained on: its answers there are no test.
    """

    part: Part
    train: Rows
    validation: Rows
    test: Rows


@dataclass(frozen=True)
class Images:
    """The prepared images: the manifest (row i = row i of the cache), class names and a class index a row."""

    manifest: pd.DataFrame
    classes: list[str]
    labels: NDArray[np.int64]

    @classmethod
    def load(cls, paths: Paths) -> Images:
        """Read what `prepare` wrote."""
        manifest = read_manifest(paths.manifest)
        classes = class_names(manifest)
        return cls(manifest, classes, pd.Categorical(manifest["label"], categories=classes).codes.astype(np.int64))

    @property
    def in_folds(self) -> Rows:
        """Rows that are tested by some fold."""
        return np.flatnonzero(self.manifest["fold"].to_numpy() >= 0)

    @property
    def num_folds(self) -> int:
        """How many folds each repeat has."""
        return num_folds(self.manifest)

    def number_of(self, part: Part) -> int:
        """What the seeds of a part are made of. Repeats have those of the first, so that the folds alone differ."""
        return self.num_folds if part.is_refit else part.fold

    def part(self, part: Part, validation_fraction: float, seed: int) -> FoldData:
        """The rows of one training; the validation part is drawn, whole groups, from what is not tested."""
        folds = self.manifest[fold_column(part.repeat)].to_numpy()
        is_test = folds >= 0 if part.is_refit else folds == part.fold
        rows = self.in_folds if part.is_refit else np.flatnonzero((folds >= 0) & ~is_test)
        names = self.manifest.loc[rows, ["label", "split_group"]].to_numpy(dtype=object)
        chosen = split_validation(names[:, 0], names[:, 1], validation_fraction, seed + self.number_of(part))
        return FoldData(part, rows[~chosen], rows[chosen], np.flatnonzero(is_test))


def check_divisions(manifest: pd.DataFrame, folds: Folds, path: Path) -> None:
    """See that a manifest is divided as the configuration says.

    Raises:
        DataError: into another number of folds, or less often.
    """
    prepared, wanted, key = num_folds(manifest), folds.num, "folds.num"
    if folds.scheme == "leave_one_group_out":
        wanted = manifest.loc[manifest["fold"] >= 0, "split_group"].nunique()
        key = "folds.scheme is leave_one_group_out and the number of groups"
    if prepared != wanted:
        raise DataError(
            f"{path}: is divided into {prepared} folds, but {key} is {wanted}. Run prepare again with the same config."
        )
    times = sum(fold_column(repeat) in manifest for repeat in range(folds.repeats))
    if times < folds.repeats:
        raise DataError(
            f"{path}: is divided {times} times, but folds.repeats is {folds.repeats}. "
            "Run prepare again with the same config."
        )
