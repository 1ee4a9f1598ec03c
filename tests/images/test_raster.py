"""Every raster format comes out as the same uint8 (h, w, 3) RGB, from the content, upright, on white."""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from microscopy_cls.errors import ConfigError, ImageError
from microscopy_cls.images import IMAGE_SUFFIXES, Decoded, decode, read_image

YY, XX = np.mgrid[0:24, 0:32]
RGB = np.stack([XX * 7, YY * 9, 255 - XX * 4 - YY * 5], -1).astype(np.uint8)
GREY = RGB[..., 0]


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def mean_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def deep_png(values: np.ndarray, *, interlaced: bool = False, extra: bytes = b"") -> bytes:
    """A 16-bit PNG of (h, w, 1 to 4), Adam7 if `interlaced`, with `extra` chunks before the pixels."""
    height, width, channels = values.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    adam7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    passes = adam7 if interlaced else [(0, 0, 1, 1)]
    parts = [values[y::dy, x::dx].astype(">u2") for y, x, dy, dx in passes]
    rows = b"".join(b"\x00" + row.tobytes() for part in parts for row in part)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, int(interlaced))
    body = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("file_format", "mode", "options", "channels", "bit_depth", "tolerance"),
    [
        ("PNG", "RGB", {}, 3, 8, 0),
        ("PNG", "RGBA", {}, 4, 8, 0),
        ("BMP", "RGB", {}, 3, 8, 0),
        ("WEBP", "RGB", {"lossless": True}, 3, 8, 0),
        ("WEBP", "RGB", {"quality": 95}, 3, 8, 4),
        ("TIFF", "RGB", {}, 3, 8, 0),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}, 3, 8, 0),
        ("JPEG", "RGB", {"quality": 95}, 3, 8, 4),
        ("JPEG", "RGB", {"quality": 95, "progressive": True}, 3, 8, 4),
        ("JPEG", "CMYK", {"quality": 95}, 4, 8, 4),
        ("GIF", "RGB", {}, 1, 8, 16),
    ],
)
def test_every_format_gives_the_same_picture_and_says_how_it_was_stored(
    file_format: str, mode: str, options: dict[str, object], channels: int, bit_depth: int, tolerance: float
) -> None:
    result = decode(encoded(Image.fromarray(RGB).convert(mode), file_format, **options))
    assert (result.format, result.channels, result.bit_depth) == (file_format, channels, bit_depth)
    assert (result.width_px, result.height_px) == (32, 24)
    assert result.pixels.dtype == np.uint8
    assert result.pixels.shape == (24, 32, 3)
    assert mean_difference(result.pixels, RGB) <= tolerance


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "JPEG", "GIF"])
def test_grey_is_repeated(file_format: str) -> None:
    result = decode(encoded(Image.fromarray(GREY), file_format))
    assert result.channels == 1
    assert mean_difference(result.pixels, np.repeat(GREY[..., None], 3, axis=2)) < 2


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF"])
def test_one_bit_is_black_and_white(file_format: str) -> None:
    is_white = GREY > 100
    result = decode(encoded(Image.fromarray(is_white), file_format))
    assert result.bit_depth == 1
    np.testing.assert_array_equal(result.pixels, np.repeat(is_white[..., None] * np.uint8(255), 3, axis=2))


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "GIF"])
def test_a_palette_is_looked_up(file_format: str) -> None:
    image = Image.fromarray(RGB).quantize(16)
    result = decode(encoded(image, file_format))
    assert result.channels == 1
    np.testing.assert_array_equal(result.pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("file_format", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_transparency_is_composited_on_white(file_format: str, options: dict[str, object]) -> None:
    alpha = (XX * 8).astype(np.uint8)
    rgba = np.dstack([RGB, alpha])
    pixels = decode(encoded(Image.fromarray(rgba), file_format, **options, exact=True)).pixels
    weight = alpha[..., None] / 255
    np.testing.assert_allclose(pixels, RGB * weight + 255 * (1 - weight), atol=0.51)


def test_grey_with_alpha_is_composited_on_white() -> None:
    alpha = (YY * 10).astype(np.uint8)
    pixels = decode(encoded(Image.fromarray(np.dstack([GREY, alpha])), "PNG")).pixels
    expected = GREY * (alpha / 255) + 255 * (1 - alpha / 255)
    np.testing.assert_allclose(pixels, np.repeat(expected[..., None], 3, axis=2), atol=0.51)


@pytest.mark.parametrize("file_format", ["PNG", "GIF"])
def test_a_transparent_palette_entry_is_white(file_format: str) -> None:
    image = Image.fromarray((XX > 15).astype(np.uint8), "P")
    image.putpalette([0, 0, 200, 200, 0, 0])
    pixels = decode(encoded(image, file_format, transparency=1)).pixels
    assert (pixels[:, 16:] == 255).all()
    assert (pixels[:, :16] == [0, 0, 200]).all()


def test_a_transparent_colour_is_white() -> None:
    image = np.full((4, 6, 3), 90, np.uint8)
    image[:, 3:] = (10, 20, 30)
    pixels = decode(encoded(Image.fromarray(image), "PNG", transparency=(10, 20, 30))).pixels
    assert (pixels[:, 3:] == 255).all()
    assert (pixels[:, :3] == 90).all()


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(file_format: str) -> None:
    first, second = Image.new("RGB", (8, 6), (200, 0, 0)), Image.new("RGB", (8, 6), (0, 0, 200))
    data = encoded(first, file_format, save_all=True, append_images=[second], lossless=True)
    np.testing.assert_array_equal(decode(data).pixels, np.asarray(first))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_come_out_upright(file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(RGB), file_format, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    result = decode(data)
    np.testing.assert_array_equal(result.pixels, expected)
    assert (result.height_px, result.width_px) == expected.shape[:2]


def test_broken_metadata_do_not_make_an_image_unreadable(recwarn: pytest.WarningsRecorder) -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 100
    for broken in (b"Exif\x00\x00nonsense", exif.tobytes()[:30], b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x05\x01"):
        assert decode(encoded(Image.fromarray(RGB), "JPEG", exif=broken)).width_px == 32
    assert not recwarn.list


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_deep_png_keeps_its_low_bytes(channels: int, interlaced: bool) -> None:
    # All values lie below 256: a reader of the high byte alone sees black.
    colours = np.dstack([RGB, RGB])[..., : 1 if channels < 3 else 3].astype(np.uint16)
    opaque = np.full((24, 32, 1), 65535, np.uint16)
    values = np.concatenate([colours, opaque], axis=2) if channels in (2, 4) else colours
    result = decode(deep_png(values, interlaced=interlaced), intensity=(0, 255))
    assert (result.channels, result.bit_depth) == (channels, 16)
    np.testing.assert_array_equal(result.pixels, np.broadcast_to(colours, (24, 32, 3)))


def test_a_deep_png_is_composited_on_white() -> None:
    values = np.full((4, 6, 4), 20_000, np.uint16)
    values[..., 3] = [0, 65535, 65535, 32768, 0, 0]
    pixels = decode(deep_png(values), intensity="full").pixels
    colour = round(20_000 / 257)
    np.testing.assert_array_equal(pixels[0, :, 0], [255, colour, colour, round((colour + 255) / 2), 255, 255])


@pytest.mark.parametrize(("channels", "body"), [(1, (300,)), (3, (300, 300, 300))])
def test_a_transparent_colour_of_a_deep_png_is_white(channels: int, body: tuple[int, ...]) -> None:
    values = np.full((4, 6, channels), 1000, np.uint16)
    values[:, 3:] = 300
    data = deep_png(values, extra=png_chunk(b"tRNS", struct.pack(f">{channels}H", *body)))
    pixels = decode(data, intensity=(0, 1000)).pixels
    assert (pixels == 255).all()
    assert (decode(deep_png(values), intensity=(0, 1000)).pixels[:, 3:] < 255).all()


def test_opencv_is_silent_about_a_deep_png_with_a_bad_profile(capfd: pytest.CaptureFixture[str]) -> None:
    profile = png_chunk(b"iCCP", b"bad\x00\x00" + zlib.compress(b"no profile"))
    decode(deep_png(RGB.astype(np.uint16), extra=profile))
    assert capfd.readouterr() == ("", "")


def test_twelve_bits_in_sixteen_are_not_black(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    assert cv2.imwrite(str(path), RGB.astype(np.uint16) * 16)
    assert read_image(path).mean() > 50
    assert read_image(path, intensity="full").mean() < 10


def test_the_content_decides_not_the_ending(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(encoded(Image.fromarray(RGB), "PNG"))
    assert decode(path).format == "PNG"
    np.testing.assert_array_equal(read_image(str(path)), RGB)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (400, 2)])
def test_extreme_shapes(size: tuple[int, int]) -> None:
    assert decode(encoded(Image.new("RGB", size), "PNG")).pixels.shape == (size[1], size[0], 3)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_pixels_are_contiguous_and_writable(file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    flags = decode(encoded(Image.fromarray(RGB), file_format, exif=exif)).pixels.flags
    assert flags.c_contiguous
    assert flags.writeable


def test_a_result_cannot_be_changed() -> None:
    result = decode(encoded(Image.fromarray(RGB), "PNG"))
    assert isinstance(result, Decoded)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.width_px = 3  # type: ignore[misc]


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP", "GIF", "TIFF"])
def test_the_limit_on_pixels_is_ours_alone(monkeypatch: pytest.MonkeyPatch, file_format: str) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = encoded(Image.fromarray(RGB), file_format)
    assert decode(data, max_pixels=32 * 24).width_px == 32
    with pytest.raises(ImageError, match=r"claims 32 x 24 pixels, more than the limit of 767 \(data.max_pixels\)"):
        decode(data, max_pixels=32 * 24 - 1)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_page_exists_in_tiffs_only() -> None:
    with pytest.raises(ImageError, match="page 1 asked, has 1 page"):
        decode(encoded(Image.fromarray(RGB), "PNG"), page=1)


@pytest.mark.parametrize(
    ("intensity", "message"),
    [("brightest", "percentile, full or a window"), ((5, 2), "low below high"), ((0, float("nan")), "low below high")],
)
def test_an_intensity_that_is_no_rule_is_a_config_error(intensity: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decode(encoded(Image.fromarray(RGB), "PNG"), intensity=intensity)  # type: ignore[arg-type]


def test_endings_are_lower_case_with_a_dot() -> None:
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)
    assert {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"} <= IMAGE_SUFFIXES
