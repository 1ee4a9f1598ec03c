"""How an image looks, whatever it shows: brightness, colour and texture of its square in some thirty numbers.

Statistics of this kind (strengths of the bands of a pyramid, quantiles of the pixels) tell textures apart, and the
instruments that took them (Portilla and Simoncelli 2000, doi:10.1023/A:1026553619983). They need no network, so none
can have learned to overlook them. 0.3 ms for 224 px on one core.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

OCTAVES = 5  # bands, each at half the resolution of the one before
BRIGHTNESS_SHARES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
COLOUR_SHARES = (0.25, 0.5, 0.75, 0.95)
NUM_NUMBERS = 4 * OCTAVES + len(BRIGHTNESS_SHARES) + len(COLOUR_SHARES)
FAINT = 0.5  # grey values: a weaker texture is the rounding of the pixels
GREY = 128  # of both colour channels where there is no colour

Square = NDArray[np.uint8]
Plane = NDArray[np.float32]
Numbers = NDArray[np.float64]


def appearances(squares: Iterable[Square]) -> Numbers:
    """Numbers of n squares, each uint8 (s, s, 3) RGB: float64 (n, 31)."""
    return np.array([appearance(square) for square in squares]).reshape(-1, NUM_NUMBERS)


def appearance(square: Square) -> Numbers:
    """Numbers of one square, uint8 (s, s, 3) RGB: float64 (31,), each so scaled that 1 is a change one sees.

    They are, by octave, the strength of the texture in brightness and both colours, as logarithms; how evenly it is
    spread in brightness, less where few edges stand out; quantiles of brightness and, as logarithms, of colour.
    """
    bright, *colours = cv2.split(cv2.cvtColor(square, cv2.COLOR_RGB2YCrCb))
    red, blue = (_halved(plane.astype(np.float32)) - GREY for plane in colours)  # eyes and cameras: colour is coarse
    strength, evenness = _octaves(bright.astype(np.float32))
    return np.concatenate(
        [
            *(np.log(one) for one in (strength, _octaves(red)[0], _octaves(blue)[0])),
            4 * evenness,
            _quantiles(bright, BRIGHTNESS_SHARES) / 32,
            np.log(_quantiles(cv2.magnitude(red, blue).astype(np.uint8), COLOUR_SHARES) + 1),
        ]
    )


def _octaves(plane: Plane) -> tuple[Numbers, Numbers]:
    """Root mean square of each band of a plane (h, w), and its mean absolute value as a share of that, (5,) each."""
    strengths, evenness = [], []
    for _ in range(OCTAVES):
        coarse = _halved(plane)
        smooth = cv2.resize(coarse, plane.shape[::-1], interpolation=cv2.INTER_LINEAR)
        strengths.append(cv2.norm(plane, smooth, cv2.NORM_L2) / np.sqrt(plane.size) + FAINT)
        evenness.append(cv2.norm(plane, smooth, cv2.NORM_L1) / plane.size / strengths[-1])
        plane = coarse
    return np.array(strengths), np.array(evenness)


def _halved(plane: Plane) -> Plane:
    height, width = plane.shape
    halved: Plane = cv2.resize(plane, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)
    return halved


def _quantiles(plane: Square, shares: tuple[float, ...]) -> Numbers:
    """Values up to which these shares of the pixels of a plane (h, w) lie."""
    counts = cv2.calcHist([plane], [0], None, [256], [0, 256]).ravel()
    return np.searchsorted(np.cumsum(counts), np.array(shares) * plane.size).astype(np.float64)
