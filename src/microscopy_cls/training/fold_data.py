"""Which rows of the pixel cache a fold trains on, chooses by and is tested on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.config import Paths
from microscopy_cls.dataset.folds import split_validation
from microscopy_cls.dataset.manifest import class_names, read_manifest

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class FoldData:
    """Rows of the pixel cache, each int64 (n,): trained on, choosing the epoch, and tested once at the end."""

    fold: int
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

    def fold(self, fold: int, validation_fraction: float, seed: int) -> FoldData:
        """The rows of one fold; the validation part is drawn, whole groups, from the other folds alone."""
        folds = self.manifest["fold"].to_numpy()
        rows = np.flatnonzero((folds >= 0) & (folds != fold))
        names = self.manifest.loc[rows, ["label", "split_group"]].to_numpy(dtype=object)
        chosen = split_validation(names[:, 0], names[:, 1], validation_fraction, seed + fold)
        return FoldData(fold, rows[~chosen], rows[chosen], np.flatnonzero(folds == fold))
