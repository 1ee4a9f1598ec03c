"""What each reader of slides gives: levels, a scale, and the pixels of a part of a level."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

CACHE_BYTES = 2**26  # of decoded tiles: a row of 256 px tiles across 80,000 px, so that reading by rows decodes once
# What microscopes have. 72, 96 and 300 dpi, which programs write that know no scale, are 353, 265 and 85 µm a pixel.
_PLAUSIBLE_UM = (0.05, 20.0)


@dataclass(frozen=True, slots=True)
class Level:
    """One of the sizes in which a slide is stored.

    Attributes:
        width_px: of the whole level.
        height_px: of the whole level.
        downsample: pixels of level 0 beside each other in one pixel of this level; 1.0 for level 0.
    """

    width_px: int
    height_px: int
    downsample: float


class SlideReader(Protocol):
    """An open file. `read` may be called from several threads at once."""

    format: str
    levels: tuple[Level, ...]
    um_per_px: float | None

    def read(self, level: int, x_px: int, y_px: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
        """Pixels (height_px, width_px, 3) of a rectangle, in pixels of the level, that lies inside the level."""

    def close(self) -> None:
        """Release the file."""


def levels_of(sizes: Iterable[tuple[int, int]]) -> tuple[Level, ...]:
    """Levels of these widths and heights, the largest first."""
    sizes = list(sizes)
    width, height = sizes[0]
    return tuple(Level(w, h, (width / w + height / h) / 2) for w, h in sizes)


def mean_um(values: Iterable[float | None]) -> float | None:
    """The mean of the plausible among the microns per pixel that a file claims; None without any."""
    low, high = _PLAUSIBLE_UM
    plausible = [value for value in values if value is not None and low <= value <= high]
    return sum(plausible) / len(plausible) if plausible else None
