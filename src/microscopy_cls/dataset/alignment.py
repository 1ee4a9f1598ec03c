"""Whether two grey squares are one picture, perhaps cropped by a few percent: decided on aligned pixels.

The window of one image that fits the other is searched on thumbnails, over all crops of up to 5 % an axis, then moved
by fractions of a pixel at 64 px. What remains is compared in two bands of detail, because shapes alone are alike from
one chest or pollen grain to the next.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from microscopy_cls.dataset.lookalikes import THUMB_PX

Grey = NDArray[np.uint8]
Band = NDArray[np.float32]
Window = tuple[float, ...]
"""What is cut off above, below, left and right, as shares of the side; negative where the image is moved out."""

STEP = 0.0125  # of the side: less than half a pixel of a thumbnail
NUM_STEPS = 4  # 5 %
WHOLE: Window = (0.0, 0.0, 0.0, 0.0)
MIN_COARSE = 0.84  # of thumbnails; true copies keep 0.87
BAND_PX = 128
SAMPLED_PX = 64
MARGIN_PX = 3  # of the sampled, where the filters see beyond the edge
MIN_HOPE = 0.8  # of the middle band before the window is refined; true copies keep 0.95
MIN_MIDDLE = 0.96  # copies keep 0.98; other patients and other cells of one species rarely reach 0.95
MIN_FINE = 0.93  # copies keep 0.95; other chests that were drawn from one pattern reach 0.91
MIN_GREY_STD = 0.5  # grey levels of the middle band, below which there is only noise to compare
MAX_OWN_SHIFT = 0.35  # how much nearer than to itself, moved, a picture must be to its copy: straight threads
SHIFT_PX = 8
MIN_SHIFT_PX = 5


class Bands(NamedTuple):
    """One square by size of structure, float32 (BAND_PX, BAND_PX): of some 5 to 15 px, and of 3 to 8 px."""

    middle: Band
    fine: Band


class Match(NamedTuple):
    """How well the best window of the source fits a target, a correlation of thumbnails, and that window."""

    score: float
    window: Window


def match(source: Grey, targets: NDArray[np.uint8]) -> list[Match]:
    """The window of one thumbnail (t, t) that looks most like each of the targets (m, t, t)."""
    warped = _in_all_windows(_thumb_band(source))
    units = np.stack([_unit(_thumb_band(target)) for target in targets])
    scores = units.reshape(len(units), -1) @ warped.T
    found = scores.argmax(axis=1)
    num = len(_AXIS_WINDOWS)
    windows = [(*_AXIS_WINDOWS[place // num], *_AXIS_WINDOWS[place % num]) for place in found]
    return [Match(float(row[place]), window) for row, place, window in zip(scores, found, windows, strict=True)]


def bands(grey: Grey) -> Bands:
    """The structures of a grey square of any side, apart by size."""
    interpolation = cv2.INTER_AREA if len(grey) > BAND_PX else cv2.INTER_LINEAR
    values = cv2.resize(grey, (BAND_PX, BAND_PX), interpolation=interpolation).astype(np.float32)
    fine, finer, coarse, coarsest = (cv2.GaussianBlur(values, (0, 0), sigma) for sigma in (1.4, 2.0, 3.0, 6.0))
    return Bands(finer - coarsest, fine - coarse)


def is_same_picture(target: Bands, source: Bands, window: Window) -> bool:
    """Whether a window of `source` shows what all of `target` shows."""
    middle, inside = _sampled(target.middle, WHOLE), _sampled(source.middle, window)
    if min(middle.std(), inside.std()) < MIN_GREY_STD:
        return False
    score = _correlation(_standard(middle), inside)
    if score < MIN_HOPE:
        return False
    score, window = _refined(_standard(middle), source.middle, score, window)
    if score < MIN_MIDDLE or 1 - score > MAX_OWN_SHIFT * (1 - _own_shift(middle)):
        return False
    return _correlation(_standard(_sampled(target.fine, WHOLE)), _sampled(source.fine, window)) >= MIN_FINE


def _axis_windows() -> list[tuple[float, float]]:
    crops = [(low, high) for low in range(NUM_STEPS + 1) for high in range(NUM_STEPS + 1 - low)]
    moved = [(-2, 2), (2, -2)]
    return [(low * STEP, high * STEP) for low, high in crops + moved]


def _interpolation(low: float, high: float) -> Band:
    """The matrix (t, t) that samples one axis of a thumbnail in a window, linearly, the edge repeated."""
    centres = low + (np.arange(THUMB_PX) + 0.5) / THUMB_PX * (1 - low - high)
    place = np.clip(centres * THUMB_PX - 0.5, 0, THUMB_PX - 1)
    left = np.minimum(place.astype(int), THUMB_PX - 2)
    matrix = np.zeros((THUMB_PX, THUMB_PX), np.float32)
    rows = np.arange(THUMB_PX)
    matrix[rows, left] = 1 - (place - left)
    matrix[rows, left + 1] = place - left
    return matrix


_AXIS_WINDOWS = _axis_windows()
_SAMPLERS = np.stack([_interpolation(*window) for window in _AXIS_WINDOWS])


def _thumb_band(thumb: Grey) -> Band:
    grey = thumb.astype(np.float32)
    band: Band = grey - cv2.GaussianBlur(grey, (0, 0), 3)
    return band


def _in_all_windows(band: Band) -> Band:
    """A thumbnail (t, t) in each pair of axis windows (w * w, t * t), each of unit length."""
    num, side = len(_SAMPLERS), THUMB_PX
    across = np.einsum("yx,wax->ywa", band, _SAMPLERS, optimize=True).reshape(side, num * side)
    both = (_SAMPLERS.reshape(-1, side) @ across).reshape(num, side, num, side).transpose(0, 2, 1, 3)
    flat = np.ascontiguousarray(both).reshape(num * num, side * side)
    norms = np.sqrt(np.einsum("wp,wp->w", flat, flat))
    flat /= np.maximum(norms, 1e-6)[:, None]
    return flat


def _unit(values: Band) -> Band:
    unit: Band = values / max(float(np.linalg.norm(values)), 1e-6)
    return unit


def _sampled(band: Band, window: Window) -> Band:
    """A window of a band as float32 (SAMPLED_PX, SAMPLED_PX) without the outer pixels."""
    (top, bottom, left, right), side, scale = window, len(band), len(band) / SAMPLED_PX
    down, over = scale * (1 - top - bottom), scale * (1 - left - right)
    # From the centre of a sampled pixel to the place in the band.
    matrix = np.array([[over, 0, left * side + over / 2 - 0.5], [0, down, top * side + down / 2 - 0.5]], np.float32)
    sampled = cv2.warpAffine(
        band, matrix, (SAMPLED_PX, SAMPLED_PX), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    inner: Band = sampled[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    return inner


def _standard(band: Band) -> Band:
    """Without its mean and of unit length."""
    return _unit(band - band.mean())


def _correlation(standard: Band, other: Band) -> float:
    """Pearson's, of a band that `_standard` made and one as it is."""
    length = max(float(other.std()) * float(np.sqrt(other.size)), 1e-6)
    return float(np.vdot(standard, other)) / length


def _refined(target: Band, source: Band, score: float, window: Window) -> tuple[float, Window]:
    """Move each edge of the window by halves and quarters of a step while that helps."""
    for move in (STEP / 2, STEP / 4):
        for edge in (0, 1, 2, 3, 0, 1, 2, 3):
            for change in (move, -move):
                moved = (*window[:edge], window[edge] + change, *window[edge + 1 :])
                better = _correlation(target, _sampled(source, moved))
                if better > score:
                    score, window = better, moved
    return score, window


def _own_shift(middle: Band) -> float:
    """The best correlation of a picture with itself, moved by 5 to 8 px: near 1 for a straight thread or stripes."""
    inner = middle[SHIFT_PX:-SHIFT_PX, SHIFT_PX:-SHIFT_PX]
    surface = cv2.matchTemplate(np.ascontiguousarray(middle), np.ascontiguousarray(inner), cv2.TM_CCOEFF_NORMED)
    offset = np.arange(-SHIFT_PX, SHIFT_PX + 1)
    return float(surface[np.hypot(offset[:, None], offset) >= MIN_SHIFT_PX].max())
