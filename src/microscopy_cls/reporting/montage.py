"""Small pictures from the pixel cache: which ones are shown, how they get into the page, and what they weigh."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

LONG_SIDE_PX = 128
SHORT_SIDE_PX = 24  # a very long image would otherwise become a line
JPEG_QUALITY = 82
# All pictures of the page together, as text. Photographs of 128 px are 5 kB, pure noise is 17 kB: only pages of noise
# ever come near. The rest of a page stays below 3 MB, so that the whole is below 15 MB whatever the data.
MAX_NUM_BYTES = 11_000_000
NUM_PICTURES = 400  # in the montages of all classes
NUM_PER_CLASS = 12  # one row of the page
NUM_PER_CLASS_OF_MANY = 8  # half a row
MANY_CLASSES = 12
SEED = 0


@dataclass(frozen=True)
class Thumbnail:
    """One image as a data address (empty: no picture is shown), with its size on the page and its id."""

    uri: str
    width_px: int
    height_px: int
    image_id: str


class Album:
    """Takes pictures out of the prepared pixels until the page has enough of them.

    Args:
        pixels: uint8 (n, side, side, 3), RGB.
        manifest: `image_id, pixel_row, width_px, height_px, label` of every file.
        stretched: whether images were stretched to the square, so that thumbnails undo it.
        num_bytes: what all pictures may take; those that come later have no address.
    """

    def __init__(
        self, pixels: NDArray[np.uint8], manifest: pd.DataFrame, *, stretched: bool, num_bytes: int = MAX_NUM_BYTES
    ) -> None:
        self._pixels, self._stretched, self.num_bytes_left = pixels, stretched, num_bytes
        facts = manifest[["image_id", "label", "pixel_row", "width_px", "height_px"]].to_dict("records")
        self._files = {str(file["image_id"]): file for file in facts}

    def label_of(self, image_id: str) -> str:
        """The class that the manifest gives; empty for an image it does not know."""
        return str(self._files[image_id]["label"]) if image_id in self._files else ""

    def named(self, image_ids: Iterable[str], long_side_px: int = LONG_SIDE_PX) -> list[Thumbnail]:
        """Thumbnails of these images; without an address where the manifest does not know the id."""
        return [self._of_id(str(image_id), long_side_px) for image_id in image_ids]

    def thumbnails(self, rows: pd.DataFrame, long_side_px: int = LONG_SIDE_PX) -> list[Thumbnail]:
        """Thumbnails of rows with `image_id`."""
        return self.named(rows["image_id"], long_side_px)

    def drawn(self, image_id: str, cam: NDArray[np.uint8]) -> Thumbnail:
        """A thumbnail under its evidence map, uint8 (h, w)."""
        return self._of_id(image_id, LONG_SIDE_PX, cam)

    def _of_id(self, image_id: str, long_side_px: int, cam: NDArray[np.uint8] | None = None) -> Thumbnail:
        file = self._files.get(image_id)
        if file is None or file["pixel_row"] < 0:
            return Thumbnail("", long_side_px, long_side_px, image_id)
        width_px, height_px = (file["width_px"], file["height_px"]) if self._stretched else (1, 1)
        size = thumbnail_size(width_px, height_px, long_side_px)
        small = cv2.resize(np.asarray(self._pixels[file["pixel_row"]]), size, interpolation=cv2.INTER_AREA)
        return Thumbnail(self._address(small if cam is None else with_evidence(small, cam)), *size, image_id)

    def _address(self, small: NDArray[np.uint8]) -> str:
        uri = jpeg_uri(small)
        if len(uri) > self.num_bytes_left:
            return ""
        self.num_bytes_left -= len(uri)
        return uri


def thumbnail_size(width_px: int, height_px: int, long_side_px: int = LONG_SIDE_PX) -> tuple[int, int]:
    """Width and height of a thumbnail in the proportions of an image."""
    longest = max(width_px, height_px, 1)
    width, height = (max(SHORT_SIDE_PX, round(long_side_px * side / longest)) for side in (width_px, height_px))
    return width, height


def jpeg_uri(pixels: NDArray[np.uint8]) -> str:
    """RGB pixels, uint8 (h, w, 3), as a `data:` address."""
    encoded, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert encoded, "cv2 encodes every uint8 image"
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def with_evidence(pixels: NDArray[np.uint8], cam: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture in grey, tinted where the evidence lies.

    The tint goes from dark violet to yellow with rising lightness, so it reads the same for every kind of colour
    vision and in a grey print.

    Args:
        pixels: RGB, uint8 (h, w, 3).
        cam: 0 no evidence to 255 most, uint8 of any size; it is resized to the picture.
    """
    height, width = pixels.shape[:2]
    cam = cv2.resize(cam, (width, height), interpolation=cv2.INTER_LINEAR)
    grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    tint = cv2.cvtColor(cv2.applyColorMap(cam, cv2.COLORMAP_PLASMA), cv2.COLOR_BGR2RGB)
    opacity = 0.7 * cam[..., None] / 255
    return np.asarray(np.rint(grey * (1 - opacity) + tint * opacity), np.uint8)


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
