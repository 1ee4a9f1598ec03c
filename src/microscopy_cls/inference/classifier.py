"""A bundle that answers: images in, a row each out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.errors import ImageError
from microscopy_cls.images import fit_square
from microscopy_cls.inference.predictor import Predictor, open_predictor
from microscopy_cls.model.bundle import BundleInfo
from microscopy_cls.tracking import bundle_dir_of

Image = str | Path | NDArray[np.uint8]


class Classifier:
    """A model ready to answer."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    @property
    def info(self) -> BundleInfo:
        """The (first) bundle's description."""
        return self._predictor.models[0].info

    def __repr__(self) -> str:
        engine, info = self._predictor.models[0].engine, self.info
        return f"Classifier({info.name}: {', '.join(info.classes)}; {info.architecture} on {engine.name})"

    def predict(self, images: Image | Sequence[Image]) -> pd.DataFrame:
        """Classify images: files, or RGB arrays uint8 (h, w, 3); or one of them.

        Returns:
            A row an image, in order: `path` (empty for arrays), `status` (ok, failed), `error`, `predicted`,
            `confidence`, `prob_<class>...`. A file that cannot be read is a failed row without a prediction.
        """
        images = _listed(images)
        read = [self._read(image) for image in images]
        probs = iter(self._predictor.run_all([pixels for pixels, _ in read if pixels is not None]).probs)
        rows = [
            self._row(image, None if pixels is None else next(probs), error)
            for image, (pixels, error) in zip(images, read, strict=True)
        ]
        return pd.DataFrame(rows, columns=self._columns())

    def extract_features(self, images: Image | Sequence[Image]) -> NDArray[np.float32]:
        """Pooled features of the first member, float32 (n, d).

        Raises:
            ImageError: a file cannot be read.
        """
        return self._predictor.run_all([self._square(image) for image in _listed(images)]).features

    def _square(self, image: Image) -> NDArray[np.uint8]:
        reading = self._predictor.reading
        if isinstance(image, np.ndarray):
            return fit_square(image, reading.size_px, reading.resize)
        return reading.read(Path(image))

    def _read(self, image: Image) -> tuple[NDArray[np.uint8] | None, str]:
        try:
            return self._square(image), ""
        except ImageError as error:
            return None, error.reason

    def _row(self, image: Image, probs: NDArray[np.float64] | None, error: str) -> list[object]:
        path = "" if isinstance(image, np.ndarray) else str(image)
        if probs is None:
            return [path, "failed", error, None, np.nan, *[np.nan] * len(self.info.classes)]
        return [path, "ok", "", self.info.classes[int(probs.argmax())], float(probs.max()), *probs]

    def _columns(self) -> list[str]:
        probs = [f"prob_{name}" for name in self.info.classes]
        return ["path", "status", "error", "predicted", "confidence", *probs]


def _listed(images: Image | Sequence[Image]) -> Sequence[Image]:
    """One image as a list of one: the letters of a path and the rows of an array are no images."""
    if isinstance(images, str | Path):
        return [images]
    if isinstance(images, np.ndarray):
        return [images] if images.ndim == 3 else list(images)
    return images


def load(
    model: str | Path,
    *,
    uri: str = "sqlite:///mlflow.db",
    engine: str = "auto",
    precision: str = "auto",
    members: str = "all",
    tta: bool = False,
) -> Classifier:
    """Open a model for classification.

    Args:
        model: a bundle's folder, or an MLflow address such as `models:/<name>@champion` or `runs:/<id>/model`.
        uri: MLflow's store, for addresses.
        engine: auto, torch, openvino or onnx; auto takes the fastest that is here.
        precision: auto, fp32, bf16 or int8; auto takes the fastest that the device has, but never int8.
        members: `all`, a number (the first so many folds), or one, such as `fold_2`.
        tta: average over mirrored views, where the modality allows it.

    Raises:
        BundleError: there is no bundle, or a damaged one.
        ConfigError: no such engine, precision or member.
        TrackingError: the store does not know the address or cannot be reached.
    """
    folder = bundle_folder(model, uri)
    return Classifier(open_predictor([folder], engine=engine, precision=precision, members=members, tta=tta))


def bundle_folder(model: str | Path, uri: str) -> Path:
    """The folder of a model named by its folder or by an MLflow address."""
    address = str(model)
    return bundle_dir_of(address, uri) if address.startswith(("models:/", "runs:/")) else Path(model)
