"""One way to the network's square input."""

from __future__ import annotations

import numpy as np
import pytest

from microscopy_cls.images import fit_square


def smooth(height: int, width: int) -> np.ndarray:
    yy, xx = np.mgrid[0:height, 0:width] / max(height, width)
    return np.rint(np.stack([xx, yy, (xx + yy) / 2], -1) * 200 + 20).astype(np.uint8)


@pytest.mark.parametrize("resize", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 4000), (4000, 2), (10, 10), (32, 32), (50, 40), (7, 90)])
def test_any_image_becomes_a_new_square(shape: tuple[int, int], resize: str) -> None:
    pixels = smooth(*shape)
    before = pixels.copy()
    square = fit_square(pixels, 32, resize)  # type: ignore[arg-type]
    assert square.shape == (32, 32, 3)
    assert square.dtype == np.uint8
    square[:] = 0
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("resize", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("shape", [(5, 9), (90, 31), (64, 64)])
def test_one_colour_stays_one_colour(shape: tuple[int, int], resize: str) -> None:
    pixels = np.full((*shape, 3), (200, 13, 90), np.uint8)
    assert (fit_square(pixels, 24, resize) == (200, 13, 90)).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("resize", ["stretch", "pad", "crop"])
def test_a_square_of_the_right_size_is_unchanged(resize: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(fit_square(pixels, 16, resize), pixels)  # type: ignore[arg-type]


def test_shrinking_takes_the_mean_over_the_covered_area() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    means = pixels.reshape(16, 3, 16, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(fit_square(pixels, 16, "stretch"), means, atol=1)


def test_enlarging_is_smooth() -> None:
    ramp = np.repeat(np.arange(0, 240, 30, dtype=np.uint8)[None, :, None], 8, axis=0).repeat(3, axis=2)
    steps = np.diff(fit_square(ramp, 64, "stretch")[0, :, 0].astype(int))
    assert steps.min() >= 0
    assert steps.max() < 8


def test_where_one_axis_shrinks_and_the_other_grows_nothing_aliases() -> None:
    stripes = np.zeros((8, 256, 3), np.uint8)
    stripes[:, ::2] = 254
    square = fit_square(stripes, 32, "stretch")
    assert np.abs(square.astype(int) - 127).max() <= 1


def test_stretch_ignores_proportions_and_crop_keeps_the_centre() -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 250
    assert (fit_square(pixels, 10, "crop") == 250).all()
    stretched = fit_square(pixels, 12, "stretch")[6, :, 0]
    assert stretched.tolist() == [0] * 4 + [250] * 4 + [0] * 4


def test_pad_keeps_proportions_on_the_colour_of_the_border() -> None:
    pixels = np.full((20, 40, 3), (230, 225, 210), np.uint8)
    pixels[5:15, 10:30] = 40
    square = fit_square(pixels, 40, "pad")
    assert (square[:10] == (230, 225, 210)).all()
    assert (square[30:] == (230, 225, 210)).all()
    np.testing.assert_array_equal(square[10:30], pixels)
