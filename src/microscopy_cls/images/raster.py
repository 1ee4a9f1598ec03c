"""One decoded result for every tool: uint8 (h, w, 3) RGB from any raster file, or one reason why not."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from microscopy_cls.config.schema import Intensity
from microscopy_cls.errors import ImageError
from microscopy_cls.images.decoded import Decoded, UnreadableError, check_page
from microscopy_cls.images.intensity import check_intensity
from microscopy_cls.images.pillow import read_image_file
from microscopy_cls.images.source import file_format, read_bytes
from microscopy_cls.images.tiff import read_tiff

IMAGE_SUFFIXES = frozenset({".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Endings, in lower case, of the files that `decode` can read. The format itself is told by the content."""

# What Pillow, tifffile, imagecodecs and OpenCV raise for damaged bytes: they let their parsers' own faults through.
DECODER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    Image.DecompressionBombError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
    cv2.error,
    struct.error,
    tifffile.TiffFileError,
    zlib.error,
)


def read_image(
    path: str | Path, *, intensity: Intensity = "percentile", page: int = 0, max_pixels: int = 300_000_000
) -> NDArray[np.uint8]:
    """Pixels of a raster file: uint8 (h, w, 3), RGB. See `decode`."""
    return decode(path, intensity=intensity, page=page, max_pixels=max_pixels).pixels


def decode(
    source: str | Path | bytes,
    *,
    name: str | Path = "image",
    intensity: Intensity = "percentile",
    page: int = 0,
    max_pixels: int = 300_000_000,
) -> Decoded:
    """Decode a JPEG, PNG, BMP, WebP, GIF (first frame) or TIFF, recognised by content.

    Grey is repeated, two channels become red and green, transparency is composited on white, palettes and CMYK are
    converted, the camera's orientation is applied. A file is decoded whole or not at all.

    Args:
        source: a path, or the bytes of a file read before.
        name: what to call `bytes` in errors.
        intensity: which stored values become 0 and 255 above 8 bits, see `intensity.to_uint8`.
        page: of a TIFF, from 0; other formats have one page.
        max_pixels: larger images are refused by their header, before memory is taken.

    Raises:
        ImageError: no pixels, for one reason in plain words.
        ConfigError: an intensity that is no rule.
    """
    check_intensity(intensity)
    data, path = (source, name) if isinstance(source, bytes) else (read_bytes(source), source)
    try:
        return _decode(data, intensity, page, max_pixels)
    except UnreadableError as error:
        raise ImageError(path, str(error)) from error


def _decode(data: bytes, intensity: Intensity, page: int, max_pixels: int) -> Decoded:
    """Decode by the format's reader; whatever goes wrong is an UnreadableError in plain words."""
    kind = file_format(data)
    try:
        if kind == "TIFF":
            return read_tiff(data, intensity, page, max_pixels)
        check_page(page, 1)
        return read_image_file(data, kind, intensity, max_pixels)
    except UnreadableError:
        raise
    except DECODER_ERRORS as error:
        raise UnreadableError(_reason(error, kind, data)) from error


def _reason(error: Exception, kind: str, data: bytes) -> str:
    """A decoder's exception in plain words."""
    if isinstance(error, MemoryError):
        return "needs more memory than there is"
    if isinstance(error, Image.DecompressionBombError):
        return f"claims more pixels than the reader of {kind} files takes"
    if _ends_early(kind, data) or "truncated" in str(error).lower():
        return "is truncated"
    return f"is damaged or of a rare kind: its {kind} data cannot be decoded"


def _ends_early(kind: str, data: bytes) -> bool:
    """Whether a file that cannot be decoded lacks the end that its format prescribes."""
    if kind == "JPEG":
        return b"\xff\xd9" not in data
    if kind == "PNG":
        return b"IEND" not in data
    if kind == "GIF":
        return not data.rstrip(b"\x00").endswith(b";")
    if kind == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    return kind == "BMP" and int.from_bytes(data[2:6], "little") > len(data)
