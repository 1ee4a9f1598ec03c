"""A run's out-of-fold answers as arrays: what calibration, prediction sets and novelty are fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file

from microscopy_cls.config import Paths
from microscopy_cls.errors import DataError
from microscopy_cls.evaluation.scores import Predicted
from microscopy_cls.model.doubt import Scaling, softmax

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Fit = Callable[[Array, Ints], Scaling]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """n images, each answered by the member that never saw its group.

    Attributes:
        truth: class indices int64 (n,).
        logits: float64 (n, classes).
        features: float32 (n, d).
        folds: int64 (n,); the member of the same number answered.
        groups: object (n,).
        classes: names in index order.
    """

    truth: Ints
    logits: Array
    features: NDArray[np.float32]
    folds: Ints
    groups: NDArray[np.object_]
    classes: tuple[str, ...]

    @property
    def probs(self) -> Array:
        """Probabilities as they come from the networks, (n, classes)."""
        return softmax(self.logits)

    def num_groups(self, which: NDArray[np.bool_] | None = None) -> int:
        """How many groups the images, or some of them, are of."""
        return len(set(self.groups if which is None else self.groups[which]))

    def rows(self, order: NDArray[np.int64]) -> HeldOut:
        """These of the images, in this order."""
        return HeldOut(
            self.truth[order], self.logits[order], self.features[order], self.folds[order], self.groups[order],
            self.classes,
        )  # fmt: skip

    def cross_fitted(self, fit: Fit) -> Array:
        """Probabilities (n, classes), each fold's scaled as `fit` finds it on all other folds."""
        probs = np.empty_like(self.logits)
        for fold in np.unique(self.folds):
            inside = self.folds == fold
            probs[inside] = softmax(fit(self.logits[~inside], self.truth[~inside]).scaled(self.logits[inside]))
        return probs


def read_held_out(paths: Paths, oof: pd.DataFrame, groups: pd.Series, classes: Sequence[str]) -> HeldOut:
    """Read logits and features beside `oof.parquet`.

    Args:
        oof: the table.
        groups: of its rows.
        classes: in index order.

    Raises:
        DataError: the files are not of one run.
    """
    logits = load_file(paths.runs / "oof_logits.safetensors")["logits"].astype(np.float64)
    features = load_file(paths.runs / "oof_features.safetensors")["features"]
    told = Predicted.of(oof, classes)
    probs = told.probs
    if len(features) != len(oof) or logits.shape != probs.shape or not np.allclose(softmax(logits), probs, atol=1e-4):
        raise DataError(
            f"{paths.runs}: oof.parquet, oof_logits.safetensors and oof_features.safetensors are not of one run. "
            "Train again with --restart."
        )
    folds, names = oof["fold"].to_numpy(np.int64), groups.to_numpy(dtype=object)
    return HeldOut(told.truth, logits, features, folds, names, tuple(classes))
