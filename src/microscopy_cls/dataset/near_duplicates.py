"""Near-duplicates: one picture resized, encoded again, mirrored, turned or cropped by up to 5 %.

Not what merely looks alike: other patients, other cells of one species. Two shots of one cell, or neighbouring slices
of one scan, may be joined where they hardly differ; they belong into one fold as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from microscopy_cls.dataset.alignment import MIN_COARSE, Bands, Match, bands, is_same_picture, match
from microscopy_cls.dataset.lookalikes import Candidate, candidates, seen, thumbnails, unseen
from microscopy_cls.system.progress import progress

NUM_KEPT = 500  # images whose bands are kept, 65 MB

_Target = tuple[int, bool]  # which candidate, and whether its second row is the target


Squares = NDArray[np.uint8] | Sequence[NDArray[np.uint8]]


def near_duplicate_pairs(pixels: Squares, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Find the pairs of rows that show one picture. Near-constant images have no such pair.

    Args:
        pixels: the squares, each uint8 (size_px, size_px, 3), of a cache or of several; read a row at a time.
        rows: of `pixels`, those to compare, shape (m,), ascending; of exact copies one is enough.

    Returns:
        Rows of `pixels`, int64 (p, 2), the smaller first, sorted.
    """
    rows = np.asarray(rows, np.int64)
    if len(rows) < 2:
        return np.empty((0, 2), np.int64)
    thumbs = thumbnails(_grey(pixels, row) for row in progress(rows, "shrinking"))
    alike = list(candidates(thumbs))
    matches = _best_matches(thumbs.whole, alike)

    @lru_cache(NUM_KEPT)
    def bands_of(number: int) -> Bands:
        return bands(_grey(pixels, rows[number]))

    found = [
        (rows[pair.first], rows[pair.second])
        for pair, (fit, second) in progress(zip(alike, matches, strict=True), "confirming", len(alike), "pair")
        if _confirmed(bands_of, pair, fit, second)
    ]
    return np.array(sorted(found), np.int64).reshape(-1, 2)


def _grey(pixels: Squares, row: int) -> NDArray[np.uint8]:
    grey: NDArray[np.uint8] = cv2.cvtColor(np.ascontiguousarray(pixels[row]), cv2.COLOR_RGB2GRAY)
    return grey


def _best_matches(thumbs: NDArray[np.uint8], alike: list[Candidate]) -> list[tuple[Match, bool]]:
    """For each candidate the better of two fits, and whether the second row is its target: either may be cropped.

    A source is searched once for all its targets: the windows are what costs (1 ms).
    """
    targets: dict[int, list[_Target]] = defaultdict(list)
    for number, pair in enumerate(alike):
        targets[pair.first].append((number, True))
        targets[pair.second].append((number, False))
    best: dict[int, tuple[Match, bool]] = {}
    for source, wanted in progress(targets.items(), "aligning", len(targets)):
        views = np.stack([_target(thumbs, alike[number], second) for number, second in wanted])
        for (number, second), fit in zip(wanted, match(thumbs[source], views), strict=True):
            if number not in best or fit.score > best[number][0].score:
                best[number] = (fit, second)
    return [best[number] for number in range(len(alike))]


def _target(thumbs: NDArray[np.uint8], pair: Candidate, second: bool) -> NDArray[np.generic]:
    """The second row as the first lies, or the first as the second lies."""
    return unseen(thumbs[pair.second], pair.view) if second else seen(thumbs[pair.first], pair.view)


def _confirmed(bands_of: Callable[[int], Bands], pair: Candidate, fit: Match, second: bool) -> bool:
    if fit.score < MIN_COARSE:
        return False
    if second:
        return is_same_picture(_turned(bands_of(pair.second), unseen, pair.view), bands_of(pair.first), fit.window)
    return is_same_picture(_turned(bands_of(pair.first), seen, pair.view), bands_of(pair.second), fit.window)


def _turned(image: Bands, turn: Callable[[NDArray[np.generic], int], NDArray[np.generic]], view: int) -> Bands:
    return Bands(*(np.ascontiguousarray(turn(band, view)) for band in image))
