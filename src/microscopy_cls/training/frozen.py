"""The network that all folds start from, held still: its features of every image, and heads fitted on them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from microscopy_cls.config.schema import Finetune
from microscopy_cls.system.files import atomic_path
from microscopy_cls.training.fold_data import FoldData, Images, Rows
from microscopy_cls.training.loss import class_weights
from microscopy_cls.training.probe import Probe, fit_probe
from microscopy_cls.training.scores import EpochRow, mean_loss, validation_scores

Features = NDArray[np.float32]


class FrozenNetwork:
    """Features of all images, computed once for all folds, and the heads that they make.

    Args:
        images: the prepared ones.
        compute: features (n, d) of rows (n,).
        path: where features are kept, so that a command that goes on after a kill has the very same.
    """

    def __init__(
        self, images: Images, compute: Callable[[Rows], Features], path: Path, accelerator: Accelerator
    ) -> None:
        self.images, self.path = images, path
        self._compute, self._accelerator = compute, accelerator

    @cached_property
    def features(self) -> Features:
        """float32 (rows of the manifest, d); 0 in rows that are in no fold."""
        rows = self.images.in_folds
        if self._accelerator.is_main_process and _read(self.path) is None:
            with atomic_path(self.path) as temporary:
                save_file({"features": self._compute(rows)}, temporary)
        self._accelerator.wait_for_everyone()
        found = _read(self.path)
        assert found is not None, f"{self.path}: was written whole"
        features = np.zeros((len(self.images.labels), found.shape[1]), np.float32)
        features[rows] = found
        return features

    def fit(self, rows: Rows, settings: Finetune, seed: int) -> Probe:
        """A head for training images, its penalty chosen among them."""
        labels = self.images.labels[rows]
        groups = self.images.manifest.loc[rows, "split_group"].to_numpy(dtype=object)
        weights = class_weights(labels, len(self.images.classes), settings.class_weights, settings.effective_beta)
        return fit_probe(self.features[rows], labels, groups, weights, seed)

    def row(self, data: FoldData, probe: Probe) -> EpochRow:
        """The figures of a probe as those of a training's only epoch; validation is by its inner folds."""
        labels = self.images.labels[data.train]
        told = np.isfinite(probe.held_out[:, 0])
        return {
            "fold": float(data.part.fold),
            "epoch": 0.0,
            "train_loss": mean_loss(probe.logits(self.features[data.train]), labels),
            **validation_scores(probe.held_out[told], labels[told]),
            "penalty": probe.strength,
        }


def _read(path: Path) -> Features | None:
    try:
        features: Features = load_file(path)["features"]
    except (FileNotFoundError, SafetensorError):
        return None
    return features
