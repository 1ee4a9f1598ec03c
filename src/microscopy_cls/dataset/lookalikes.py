"""Which pairs of images might show one picture: cheap enough to ask of all pairs of 50,000 images.

A thumbnail's lowest cosine coefficients, flattened against the fall of natural spectra, hardly change when a picture is
resized or encoded again. Mirroring an image alternates their signs and a quarter turn transposes them, so that all
eight views of an image are compared without touching a pixel. Crops are found by the centre of the other image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from microscopy_cls.system.progress import bar

THUMB_PX = 32
NUM_FREQUENCIES = 9  # an axis; with fewer, crops rank behind strangers more often, with more their likeness falls
CENTRE_CUT = 0.025  # a side: half of the largest crop, wherever it was cut
MIN_LIKENESS = 0.75  # cosine; crops of 5 % of pollen, chest scans and plankton keep 0.78 or more
MAX_CANDIDATES = 12  # an image: bounds the work where all images are alike, as chest scans are
MIN_CONTRAST = 1.0  # grey levels of 255 below which a thumbnail is noise
ROWS_AT_ONCE = 32  # two arrays of 50 MB for 50,000 images


class Candidate(NamedTuple):
    """Two rows whose thumbnails are alike when `first` is seen in one of its eight views."""

    first: int
    second: int
    view: int


class Thumbnails(NamedTuple):
    """Of all images: whole, and their centres, as a crop might leave them; uint8 (n, THUMB_PX, THUMB_PX) each."""

    whole: NDArray[np.uint8]
    centre: NDArray[np.uint8]


def thumbnails(greys: Iterable[NDArray[np.uint8]]) -> Thumbnails:
    """Shrink grey squares of any side."""
    pairs = [(_thumbnail(grey), _thumbnail(_centre(grey))) for grey in greys]
    return Thumbnails(np.stack([whole for whole, _ in pairs]), np.stack([centre for _, centre in pairs]))


def _thumbnail(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    small: NDArray[np.uint8] = cv2.resize(grey, (THUMB_PX, THUMB_PX), interpolation=cv2.INTER_AREA)
    return small


def _centre(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    cut = round(CENTRE_CUT * len(grey))
    return grey[cut : len(grey) - cut, cut : len(grey) - cut]


def seen(image: NDArray[np.generic], view: int) -> NDArray[np.generic]:
    """One of the eight views of (h, w): transposed (bit 4), then mirrored up-down (bit 2) and left-right (bit 1)."""
    image = image.T if view & 4 else image
    return image[:: -1 if view & 2 else 1, :: -1 if view & 1 else 1]


def unseen(image: NDArray[np.generic], view: int) -> NDArray[np.generic]:
    """The image of which `seen` makes this view."""
    image = image[:: -1 if view & 2 else 1, :: -1 if view & 1 else 1]
    return image.T if view & 4 else image


def candidates(thumbs: Thumbnails) -> Iterator[Candidate]:
    """The most alike pairs of n images: at most `MAX_CANDIDATES` later rows for each row.

    Quadratic in n: two minutes of one core for 50,000 images. Where hundreds of images are alike, a cropped copy may
    not be among the most alike ones.
    """
    whole, centre = _coefficients(thumbs.whole), _coefficients(thumbs.centre)
    norms = np.sqrt((whole**2).sum((1, 2)))
    rows = np.flatnonzero(norms >= MIN_CONTRAST * THUMB_PX)  # by Parseval, of a pattern of the lowest frequency
    whole, centre = (_of_unit_length(kind[rows]) for kind in (whole, centre))
    with bar("comparing", len(rows) * (len(rows) + 1) // 2, "pair") as moved:
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            likeness = _likeness(whole[part], whole[start:])
            np.maximum(likeness, _likeness(whole[part], centre[start:]), out=likeness)
            np.maximum(likeness, _likeness(centre[part], whole[start:]), out=likeness)
            for row, col, view in _most_alike(likeness):
                yield Candidate(int(rows[start + row]), int(rows[start + col]), view)
            num_done, num_left = len(likeness[0]), len(rows) - start
            moved.update(num_done * num_left - num_done * (num_done - 1) // 2)


def _coefficients(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 (n, NUM_FREQUENCIES, NUM_FREQUENCIES), weighted by frequency; the mean grey has weight 0."""
    frequency = np.arange(NUM_FREQUENCIES, dtype=np.float32)
    lowest = [cv2.dct(thumb.astype(np.float32))[:NUM_FREQUENCIES, :NUM_FREQUENCIES] for thumb in thumbs]
    weighted: NDArray[np.float32] = np.stack(lowest) * np.hypot(frequency[:, None], frequency)
    return weighted


def _of_unit_length(coefficients: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.sqrt((coefficients**2).sum((1, 2), keepdims=True))
    unit: NDArray[np.float32] = coefficients / np.maximum(lengths, 1e-6)
    return unit


def _likeness(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosines float32 (8, r, c) of r images in each of their views with c images."""
    views = np.stack([_coefficients_seen(first, view) for view in range(8)])
    cosines = views.reshape(8 * len(first), -1) @ second.reshape(len(second), -1).T
    return cosines.reshape(8, len(first), len(second))


def _coefficients_seen(coefficients: NDArray[np.float32], view: int) -> NDArray[np.float32]:
    """What `seen` does to the coefficients (n, k, k) of images: odd frequencies change sign when an axis is turned."""
    odd = np.where(np.arange(NUM_FREQUENCIES) % 2, -1, 1).astype(np.float32)
    coefficients = coefficients.transpose(0, 2, 1) if view & 4 else coefficients
    coefficients = coefficients * odd[:, None] if view & 2 else coefficients
    return coefficients * odd if view & 1 else coefficients


def _most_alike(likeness: NDArray[np.float32]) -> Iterator[tuple[int, int, int]]:
    """Row, later column and view of the largest entries of (8, r, c), where column i is row i itself for i < r."""
    best = likeness.max(axis=0)
    best[np.tri(*best.shape) > 0] = -1
    num = min(MAX_CANDIDATES, best.shape[1])
    for row, columns in enumerate(np.argpartition(best, -num, axis=1)[:, -num:]):
        for column in np.sort(columns[best[row, columns] >= MIN_LIKENESS]):
            yield row, int(column), int(likeness[:, row, column].argmax())
