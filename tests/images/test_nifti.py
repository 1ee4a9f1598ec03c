"""NIfTI volumes come out as axial slices in one orientation and on one scale, however they are stored."""

from __future__ import annotations

import gzip
import itertools
import sys
from pathlib import Path

import nibabel  # noqa: TID251
import numpy as np
import pytest
from corruption import errors_of_corruptions
from medical_files import nifti

from microscopy_cls.errors import ImageError
from microscopy_cls.images import decode

# Voxels by the body's axes: 7 to the right, 6 to the front, 5 up; each has a value of its own.
BODY = np.arange(7 * 6 * 5, dtype=np.int16).reshape(7, 6, 5) * 100 - 9000
SMALL = {
    "nii": nifti(BODY),
    "gz": nifti(BODY, zipped=True),
    "two": nifti(BODY, version=2),
    "two gz": nifti(BODY.astype(np.float32), version=2, zipped=True),
    "scaled": nifti(BODY, slope=0.5, intercept=3),
}


def reason_of(data: Path | bytes, **options: object) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, **options)  # type: ignore[arg-type]
    return caught.value.reason


def grey_of(data: bytes, page: int, **options: object) -> np.ndarray:
    pixels = decode(data, page=page, **options).pixels  # type: ignore[arg-type]
    np.testing.assert_array_equal(pixels, np.repeat(pixels[..., :1], 3, axis=2))
    return pixels[..., 0]


def windowed(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def as_seen(body: np.ndarray, page: int) -> np.ndarray:
    """The slice in radiological convention: anterior up, the patient's right on the left."""
    return np.array([[body[x, y, page] for x in range(6, -1, -1)] for y in range(5, -1, -1)])


def test_anterior_is_up_and_the_patients_right_is_on_the_left() -> None:
    marked = np.zeros((7, 6, 5), np.uint8)
    marked[6, 5, 2] = 255  # rightmost, frontmost
    marked[0, 5, 2] = 100  # leftmost, frontmost
    seen = grey_of(nifti(marked), 2)
    assert (seen[0, 0], seen[0, -1]) == (255, 100)
    assert not grey_of(nifti(marked), 1).any()


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_however_it_is_stored_the_picture_is_the_same(axes: tuple[int, int, int]) -> None:
    for signs in itertools.product((1, -1), repeat=3):
        stored = BODY.transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]
        affine = np.zeros((4, 4))
        affine[3, 3] = 1
        for place, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
            affine[axis, place] = 2.0 * sign
        for page in (0, 4):
            seen = grey_of(nifti(np.ascontiguousarray(stored), affine), page, intensity=(-9000, 11900))
            np.testing.assert_array_equal(seen, windowed(as_seen(BODY, page), -9000, 11900))


@pytest.mark.parametrize("name", ["nii", "gz", "two", "two gz"])
def test_every_packing_gives_the_same_picture(name: str) -> None:
    result = decode(SMALL[name], page=3)
    assert (result.format, result.channels, result.width_px, result.height_px) == ("NIFTI", 1, 7, 6)
    assert result.bit_depth == (32 if name == "two gz" else 16)
    low, high = np.percentile(BODY, [0.1, 99.9])
    np.testing.assert_array_equal(result.pixels[..., 2], windowed(as_seen(BODY, 3), low, high))


def test_percentiles_are_those_of_the_whole_volume() -> None:
    rising = [float(grey_of(SMALL["nii"], page, intensity="percentile").mean()) for page in range(5)]
    assert rising == sorted(set(rising))


def test_scaling_is_applied_before_the_window() -> None:
    seen = grey_of(SMALL["scaled"], 1, intensity=(-4000, 5000))
    np.testing.assert_allclose(seen.astype(int), windowed(as_seen(BODY, 1) * 0.5 + 3, -4000, 5000), atol=1)


@pytest.mark.parametrize("slope", [None, -2.0])
def test_full_is_the_range_of_the_type(slope: float | None) -> None:
    expected = windowed(as_seen(BODY, 2), -32768, 32767)
    seen = grey_of(nifti(BODY, slope=slope), 2, intensity="full")
    np.testing.assert_allclose(seen.astype(int), expected if slope is None else 255 - expected, atol=1)
    fractions = np.linspace(0, 1, 7 * 6 * 5).reshape(7, 6, 5)
    seen = grey_of(nifti(fractions), 0, intensity="full")
    np.testing.assert_array_equal(seen, windowed(as_seen(fractions, 0), 0, 1))


def test_eight_bits_stay_as_they_are() -> None:
    values = (BODY // 100).astype(np.uint8)
    np.testing.assert_array_equal(grey_of(nifti(values), 4), as_seen(values, 4))


def test_of_several_volumes_the_first_is_read() -> None:
    data = nifti(np.stack([BODY, BODY[::-1]], axis=3), zipped=True)
    np.testing.assert_array_equal(decode(data, page=2).pixels, decode(SMALL["gz"], page=2).pixels)


def test_one_slice_is_a_volume_of_one() -> None:
    np.testing.assert_array_equal(
        grey_of(nifti(BODY[..., 0]), 0), windowed(as_seen(BODY, 0), *np.percentile(BODY[..., 0], [0.1, 99.9]))
    )


def test_a_volume_of_one_value_is_black() -> None:
    assert not decode(nifti(np.full((4, 5, 2), 7, np.int16)), page=1).pixels.any()


def test_a_slice_that_is_not_there() -> None:
    assert reason_of(SMALL["gz"], page=5) == "page 5 asked, has 5 pages (counted from 0; data.page)"


def with_field(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def with_shape(data: bytes, *shape: int) -> bytes:
    return with_field(data, 40, np.array([len(shape), *shape], "<i2").tobytes())


def test_a_bomb_is_refused_by_its_header_before_it_is_inflated() -> None:
    bomb = gzip.compress(with_shape(SMALL["nii"], 20_000, 20_000, 20_000)[:352] + bytes(10**6))
    assert reason_of(bomb) == (
        "claims 20000 x 20000 x 20000 voxels, more than 4 times the limit of 300,000,000 (data.max_pixels)"
    )
    wide = with_shape(SMALL["nii"], 3000, 2, 1000)
    assert reason_of(wide, max_pixels=5000).startswith("claims 3000 x 2 x 1000 voxels")
    assert reason_of(wide, max_pixels=1_500_000) == "is truncated"
    tall = with_shape(SMALL["nii"], 3000, 20, 1)
    expected = "claims 3000 x 20 pixels, more than the limit of 50,000 (data.max_pixels)"
    assert reason_of(tall, max_pixels=50_000) == expected


def test_what_is_no_volume_is_named() -> None:
    archive = "is not an image: it starts like a gzip archive, without a NIfTI volume inside"
    assert reason_of(gzip.compress(b"a text of some length" * 30), name="a.nii.gz") == archive
    assert reason_of(b"\x1f\x8b\x08\x00garbage", name="fake.nii.gz") == archive
    assert reason_of(with_field(SMALL["nii"], 344, b"ni1\x00")) == (
        "is the header of a pair .hdr and .img: join them as one .nii file"
    )
    assert reason_of(with_field(SMALL["two"], 4, b"ni2\x00")).startswith("is the header of a pair")
    assert reason_of(nifti(BODY.astype(np.complex64))).startswith("holds colours or complex numbers in its voxels")
    assert reason_of(nifti(np.full((3, 4, 5), np.nan))) == "holds no finite value"
    assert reason_of(with_shape(SMALL["nii"], 7)).startswith("is a NIfTI file without a picture")
    assert reason_of(with_shape(SMALL["nii"], 7, 0, 5)).startswith("is a NIfTI file without a picture")


def test_a_damaged_header_is_named() -> None:
    assert reason_of(with_field(SMALL["nii"], 70, b"\x0b\x0b")) == "has a damaged NIfTI header"  # no such type
    for start in (-5.0, 10.0, np.nan, 1e30):
        changed = with_field(SMALL["nii"], 108, np.array(start, "<f4").tobytes())
        assert reason_of(changed) == "has a damaged NIfTI header"
    endless = with_field(SMALL["scaled"], 116, np.array(np.nan, "<f4").tobytes())
    assert reason_of(endless) == "has a damaged NIfTI header"
    singular = with_field(SMALL["nii"], 280, bytes(48))
    assert reason_of(singular) == "has a damaged NIfTI header: it does not say how the patient lay"
    endless = with_field(SMALL["nii"], 280, np.full(12, np.nan, "<f4").tobytes())
    assert reason_of(endless).startswith("has a damaged NIfTI header")


@pytest.mark.parametrize("name", SMALL)
def test_a_truncated_file_is_called_so(name: str) -> None:
    data = SMALL[name]
    for size in range(len(data) // 2, len(data), 7):
        assert reason_of(data[:size]).startswith("is truncated")


def test_damage_inside_an_archive_is_found_by_its_checksum() -> None:
    data = bytearray(SMALL["gz"])
    data[-6] ^= 1
    assert reason_of(bytes(data)) == "is damaged: its gzip data cannot be decompressed"


@pytest.mark.parametrize("name", SMALL)
def test_any_corruption_gives_pixels_or_an_image_error_and_no_noise(
    name: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    errors = errors_of_corruptions(SMALL[name], name, 300)
    assert len(errors) > 50
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_the_library_agrees_on_the_orientation() -> None:
    affine = nibabel.affines.from_matvec([[0, 0, -2], [-1.5, 0.1, 0], [0, 1, 0.2]])
    image = nibabel.Nifti1Image(BODY, affine)
    canonical = np.asanyarray(nibabel.as_closest_canonical(image).dataobj)
    seen = grey_of(nifti(BODY, affine), 1, intensity=(-9000, 11900))
    np.testing.assert_array_equal(seen, windowed(canonical[::-1, ::-1, 1].T, -9000, 11900))


def test_without_nibabel_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("nibabel", "microscopy_cls.images.nifti"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    expected = "is a NIFTI file, and reading those needs nibabel: pip install 'microscopy-cls[medical]'"
    assert reason_of(SMALL["gz"]) == expected
