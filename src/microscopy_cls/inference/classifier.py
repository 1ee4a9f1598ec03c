"""A bundle that answers: images in, a row each out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from microscopy_cls.dataset.cache import Reading
from microscopy_cls.errors import ImageError
from microscopy_cls.images import fit_square
from microscopy_cls.model.bundle import BundleInfo, load_member, read_bundle
from microscopy_cls.model.forward import features_and_logits
from microscopy_cls.model.preprocess import Normalise
from microscopy_cls.tracking import bundle_dir_of

BATCH_SIZE = 16

Image = str | Path | NDArray[np.uint8]


class Classifier:
    """The members of a bundle, averaged.

    Args:
        info: the bundle's description.
        members: its networks, in evaluation mode.
    """

    def __init__(self, info: BundleInfo, members: Sequence[nn.Module]) -> None:
        self.info, self._members = info, list(members)
        settings = info.preprocessing
        self._reading = Reading(
            settings.size_px,
            settings.resize,
            settings.intensity,
            settings.page,
            settings.max_pixels,
            settings.channels,
        )
        self._normalise = Normalise(settings.mean, settings.std)

    def predict(self, images: Sequence[Image]) -> pd.DataFrame:
        """Classify images: files, or RGB arrays uint8 (h, w, 3).

        Returns:
            A row an image, in order: `path` (empty for arrays), `status` (ok, failed), `error`, `predicted`,
            `confidence`, `prob_<class>...`. A file that cannot be read is a failed row without a prediction.
        """
        read = [self._read(image) for image in images]
        usable = [pixels for pixels, _ in read if pixels is not None]
        probs = iter(self._probabilities(usable))
        rows = [
            self._row(image, None if pixels is None else next(probs), error)
            for image, (pixels, error) in zip(images, read, strict=True)
        ]
        return pd.DataFrame(rows, columns=self._columns())

    def extract_features(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Pooled features of the first member, float32 (n, d).

        Raises:
            ImageError: a file cannot be read.
        """
        squares = [self._square(image) for image in images]
        parts = [self._forward(self._members[0], batch)[0] for batch in _batches(squares)]
        return torch.cat(parts).numpy()

    def _square(self, image: Image) -> NDArray[np.uint8]:
        if isinstance(image, np.ndarray):
            return fit_square(image, self._reading.size_px, self._reading.resize)
        return self._reading.read(Path(image))

    def _read(self, image: Image) -> tuple[NDArray[np.uint8] | None, str]:
        try:
            return self._square(image), ""
        except ImageError as error:
            return None, error.reason

    def _probabilities(self, squares: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Mean of the members' probabilities, float64 (n, classes)."""
        parts = []
        for batch in _batches(squares):
            logits = [self._forward(member, batch)[1].double() for member in self._members]
            parts.append(torch.stack(logits).softmax(2).mean(0))
        return torch.cat(parts).numpy() if parts else np.empty((0, len(self.info.classes)))

    @torch.inference_mode()
    def _forward(self, member: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features, logits = features_and_logits(member, self._normalise(batch))
        return features.float(), logits.float()

    def _row(self, image: Image, probs: NDArray[np.float64] | None, error: str) -> list[object]:
        path = "" if isinstance(image, np.ndarray) else str(image)
        if probs is None:
            return [path, "failed", error, None, np.nan, *[np.nan] * len(self.info.classes)]
        return [path, "ok", "", self.info.classes[int(probs.argmax())], float(probs.max()), *probs]

    def _columns(self) -> list[str]:
        probs = [f"prob_{name}" for name in self.info.classes]
        return ["path", "status", "error", "predicted", "confidence", *probs]


def load_classifier(folder: Path) -> Classifier:
    """Load a bundle with all its members, on the CPU.

    Raises:
        BundleError: it is missing, damaged, or of another version.
    """
    info = read_bundle(folder)
    return Classifier(info, [load_member(folder, info, member) for member in info.members])


def _batches(squares: Sequence[NDArray[np.uint8]]) -> Iterator[torch.Tensor]:
    """Stack images: uint8 (b, size_px, size_px, 3)."""
    for start in range(0, len(squares), BATCH_SIZE):
        part = np.stack(squares[start : start + BATCH_SIZE])
        yield torch.from_numpy(part)


def load(model: str | Path, *, uri: str = "sqlite:///mlflow.db") -> Classifier:
    """Open a model for classification.

    Args:
        model: a bundle's folder, or an MLflow address such as `models:/<name>@champion` or `runs:/<id>/model`.
        uri: MLflow's store, for addresses.

    Raises:
        BundleError: there is no bundle, or a damaged one.
        TrackingError: the store does not know the address or cannot be reached.
    """
    address = str(model)
    if address.startswith(("models:/", "runs:/")):
        return load_classifier(bundle_dir_of(address, uri))
    return load_classifier(Path(model))
