"""A bundle that answers: images in, a row each out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.errors import ImageError
from microscopy_cls.images import fit_square
from microscopy_cls.inference.predictor import Predictor, open_predictor
from microscopy_cls.inference.rows import table
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
            A row an image, in order, with the columns of `predictions.csv`; `path` is empty for arrays. A file that
            cannot be read is a failed row without a prediction.

        >>> import microscopy_cls as mc
        >>> rows = mc.load(bundle).predict([picture, mc.read_image(picture), "nowhere.png"])
        >>> rows["status"].tolist(), rows["predicted"].isin(["dark", "light"]).tolist()
        (['ok', 'ok', 'failed'], [True, True, False])
        >>> bool(rows.loc[0, "prob_dark"] == rows.loc[1, "prob_dark"]), rows.loc[2, "error"]
        (True, 'does not exist')
        """
        images = _listed(images)
        read = [self._read(image) for image in images]
        squares = [square for square, _ in read if square is not None]
        answers, judge = self._predictor.run_all(squares), self._predictor.judge
        judged = (judge.answer(*one) for one in zip(answers.probs, answers.novelty, strict=True))
        records = [{**found, **({} if square is None else next(judged))} for square, found in read]
        return table(records, [{}] * len(records), self._predictor.classes)

    def extract_features(self, images: Image | Sequence[Image]) -> NDArray[np.float32]:
        """Pooled features of the first member, float32 (n, d).

        Raises:
            ImageError: a file cannot be read.

        >>> import microscopy_cls as mc
        >>> mc.load(bundle).extract_features([picture, picture]).shape
        (2, 96)
        """
        return self._predictor.run_all([self._square(image) for image in _listed(images)]).features

    def _pixels(self, image: Image) -> NDArray[np.uint8]:
        return image if isinstance(image, np.ndarray) else self._predictor.reading.decode(Path(image)).pixels

    def _square(self, image: Image) -> NDArray[np.uint8]:
        reading = self._predictor.reading
        return fit_square(self._pixels(image), reading.size_px, reading.resize)

    def _read(self, image: Image) -> tuple[NDArray[np.uint8] | None, dict[str, Any]]:
        """The square, or None, and what is known of the image without the network."""
        path, reading = "" if isinstance(image, np.ndarray) else str(image), self._predictor.reading
        try:
            pixels = self._pixels(image)
        except ImageError as error:
            return None, {"path": path, "status": "failed", "error": error.reason}
        size = {"width_px": pixels.shape[1], "height_px": pixels.shape[0]}
        square = fit_square(pixels, reading.size_px, reading.resize)
        return square, {"path": path, "status": "ok", "error": "", **size}


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

    >>> import microscopy_cls as mc
    >>> model = mc.load(bundle, engine="torch")  # the folder that `evaluate` wrote
    >>> model
    Classifier(tiny: dark, light; test_resnet on torch)
    >>> len(model.info.members)
    2
    """
    folder = bundle_folder(model, uri)
    return Classifier(open_predictor([folder], engine=engine, precision=precision, members=members, tta=tta))


def bundle_folder(model: str | Path, uri: str) -> Path:
    """The folder of a model named by its folder or by an MLflow address."""
    address = str(model)
    return bundle_dir_of(address, uri) if address.startswith(("models:/", "runs:/")) else Path(model)
