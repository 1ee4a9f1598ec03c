"""Channels of OME-TIFF and ImageJ files, and of pages of many samples, are shown as one picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from microscopy_cls.errors import ConfigError, ImageError
from microscopy_cls.images import decode, read_image

RNG = np.random.default_rng(3)
# Time, depth, channel, row, column: each channel of another brightness.
CELLS = (RNG.integers(0, 200, (2, 3, 4, 20, 24)) * np.array([1, 30, 4, 300])[:, None, None]).astype(np.uint16)
KINDS = ["ome", "imagej"]


def stored(values: np.ndarray, axes: str, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, metadata={"axes": axes}, photometric="minisblack", **{kind: True}, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def interleaved(values: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    chosen = {"planarconfig": "contig", "photometric": "minisblack", "metadata": None} | options
    tifffile.imwrite(buffer, values, **chosen)  # type: ignore[arg-type]
    return buffer.getvalue()


def scaled(plane: np.ndarray) -> np.ndarray:
    low, high = np.percentile(plane, [0.1, 99.9])
    return np.rint(np.clip((plane - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def reason_of(data: bytes, **options: object) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, **options)  # type: ignore[arg-type]
    return caught.value.reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_channels", [2, 3])
def test_channels_become_colours_each_scaled_on_its_own(kind: str, num_channels: int) -> None:
    result = decode(stored(CELLS[0, 0, :num_channels], "CYX", kind))
    assert (result.format, result.channels, result.bit_depth) == ("TIFF", num_channels, 16)
    for channel in range(num_channels):
        np.testing.assert_allclose(result.pixels[..., channel].astype(int), scaled(CELLS[0, 0, channel]), atol=1)
    assert num_channels == 3 or not result.pixels[..., 2].any()


@pytest.mark.parametrize("kind", KINDS)
def test_channels_are_chosen_by_number(kind: str) -> None:
    data = stored(CELLS[0, 0], "CYX", kind)
    for channels in [(3,), (1, 3), (3, 0, 2)]:
        pixels = decode(data, channels=channels).pixels
        shown = channels * 3 if len(channels) == 1 else channels
        for place, channel in enumerate(shown):
            np.testing.assert_allclose(pixels[..., place].astype(int), scaled(CELLS[0, 0, channel]), atol=1)


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_three_channels_ask_for_a_choice(kind: str) -> None:
    data = stored(CELLS[0, 0], "CYX", kind)
    assert reason_of(data).startswith("has 4 channels, and which of them to show is a choice: set data.channels")
    assert reason_of(data, channels=(0, 4)) == "channel 4 asked, has 4 channels (counted from 0; data.channels)"


@pytest.mark.parametrize(("kind", "axes"), [("ome", "TZCYX"), ("ome", "CTZYX"), ("ome", "ZTCYX"), ("imagej", "TZCYX")])
def test_a_page_is_a_place_in_time_and_depth(kind: str, axes: str) -> None:
    order = ["TZCYX".index(axis) for axis in axes]
    data = stored(np.ascontiguousarray(CELLS.transpose(order)), axes, kind)
    places = [axis for axis in axes if axis in "TZ"]
    for page in range(6):
        sizes = {"T": 2, "Z": 3}
        slow, fast = divmod(page, sizes[places[1]])
        at = dict(zip(places, (slow, fast), strict=True))
        pixels = decode(data, page=page, channels=(2, 1)).pixels
        for place, channel in enumerate((2, 1)):
            expected = scaled(CELLS[at["T"], at["Z"], channel])
            np.testing.assert_allclose(pixels[..., place].astype(int), expected, atol=1)
    assert reason_of(data, page=6, channels=(0,)) == "page 6 asked, has 6 pages (counted from 0; data.page)"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axes", ["ZCYX", "TCYX"])
def test_the_first_place_is_the_default(kind: str, axes: str) -> None:
    values = CELLS[0, :, :3] if axes == "ZCYX" else CELLS[:, 0, :3]
    np.testing.assert_array_equal(
        decode(stored(values, axes, kind)).pixels, decode(stored(values[0], "CYX", kind)).pixels
    )


@pytest.mark.parametrize("kind", KINDS)
def test_without_channels_pages_are_pages(kind: str) -> None:
    data = stored(CELLS[0, :, 0], "ZYX", kind)
    for page in range(3):
        np.testing.assert_array_equal(
            decode(data, page=page).pixels[..., 0], decode(interleaved(CELLS[0, page, 0]), page=0).pixels[..., 0]
        )
    assert reason_of(data, page=3) == "page 3 asked, has 3 pages (counted from 0; data.page)"


def test_compressed_and_pyramidal_files_too() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, ome=True) as writer:
        options = {"photometric": "minisblack", "compression": "zlib", "tile": (16, 16)}
        writer.write(CELLS[0, 0, :3], subifds=1, metadata={"axes": "CYX"}, **options)
        writer.write(CELLS[0, 0, :3, ::2, ::2], subfiletype=1, **options)
    expected = decode(stored(CELLS[0, 0, :3], "CYX", "ome")).pixels
    np.testing.assert_array_equal(decode(buffer.getvalue()).pixels, expected)


def test_colours_in_an_ome_file_stay_colours() -> None:
    rgb = RNG.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, rgb, ome=True, photometric="rgb")
    np.testing.assert_array_equal(decode(buffer.getvalue()).pixels, rgb)


def test_samples_that_are_no_colours_are_scaled_each_and_colours_together() -> None:
    values = np.ascontiguousarray(CELLS[0, 0, :3].transpose(1, 2, 0))
    each = decode(interleaved(values)).pixels
    together = decode(interleaved(values, photometric="rgb")).pixels
    for channel in range(3):
        np.testing.assert_allclose(each[..., channel].astype(int), scaled(values[..., channel]), atol=1)
    low, high = np.percentile(values, [0.1, 99.9])
    expected = np.clip((values - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(together.astype(int), expected, atol=1)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_of_many_samples_a_pixel_some_are_chosen(planar: str) -> None:
    values = RNG.integers(0, 256, (20, 24, 7), dtype=np.uint8)
    data = interleaved(values if planar == "contig" else values.transpose(2, 0, 1).copy(), planarconfig=planar)
    result = decode(data, channels=(6, 2, 4))
    assert result.channels == 7
    np.testing.assert_array_equal(result.pixels, values[..., [6, 2, 4]])
    assert reason_of(data).startswith("has 7 channels, and which of them to show is a choice: set data.channels")
    assert reason_of(data, channels=(7,)) == "channel 7 asked, has 7 channels (counted from 0; data.channels)"


def test_colours_with_further_samples_ask_for_a_choice() -> None:
    values = RNG.integers(0, 256, (20, 24, 5), dtype=np.uint8)
    data = interleaved(values, photometric="rgb", extrasamples=["unspecified"] * 2)
    assert reason_of(data).startswith("has 5 channels")
    np.testing.assert_array_equal(decode(data, channels=(4, 1)).pixels[..., :2], values[..., [4, 1]])
    inks = interleaved(values, photometric="separated", extrasamples=["unspecified"])
    assert reason_of(inks) == "stores colours as SEPARATED, which is not supported: save RGB"


def test_too_many_samples_are_refused_by_the_header() -> None:
    values = np.zeros((20, 24, 40), np.uint8)
    assert reason_of(interleaved(values), max_pixels=1000, channels=(0,)) == (
        "claims 24 x 20 pixels of 40 channels, more samples than 4 times the limit of 1,000 (data.max_pixels)"
    )


@pytest.mark.parametrize(("mode", "file_format"), [("RGB", "PNG"), ("RGB", "TIFF"), ("P", "PNG"), ("YCbCr", "TIFF")])
def test_channels_of_a_picture_are_its_colours(mode: str, file_format: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (8, 9, 3), dtype=np.uint8)).convert(mode).save(buffer, file_format)
    whole = decode(buffer.getvalue()).pixels
    for channels in [(0,), (2, 1), (1, 0, 2)]:
        shown = decode(buffer.getvalue(), channels=channels).pixels
        expected = np.zeros_like(whole)
        for place, channel in enumerate(channels * 3 if len(channels) == 1 else channels):
            expected[..., place] = whole[..., channel]
        np.testing.assert_array_equal(shown, expected)
    assert (
        reason_of(buffer.getvalue(), channels=(3,)) == "channel 3 asked, has 3 channels (counted from 0; data.channels)"
    )


@pytest.mark.parametrize("channels", [(), (0, 1, 2, 3), (-1,)])
def test_a_choice_that_none_can_be_shown_by_is_refused(tmp_path: Path, channels: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="give one to three channel numbers, counted from 0"):
        read_image(tmp_path / "none.png", channels=channels)


def ome_text(*planes: str) -> str:
    """An OME header of two channels whose planes lie where `planes` say."""
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="24" SizeY="20" SizeC="2" SizeZ="1" '
        f'SizeT="1">{"".join(planes)}</Pixels></Image></OME>'
    )


def test_other_files_named_by_a_header_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("second.tif").write_bytes(stored(CELLS[0, 0, :2], "CYX", "ome"))
    text = ome_text(
        '<TiffData IFD="0" FirstC="0"><UUID FileName="first.tif">urn:uuid:1</UUID></TiffData>',
        '<TiffData IFD="0" FirstC="1"><UUID FileName="second.tif">urn:uuid:2</UUID></TiffData>',
    )
    data = interleaved(CELLS[0, 0, 0], description=text)
    np.testing.assert_array_equal(decode(data).pixels, decode(interleaved(CELLS[0, 0, 0])).pixels)
    assert reason_of(data, channels=(1,)) == "channel 1 asked, has 1 channel (counted from 0; data.channels)"


def test_channels_that_are_missing_are_named() -> None:
    text = ome_text('<TiffData IFD="0" FirstC="0" PlaneCount="1"/>')
    reason = reason_of(interleaved(CELLS[0, 0, 0], description=text))
    assert reason == "lacks pages of its channels: they lie in other files, or it is truncated"


@pytest.mark.parametrize("kind", KINDS)
def test_any_corruption_gives_pixels_or_an_image_error(
    kind: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    data = stored(CELLS[0, :2, :3, :8, :8].copy(), "ZCYX", kind, compression=None)
    rng = np.random.default_rng(5)
    for _ in range(300):
        broken = bytearray(data)
        for _ in range(rng.integers(1, 5)):
            broken[rng.integers(min(len(data), 1500))] = rng.integers(256)
        cut = len(data) if rng.random() < 0.7 else int(rng.integers(len(data)))
        try:
            result = decode(bytes(broken[:cut]), max_pixels=100_000)
        except ImageError:
            continue
        assert result.pixels.shape == (result.height_px, result.width_px, 3)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
