"""Flaws are flagged where they are, and a set without flaws has none, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from microscopy_cls.dataset.quality import FLAGS, quality_flags

Pixels = NDArray[np.uint8]
SIZE_PX, NUM = 96, 30


def field(seed: int) -> NDArray[np.float64]:
    """Cells on an even background, (96, 96), in grey levels, with the camera's noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIZE_PX, 0:SIZE_PX]
    cells = np.zeros((SIZE_PX, SIZE_PX))
    for _ in range(rng.integers(3, 8)):
        top, left, radius = rng.uniform(10, 86), rng.uniform(10, 86), rng.uniform(4, 12)
        cells -= rng.uniform(40, 90) / (1 + np.exp(np.hypot(y - top, x - left) - radius))
    return np.asarray(190 + cells + rng.normal(0, 3, cells.shape))


def rgb(grey: NDArray[np.float64]) -> Pixels:
    return np.clip(grey, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)


def flags_of(pictures: list[Pixels], native_px: float = 300) -> list[str]:
    return quality_flags(pictures, np.full(len(pictures), native_px))


def bright_field() -> list[Pixels]:
    return [rgb(field(seed)) for seed in range(NUM)]


def dark_field() -> list[Pixels]:
    return [rgb(np.maximum(0, 2 * (180 - field(seed)))) for seed in range(NUM)]


def shaded(level: float) -> NDArray[np.float64]:
    y, x = np.mgrid[-1 : 1 : SIZE_PX * 1j, -1 : 1 : SIZE_PX * 1j]
    return np.asarray(level - 20 * (x * x + y * y))


def noisy(level: float) -> NDArray[np.float64]:
    return shaded(level) + np.random.default_rng(99).normal(0, 5, (SIZE_PX, SIZE_PX))


@pytest.mark.parametrize("draw", [bright_field, dark_field])
def test_a_set_without_flaws_has_no_flag(draw: Callable[[], list[Pixels]]) -> None:
    assert set(flags_of(draw())) == {""}


FLAWS: dict[str, tuple[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = {
    "out of focus": ("blurred", lambda grey: np.asarray(cv2.GaussianBlur(grey, (0, 0), 5))),
    "lamp too low": ("dark", lambda grey: grey / 4),
    "a lens cap that leaks": ("dark", lambda grey: grey / 20),
    "lamp too high": ("bright,saturated", lambda grey: grey * 1.8),
    "an empty field": ("empty", lambda _: noisy(190)),
    "an empty field without noise": ("empty", lambda _: shaded(190)),
    "one grey": ("constant", lambda grey: np.full_like(grey, 190)),
    "black": ("constant", np.zeros_like),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_is_flagged_and_the_other_images_are_not(flaw: str) -> None:
    expected, spoil = FLAWS[flaw]
    pictures = bright_field()
    pictures[7] = rgb(spoil(field(7)))
    flags = flags_of(pictures)
    assert flags.pop(7) == expected
    assert set(flags) == {""}


@pytest.mark.parametrize("flaw", ["an empty field", "one grey", "black"])
def test_what_no_set_makes_usual_is_flagged_alone(flaw: str) -> None:
    expected, spoil = FLAWS[flaw]
    assert flags_of([rgb(spoil(field(0)))]) == [expected]


def test_too_few_images_have_no_outliers() -> None:
    assert set(flags_of([*bright_field()[:8], rgb(field(8) / 3)])) == {""}


def test_an_enlarged_image_is_soft_without_being_blurred() -> None:
    pictures, sizes = bright_field(), np.full(NUM, 300.0)
    for row in range(10):
        sizes[row] = 30 + 3 * row
        small = cv2.resize(pictures[row], (int(sizes[row]),) * 2, interpolation=cv2.INTER_AREA)
        pictures[row] = cv2.resize(small, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_CUBIC)
    assert set(quality_flags(pictures, sizes)) == {""}


def test_the_order_of_images_decides_nothing() -> None:
    pictures = [*bright_field(), *(rgb(spoil(field(7))) for _, spoil in FLAWS.values())]
    flags, turned = flags_of(pictures), flags_of(pictures[::-1])
    assert flags == turned[::-1]
    assert {flag for joined in flags for flag in joined.split(",")} - {""} <= set(FLAGS)


def test_no_images_have_no_flags() -> None:
    assert quality_flags([], np.empty(0)) == []
