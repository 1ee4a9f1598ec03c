"""What every reader of this room returns, and how it says that there are no pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


class UnreadableError(ValueError):
    """Why some bytes give no pixels. `decode` adds the file's name and makes an `ImageError` of it."""


@dataclass(frozen=True, eq=False, slots=True)
class Decoded:
    """One image in the form that all tools work on, and how it was stored.

    Attributes:
        pixels: uint8 (height_px, width_px, 3), RGB, contiguous and writable.
        format: of the content, whatever the file is called: BMP, DICOM, GIF, JPEG, NIFTI, PNG, TIFF or WEBP.
        width_px: width after the camera's orientation has been applied.
        height_px: height after the camera's orientation has been applied.
        channels: samples a pixel as stored, alpha included; 1 for a palette.
        bit_depth: bits a sample as stored (a palette's index).
    """

    pixels: NDArray[np.uint8]
    format: str
    width_px: int
    height_px: int
    channels: int
    bit_depth: int


def decoded(pixels: NDArray[np.uint8], file_format: str, channels: int, bit_depth: int) -> Decoded:
    """Bundle RGB pixels (h, w, 3) with what the file says of itself; copies only what is not writable."""
    writable = np.require(pixels, np.uint8, ["C", "W"])
    height_px, width_px = writable.shape[:2]
    return Decoded(writable, file_format, width_px, height_px, channels, bit_depth)


def check_size(width_px: int, height_px: int, max_pixels: int) -> None:
    """Refuse, from the header alone, an image larger than allowed."""
    if width_px * height_px > max_pixels:
        raise UnreadableError(
            f"claims {width_px} x {height_px} pixels, more than the limit of {max_pixels:,} (data.max_pixels)"
        )


def check_page(page: int, num_pages: int) -> None:
    """Refuse a page that the file does not have."""
    if not 0 <= page < num_pages:
        pages = "1 page" if num_pages == 1 else f"{num_pages} pages"
        raise UnreadableError(f"page {page} asked, has {pages} (counted from 0; data.page)")


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror (h, w, ...) as tag 274 of EXIF and TIFF demands; unknown values change nothing.

    Source: EXIF 2.32, table 6 (Orientation).
    """
    if orientation == 2:
        pixels = pixels[:, ::-1]
    if orientation in (4, 5, 7):
        pixels = pixels[::-1]
    quarter_turns = {3: 2, 5: -1, 6: -1, 7: 1, 8: 1}.get(orientation, 0)
    return np.rot90(pixels, quarter_turns)
