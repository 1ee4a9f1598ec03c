"""What a sample of images looks like: size, depth, colour, background, and what cannot be read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.errors import DataError, ImageError
from microscopy_cls.images import decode, fit_square
from microscopy_cls.system.progress import progress

NUM_SAMPLED = 64
THUMB_PX = 64
FRAME_PX = 4  # of a thumbnail: what surrounds the object
MAX_COLOUR = 4.0  # mean difference of channels, of 255, that JPEG leaves in a grey picture
MAX_DARK = 40.0  # median grey, of 255, of a dark frame
MOST = 0.75  # share of the images that decides


@dataclass(frozen=True)
class Survey:
    """Findings on the sampled files.

    Attributes:
        num_sampled: files that were opened.
        unreadable: the files that gave no pixels: path, reason.
        median_short_px: median of the shorter sides.
        max_bit_depth: bits a channel as stored, the largest.
        num_deep: files with more than 8 bits a channel.
        is_grey: most images have no colour.
        is_dark_framed: the border of most images is dark, as in fluorescence and dark field.
    """

    num_sampled: int
    unreadable: tuple[tuple[str, str], ...]
    median_short_px: int
    max_bit_depth: int
    num_deep: int
    is_grey: bool
    is_dark_framed: bool


@dataclass(frozen=True)
class _Look:
    short_px: int
    bit_depth: int
    colour: float
    frame: float


def survey_images(paths: Sequence[str], num_sampled: int = NUM_SAMPLED) -> Survey:
    """Decode files spread evenly over `paths`.

    Raises:
        DataError: not one of them can be read.
    """
    rows = np.linspace(0, len(paths) - 1, min(num_sampled, len(paths)), dtype=int)
    chosen = [paths[row] for row in rows]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = list(progress(pool.map(_look, chosen), "looking", total=len(chosen), unit="file"))
    looks = [answer for answer in answers if isinstance(answer, _Look)]
    unreadable = tuple((path, answer) for path, answer in zip(chosen, answers, strict=True) if isinstance(answer, str))
    if not looks:
        path, reason = unreadable[0]
        raise DataError(f"none of {len(chosen)} files opened can be read; the first, {path}: {reason}")
    deep = [look for look in looks if look.bit_depth > 8]
    return Survey(
        num_sampled=len(chosen),
        unreadable=unreadable,
        median_short_px=int(np.median([look.short_px for look in looks])),
        max_bit_depth=max(look.bit_depth for look in looks),
        num_deep=len(deep),
        is_grey=_most([look.colour <= MAX_COLOUR for look in looks]),
        is_dark_framed=_most([look.frame <= MAX_DARK for look in looks]),
    )


def _look(path: str) -> _Look | str:
    """Facts of one file, or the reason why there are none."""
    try:
        decoded = decode(path)
    except ImageError as error:
        return error.reason
    thumb = fit_square(decoded.pixels, THUMB_PX, "stretch").astype(np.float32)
    short_px = min(decoded.width_px, decoded.height_px)
    return _Look(short_px, decoded.bit_depth, float(np.ptp(thumb, axis=2).mean()), _frame_grey(thumb.mean(axis=2)))


def _frame_grey(grey: NDArray[np.float32]) -> float:
    """Median grey of the outer pixels of (h, w)."""
    inner = np.zeros(grey.shape, bool)
    inner[FRAME_PX:-FRAME_PX, FRAME_PX:-FRAME_PX] = True
    return float(np.median(grey[~inner]))


def _most(flags: Sequence[bool]) -> bool:
    return sum(flags) >= MOST * len(flags)
