"""The network that all folds start from, held still: its features of every image, and heads fitted on them.

A head that is only the start of a training is fitted on augmented views too. Fitted on the images as they are, it knows
nothing of what the training shows (pollen23e: a loss of 1.3 under augmentation, 0.03 without), and all layers together
unlearn it to learn that: 0.64 right after an epoch, where the head alone had 0.83.
"""

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
        compute: features of rows (n,) in so many views, (views, n, d): first as they are, then augmented.
        path: where features are kept, so that a command that goes on after a kill has the very same.
        num_augmented: views, beside the images as they are, that heads are fitted on.
    """

    def __init__(
        self,
        images: Images,
        compute: Callable[[Rows, int], Features],
        path: Path,
        accelerator: Accelerator,
        num_augmented: int = 0,
    ) -> None:
        self.images, self.path = images, path
        self._compute, self._accelerator, self._num_views = compute, accelerator, 1 + num_augmented

    @property
    def features(self) -> Features:
        """float32 (rows of the manifest, d), of the images as they are."""
        plain: Features = self.views[0]
        return plain

    @cached_property
    def views(self) -> Features:
        """float32 (1 + num_augmented, rows of the manifest, d); 0 in rows that are in no fold."""
        rows = self.images.in_folds
        if self._accelerator.is_main_process and _read(self.path) is None:
            with atomic_path(self.path) as temporary:
                save_file({"features": self._compute(rows, self._num_views)}, temporary)
        self._accelerator.wait_for_everyone()
        kept = _read(self.path)
        assert kept is not None, f"{self.path}: was written whole"
        views = np.zeros((self._num_views, len(self.images.labels), kept.shape[2]), np.float32)
        views[:, rows] = kept
        return views

    def fit(self, rows: Rows, settings: Finetune, seed: int) -> Probe:
        """A head for training images, its penalty chosen among them; an image's views together count as one image."""
        labels = self.images.labels[rows]
        groups = self.images.manifest.loc[rows, "split_group"].to_numpy(dtype=object)
        weights = class_weights(labels, len(self.images.classes), settings.class_weights, settings.effective_beta)
        shares = (np.ones(len(self.images.classes)) if weights is None else weights) / self._num_views
        points = np.concatenate([view[rows] for view in self.views])
        return fit_probe(points, np.tile(labels, self._num_views), np.tile(groups, self._num_views), shares, seed)

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
