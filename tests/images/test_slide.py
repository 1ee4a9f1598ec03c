"""A slide gives any rectangle at any size, whoever wrote it, or one reason in plain words."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from microscopy_cls.errors import ImageError
from microscopy_cls.images import slide as slide_module
from microscopy_cls.images import slide_tiff, slide_vendor
from microscopy_cls.images.slide import is_slide, open_slide

HEIGHT, WIDTH = 300, 420
YY, XX = np.mgrid[0:HEIGHT, 0:WIDTH]
PICTURE = np.stack([XX * 255 // WIDTH, YY * 255 // HEIGHT, (XX + YY) % 256], -1).astype(np.uint8)
APERIO = "Aperio Image Library v11.2.1\r\n420x300 [0,0 420x300] (64x64) JPEG/RGB Q=90|AppMag = 40|MPP = 0.2520"


def half(pixels: np.ndarray) -> np.ndarray:
    return cv2.resize(pixels, (pixels.shape[1] // 2, pixels.shape[0] // 2), interpolation=cv2.INTER_AREA)


def write_pyramid(
    path: Path, pixels: np.ndarray = PICTURE, num_levels: int = 3, *, sub_ifds: bool = False, **options: Any
) -> Path:
    """A tiled TIFF with levels in further pages, or in SubIFDs of the first."""
    settings: dict[str, Any] = {
        "tile": (64, 64),
        "photometric": "rgb",
        "compression": "zlib",
        "metadata": None,
    } | options
    with tifffile.TiffWriter(path) as writer:
        for level in range(num_levels):
            is_first = level == 0
            flags = {"subifds": num_levels - 1} if sub_ifds and is_first else {"subfiletype": int(not is_first)}
            writer.write(pixels, **settings, **flags)
            pixels = half(pixels)
    return path


def reason_of(path: Path) -> str:
    with pytest.raises(ImageError) as caught, open_slide(path):
        pass
    return caught.value.reason


@pytest.fixture
def no_openslide(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (slide_module, slide_tiff, slide_vendor):
        monkeypatch.setattr(module, "openslide_library", lambda: None)


LAYOUTS: dict[str, dict[str, Any]] = {
    "pages": {},
    "subifds": {"sub_ifds": True},
    "lzw": {"compression": "lzw", "predictor": True},
    "zstd": {"compression": "zstd"},
    "raw": {"compression": None},
    "bigtiff": {"bigtiff": True},
    "planar": {"planarconfig": "separate"},
    "planar lzw": {"planarconfig": "separate", "compression": "lzw"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_rectangle_at_full_size_is_what_was_written(layout: str, tmp_path: Path) -> None:
    options = dict(LAYOUTS[layout])
    if options.pop("bigtiff", False):
        with tifffile.TiffWriter(tmp_path / "a.tiff", bigtiff=True) as writer:
            writer.write(PICTURE, tile=(64, 64), photometric="rgb", metadata=None)
            writer.write(half(PICTURE), tile=(64, 64), photometric="rgb", metadata=None)
    elif options.get("planarconfig"):
        with tifffile.TiffWriter(tmp_path / "a.tiff") as writer:
            for pixels in (PICTURE, half(PICTURE)):
                planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
                writer.write(planes, tile=(64, 64), photometric="rgb", metadata=None, **options)
    else:
        write_pyramid(tmp_path / "a.tiff", **options)
    assert is_slide(tmp_path / "a.tiff")
    with open_slide(tmp_path / "a.tiff") as slide:
        assert (slide.width_px, slide.height_px, slide.format) == (WIDTH, HEIGHT, "generic-tiff")
        np.testing.assert_array_equal(slide.region(0, 0, WIDTH, HEIGHT, (WIDTH, HEIGHT)), PICTURE)
        np.testing.assert_array_equal(slide.region(50, 60, 100, 80, (100, 80)), PICTURE[60:140, 50:150])
        np.testing.assert_array_equal(slide.region(419, 299, 1, 1, (1, 1)), PICTURE[299:, 419:])


def test_jpeg_tiles_that_share_their_tables(tmp_path: Path) -> None:
    """Most slides keep one quantisation table for all tiles, which alone cannot be decoded."""
    image = Image.fromarray(PICTURE)
    image.save(tmp_path / "strips.tiff", compression="jpeg", quality=95)  # Pillow's libtiff shares the tables
    with tifffile.TiffFile(tmp_path / "strips.tiff") as file:
        tables = file.pages[0].jpegtables
    assert tables
    tiles = [abbreviated_jpeg(PICTURE[y : y + 64, x : x + 64]) for y in range(0, 256, 64) for x in range(0, 384, 64)]
    with tifffile.TiffWriter(tmp_path / "a.tiff") as writer:
        for size in (256, 384), (128, 192):
            num = (size[0] // 64) * (size[1] // 64)
            writer.write(
                iter([tile for _, tile in tiles[:num]]), shape=(*size, 3), dtype=np.uint8, tile=(64, 64),
                photometric="ycbcr", compression="jpeg", metadata=None, subsampling=(1, 1),
                extratags=[(347, 7, len(tiles[0][0]), tiles[0][0], True)],
            )  # fmt: skip
    with open_slide(tmp_path / "a.tiff") as slide:
        difference = np.abs(slide.region(0, 0, 384, 256, (384, 256)).astype(int) - PICTURE[:256, :384])
    assert difference.mean() < 5


def abbreviated_jpeg(pixels: np.ndarray) -> tuple[bytes, bytes]:
    """A JPEG cut in two as TIFF wants it: its tables, and the picture without them."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=90, subsampling=0)
    data, tables, rest, at = buffer.getvalue(), b"", b"", 2
    while data[at + 1] != 0xDA:  # start of scan
        size = int.from_bytes(data[at + 2 : at + 4], "big") + 2
        segment = data[at : at + size]
        if segment[1] in (0xDB, 0xC4):  # quantisation and Huffman tables
            tables += segment
        else:
            rest += segment
        at += size
    return b"\xff\xd8" + tables + b"\xff\xd9", b"\xff\xd8" + rest + data[at:]


@pytest.mark.parametrize("kind", ["grey", "white is zero", "alpha"])
def test_grey_and_transparent_slides_are_rgb_on_white(kind: str, tmp_path: Path) -> None:
    grey = PICTURE[..., 0]
    if kind == "alpha":
        pixels, options = np.dstack([PICTURE, grey]), {"extrasamples": ["unassalpha"]}
        opacity = grey[..., None] / 255
        expected = PICTURE * opacity + 255 * (1 - opacity)
    else:
        pixels, options = grey, {"photometric": "minisblack" if kind == "grey" else "miniswhite"}
        expected = np.repeat((grey if kind == "grey" else 255 - grey)[..., None], 3, axis=2)
    path = write_pyramid(tmp_path / "a.tiff", pixels, **options)
    with open_slide(path) as slide:
        np.testing.assert_allclose(slide.region(0, 0, WIDTH, HEIGHT, (WIDTH, HEIGHT)), expected, atol=1)


def test_a_tile_that_was_left_out_is_white(tmp_path: Path) -> None:
    tiles = [PICTURE[:64, :64].tobytes(), b"", PICTURE[:64, :64].tobytes(), b""]
    with tifffile.TiffWriter(tmp_path / "a.tiff") as writer:
        writer.write(iter(tiles), shape=(128, 128, 3), dtype=np.uint8, tile=(64, 64), photometric="rgb", metadata=None)
        writer.write(half(PICTURE[:128, :128]), tile=(64, 64), photometric="rgb", metadata=None)
    with open_slide(tmp_path / "a.tiff") as slide:
        pixels = slide.region(0, 0, 128, 128, (128, 128))
    np.testing.assert_array_equal(pixels[:64, :64], PICTURE[:64, :64])
    assert (pixels[:64, 64:] == 255).all()


def test_beyond_the_edge_is_white(tmp_path: Path) -> None:
    with open_slide(write_pyramid(tmp_path / "a.tiff")) as slide:
        pixels = slide.region(-10, -20, 50, 60, (50, 60))
        np.testing.assert_array_equal(pixels[20:, 10:], PICTURE[:40, :40])
        assert (pixels[:20] == 255).all()
        assert (pixels[:, :10] == 255).all()
        assert (slide.region(WIDTH, HEIGHT, 9, 9, (3, 3)) == 255).all()
        assert (slide.region(-500, 0, 9, 9, (3, 3)) == 255).all()


@pytest.mark.parametrize(
    ("out_px", "level"), [((200, 200), 0), ((110, 110), 0), ((100, 100), 1), ((50, 50), 2), ((9, 9), 2)]
)
def test_the_smallest_level_that_is_large_enough_is_read(
    out_px: tuple[int, int], level: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    read = slide_tiff.TiledTiff.read
    monkeypatch.setattr(slide_tiff.TiledTiff, "read", lambda self, *args: (used.append(args[0]), read(self, *args))[1])
    with open_slide(write_pyramid(tmp_path / "a.tiff")) as slide:
        slide.region(0, 0, 200, 200, out_px)
    assert used == [level]


@pytest.mark.parametrize("sub_ifds", [False, True])
def test_shrinking_is_the_mean_over_the_area(sub_ifds: bool, tmp_path: Path) -> None:
    with open_slide(write_pyramid(tmp_path / "a.tiff", sub_ifds=sub_ifds)) as slide:
        assert [level.downsample for level in slide.levels] == [1.0, 2.0, 4.0]
        shrunk = slide.region(40, 20, 240, 240, (40, 40))
    expected = PICTURE[20:260, 40:280].reshape(40, 6, 40, 6, 3).mean(axis=(1, 3))
    smooth = [0, 1]  # the third channel wraps around
    assert np.abs(shrunk[..., smooth] - expected[..., smooth]).max() < 4


def test_parts_read_one_by_one_make_the_same_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_pyramid(tmp_path / "a.tiff")
    with open_slide(path) as slide:
        whole = slide.thumbnail(max_side_px=210)
        full = slide.region(-7, 3, 400, 300, (400, 300))
        monkeypatch.setattr(slide_module, "_MAX_SIDE_PX", 50)
        np.testing.assert_array_equal(slide.thumbnail(210), whole)
        np.testing.assert_array_equal(slide.region(-7, 3, 400, 300, (400, 300)), full)
        odd = slide.thumbnail(133)
    assert (
        np.abs(odd.astype(int)[..., :2] - cv2.resize(PICTURE, (133, 95), interpolation=cv2.INTER_AREA)[..., :2]).max()
        < 6
    )


def test_a_thumbnail_keeps_proportions_and_does_not_grow(tmp_path: Path) -> None:
    with open_slide(write_pyramid(tmp_path / "a.tiff")) as slide:
        assert slide.thumbnail(140).shape == (100, 140, 3)
        np.testing.assert_array_equal(slide.thumbnail(9999), PICTURE)


@pytest.mark.parametrize("suffix", [".tiff", ".svs"])
def test_threads_that_share_a_slide_get_their_own_rectangles(suffix: str, tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / f"a{suffix}", description=APERIO if suffix == ".svs" else None, compression="lzw")
    places = [(x, y) for x in range(0, 350, 23) for y in range(0, 250, 19)]
    with open_slide(path) as slide, ThreadPoolExecutor(8) as pool:
        for (x, y), pixels in zip(
            places, pool.map(lambda at: slide.region(*at, 40, 30, (40, 30)), places), strict=True
        ):
            np.testing.assert_array_equal(pixels, PICTURE[y : y + 30, x : x + 40])


def test_decoded_tiles_are_kept_only_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slide_tiff, "CACHE_BYTES", 3 * 64 * 64 * 3)
    with open_slide(write_pyramid(tmp_path / "a.tiff")) as slide:
        slide.region(0, 0, WIDTH, HEIGHT, (WIDTH, HEIGHT))
        assert slide._reader._tile.cache_info().currsize == 3  # type: ignore[attr-defined]


def test_a_makers_slide_through_openslide_and_without_it(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """OpenSlide and tifffile agree on pixels, scale and levels, also where no flag says that a page is a level."""
    with tifffile.TiffWriter(tmp_path / "a.svs") as writer:
        for pixels in (PICTURE, half(half(PICTURE))):
            writer.write(
                pixels, tile=(64, 64), photometric="rgb", compression="lzw", metadata=None, description=APERIO
            )  # fmt: skip
        writer.write(np.zeros((50, 90, 3), np.uint8), photometric="rgb", metadata=None, description=APERIO)
    answers = []
    for _ in range(2):
        assert is_slide(tmp_path / "a.svs")
        with open_slide(tmp_path / "a.svs") as slide:
            assert (slide.format, slide.um_per_px) == ("aperio", 0.252)
            assert [level.width_px for level in slide.levels] == [420, 105]
            answers.append(slide.region(100, 60, 64, 64, (64, 64)))
        request.getfixturevalue("no_openslide")
    np.testing.assert_array_equal(answers[0], PICTURE[60:124, 100:164])
    np.testing.assert_array_equal(*answers)


PER_CM = {"resolutionunit": "CENTIMETER", "resolution": (40_000, 40_000)}


@pytest.mark.parametrize(
    ("options", "um_per_px"),
    [
        (PER_CM, 0.25),
        ({"resolutionunit": "CENTIMETER", "resolution": (40_000, 20_000)}, 0.375),
        ({"resolutionunit": "INCH", "resolution": (50_800, 50_800)}, 0.5),
        ({"resolutionunit": "INCH", "resolution": (72, 72)}, None),
        ({"resolutionunit": "INCH", "resolution": (300, 300)}, None),
        ({"resolutionunit": "NONE", "resolution": (40_000, 40_000)}, None),
        ({"resolutionunit": "CENTIMETER", "resolution": (4_000_000, 4_000_000)}, None),
        ({}, None),
    ],
)
def test_microns_per_pixel_where_they_are_plausible(
    options: dict[str, Any], um_per_px: float | None, tmp_path: Path
) -> None:
    with open_slide(write_pyramid(tmp_path / "a.tiff", **options)) as slide:
        assert slide.um_per_px == (um_per_px and pytest.approx(um_per_px))


@pytest.mark.parametrize(("size", "unit", "um"), [("0.5", "µm", 0.5), ("250", "nm", 0.25), ("1", "pixel", None)])
def test_microns_per_pixel_of_ome(size: str, unit: str, um: float | None, tmp_path: Path) -> None:
    metadata = {"axes": "YXS", "PhysicalSizeX": float(size), "PhysicalSizeXUnit": unit}
    metadata |= {"PhysicalSizeY": float(size), "PhysicalSizeYUnit": unit}
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        writer.write(PICTURE, tile=(64, 64), photometric="rgb", subifds=1, metadata=metadata, **PER_CM)
        writer.write(half(PICTURE), tile=(64, 64), photometric="rgb", subfiletype=1)
    with open_slide(tmp_path / "a.ome.tif") as slide:
        assert (slide.format, slide.um_per_px, len(slide.levels)) == ("ome-tiff", um, 2)


def test_ordinary_files_are_no_slides(tmp_path: Path) -> None:
    files = [
        tmp_path / name for name in ("strips.tif", "tiles.tif", "pages.tif", "a.png", "a.dcm", "text.tif", "empty")
    ]
    tifffile.imwrite(files[0], PICTURE, photometric="rgb")
    tifffile.imwrite(files[1], PICTURE, photometric="rgb", tile=(64, 64), metadata=None)
    tifffile.imwrite(files[2], np.stack([PICTURE] * 3), photometric="rgb", tile=(64, 64), metadata=None)
    Image.fromarray(PICTURE).save(files[3])
    files[4].write_bytes(bytes(128) + b"DICM" + b"1.2.840.10008.5.1.4.1.1.2\x00" + bytes(200))
    files[5].write_text("no picture")
    files[6].write_bytes(b"")
    assert [file.name for file in [*files, tmp_path, tmp_path / "missing.tif"] if is_slide(file)] == []


def test_damaged_files_never_raise_when_asked_what_they_are(tmp_path: Path) -> None:
    data = write_pyramid(tmp_path / "a.tiff").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(200):
        broken = bytearray(data[: int(rng.integers(1, len(data)))] if rng.random() < 0.5 else data)
        for at in rng.integers(0, min(len(broken), 600), 4):
            broken[at] = rng.integers(256)
        (tmp_path / "b.tiff").write_bytes(broken)
        assert is_slide(tmp_path / "b.tiff") in (True, False)
        try:
            with open_slide(tmp_path / "b.tiff") as slide:
                slide.thumbnail(50)
        except ImageError:
            pass


def test_a_large_tiled_picture_without_levels_is_a_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_pyramid(tmp_path / "a.tiff", num_levels=1)
    assert not is_slide(path)
    monkeypatch.setattr(slide_tiff, "_MANY_PIXELS", WIDTH * HEIGHT - 1)
    assert is_slide(path)


def test_a_dicom_slide_is_known_by_its_class(tmp_path: Path) -> None:
    class_uid = b"1.2.840.10008.5.1.4.1.1.77.1.6"
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM" + class_uid + b"\x02\x00" + bytes(200))
    assert is_slide(tmp_path / "a.dcm")
    (tmp_path / "b.dcm").write_bytes(bytes(128) + b"DICM" + class_uid + b".1" + bytes(200))
    assert not is_slide(tmp_path / "b.dcm")


@pytest.mark.parametrize("suffix", sorted(slide_module.SLIDE_SUFFIXES))
def test_a_slides_ending_is_enough_so_that_the_reason_is_about_slides(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix.upper()}"
    path.write_text("This is not what it is called.")
    assert is_slide(path)
    expected = "lacks its pixels: the folder a that belongs beside it is missing"
    assert reason_of(path) == (expected if suffix == ".mrxs" else "is not a slide: it starts like a text")


def test_what_is_no_slide_is_named(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", PICTURE, photometric="rgb")
    (tmp_path / "zeros.svs").write_bytes(bytes(9000))
    (tmp_path / "empty.svs").write_bytes(b"")
    assert reason_of(tmp_path / "a.png") == "is not a slide: it is a PNG image"
    assert reason_of(tmp_path / "a.tif") == "is not a slide but a TIFF without tiles: classify it as an image"
    assert reason_of(tmp_path / "zeros.svs") == "is not a slide: it holds zeros only, as after an interrupted copy"
    assert reason_of(tmp_path / "empty.svs") == "is empty (0 bytes)"
    assert reason_of(tmp_path / "none.svs") == "does not exist"


@pytest.mark.usefixtures("no_openslide")
def test_without_openslide_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.vms").write_text("[Virtual Microscope Specimen]\n")
    assert reason_of(tmp_path / "a.vms") == (
        "needs OpenSlide, which is not installed: pip install 'microscopy-cls[slides]'"
    )
    path = write_pyramid(tmp_path / "a.tiff")
    monkeypatch.setattr(slide_tiff, "_needs_openslide", lambda file: True)
    assert reason_of(path) == (
        "is a slide that only OpenSlide could read, and it does not: pip install 'microscopy-cls[slides]'"
    )


def test_a_makers_slide_that_openslide_does_not_know_is_to_be_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_pyramid(tmp_path / "a.tiff")
    monkeypatch.setattr(slide_tiff, "_needs_openslide", lambda file: True)
    assert reason_of(path).endswith("only OpenSlide could read, and it does not: convert it to a tiled RGB TIFF")


@pytest.mark.parametrize(
    ("pixels", "options", "reason"),
    [
        (
            PICTURE.astype(np.uint16),
            {},
            "stores 16 bits a sample, and slides are read with 8: export it as RGB of 8 bits",
        ),
        (np.dstack([PICTURE] * 2), {"photometric": "minisblack", "planarconfig": "contig"}, "has 6 channels"),
        (PICTURE, {"photometric": "icclab"}, "stores colours as ICCLAB, which is not supported: save RGB"),
        (PICTURE, {"compression": "lerc"}, "is compressed by LERC, which is not supported"),
    ],
)
def test_samples_that_no_picture_can_be_made_of_are_named(
    pixels: np.ndarray, options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.tiff"
    settings = {"tile": (64, 64), "photometric": "rgb", "metadata": None} | options
    with tifffile.TiffWriter(path) as writer:
        for level in (pixels, np.ascontiguousarray(pixels[::2, ::2])):
            writer.write(level, **settings)
    assert is_slide(path)
    assert reason_of(path).startswith(reason)


def test_channels_in_pages_of_their_own_ask_for_a_choice(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tiff") as writer:
        for channel in range(3):
            writer.write(PICTURE[..., channel], tile=(64, 64), subifds=1, metadata=None)
            writer.write(half(PICTURE)[..., channel], tile=(64, 64), subfiletype=1, metadata=None)
    assert reason_of(tmp_path / "a.tiff") == (
        "holds 3 grey pages of full size, and which channel to show is a choice: export it as RGB"
    )


def test_a_tile_too_large_to_be_read_singly_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_pyramid(tmp_path / "a.tiff")
    monkeypatch.setattr(slide_tiff, "_MAX_TILE_PX", 64 * 64 - 1)
    assert reason_of(path) == "has tiles of 64 x 64 pixels, too large to be read singly"


def test_a_slide_that_ends_early_is_truncated(tmp_path: Path) -> None:
    data = write_pyramid(tmp_path / "a.tiff").read_bytes()
    (tmp_path / "b.tiff").write_bytes(data[: len(data) - 3000])
    assert reason_of(tmp_path / "b.tiff") == "is truncated"
    (tmp_path / "c.svs").write_bytes(data[:8])
    assert reason_of(tmp_path / "c.svs").startswith("is truncated or damaged: its")


def test_a_damaged_tile_is_named_by_its_place_and_the_rest_is_read(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tiff")
    with tifffile.TiffFile(path) as file:
        offset, size = file.pages[0].dataoffsets[-1], file.pages[0].databytecounts[-1]
    data = bytearray(path.read_bytes())
    data[offset : offset + size] = bytes(size)
    path.write_bytes(data)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.region(0, 0, 64, 64, (64, 64)), PICTURE[:64, :64])
        with pytest.raises(ImageError) as caught:
            slide.region(390, 270, 20, 20, (20, 20))
    assert caught.value.reason == (
        "is truncated or damaged (level 0, 20 x 20 px at 390, 270): a tile cannot be decoded"
    )


def test_a_jpeg_tile_without_an_end_is_not_filled_with_grey(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tiff", compression="jpeg")
    with tifffile.TiffFile(path) as file:
        offset, size = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    data = bytearray(path.read_bytes())
    data[offset + size // 2 : offset + size] = bytes(size - size // 2)
    path.write_bytes(data)
    with open_slide(path) as slide, pytest.raises(ImageError, match="a tile is cut off"):
        slide.region(0, 0, 20, 20, (20, 20))


def test_an_error_of_openslide_in_the_middle_of_a_slide_is_an_image_error(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.svs", description=APERIO)
    with tifffile.TiffFile(path) as file:
        offset, size = file.pages[0].dataoffsets[-1], file.pages[0].databytecounts[-1]
    data = bytearray(path.read_bytes())
    data[offset : offset + size] = bytes(size)
    path.write_bytes(data)
    with (
        open_slide(path) as slide,
        pytest.raises(ImageError, match=r"is truncated or damaged \(level 0.*OpenSlide says"),
    ):
        slide.region(390, 270, 20, 20, (20, 20))
