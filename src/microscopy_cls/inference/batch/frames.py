"""What a file holds, as squares for the network: one of an image, many of a stack or slide."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.dataset.cache import Reading
from microscopy_cls.images import decode, fit_square

Kind = Literal["image", "frames", "volume", "slide"]


@dataclass(frozen=True)
class Header:
    """What is known before the first square.

    Attributes:
        kind: an `image` has one square; the answers of the others' squares are joined.
        width_px, height_px: of the image, a frame, or the slide's finest level.
        details: what a slide's outputs need.
    """

    kind: Kind
    width_px: int
    height_px: int
    details: dict[str, Any] = field(default_factory=dict)


Squares = Iterator[NDArray[np.uint8]]


@contextmanager
def open_input(file: Path, reading: Reading, um_per_px: float | None) -> Iterator[tuple[Header, Squares]]:
    """Yield what a file holds and its squares, each uint8 (size_px, size_px, 3).

    Raises:
        ImageError: it gives no pixels; also from the squares.
    """
    found = decode(file, intensity=reading.intensity, page=reading.page, max_pixels=reading.max_pixels)
    square = fit_square(found.pixels, reading.size_px, reading.resize)
    yield Header("image", found.width_px, found.height_px), iter([square])
