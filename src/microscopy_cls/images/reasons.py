"""Whatever a decoder raises about a file, as one reason in plain words."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2
import tifffile
from PIL import Image

from microscopy_cls.errors import ImageError
from microscopy_cls.images.decoded import UnreadableError

# What Pillow, tifffile, imagecodecs, OpenCV, pydicom and nibabel raise for damaged bytes: they let their parsers' own
# faults through.
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
_PRIVATE = ("DICOM",)  # a decoder's own words may quote the patient's name: they are dropped, not chained
_T = TypeVar("_T")


def explained(path: str | Path, kind: str, data: bytes, read: Callable[[], _T]) -> _T:
    """What `read` returns.

    Args:
        path: the file, for the error.
        kind: its format.
        data: its bytes.
        read: decodes them.

    Raises:
        ImageError: `read` raised anything that a decoder raises for bytes it cannot decode.
    """
    cause: Exception | None
    try:
        return read()
    except UnreadableError as error:
        reason, cause = str(error), error
    except DECODER_ERRORS as error:
        reason, cause = _reason(error, kind, data), error
    raise ImageError(path, reason) from (None if kind in _PRIVATE else cause)


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
