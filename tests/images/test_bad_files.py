"""A file that gives no pixels gives one reason in plain words, and nothing else: no hang, no other error, no noise."""

from __future__ import annotations

import functools
import io
import os
import pickle  # noqa: TID251  (the error has to travel between processes)
import socket
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from corruption import errors_of_corruptions
from PIL import Image

from microscopy_cls.errors import ImageError
from microscopy_cls.images import decode, read_bytes, read_image

RNG = np.random.default_rng(7)
RGB = np.clip(RNG.normal(128, 40, (24, 32, 3)), 0, 255).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (24, 32, 3), dtype=np.uint16)


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def tiff(values: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


@functools.cache
def small_files() -> dict[str, bytes]:
    image, exif = Image.fromarray(RGB), Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    return {
        "jpeg": encoded(image, "JPEG", exif=exif),
        "progressive": encoded(image, "JPEG", progressive=True),
        "cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "png": encoded(image, "PNG", exif=exif),
        "palette": encoded(image.quantize(8), "PNG"),
        "deep_png": bytes(cv2.imencode(".png", DEEP)[1]),
        "bmp": encoded(image, "BMP"),
        "gif": encoded(image, "GIF"),
        "webp": encoded(image, "WEBP", exif=exif),
        "tiff": encoded(image, "TIFF", exif=exif),
        "tiff_lzw": encoded(image, "TIFF", compression="tiff_lzw"),
        "tiff_jpeg": encoded(image, "TIFF", compression="jpeg"),
        "tiff_cmyk": encoded(image.convert("CMYK"), "TIFF", compression="tiff_lzw"),
        "tiff_deep": tiff(DEEP, photometric="rgb", compression="zlib", predictor=True),
        "tiff_tiled": tiff(DEEP[..., 0], photometric="minisblack", tile=(16, 16)),
        "tiff_float": tiff(DEEP.astype(np.float32), photometric="rgb", bigtiff=True),
    }


NAMES = list(small_files())


def reason_of(source: Path | bytes, **options: object) -> str:
    with pytest.raises(ImageError) as caught:
        decode(source, **options)  # type: ignore[arg-type]
    return caught.value.reason


@pytest.mark.parametrize("name", NAMES)
def test_any_corruption_gives_pixels_or_an_image_error_and_no_noise(
    name: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    errors = errors_of_corruptions(small_files()[name], name, 400, header_size=200)
    assert len(errors) > 50
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_file_is_an_error_or_whole(name: str) -> None:
    data = small_files()[name]
    whole = decode(data).pixels
    for size in range(0, len(data), 11):
        try:
            pixels = decode(data[:size]).pixels
        except ImageError:
            continue
        np.testing.assert_array_equal(pixels, whole)


@pytest.mark.parametrize("name", NAMES)
def test_half_a_file_is_called_truncated(name: str) -> None:
    data = small_files()[name]
    assert reason_of(data[: len(data) // 2]).startswith("is truncated")


@pytest.mark.parametrize("name", ["jpeg", "progressive", "cmyk", "png", "palette", "deep_png"])
def test_a_tail_of_zeros_is_an_error(name: str) -> None:
    data = small_files()[name]
    for size in range(len(data) // 3, len(data) - 8, 37):
        assert reason_of(data[:size] + bytes(len(data) - size)).startswith(("is truncated", "is damaged"))


def test_damage_inside_a_png_is_found_by_its_checksum() -> None:
    data = bytearray(small_files()["png"])
    data[len(data) // 2] ^= 1
    assert reason_of(bytes(data)) == "is damaged: a checksum does not match its data"


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )
    expected = "claims 60000 x 60000 pixels, more than the limit of 300,000,000 (data.max_pixels)"
    assert reason_of(bomb) == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty (0 bytes)"),
        (b"\x00" * 500, "is not an image: it holds zeros only, as after an interrupted copy"),
        (b"<html><script>alert(1)</script></html>", "is not an image: it starts like an HTML page"),
        (b"\xef\xbb\xbf \n<!DOCTYPE html>", "is not an image: it starts like an HTML page"),
        (b"<?xml version='1.0'?><svg/>", "is not an image: it starts like an XML or SVG text"),
        (b"this is not an image\n", "is not an image: it starts like a text"),
        ("Präparat 细胞 µm".encode() * 40, "is not an image: it starts like a text"),
        (b"BM is how this text begins", "is not an image: it starts like a text"),
        (b"%PDF-1.7\n", "is not an image: it starts like a PDF"),
        (b"PK\x03\x04\x00\x00", "is not an image: it starts like a ZIP archive"),
        (b"\x1f\x8b\x08\x00garbage", "is not an image: it starts like a gzip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is not an image: it starts like a Git LFS pointer"),
        (bytes(128) + b"DICM" + bytes(9), "is damaged or no image: its DICOM header"),
        (b"\x93\x01\xfe\x00\xff\x80", "is not an image: it starts like no image format that can be read"),
        (b"\xff\xd8\xff\xe0 and no more", "is truncated"),
        (b"II*\x00" + bytes(64), "is a TIFF that holds no image"),
    ],
)
def test_what_is_no_image_is_named(content: bytes, reason: str) -> None:
    assert reason_of(content).startswith(reason)


def test_damaged_data_name_their_format() -> None:
    data = bytearray(small_files()["webp"])
    data[24:40] = bytes(16)
    assert reason_of(bytes(data)) == "is damaged or of a rare kind: its WEBP data cannot be decoded"


def test_the_file_system_says_no_in_plain_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    Path("empty.png").touch()
    Path("folder.png").mkdir()
    Path("dangling.png").symlink_to("nowhere.png")
    Path("loop.png").symlink_to("loop.png")
    os.mkfifo("pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        expected = {
            "empty.png": "is empty (0 bytes)",
            "folder.png": "is a directory",
            "dangling.png": "link points to nothing",
            "loop.png": "link points to itself",
            "pipe.png": "is a named pipe",
            "socket.png": "is a socket",
            "/dev/null": "is a device",
            "missing.png": "does not exist",
            "empty.png/inside.png": "does not exist",
            "nul\x00.png": "has a name that no file can have",
            "x" * 300: "cannot be read (File name too long)",
        }
        assert {name: reason_of(Path(name)) for name in expected} == expected


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied"), "permission denied"),
        (OSError(5, "Input/output error"), "cannot be read (Input/output error)"),
        (MemoryError(), "needs more memory than there is"),
    ],
)
def test_reading_fails_in_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def refuse(path: Path) -> bytes:
        raise error

    (tmp_path / "secret.png").touch()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert reason_of(tmp_path / "secret.png") == reason


def test_a_lack_of_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr("microscopy_cls.images.raster.read_image_file", exhausted)
    assert reason_of(small_files()["png"]) == "needs more memory than there is"


def test_pillows_own_limit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise Image.DecompressionBombError

    monkeypatch.setattr("microscopy_cls.images.raster.read_image_file", refuse)
    assert reason_of(small_files()["webp"]) == "claims more pixels than the reader of WEBP files takes"


def test_errors_name_the_file_and_travel_between_processes(tmp_path: Path) -> None:
    path = tmp_path / "cell.png"
    path.write_text("no")
    with pytest.raises(ImageError, match=r"cell.png: is not an image") as caught:
        read_image(path)
    copy = pickle.loads(pickle.dumps(caught.value))  # as multiprocessing does
    assert (copy.path, copy.reason) == (path, caught.value.reason)
    with pytest.raises(ImageError, match="slide 7: is not an image"):
        decode(b"no", name="slide 7")


def test_bytes_are_read_once_for_every_use(tmp_path: Path) -> None:
    path = tmp_path / "cell.jpg"
    path.write_bytes(small_files()["jpeg"])
    np.testing.assert_array_equal(decode(read_bytes(path), name=path).pixels, read_image(path))


def test_threads_decode_side_by_side_and_leave_the_warning_filters_alone() -> None:
    broken_exif = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x05\x01"
    data = encoded(Image.fromarray(RGB), "JPEG", exif=broken_exif)
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        widths = list(pool.map(lambda _: decode(data).width_px, range(200)))
    assert widths == [32] * 200
    assert list(warnings.filters) == before
