"""A bundle behind MLflow's `models serve`: images in, a row each out. MLflow finds this module by name.

Images come as base64 text, or as paths on the server where its operator names the one folder that may be read.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.errors import DataError, ImageError
from microscopy_cls.images import decode, read_bytes

if TYPE_CHECKING:
    from microscopy_cls.inference.classifier import Classifier

COLUMN, PATH_COLUMN = "image", "path"
ROOT_VARIABLE = "MICROSCOPY_CLS_SERVED_FOLDER"


class ServedClassifier:
    """What MLflow asks of a model."""

    def __init__(self, classifier: Classifier, root: Path | None = None) -> None:
        self._classifier, self._root = classifier, root.resolve() if root else None

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Classify images, each given as the base64 text of its file, or as a path below the served folder.

        Args:
            model_input: a column `image`, or a column `path`.
            params: none is known; MLflow passes it.

        Returns:
            The columns of `Classifier.predict` but `path`, a row an image, in order. What cannot be decoded is a
            failed row: `status` is `failed`, `error` says why, and there is no prediction.

        Raises:
            DataError: there is no such column.
        """
        column, read = (COLUMN, self._decode) if COLUMN in model_input else (PATH_COLUMN, self._open)
        if column not in model_input:
            raise DataError(
                f"the request has no column {COLUMN!r} but {', '.join(map(str, model_input.columns)) or 'none'}. "
                f"Send each image's file as base64 text in a column {COLUMN!r}."
            )
        if column == PATH_COLUMN and self._root is None:
            raise DataError(
                f"the request names paths, and this server reads none. Start it with {ROOT_VARIABLE} set to the folder "
                f"that may be read, or send base64 text in a column {COLUMN!r}."
            )
        images = [read(value) for value in model_input[column]]
        readable = [place for place, image in enumerate(images) if not isinstance(image, str)]
        answers = self._classifier.predict([image for image in images if not isinstance(image, str)])
        table = answers.drop(columns="path").astype(object).set_axis(readable).reindex(range(len(images)))
        for place, image in enumerate(images):
            if isinstance(image, str):
                table.loc[place, ["status", "error"]] = ["failed", image]
        return table.where(table.notna(), None).set_axis(model_input.index)  # JSON has null, but no NaN

    def _open(self, name: object) -> NDArray[np.uint8] | str:
        """RGB pixels of a file below the served folder, or the reason why there are none."""
        assert self._root is not None, "predict refuses paths without a folder"
        path = (self._root / str(name)).resolve()
        if not path.is_relative_to(self._root):
            return "lies outside the served folder"
        try:
            return self._pixels(read_bytes(path))
        except ImageError as error:
            return error.reason

    def _decode(self, text: object) -> NDArray[np.uint8] | str:
        """RGB pixels (h, w, 3), read as in training, or the reason why there are none."""
        if not isinstance(text, str):
            return "is no base64 text"
        try:
            return self._pixels(base64.b64decode("".join(text.split()), validate=True))
        except binascii.Error:
            return "is no base64 text"
        except ImageError as error:
            return error.reason

    def _pixels(self, data: bytes) -> NDArray[np.uint8]:
        settings = self._classifier.info.preprocessing
        return decode(
            data,
            intensity=settings.intensity,
            page=settings.page,
            max_pixels=settings.max_pixels,
            channels=settings.channels,
        ).pixels


def _load_pyfunc(data_path: str) -> ServedClassifier:
    """MLflow's entry: the bundle in `data_path`, ready to answer."""
    from microscopy_cls.inference.classifier import load

    root = os.environ.get(ROOT_VARIABLE)  # MLflow passes nothing else from the operator to here
    return ServedClassifier(load(data_path), Path(root) if root else None)
