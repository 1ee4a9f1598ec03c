"""TIFFs of every depth, layout and colour model."""

from __future__ import annotations

import contextlib
import io
import logging

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from microscopy_cls.errors import ImageError
from microscopy_cls.images import decode

YY, XX = np.mgrid[0:40, 0:48]
RGB = np.stack([XX * 5, YY * 6, 255 - XX * 2 - YY * 3], -1).astype(np.uint8)
DEEP = RGB.astype(np.uint16) * 257
FULL = {"intensity": "full"}


def tiff(values: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **({"metadata": None} | options))
    return buffer.getvalue()


def pillow_tiff(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw", "rowsperstrip": 7},
        {"compression": "zstd", "tile": (16, 32)},
        {"bigtiff": True},
        {"byteorder": ">"},
    ],
)
@pytest.mark.parametrize("planar", [False, True])
def test_sixteen_bit_colours_in_every_layout(options: dict[str, object], planar: bool) -> None:
    values = np.ascontiguousarray(DEEP.transpose(2, 0, 1)) if planar else DEEP
    layout = "separate" if planar else "contig"
    result = decode(tiff(values, photometric="rgb", planarconfig=layout, **options), intensity="full")
    assert (result.format, result.channels, result.bit_depth) == ("TIFF", 3, 16)
    np.testing.assert_array_equal(result.pixels, RGB)


def test_low_bytes_are_kept() -> None:
    np.testing.assert_array_equal(
        decode(tiff(RGB.astype(np.uint16), photometric="rgb"), intensity=(0, 255)).pixels, RGB
    )


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64])
def test_grey_of_every_type(dtype: type) -> None:
    values = (XX + YY).astype(dtype)
    result = decode(tiff(values, photometric="minisblack"), intensity=(0, 86))
    assert result.bit_depth == np.dtype(dtype).itemsize * 8
    expected = values.astype(int) + 128 if dtype is np.int8 else np.rint(values * (255 / 86))
    np.testing.assert_array_equal(result.pixels, np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_where_white_is_zero_the_picture_is_inverted(bits: int) -> None:
    values = {1: RGB[..., 0] > 99, 8: RGB[..., 0], 16: DEEP[..., 0]}[bits]
    white, black = (decode(tiff(values, photometric=name), **FULL) for name in ("miniswhite", "minisblack"))
    assert white.bit_depth == bits
    np.testing.assert_array_equal(white.pixels, 255 - black.pixels)


@pytest.mark.parametrize("scale", [1, 257])
def test_two_channels_are_red_and_green(scale: int) -> None:
    values = (RGB[..., :2].astype(np.uint16) * scale).astype(np.uint8 if scale == 1 else np.uint16)
    result = decode(tiff(values, photometric="minisblack", planarconfig="contig"), intensity="full")
    assert result.channels == 2
    np.testing.assert_array_equal(result.pixels, RGB * np.array([1, 1, 0], np.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_composited_on_white(channels: int, dtype: type) -> None:
    opaque = 1 if dtype is np.float32 else np.iinfo(dtype).max
    colours = RGB[..., : channels - 1] / 255 * opaque
    alpha = XX[..., None] / 47
    values = np.concatenate([colours, alpha * opaque], axis=2).astype(dtype)
    name = "minisblack" if channels == 2 else "rgb"
    data = tiff(values, photometric=name, planarconfig="contig", extrasamples=["unassalpha"])
    expected = RGB[..., : channels - 1] * alpha + 255 * (1 - alpha)
    np.testing.assert_allclose(decode(data, **FULL).pixels, np.broadcast_to(expected, RGB.shape), atol=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colours_multiplied_by_alpha_are_divided_by_it(dtype: type) -> None:
    opaque = 1 if dtype is np.float32 else np.iinfo(dtype).max
    alpha = (XX[..., None] + 47) / 94
    values = np.concatenate([RGB / 255 * alpha, alpha], axis=2) * opaque
    data = tiff(values.astype(dtype), photometric="rgb", extrasamples=["assocalpha"])
    np.testing.assert_allclose(decode(data, **FULL).pixels, RGB * alpha + 255 * (1 - alpha), atol=2)


def test_a_fourth_channel_that_is_no_alpha_is_ignored_beside_rgb() -> None:
    values = np.dstack([DEEP, DEEP[..., 0]])
    data = tiff(values, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(decode(data, **FULL).pixels, RGB)


@pytest.mark.parametrize("channels", [4, 5, 7])
def test_more_channels_ask_for_a_choice(channels: int) -> None:
    values = np.zeros((8, 9, channels), np.uint16)
    with pytest.raises(ImageError, match=f"has {channels} channels, and which of them to show is a choice"):
        decode(tiff(values, photometric="minisblack", planarconfig="contig"))


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_colour_models_agree_with_pillow(mode: str, compression: str | None) -> None:
    data = pillow_tiff(Image.fromarray(RGB).convert(mode), compression=compression)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_allclose(decode(data).pixels.astype(int), expected.astype(int), atol=1)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr"])
def test_jpeg_in_a_tiff(mode: str) -> None:
    data = pillow_tiff(Image.fromarray(RGB).convert(mode), compression="jpeg", quality=95)
    expected = np.asarray(Image.fromarray(RGB).convert(mode).convert("RGB"))
    assert np.abs(decode(data).pixels.astype(int) - expected.astype(int)).mean() < 4


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "packbits"])
def test_fax_compressions(compression: str) -> None:
    is_white = RGB[..., 1] > 120
    pixels = decode(pillow_tiff(Image.fromarray(is_white), compression=compression)).pixels
    np.testing.assert_array_equal(pixels[..., 0], is_white * 255)


def test_lab_is_converted() -> None:
    profiles = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
    muted = (RGB // 4 + 90).astype(np.uint8)  # all inside LAB's gamut
    lab = ImageCms.applyTransform(Image.fromarray(muted), ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    np.testing.assert_allclose(decode(pillow_tiff(lab)).pixels.astype(int), muted.astype(int), atol=3)


def test_sixteen_bit_inks_are_converted() -> None:
    inks = np.asarray(Image.fromarray(RGB).convert("CMYK")).astype(np.uint16) * 257
    np.testing.assert_array_equal(decode(tiff(inks, photometric="separated", extrasamples=[])).pixels, RGB)


@pytest.mark.parametrize("divisor", [1, 257])
def test_a_palette_of_sixteen_or_of_eight_bits(divisor: int) -> None:
    colormap = np.zeros((3, 256), np.uint16)
    colormap[:, 3] = np.array([0xFFFF, 0x8080, 0x1010]) // divisor
    data = tiff(np.full((4, 5), 3, np.uint8), photometric="palette", colormap=colormap)
    assert (decode(data).pixels == [255, 128, 16]).all()


def test_other_colour_models_are_named() -> None:
    with pytest.raises(ImageError, match="stores colours as ICCLAB, which is not supported: save RGB"):
        decode(tiff(RGB, photometric="icclab"))


def with_tag(data: bytes, name: str, value: int) -> bytes:
    """The file with another (short) value of a tag of its first page."""
    changed = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        offset = file.pages[0].tags[name].valueoffset
    changed[offset : offset + 2] = value.to_bytes(2, "little")
    return bytes(changed)


def test_a_size_that_is_written_too_large_does_no_harm_where_nothing_is_compressed() -> None:
    data = tiff(RGB, photometric="rgb")
    np.testing.assert_array_equal(decode(with_tag(data, "StripByteCounts", 60_000)).pixels, RGB)
    with pytest.raises(ImageError, match="is truncated"):
        decode(with_tag(data, "StripByteCounts", 60_000)[:-1])


def test_other_compressions_are_named() -> None:
    with pytest.raises(ImageError, match="is compressed by LERC, which is not supported: save it with Deflate or none"):
        decode(tiff(RGB, photometric="rgb", compression="lerc"))


@pytest.mark.parametrize("tag", ["Compression", "PhotometricInterpretation", "Predictor", "PlanarConfiguration"])
def test_any_number_in_a_header_gives_pixels_or_an_image_error(
    tag: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    data = tiff(DEEP, photometric="rgb", compression="zlib", predictor=2)
    codes = sorted({int(code) for code in tifffile.COMPRESSION} | set(range(20)) | {32767, 65535})
    for code in codes:
        with contextlib.suppress(ImageError):
            decode(with_tag(data, tag, code))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(ImageError, match="holds complex numbers"):
        decode(tiff(np.zeros((4, 5), np.complex64), photometric="minisblack"))


def test_volumes_are_refused() -> None:
    with pytest.raises(ImageError, match="is a volume of 16 slices"):
        decode(tiff(np.zeros((16, 16, 16), np.uint8), volumetric=True, tile=(16, 16, 16), photometric="minisblack"))


def test_a_page_is_chosen() -> None:
    data = tiff(np.stack([DEEP[..., 0], DEEP[..., 1], DEEP[..., 2]]), photometric="minisblack")
    for page in range(3):
        np.testing.assert_array_equal(decode(data, page=page, intensity="full").pixels[..., 0], RGB[..., page])
    with pytest.raises(ImageError, match=r"page 3 asked, has 3 pages \(counted from 0; data.page\)"):
        decode(data, page=3)
    with pytest.raises(ImageError, match="page -1 asked, has 3 pages"):
        decode(data, page=-1)


def test_a_large_page_is_refused_before_it_is_decoded() -> None:
    data = with_tag(tiff(DEEP[..., 0], photometric="minisblack"), "ImageWidth", 60_000)
    with pytest.raises(ImageError, match="claims 60000 x 40 pixels, more than the limit of 2,000,000"):
        decode(data, max_pixels=2_000_000)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits"])
def test_more_pixels_than_the_data_can_hold_are_refused(compression: str) -> None:
    values = np.zeros((2000, 48), np.uint16)
    data = with_tag(tiff(values, photometric="minisblack", compression=compression), "ImageWidth", 65_000)
    with pytest.raises(ImageError, match="is damaged: claims more pixels than its data can hold"):
        decode(data)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits"])
def test_an_image_of_one_value_compresses_without_being_suspected(compression: str) -> None:
    values = np.full((600, 700), 9, np.uint8)
    data = tiff(values, photometric="minisblack", compression=compression, rowsperstrip=600)
    assert (decode(data).pixels == 9).all()


def test_the_limit_holds_for_tiles_too() -> None:
    with pytest.raises(ImageError, match="claims 256 x 256 pixels, more than the limit of 2,000"):
        decode(tiff(RGB, photometric="rgb", tile=(256, 256), compression="zlib"), max_pixels=2_000)


def test_a_tiff_without_pages() -> None:
    with pytest.raises(ImageError, match="is a TIFF that holds no image"):
        decode(b"II*\x00" + bytes(64))


def test_a_page_whose_layout_is_not_fully_known_is_refused() -> None:
    """The bits a sample of three channels stand outside the directory: lost, they would read as 1."""
    data = pillow_tiff(Image.fromarray(RGB), compression="tiff_lzw")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tag = file.pages[0].tags["BitsPerSample"]
    broken = bytearray(data)
    broken[tag.offset + 8 : tag.offset + 12] = (len(data) + 10).to_bytes(4, "little")
    with pytest.raises(ImageError, match="is truncated or damaged: its header is incomplete"):
        decode(bytes(broken))


def test_tifffile_logs_again_after_a_bad_file(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ImageError):
        decode(b"II*\x00" + (60).to_bytes(4, "little") + bytes(20))
    assert not caplog.records
    logging.getLogger("tifffile").warning("audible")
    assert caplog.messages == ["audible"]
