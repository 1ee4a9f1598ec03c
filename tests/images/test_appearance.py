"""How images look, in numbers that a person would agree with."""

from __future__ import annotations

import numpy as np
import pytest

from microscopy_cls.images.appearance import NUM_NUMBERS, OCTAVES, appearance, appearances


def blobs(size: int = 96, seed: int = 0) -> np.ndarray:
    """Dark discs on a bright field."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / size
    field = np.full((size, size, 3), 220.0)
    for x, y in rng.uniform(0.2, 0.8, (5, 2)):
        field[np.hypot(rows - x, columns - y) < 0.1] = (120, 60, 150)
    return np.clip(field + rng.normal(0, 2, field.shape), 0, 255).astype(np.uint8)


def test_there_are_as_many_numbers_as_said_all_finite() -> None:
    found = appearances([blobs(), np.zeros((96, 96, 3), np.uint8), np.full((5, 5, 3), 255, np.uint8)])
    assert found.shape == (3, NUM_NUMBERS)
    assert np.isfinite(found).all()
    assert appearances([]).shape == (0, NUM_NUMBERS)


@pytest.mark.parametrize("turned", [np.flipud, np.fliplr, np.rot90])
def test_an_image_looks_the_same_mirrored_and_turned(turned) -> None:
    np.testing.assert_allclose(appearance(blobs()), appearance(np.ascontiguousarray(turned(blobs()))), atol=0.05)


def test_another_field_of_the_same_slide_looks_alike_and_noise_does_not() -> None:
    one, other = appearance(blobs(seed=0)), appearance(blobs(seed=1))
    noise = appearance(np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8))
    assert np.linalg.norm(one - other) < 1.5
    assert np.linalg.norm(one - noise) > 5


def test_only_colour_tells_a_grey_copy_and_only_brightness_a_dark_one() -> None:
    image = blobs()
    grey = np.repeat(image.mean(2, keepdims=True).astype(np.uint8), 3, axis=2)
    colours = appearance(image)[-4:] - appearance(grey)[-4:]
    np.testing.assert_array_equal(appearance(grey)[-4:], 0)
    assert colours.max() > 2
    dark = appearance((image * 0.5).astype(np.uint8))
    quantiles = slice(4 * OCTAVES, 4 * OCTAVES + 7)
    np.testing.assert_allclose(dark[quantiles], appearance(image)[quantiles] / 2, atol=0.1)


def test_blur_takes_the_finest_octave_and_leaves_the_coarsest() -> None:
    import cv2

    sharp, soft = appearance(blobs()), appearance(cv2.GaussianBlur(blobs(), (0, 0), 1.5))
    assert sharp[0] - soft[0] > 0.5
    assert abs(sharp[OCTAVES - 1] - soft[OCTAVES - 1]) < 0.2
