"""What may be wrong with an image: blurred, dark, bright, saturated, empty, constant. Flagged, never dropped.

What is usual differs from set to set: nine tenths of a dark-field image are black. So most flags ask for an outlier of
its own set; only what no set makes usual has a limit of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

FLAGS = ("blurred", "dark", "bright", "saturated", "empty", "constant")

MIN_IMAGES = 10  # below it nothing is known of what is usual
OUTLIER = 6.0  # median absolute deviations from the median: four standard deviations of a normal distribution
SOFT_OUTLIER = 4.0
# The least deviation that counts as one: in a set without any spread small differences are no fault.
MIN_GREY_SPREAD = 7.0  # grey levels of 255
MIN_SOFT_SPREAD = 0.2  # natural logarithm
MIN_CLIPPED_SPREAD = 0.35  # natural logarithm
MIN_CLIPPED = 0.2  # share of pixels at 0 or 255
BLACK, WHITE = 16, 240  # grey levels: an image wholly below or above shows nothing, in whatever set
MIN_CONTRAST = 1.0  # grey levels
STRUCTURE_PX = 32  # side of the thumbnail on which structures are told from noise
MIN_STRUCTURE = 0.8  # grey levels, without shading: less is what compression leaves of nothing
MIN_NEIGHBOURS = 0.12  # correlation of neighbouring pixels: of noise 0
MAX_NOISE_PEAK = 5.0  # standard deviations: what noise does not reach in a thousand pixels


class Measures(NamedTuple):
    """Of one image, in grey levels of 0 to 255 where nothing else is said.

    Attributes:
        brightness: mean.
        darkest, brightest: 0.1 and 99.9 percentiles.
        contrast: standard deviation.
        clipped: share of pixels at 0 or 255.
        sharpness: logarithm of the share of fine detail in the contrast.
        structure: standard deviation of a thumbnail without shading.
        neighbours: correlation of its neighbouring pixels.
        peak: its largest deviation, in standard deviations.
    """

    brightness: float
    darkest: float
    brightest: float
    contrast: float
    clipped: float
    sharpness: float
    structure: float
    neighbours: float
    peak: float


def quality_flags(squares: Iterable[NDArray[np.uint8]], native_px: NDArray[np.float64]) -> list[str]:
    """The flags of each image, joined with commas in the order of `FLAGS`; "" where nothing is wrong.

    Args:
        squares: the readable images of one set, uint8 (size_px, size_px, 3) each.
        native_px: the side of each before it was fitted (root of the area), shape (n,): enlarged ones are softer.
    """
    measured = pd.DataFrame([measure(square) for square in squares], columns=list(Measures._fields))
    measured["sharpness"] -= _explained(measured["sharpness"], native_px)
    flags = _flags(measured)
    return [",".join(name for name, flagged in zip(FLAGS, row, strict=True) if flagged) for row in flags.to_numpy()]


def measure(square: NDArray[np.uint8]) -> Measures:
    """Measure uint8 (size_px, size_px, 3)."""
    grey = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)
    levels = np.cumsum(np.bincount(grey.ravel(), minlength=256)) / grey.size
    values = grey.astype(np.float32)
    fine = cv2.Laplacian(cv2.GaussianBlur(values, (0, 0), 1.0), cv2.CV_32F)
    return Measures(
        brightness=float(values.mean()),
        darkest=float(np.searchsorted(levels, 0.001)),
        brightest=float(np.searchsorted(levels, 0.999)),
        contrast=float(values.std()),
        clipped=float(((grey == 0) | (grey == 255)).mean()),
        sharpness=float(np.log(fine.var() + 1e-3) - np.log(values.var() + 1e-3)),
        **_structure(values),
    )


def _structure(values: NDArray[np.float32]) -> dict[str, float]:
    thumb = cv2.resize(values, (STRUCTURE_PX, STRUCTURE_PX), interpolation=cv2.INTER_AREA).astype(np.float64).ravel()
    left = (thumb - _SHADING @ (_SHADING.T @ thumb)).reshape(STRUCTURE_PX, STRUCTURE_PX)
    deviation = max(float(left.std()), 1e-6)
    products = ((left[1:] * left[:-1]).mean() + (left[:, 1:] * left[:, :-1]).mean()) / 2
    return {
        "structure": deviation,
        "neighbours": float(products) / deviation**2,
        "peak": float(np.abs(left).max()) / deviation,
    }


def _shading() -> NDArray[np.float64]:
    """Orthonormal surfaces of second degree, (pixels, 6): uneven light, and nothing else."""
    y, x = np.mgrid[-1 : 1 : STRUCTURE_PX * 1j, -1 : 1 : STRUCTURE_PX * 1j].reshape(2, -1)
    surfaces: NDArray[np.float64] = np.linalg.qr(np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=1))[0]
    return surfaces


_SHADING = _shading()


def _explained(sharpness: pd.Series, native_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of the sharpness that follows from the size, by a straight line over its logarithm."""
    size = np.log(np.maximum(native_px, 1))
    if len(size) < MIN_IMAGES or np.ptp(size) < 0.1:
        return np.zeros(len(size))
    return np.asarray(np.polyval(np.polyfit(size, sharpness, 1), size))


def _flags(measured: pd.DataFrame) -> pd.DataFrame:
    """A column of bool for each of `FLAGS`."""
    constant = measured["contrast"] < MIN_CONTRAST
    away = _deviation(measured["brightness"], ~constant, MIN_GREY_SPREAD)
    clipped = _deviation(np.log(measured["clipped"] + 0.01), ~constant, MIN_CLIPPED_SPREAD)
    sharper = _deviation(measured["sharpness"], ~constant, MIN_SOFT_SPREAD)
    noise = (measured["neighbours"] < MIN_NEIGHBOURS) & (measured["peak"] < MAX_NOISE_PEAK)
    empty = noise | (measured["structure"] < MIN_STRUCTURE)
    flags = {
        "blurred": (sharper < -SOFT_OUTLIER) & ~empty,
        "dark": (away < -OUTLIER) | (measured["brightest"] < BLACK),
        "bright": (away > OUTLIER) | (measured["darkest"] > WHITE),
        "saturated": (clipped > OUTLIER) & (measured["clipped"] > MIN_CLIPPED),
        "empty": empty,
    }
    return pd.DataFrame({name: flag & ~constant for name, flag in flags.items()} | {"constant": constant})


def _deviation(values: pd.Series, usable: pd.Series, min_spread: float) -> pd.Series:
    """Median absolute deviations from the median of the usable rows; 0 where they are too few to say."""
    usual = values[usable]
    if len(usual) < MIN_IMAGES:
        return pd.Series(0.0, index=values.index)
    middle = usual.median()
    spread = max((usual - middle).abs().median(), min_spread)
    return (values - middle) / spread
