"""A bundle behind MLflow's `models serve`: images as base64 in, a row each out. MLflow finds this module by name."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.errors import DataError, ImageError
from microscopy_cls.images import decode

if TYPE_CHECKING:
    from microscopy_cls.inference.classifier import Classifier

COLUMN = "image"


class ServedClassifier:
    """What MLflow asks of a model."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Classify images, each given as the base64 text of its file.

        Args:
            model_input: a column `image`.
            params: none is known; MLflow passes it.

        Returns:
            The columns of `Classifier.predict` but `path`, a row an image, in order. What cannot be decoded is a
            failed row: `status` is `failed`, `error` says why, and there is no prediction.

        Raises:
            DataError: there is no such column.
        """
        if COLUMN not in model_input:
            raise DataError(
                f"the request has no column {COLUMN!r} but {', '.join(map(str, model_input.columns)) or 'none'}. "
                f"Send each image's file as base64 text in a column {COLUMN!r}."
            )
        images = [self._decode(text) for text in model_input[COLUMN]]
        readable = [place for place, image in enumerate(images) if not isinstance(image, str)]
        answers = self._classifier.predict([image for image in images if not isinstance(image, str)])
        table = answers.drop(columns="path").astype(object).set_axis(readable).reindex(range(len(images)))
        for place, image in enumerate(images):
            if isinstance(image, str):
                table.loc[place, ["status", "error"]] = ["failed", image]
        return table.where(table.notna(), None).set_axis(model_input.index)  # JSON has null, but no NaN

    def _decode(self, text: object) -> NDArray[np.uint8] | str:
        """RGB pixels (h, w, 3), read as in training, or the reason why there are none."""
        if not isinstance(text, str):
            return "is no base64 text"
        settings = self._classifier.info.preprocessing
        try:
            data = base64.b64decode("".join(text.split()), validate=True)
            found = decode(
                data,
                intensity=settings.intensity,
                page=settings.page,
                max_pixels=settings.max_pixels,
                channels=settings.channels,
            )
        except binascii.Error:
            return "is no base64 text"
        except ImageError as error:
            return error.reason
        return found.pixels


def _load_pyfunc(data_path: str) -> ServedClassifier:
    """MLflow's entry: the bundle in `data_path`, ready to answer."""
    from microscopy_cls.inference.classifier import load

    return ServedClassifier(load(data_path))
