"""The one way from an image to the network's square input, shared by training, evaluation, classification, export."""

from __future__ import annotations

from typing import assert_never

import cv2
import numpy as np
from numpy.typing import NDArray

from microscopy_cls.config.schema import Resize


def fit_square(pixels: NDArray[np.uint8], size_px: int, resize: Resize) -> NDArray[np.uint8]:
    """Bring RGB pixels (h, w, 3) to (size_px, size_px, 3), uint8, always a new array.

    `stretch` ignores proportions. `pad` keeps them and fills both sides with the median colour of the image's own
    border: black bars would tell the network the proportions, and with them often the source, of every image more
    loudly than the image itself. `crop` keeps them and drops what lies outside the central square.
    """
    if resize == "stretch":
        return resized(pixels, size_px, size_px)
    if resize == "crop":
        return resized(_central_square(pixels), size_px, size_px)
    if resize == "pad":
        return _padded(pixels, size_px)
    assert_never(resize)


def resized(pixels: NDArray[np.uint8], width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Resize each axis by what suits it: the mean over the covered area to shrink, bicubic to enlarge.

    OpenCV's area mode blurs and aliases where one axis shrinks and the other grows, hence shrinking comes first and
    alone.
    """
    height, width = pixels.shape[:2]
    shrunk = (min(width, width_px), min(height, height_px))
    pixels = cv2.resize(pixels, shrunk, interpolation=cv2.INTER_AREA)
    if shrunk != (width_px, height_px):
        pixels = cv2.resize(pixels, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
    return pixels


def _central_square(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def _padded(pixels: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    scale = size_px / max(height, width)
    fitted = resized(pixels, max(1, round(width * scale)), max(1, round(height * scale)))
    top, left = (size_px - fitted.shape[0]) // 2, (size_px - fitted.shape[1]) // 2
    square = np.empty((size_px, size_px, 3), np.uint8)
    square[...] = _border_median(pixels)
    square[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return square


def _border_median(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Median colour of the outermost frame of one pixel, uint8 (3,)."""
    edges = (pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1])
    median: NDArray[np.uint8] = np.rint(np.median(np.concatenate(edges), axis=0)).astype(np.uint8)
    return median
