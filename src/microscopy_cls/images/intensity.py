"""Samples of any type as 8 bits, by one declared rule."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.config.schema import Intensity
from microscopy_cls.errors import ConfigError
from microscopy_cls.images.decoded import UnreadableError

_PERCENTILES = (0.1, 99.9)
SAMPLE_SIZE = 2**24
"""About so many evenly spaced voxels are enough for the percentiles of a volume."""
_BLOCK_SIZE = 2**17  # samples scaled at a time: temporaries stay in the processor's cache and small


def check_intensity(intensity: Intensity) -> None:
    """Raise ConfigError for a rule that no image can be scaled by."""
    if isinstance(intensity, str):
        if intensity not in ("percentile", "full"):
            raise ConfigError(f"data.intensity is {intensity!r}: give percentile, full or a window [low, high]")
    elif not (len(intensity) == 2 and all(map(math.isfinite, intensity)) and intensity[0] < intensity[1]):
        raise ConfigError(f"data.intensity is {list(intensity)}: give a window [low, high] with low below high")


def to_uint8(values: NDArray[Any], intensity: Intensity, num_bits: int | None = None) -> NDArray[np.uint8]:
    """Scale samples of any shape and any real type to uint8, linearly, clipped, rounded to the nearest.

    Up to 8 bits the rule is always `full`, so that uint8 stays as it is. Above, `intensity` says which values become
    0 and 255: `percentile`, the 0.1 and 99.9 percentiles of all values together (of the finite ones; where they
    coincide, as in a dark field with few bright spots, the smallest and the largest); `full`, the range of the type
    (floats must lie in 0..1); or a window (low, high). NaN becomes 0, and so does an image of one value.

    Args:
        values: numbers, first axis of any length.
        intensity: the rule.
        num_bits: significant bits of integers, when fewer than the type has (12-bit samples unpacked into 16).

    Raises:
        UnreadableError: complex numbers, no finite value, or floats outside 0..1 under `full`.
    """
    if values.dtype.kind not in "buif":
        raise UnreadableError("holds complex numbers: save their magnitude instead")
    if values.dtype == np.bool_:
        values, num_bits = values.view(np.uint8), 1
    num_bits = num_bits or values.dtype.itemsize * 8
    if values.dtype == np.uint8 and num_bits == 8:
        return values
    rule = "full" if num_bits <= 8 else intensity
    if rule == "full":
        low, high = type_range(values, num_bits)
    else:
        low, high = limits(values) if isinstance(rule, str) else rule
    return _scaled(values, low, high)


def limits(values: NDArray[Any]) -> tuple[float, float]:
    """The values of any shape that `percentile` makes 0 and 255."""
    low, high = _percentiles(values)
    return (low, high) if low < high else _extremes(values)


def type_range(values: NDArray[Any], num_bits: int) -> tuple[float, float]:
    """The values that `full` makes 0 and 255: the ends of `num_bits` bits, or 0 and 1 for floats.

    Raises:
        UnreadableError: floats outside 0..1.
    """
    if values.dtype.kind == "u":
        return 0.0, 2.0**num_bits - 1
    if values.dtype.kind == "i":
        return -(2.0 ** (num_bits - 1)), 2.0 ** (num_bits - 1) - 1
    low, high = _extremes(values)
    if low < 0 or high > 1:
        raise UnreadableError(
            f"holds floating-point values from {low:g} to {high:g}, but data.intensity full expects 0 to 1: "
            "choose percentile or a window [low, high]"
        )
    return 0.0, 1.0


def _extremes(values: NDArray[Any]) -> tuple[float, float]:
    finite = _finite(values)
    return float(finite.min()), float(finite.max())


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    """The finite values; the array itself where all are."""
    if values.dtype.kind != "f":
        return values
    is_finite = np.isfinite(values)
    finite = values if is_finite.all() else values[is_finite]
    if finite.size == 0:
        raise UnreadableError("holds no finite value")
    return finite


def _percentiles(values: NDArray[Any]) -> tuple[float, float]:
    """Percentiles with numpy's linear interpolation, by counting where there are few possible values.

    Counting 9 million 16-bit samples takes a sixth of the time that selecting among them does.
    """
    if values.dtype.kind == "f" or values.dtype.itemsize > 2:
        finite = _finite(values)
        with np.errstate(over="ignore", invalid="ignore"):
            low, high = np.percentile(finite.astype(np.result_type(finite, np.float32), copy=False), _PERCENTILES)
        return float(low), float(high)
    smallest = np.iinfo(values.dtype).min
    counts = np.zeros(2**16, np.int64)
    for block in _blocks(values):
        counts += np.bincount(block.ravel().astype(np.intp) - smallest, minlength=2**16)
    cumulative = np.cumsum(counts)
    low, high = (_order_statistic(cumulative, percent / 100) + smallest for percent in _PERCENTILES)
    return low, high


def _order_statistic(cumulative: NDArray[np.int64], fraction: float) -> float:
    """The value below which `fraction` of the counted values lie, between two neighbours by their distance."""
    position = fraction * (int(cumulative[-1]) - 1)
    below, above = np.searchsorted(cumulative, [math.floor(position), math.ceil(position)], side="right")
    return float(below + (above - below) * (position % 1))


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    out = np.zeros(values.shape, np.uint8)
    if not low < high:
        return out
    precision: type[np.floating[Any]] = np.float32 if values.dtype.itemsize <= 2 else np.float64
    scale = 255 / (high - low)
    with np.errstate(over="ignore", invalid="ignore"):
        for block, target in zip(_blocks(values), _blocks(out), strict=True):
            scaled = block.astype(precision)
            scaled -= low
            scaled *= scale
            if values.dtype.kind == "f":
                np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
            target[...] = np.rint(np.clip(scaled, 0, 255, out=scaled), out=scaled)
    return out


def _blocks(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Views along the first axis, of about `_BLOCK_SIZE` samples each."""
    num_rows = max(1, _BLOCK_SIZE // max(1, values[:1].size))
    for start in range(0, len(values), num_rows):
        yield values[start : start + num_rows]
