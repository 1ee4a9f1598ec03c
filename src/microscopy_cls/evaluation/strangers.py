"""Pictures that no model here was trained for: what its novelty is tried on."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Square = NDArray[np.uint8]
SENSOR_NOISE = 2.0  # grey values: a blank field of a camera is never quite even
PAGE_PX = 512  # of a page before it is made as small as a model's input
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))


def strangers(kind: str, num: int, size_px: int, seed: int) -> Square:
    """Pictures of one kind of `KINDS`: uint8 (num, size_px, size_px, 3), the same for the same seed."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    return np.stack([KINDS[kind](rng, size_px) for _ in range(num)])


def _noise(rng: np.random.Generator, size_px: int) -> Square:
    """Each pixel drawn by itself."""
    return rng.integers(0, 256, (size_px, size_px, 3), np.uint8)


def _blank(rng: np.random.Generator, size_px: int) -> Square:
    """An even field of some grey, as of an empty slide or a closed shutter."""
    return _camera(rng, np.full((size_px, size_px, 3), rng.uniform(10, 245)))


def _text(rng: np.random.Generator, size_px: int) -> Square:
    """Lines of words, black on white."""
    page = np.full((PAGE_PX, PAGE_PX, 3), rng.integers(225, 256), np.uint8)
    scale = rng.uniform(0.8, 1.6)
    height = cv2.getTextSize("q", cv2.FONT_HERSHEY_SIMPLEX, scale, 2)[0][1]
    for bottom in range(2 * height, PAGE_PX, round(2.2 * height)):
        words = ("".join(rng.choice(LETTERS, rng.integers(2, 9))) for _ in range(12))
        cv2.putText(page, " ".join(words), (height, bottom), cv2.FONT_HERSHEY_SIMPLEX, scale, (25, 25, 25), 2)
    return _camera(rng, cv2.resize(page, (size_px, size_px), interpolation=cv2.INTER_AREA))


def _camera(rng: np.random.Generator, field: NDArray[np.float64] | Square) -> Square:
    return np.clip(rng.normal(field, SENSOR_NOISE), 0, 255).astype(np.uint8)


KINDS: dict[str, Callable[[np.random.Generator, int], Square]] = {"noise": _noise, "blank": _blank, "text": _text}
