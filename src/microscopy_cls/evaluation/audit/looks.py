"""One pass over the cached pixels: all that the audit needs of each image, some hundred numbers instead of pixels."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from microscopy_cls.evaluation.intervals import Array
from microscopy_cls.system.progress import progress

THUMBNAIL_PX = 24
CORNER_SHARE = 6  # a corner's patch is this part of the side: markers and labels lie within it
CELLS = 8  # a patch is seen as 8 x 8 cells, coarse enough that anatomy fades and a label stays
BLACK, WHITE = 3, 250  # grey up to which, from which, a pixel is: frames and labels are, content hardly ever
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
OCTAVES = 4  # of texture, each at half the resolution of the one before


class Look(NamedTuple):
    """Numbers of one image, or with a leading axis of n images; grey is 0 to 255.

    Attributes:
        thumbnail: grey in 24 x 24 px, flat, (576,).
        texture: edges, curvature and spread of grey in four octaves, (32,).
        corners: top-left, top-right, bottom-left, bottom-right: share of black pixels, of white ones, mean grey, then
            8 x 8 cells less that mean, (4, 67).
        ring: mean and spread of the outermost pixels, (2,).
        grey: mean, spread, then `PERCENTILES`, (9,).
        encoded: bytes that the cached image takes as PNG and as JPEG, (2,).
    """

    thumbnail: Array
    texture: Array
    corners: Array
    ring: Array
    grey: Array
    encoded: Array


def look_at(pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> Look:
    """Look at some images of the cache.

    Args:
        pixels: uint8 (m, s, s, 3) RGB, mapped or in memory.
        rows: which of them, (n,).

    Returns:
        Arrays of n rows.
    """
    found = [look(pixels[row]) for row in progress(rows.tolist(), "looking")]
    return Look(*(np.stack(part) for part in zip(*found, strict=True)))


def look(square: NDArray[np.uint8]) -> Look:
    """Numbers of one image, uint8 (s, s, 3) RGB."""
    grey = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    ring = np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
    return Look(
        small.ravel().astype(np.float64),
        _texture(grey.astype(np.float32)),
        np.array([_corner(patch) for patch in corner_patches(grey)]),
        np.array([ring.mean(), ring.std()]),
        np.array([grey.mean(), grey.std(), *np.percentile(grey, PERCENTILES)]),
        np.array([len(cv2.imencode(kind, grey)[1]) for kind in (".png", ".jpg")], np.float64),
    )


def corner_patches(grey: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The four corners of an image (s, s): top-left, top-right, bottom-left, bottom-right."""
    size = max(CELLS, round(len(grey) / CORNER_SHARE))
    ends = (slice(None, size), slice(-size, None))
    return [grey[rows, columns] for rows in ends for columns in ends]


def _corner(patch: NDArray[np.uint8]) -> Array:
    cells = cv2.resize(patch, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    mean = patch.mean()
    return np.array([(patch <= BLACK).mean(), (patch >= WHITE).mean(), mean, *(cells.ravel() - mean)])


def _texture(grey: NDArray[np.float32]) -> Array:
    """Independent of where things lie, as micrographs need: thumbnails alone tell little about them."""
    found: list[float] = []
    for _ in range(OCTAVES):
        edges = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
        curvature = np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean()
        tails = np.percentile(grey - grey.mean(), [2, 10, 90, 98])
        found += [edges.mean(), edges.std(), curvature, grey.std(), *tails]
        grey = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.array(found, np.float64)
