"""More than 8 bits become 8 by one declared rule."""

from __future__ import annotations

import numpy as np
import pytest

from microscopy_cls.images.decoded import UnreadableError
from microscopy_cls.images.intensity import to_uint8

DEEP_TYPES = [np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64]


def sample(dtype: type, *, low: float = 0, high: float = 30_000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(low, high, (60, 50, 3)).astype(dtype)


@pytest.mark.parametrize("dtype", [*DEEP_TYPES, np.float16, np.int64, np.uint64])
def test_percentiles_are_those_of_all_channels_together(dtype: type) -> None:
    values = sample(dtype)
    low, high = np.percentile(values.astype(float), (0.1, 99.9))
    expected = np.rint(np.clip((values.astype(float) - low) * 255 / (high - low), 0, 255))
    np.testing.assert_allclose(to_uint8(values, "percentile"), expected, atol=1)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_counting_gives_the_percentiles_of_numpy(dtype: type) -> None:
    values = sample(dtype, low=np.iinfo(dtype).min, high=np.iinfo(dtype).max)
    expected = np.rint(np.interp(values, np.percentile(values, (0.1, 99.9)), (0, 255)))
    assert (to_uint8(values, "percentile") == expected).mean() > 0.999


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64])
def test_full_is_the_range_of_the_type(dtype: type) -> None:
    info = np.iinfo(dtype)
    middle = (int(info.max) + int(info.min)) // 2
    values = np.array([[info.min, middle, info.max]], dtype)
    np.testing.assert_allclose(to_uint8(values, "full"), [[0, 127.5, 255]], atol=0.5)


def test_full_respects_fewer_significant_bits() -> None:
    assert to_uint8(np.array([[0, 4095]], np.uint16), "full", num_bits=12).tolist() == [[0, 255]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_full_takes_floats_from_0_to_1(dtype: type) -> None:
    assert to_uint8(np.array([[0, 0.2, 1, np.nan]], dtype), "full").tolist() == [[0, 51, 255, 0]]


@pytest.mark.parametrize("outside", [-0.5, 1.5])
def test_full_refuses_other_floats_and_says_what_to_choose(outside: float) -> None:
    with pytest.raises(UnreadableError, match="expects 0 to 1: choose percentile or a window"):
        to_uint8(np.array([[0.5, outside]]), "full")


@pytest.mark.parametrize("dtype", DEEP_TYPES)
def test_a_window_is_linear_and_clipped(dtype: type) -> None:
    values = np.array([[0, 100, 160, 200, 300]], dtype)
    assert to_uint8(values, (100, 200)).tolist() == [[0, 0, 153, 255, 255]]


@pytest.mark.parametrize("rule", ["percentile", "full", (3, 4)])
def test_eight_bits_stay_as_they_are(rule: object) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(to_uint8(values, rule), values)  # type: ignore[arg-type]


def test_fewer_than_eight_bits_fill_the_range() -> None:
    assert to_uint8(np.array([[0, 5, 15]], np.uint8), "percentile", num_bits=4).tolist() == [[0, 85, 255]]
    assert to_uint8(np.array([[False, True]]), "percentile").tolist() == [[0, 255]]


@pytest.mark.parametrize("dtype", DEEP_TYPES)
def test_a_constant_image_is_black(dtype: type) -> None:
    assert not to_uint8(np.full((8, 9, 3), 1234, dtype), "percentile").any()


@pytest.mark.parametrize("dtype", DEEP_TYPES)
def test_few_bright_spots_on_a_constant_ground_stay_visible(dtype: type) -> None:
    values = np.full((100, 100), 7, dtype)
    values[3, 4] = 5000
    assert to_uint8(values, "percentile").sum() == 255


def test_values_that_are_not_finite_do_not_decide() -> None:
    values = np.linspace(10, 20, 1000, dtype=np.float32).reshape(10, 100)
    broken = values.copy()
    broken[0, :3], broken[9, 97:] = np.nan, np.nan
    broken[5, 5], broken[5, 6] = np.inf, -np.inf
    out = to_uint8(broken, "percentile")
    kept = np.isfinite(broken)
    np.testing.assert_allclose(out[kept].astype(int), to_uint8(values, "percentile")[kept].astype(int), atol=1)
    assert (out[0, 0], out[5, 5], out[5, 6]) == (0, 255, 0)


@pytest.mark.parametrize("rule", ["percentile", "full"])
def test_no_finite_value_is_an_error(rule: object) -> None:
    with pytest.raises(UnreadableError, match="holds no finite value"):
        to_uint8(np.full((2, 2), np.nan), rule)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_floats_do_not_overflow_loudly(dtype: type) -> None:
    largest = np.finfo(dtype).max
    assert to_uint8(np.array([[-largest, 0, largest]], dtype), "percentile").shape == (1, 3)


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(UnreadableError, match="holds complex numbers"):
        to_uint8(np.zeros((2, 2), np.complex64), "percentile")


def test_the_result_does_not_depend_on_where_blocks_begin() -> None:
    values = np.random.default_rng(0).integers(0, 60_000, (700, 400), dtype=np.uint16)
    np.testing.assert_array_equal(to_uint8(values, (0, 60_000))[500:], to_uint8(values[500:], (0, 60_000)))
