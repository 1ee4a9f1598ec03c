"""Squares of a pixel cache that are read, and changed, as a model asks for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Squares = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class CachedSquares:
    """Some rows of a cache, for `member_answers`: a slice at a time, since 1,000 squares of 512 px take 0.8 GB.

    Attributes:
        pixels: uint8 (n, size_px, size_px, 3), memory-mapped.
        rows: of `pixels`, those wanted, in their order.
        change: what is done to a slice of them, a function of each image alone; None leaves them.
    """

    pixels: Squares
    rows: NDArray[np.int64]
    change: Callable[[Squares], Squares] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> Squares:
        squares = np.asarray(self.pixels[self.rows[part]])
        return squares if self.change is None else self.change(squares)

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array: (rows, size_px, size_px, 3)."""
        return len(self.rows), *self.pixels.shape[1:]
