"""Small pictures from the pixel cache: which ones are shown, and how they get into the page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

LONG_SIDE_PX = 128
SHORT_SIDE_PX = 24  # a very long image would otherwise become a line
JPEG_QUALITY = 82
# At most so many pictures in the montages: 128 px of pure noise are 13 kB, so all stay under 8 MB as text.
NUM_PICTURES = 400
NUM_PER_CLASS = 12  # one row of the page
NUM_PER_CLASS_OF_MANY = 8  # half a row
MANY_CLASSES = 12
SEED = 0


@dataclass(frozen=True)
class Thumbnail:
    """One image as a data address, with its size on the page and its id."""

    uri: str
    width_px: int
    height_px: int
    image_id: str


@dataclass(frozen=True)
class Cache:
    """The prepared pixels.

    Attributes:
        pixels: uint8 (n, side, side, 3), RGB.
        stretched: whether images were stretched to the square, so that thumbnails undo it.
    """

    pixels: NDArray[np.uint8]
    stretched: bool

    def thumbnails(self, rows: pd.DataFrame) -> list[Thumbnail]:
        """Thumbnails of rows with `image_id, pixel_row, width_px, height_px`."""
        return [
            self._thumbnail(row["image_id"], row["pixel_row"], (row["width_px"], row["height_px"]))
            for row in rows[["image_id", "pixel_row", "width_px", "height_px"]].to_dict("records")
        ]

    def _thumbnail(self, image_id: str, pixel_row: int, original_px: tuple[int, int]) -> Thumbnail:
        size = thumbnail_size(*(original_px if self.stretched else (1, 1)))
        small = cv2.resize(np.asarray(self.pixels[pixel_row]), size, interpolation=cv2.INTER_AREA)
        return Thumbnail(jpeg_uri(small), *size, image_id)


def thumbnail_size(width_px: int, height_px: int) -> tuple[int, int]:
    """Width and height of a thumbnail in the proportions of an image."""
    longest = max(width_px, height_px, 1)
    width, height = (max(SHORT_SIDE_PX, round(LONG_SIDE_PX * side / longest)) for side in (width_px, height_px))
    return width, height


def jpeg_uri(pixels: NDArray[np.uint8]) -> str:
    """RGB pixels, uint8 (h, w, 3), as a `data:` address."""
    encoded, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert encoded, "cv2 encodes every uint8 image"
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def num_per_class(num_classes: int) -> int:
    """How many pictures a class gets, at least one."""
    row = NUM_PER_CLASS if num_classes <= MANY_CLASSES else NUM_PER_CLASS_OF_MANY
    return min(row, max(1, NUM_PICTURES // max(1, num_classes)))


def choose_spread(groups: Sequence[str], num: int, rng: np.random.Generator) -> list[int]:
    """Positions of `num` random members, from as many groups as possible, in rising order."""
    order = rng.permutation(len(groups))
    seen: dict[str, int] = {}
    turns = []
    for position in order:
        seen[groups[position]] = seen.get(groups[position], -1) + 1
        turns.append(seen[groups[position]])
    taken = order[np.argsort(turns, kind="stable")[:num]]
    return sorted(int(position) for position in taken)


def choose_per_class(usable: pd.DataFrame, classes: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The rows of the usable images that stand for each class; of very many classes only the first have any."""
    rng = np.random.default_rng(SEED)
    of_class = {str(name): rows for name, rows in usable.groupby("label")}
    chosen = {}
    for name in [name for name in classes if name in of_class][:NUM_PICTURES]:
        rows = of_class[name]
        chosen[name] = rows.iloc[choose_spread(list(rows["split_group"]), num_per_class(len(classes)), rng)]
    return chosen
