"""Where a slide holds something: pixels that let less light pass than the empty glass."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Absorbance (optical density) between which the threshold may lie. Below the first, noise of an empty slide would be
# tissue. The second is what Macenko et al. take for unstained (A method for normalizing histology slides for
# quantitative analysis, ISBI 2009): on a slide full of tissue Otsu would otherwise cut between pale and dark tissue.
_LOWEST, _HIGHEST = 0.04, 0.15
_GLASS_PERCENTILE = 95
_DARKEST_GLASS = 190  # of a channel; a slide full of pale tissue has no glass, and must not be measured against itself
_BLACK = 20  # where every channel is below, nothing was scanned: no stain lets so little of all colours pass
_CLOSED = 1 / 70  # gaps up to this part of the longer side belong to the tissue around them
_SPECK = 1 / 20_000  # parts smaller than this part of the picture are dust
_BINS = 256


def tissue_mask(thumbnail: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels of a bright-field slide show a specimen.

    Each channel is compared with the glass (the 95th percentile), and the strongest absorbance of the three cut by
    Otsu's threshold (A threshold selection method from gray-level histograms, 1979), kept within 0.04 to 0.15; then
    gaps are closed and specks dropped. Absorbance rather than saturation, because grey specimens under a coloured
    lamp have less colour than the glass.

    Not promised: pen, dust and bubbles that absorb light count as specimen. Fluorescence on a dark background is
    not meant: its background counts as not scanned, and what is bright as glass.

    Args:
        thumbnail: uint8 (h, w, 3), RGB, about 1000 px long.

    Returns:
        bool (h, w), all False for an empty slide.
    """
    absorbance = _absorbance(cv2.GaussianBlur(thumbnail, (3, 3), 0))
    threshold = np.clip(_otsu(absorbance), _LOWEST, _HIGHEST)
    mask = (absorbance > threshold) & (thumbnail.max(axis=2) >= _BLACK)
    return _without_specks(_closed(mask))


def _absorbance(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Optical density (h, w) in the channel that absorbs most, relative to the glass; 0 for what is brighter."""
    glass = np.maximum(np.percentile(pixels.reshape(-1, 3), _GLASS_PERCENTILE, axis=0), _DARKEST_GLASS)
    passing = (pixels.astype(np.float32) + 1) / (glass.astype(np.float32) + 1)
    absorbance: NDArray[np.float32] = np.maximum(-np.log10(passing.min(axis=2)), np.float32(0))
    return absorbance


def _otsu(values: NDArray[np.float32]) -> float:
    """The threshold with the largest variance between the values below and above it."""
    counts, edges = np.histogram(values, _BINS)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1:][np.argmax(np.nan_to_num(variance))])


def _closed(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill gaps narrower than a disc. OpenCV counts nothing beyond the border, so that tissue is not drawn to it."""
    radius = max(1, round(max(mask.shape) * _CLOSED / 2))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    closed: NDArray[np.uint8] = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, disc)
    return closed.astype(bool)


def _without_specks(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    is_kept = stats[:, cv2.CC_STAT_AREA] >= max(2, mask.size * _SPECK)
    is_kept[0] = False  # the background
    kept: NDArray[np.bool_] = is_kept[labels]
    return kept
