"""The tiles of a slide: their size, where they lie, and their pixels, read ahead of whoever uses them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.errors import ImageError
from microscopy_cls.images.slide import Slide

BOX = ["x_px", "y_px", "width_px", "height_px"]


def tile_side_px(path: Path, um_per_px: float | None, model_tile_um: float | None, model_tile_px: int) -> float:
    """Side of a tile in pixels of level 0 that shows what the model was trained to see.

    Args:
        path: of the slide, for the error.
        um_per_px: of the slide; None where unknown.
        model_tile_um: the model's field of view; None for a model that knows pixels alone.
        model_tile_px: side of the model's input, used at level 0 by a model without a field of view.

    Raises:
        ImageError: the model has a field of view, and the slide's scale is not known.
    """
    if model_tile_um is None:
        return float(model_tile_px)
    if um_per_px is None:
        raise ImageError(
            path,
            f"does not say how many microns a pixel has, and the model looks at fields of {model_tile_um:g} µm: "
            "give --mpp, or a column mpp in a table",
        )
    return model_tile_um / um_per_px


def tile_grid(
    width_px: int,
    height_px: int,
    tile_px: float,
    *,
    overlap: float = 0.0,
    mask: NDArray[np.bool_] | None = None,
    min_tissue: float = 0.25,
) -> pd.DataFrame:
    """Square tiles that cover a slide, those on tissue, row by row.

    Tiles are rounded up to whole pixels, so that no gap is between them. The last of a row and column are shifted
    inwards to end with the slide; only where the slide is smaller than one tile does the tile reach beyond it.

    Args:
        width_px: of the slide, in level 0 as everything here.
        height_px: of the slide.
        tile_px: side of a tile, at least 1.
        overlap: part of the side that neighbours share, 0 to 0.9.
        mask: bool (h, w), tissue on the whole slide at any size; None takes every tile, with tissue 1.
        min_tissue: the least part of a tile, as far as it lies on the slide, that must be tissue.

    Returns:
        `x_px, y_px, width_px, height_px` (int64, upper left corner and size), `tissue` (float64, 0 to 1).
    """
    side, columns, rows = _places(width_px, height_px, tile_px, overlap)
    y, x = (axis.ravel() for axis in np.meshgrid(rows, columns, indexing="ij"))
    grid = pd.DataFrame({"x_px": x, "y_px": y, "width_px": side, "height_px": side, "tissue": 1.0})
    if mask is not None:
        grid["tissue"] = _tissue(mask, x / width_px, y / height_px, side / width_px, side / height_px)
        grid = grid[grid["tissue"] >= min_tissue]
    return grid.reset_index(drop=True)


def count_tiles(width_px: int, height_px: int, tile_px: float, *, overlap: float = 0.0) -> int:
    """How many tiles cover a slide, with and without tissue."""
    _, columns, rows = _places(width_px, height_px, tile_px, overlap)
    return len(columns) * len(rows)


def read_tiles(
    slide: Slide, grid: pd.DataFrame, size_px: int, *, batch_size: int = 16, num_threads: int = 2, prefetch: int = 2
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Read tiles in the grid's order, in batches, by threads that work ahead.

    Memory: at most `1 + prefetch` batches, and what the slide keeps of its own tiles (64 MiB).

    Args:
        slide: open until the last batch was taken.
        grid: rows with `x_px, y_px, width_px, height_px`.
        size_px: side of the answer.
        batch_size: tiles in a batch; the last one may be smaller.
        num_threads: that read.
        prefetch: batches that are read while one is used.

    Yields:
        The first row of the batch, and uint8 (batch, size_px, size_px, 3).

    Raises:
        ImageError: a tile is damaged.
    """
    boxes = iter(grid[BOX].to_numpy().tolist())
    ahead: deque[Future[NDArray[np.uint8]]] = deque()
    with ThreadPoolExecutor(num_threads, thread_name_prefix="tiles") as pool:
        try:
            for start in range(0, len(grid), batch_size):
                while len(ahead) < batch_size * (1 + prefetch) and (box := next(boxes, None)):
                    ahead.append(pool.submit(_tile, slide, box, size_px))
                yield start, np.stack([ahead.popleft().result() for _ in range(min(batch_size, len(ahead)))])
        finally:
            for future in ahead:
                future.cancel()


def _tile(slide: Slide, box: list[int], size_px: int) -> NDArray[np.uint8]:
    x, y, width, height = box
    return slide.region(x, y, width, height, (size_px, size_px))


def _places(
    width_px: int, height_px: int, tile_px: float, overlap: float
) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """Side of a tile, and where columns and rows of tiles start."""
    assert tile_px >= 1, "a tile has pixels"
    assert 0 <= overlap <= 0.9, "neighbours share at most nine tenths"
    step = tile_px * (1 - overlap)
    side = math.ceil(tile_px)
    return side, _starts(width_px, side, step), _starts(height_px, side, step)


def _starts(length: int, side: int, step: float) -> NDArray[np.int64]:
    num = 1 + max(0, math.ceil((length - side) / step - 1e-9))
    starts: NDArray[np.int64] = np.minimum(np.rint(np.arange(num) * step), max(0, length - side)).astype(np.int64)
    return starts


def _tissue(
    mask: NDArray[np.bool_], x: NDArray[np.float64], y: NDArray[np.float64], width: float, height: float
) -> NDArray[np.float64]:
    """Part of each rectangle, in parts of the slide's sides, that is tissue; what is beyond the slide is not counted.

    From the integral image, read between its points: exact also for edges inside a pixel of the mask.
    """
    integral = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    integral[1:, 1:] = mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    left, right = x * mask.shape[1], np.minimum(x + width, 1) * mask.shape[1]
    top, bottom = y * mask.shape[0], np.minimum(y + height, 1) * mask.shape[0]
    inside = _between(integral, right, bottom) - _between(integral, left, bottom)
    inside -= _between(integral, right, top) - _between(integral, left, top)
    tissue: NDArray[np.float64] = np.clip(inside / ((right - left) * (bottom - top)), 0, 1)
    return tissue


def _between(table: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values of a table at places between its entries, bilinear."""
    column = np.minimum(x.astype(np.intp), table.shape[1] - 2)
    row = np.minimum(y.astype(np.intp), table.shape[0] - 2)
    right, down = x - column, y - row
    upper = table[row, column] * (1 - right) + table[row, column + 1] * right
    lower = table[row + 1, column] * (1 - right) + table[row + 1, column + 1] * right
    value: NDArray[np.float64] = upper * (1 - down) + lower * down
    return value
