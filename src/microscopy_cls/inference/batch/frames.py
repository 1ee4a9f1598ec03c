"""What a file holds, as squares for the network: one of an image, many of a stack or slide."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.dataset.cache import Reading
from microscopy_cls.errors import ImageError
from microscopy_cls.images import Decoded, Stack, ending, fit_square, is_stack, read_stack
from microscopy_cls.images.slide import Slide, is_slide, open_slide
from microscopy_cls.inference.slides.tiles import count_tiles, read_tiles, tile_grid, tile_side_px
from microscopy_cls.inference.slides.tissue import tissue_mask
from microscopy_cls.system.hardware import num_cores

Kind = Literal["image", "stack", "slide"]
THUMBNAIL_PX = 1024
MIN_TISSUE = 0.1  # of a tile; organisms on a slide are sparse
# Endings of files that are neither slides nor stacks; others are looked into, which costs about a millisecond.
PLAIN_SUFFIXES = frozenset({".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp"})


@dataclass(frozen=True)
class Header:
    """What is known before the first square.

    Attributes:
        kind: an `image` has one square; the answers of the frames of a `stack` (a volume, a film) and of the tiles
            of a `slide` are joined.
        width_px, height_px: of the image, a frame, or the slide's finest level.
        details: what a slide's outputs need.
    """

    kind: Kind
    width_px: int
    height_px: int
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Opening:
    """How files are opened for a model.

    Attributes:
        reading: from a file's pixels to the square.
        field_um: side of what the model was trained to see, in microns; None for a model that knows pixels alone.
        field_px: the same in pixels of the training images, used at a slide's finest level.
        um_per_px: of all slides, whatever they say of themselves.
    """

    reading: Reading
    field_um: float | None
    field_px: int
    um_per_px: float | None = None


Squares = Iterator[NDArray[np.uint8]]


@contextmanager
def open_input(file: Path, opening: Opening, um_per_px: float | None = None) -> Iterator[tuple[Header, Squares]]:
    """Yield what a file holds and its squares, each uint8 (size_px, size_px, 3).

    Args:
        um_per_px: of this file, where a table says so.

    Raises:
        ImageError: it gives no pixels; also from the squares.
    """
    reading, may_be_many = opening.reading, ending(file) not in PLAIN_SUFFIXES
    if may_be_many and is_slide(file):
        with open_slide(file) as slide:
            yield _tiles(slide, opening, um_per_px)
    elif may_be_many and is_stack(file):
        yield _frames(_stack(file, reading), reading)
    else:
        found = reading.decode(file)
        yield Header("image", found.width_px, found.height_px), iter([_square(found, reading)])


def _stack(file: Path, reading: Reading) -> Stack:
    return read_stack(file, intensity=reading.intensity, channels=reading.channels, max_pixels=reading.max_pixels)


def _square(found: Decoded, reading: Reading) -> NDArray[np.uint8]:
    return fit_square(found.pixels, reading.size_px, reading.resize)


def _frames(stack: Stack, reading: Reading) -> tuple[Header, Squares]:
    """Every frame of a stack, in order."""
    first = stack.frame(0)
    others = (stack.frame(index) for index in range(1, stack.num_frames))
    squares = (_square(found, reading) for found in itertools.chain([first], others))
    return Header("stack", first.width_px, first.height_px), squares


def _tiles(slide: Slide, opening: Opening, um_per_px: float | None) -> tuple[Header, Squares]:
    """The slide's tiles on tissue."""
    known = {"the table": um_per_px, "--mpp": opening.um_per_px, "the file": slide.um_per_px}
    source = next((name for name, value in known.items() if value is not None), None)
    scale = known[source] if source else None
    tile_px = tile_side_px(slide.path, scale, opening.field_um, opening.field_px)
    thumbnail = slide.thumbnail(THUMBNAIL_PX)
    mask = tissue_mask(thumbnail)
    grid = tile_grid(slide.width_px, slide.height_px, tile_px, mask=mask, min_tissue=MIN_TISSUE)
    if grid.empty:
        raise ImageError(slide.path, f"shows no tissue: no tile of {tile_px:.0f} px has {MIN_TISSUE:.0%} of it")
    details = {
        "format": slide.format, "um_per_px": scale, "um_per_px_from": source, "tile_px": tile_px, "grid": grid,
        "num_tiles": count_tiles(slide.width_px, slide.height_px, tile_px), "thumbnail": thumbnail, "mask": mask,
    }  # fmt: skip
    batches = read_tiles(slide, grid, opening.reading.size_px, num_threads=num_cores())
    squares = (square for _, batch in batches for square in batch)
    return Header("slide", slide.width_px, slide.height_px, details), squares
