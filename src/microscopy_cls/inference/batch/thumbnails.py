"""Small pictures of some inputs: which ones, and their pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.dataset.cache import Reading
from microscopy_cls.inference.batch.frames import Opening
from microscopy_cls.inference.batch.inputs import Input
from microscopy_cls.inference.batch.readers import ReaderPool
from microscopy_cls.system.hardware import num_cores

NUM_THUMBNAILS = 60
SIDE_PX = 96
JPEG_QUALITY = 80
TIME_LIMIT_S = 30.0  # an image that takes longer goes without a picture
IMAGES_A_READER = 32  # a reader takes half a second to start


def choose_thumbnails(rows: pd.DataFrame, num: int = NUM_THUMBNAILS, seed: int = 0) -> list[int]:
    """Which rows get a picture: the least confident ones for one half, some of each class for the other.

    Args:
        rows: of images, with `status, predicted, confidence`; their index is the row number.
        num: at most so many.
        seed: of the choice within a class.

    Returns:
        Row numbers without repeats, the least confident first, then the classes in turn.
    """
    doubtful = least_confident(rows, num)
    others = rows[(rows["status"] == "ok") & ~rows.index.isin(doubtful)].sample(frac=1, random_state=seed)
    turns = others.groupby("predicted").cumcount()
    in_turn = others.assign(turn=turns).sort_values(["turn", "predicted"], kind="stable")
    return [*doubtful, *map(int, in_turn.index[: num - len(doubtful)])]


def least_confident(rows: pd.DataFrame, num: int = NUM_THUMBNAILS) -> list[int]:
    """The half of the `num` pictures that `choose_thumbnails` gives to the least confident answers, in their order."""
    answered = rows[rows["status"] == "ok"].sort_values("confidence", kind="stable")
    return [int(number) for number in answered.index[: num // 2]]


def make_thumbnails(files: Mapping[int, Path], reading: Reading) -> dict[int, bytes]:
    """Read images in processes of their own, as the classification does.

    Args:
        files: by row number.
        reading: how the model reads pixels; proportions are kept whatever it does.

    Returns:
        JPEGs of 96 x 96 px by row number, in the order of `files`; without those that can no longer be read.
    """
    if not files:
        return {}
    small = replace(reading, size_px=SIDE_PX, resize="pad")
    num_readers = min(num_cores(), 1 + len(files) // IMAGES_A_READER)
    pool = ReaderPool(Opening(small, None, SIDE_PX), num_readers, TIME_LIMIT_S)
    made: dict[int, bytes] = {}
    for event in pool.read([(number, Input(str(file), file)) for number, file in files.items()]):
        if event.square is not None:
            made.setdefault(event.index, _jpeg(event.square))
    return {number: made[number] for number in files if number in made}


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    encoded, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert encoded, "cv2 encodes every uint8 image"
    return bytes(data.tobytes())
