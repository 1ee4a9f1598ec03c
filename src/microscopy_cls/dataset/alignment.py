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
Window = tuple[float, ...]
"""What is cut off above, below, left and right, as shares of the side; negative where the image is moved out."""

STEP = 0.0125  # of the side: less than half a pixel of a thumbnail
NUM_STEPS = 4  # 5 %
WHOLE: Window = (0.0, 0.0, 0.0, 0.0)
MIN_COARSE = 0.84  # of thumbnails; true copies keep 0.87
DETAIL_PX = 64
MARGIN_PX = 3  # of the detail, where the filters see beyond the edge
MIN_HOPE = 0.75  # of unrefined middle detail; true copies keep 0.95
MIN_MIDDLE = 0.94  # structures of some 3 to 10 px of 64; copies keep 0.99, a patient's next chest scan reaches 0.94
MIN_FINE = 0.91  # structures of some 2 to 5 px; copies keep 0.95, another copepod in the same pose reaches 0.89
MIN_GREY_STD = 0.5  # grey levels of middle detail, below which there is only noise to compare
MAX_OWN_SHIFT = 0.35  # how much nearer than to itself, moved, a picture must be to its copy: straight threads
SHIFT_PX = 8
MIN_SHIFT_PX = 5


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


def is_same_picture(target: Grey, source: Grey, window: Window) -> bool:
    """Whether a window of `source` shows what all of `target` shows; both square, of any side."""
    whole, blurred = _detail(_smoothed(target), WHOLE), _smoothed(source)
    middle = _middle(whole)
    if min(middle.std(), _middle(_detail(blurred, window)).std()) < MIN_GREY_STD:
        return False
    score = _correlation(middle, _middle(_detail(blurred, window)))
    if score < MIN_HOPE:
        return False
    score, window = _refined(middle, blurred, score, window)
    fine = _correlation(_fine(whole), _fine(_detail(blurred, window)))
    needed = max(MIN_MIDDLE, 1 - MAX_OWN_SHIFT * (1 - _own_shift(middle)))
    return score >= needed and fine >= MIN_FINE


def _axis_windows() -> list[tuple[float, float]]:
    crops = [(low, high) for low in range(NUM_STEPS + 1) for high in range(NUM_STEPS + 1 - low)]
    moved = [(-2, 2), (2, -2)]
    return [(low * STEP, high * STEP) for low, high in crops + moved]


def _interpolation(low: float, high: float) -> NDArray[np.float32]:
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


def _thumb_band(thumb: Grey) -> NDArray[np.float32]:
    grey = thumb.astype(np.float32)
    band: NDArray[np.float32] = grey - cv2.GaussianBlur(grey, (0, 0), 3)
    return band


def _in_all_windows(band: NDArray[np.float32]) -> NDArray[np.float32]:
    """A thumbnail (t, t) in each pair of axis windows (w * w, t * t), each of unit length."""
    num, side = len(_SAMPLERS), THUMB_PX
    across = np.einsum("yx,wax->ywa", band, _SAMPLERS, optimize=True).reshape(side, num * side)
    both = (_SAMPLERS.reshape(-1, side) @ across).reshape(num, side, num, side).transpose(0, 2, 1, 3)
    flat = np.ascontiguousarray(both).reshape(num * num, side * side)
    norms = np.sqrt(np.einsum("wp,wp->w", flat, flat))
    flat /= np.maximum(norms, 1e-6)[:, None]
    return flat


def _unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = values / max(float(np.linalg.norm(values)), 1e-6)
    return unit


def _smoothed(grey: Grey) -> NDArray[np.float32]:
    """Without what DETAIL_PX pixels cannot show."""
    wide = grey.astype(np.float32)
    smooth: NDArray[np.float32] = cv2.GaussianBlur(wide, (0, 0), 0.45 * max(1.0, len(grey) / DETAIL_PX))
    return smooth


def _detail(smoothed: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """A window of a square as float32 (DETAIL_PX, DETAIL_PX)."""
    side = len(smoothed)
    (top, bottom, left, right), scale = window, side / DETAIL_PX
    down, over = scale * (1 - top - bottom), scale * (1 - left - right)
    matrix = np.array(
        [[over, 0, left * side + over / 2 - 0.5], [0, down, top * side + down / 2 - 0.5]], np.float32
    )  # from the centre of a pixel of the detail to the place in the square
    detail: NDArray[np.float32] = cv2.warpAffine(
        smoothed, matrix, (DETAIL_PX, DETAIL_PX), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return detail


def _middle(detail: NDArray[np.float32]) -> NDArray[np.float32]:
    return _band(detail, 1.0, 3.0)


def _fine(detail: NDArray[np.float32]) -> NDArray[np.float32]:
    return _band(detail, 0.7, 1.5)


def _band(detail: NDArray[np.float32], finest_px: float, coarsest_px: float) -> NDArray[np.float32]:
    band = cv2.GaussianBlur(detail, (0, 0), finest_px) - cv2.GaussianBlur(detail, (0, 0), coarsest_px)
    inner: NDArray[np.float32] = band[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    return inner


def _correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    first, second = first - first.mean(), second - second.mean()
    return float((_unit(first) * _unit(second)).sum())


def _refined(
    middle: NDArray[np.float32], source: NDArray[np.float32], score: float, window: Window
) -> tuple[float, Window]:
    """Move each edge of the window by halves and quarters of a step while that helps."""
    for move in (STEP / 2, STEP / 4):
        for edge in (0, 1, 2, 3, 0, 1, 2, 3):
            for change in (move, -move):
                moved = (*window[:edge], window[edge] + change, *window[edge + 1 :])
                better = _correlation(middle, _middle(_detail(source, moved)))
                if better > score:
                    score, window = better, moved
    return score, window


def _own_shift(middle: NDArray[np.float32]) -> float:
    """The best correlation of a picture with itself, moved by 5 to 8 px: near 1 for a straight thread or stripes."""
    inner = middle[SHIFT_PX:-SHIFT_PX, SHIFT_PX:-SHIFT_PX]
    surface = cv2.matchTemplate(np.ascontiguousarray(middle), np.ascontiguousarray(inner), cv2.TM_CCOEFF_NORMED)
    offset = np.arange(-SHIFT_PX, SHIFT_PX + 1)
    return float(surface[np.hypot(offset[:, None], offset) >= MIN_SHIFT_PX].max())
