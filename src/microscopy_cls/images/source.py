"""The bytes of a file, and what kind of file they say it is."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable
from pathlib import Path

from microscopy_cls.errors import ImageError
from microscopy_cls.images.decoded import UnreadableError

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
)
# Lengths of the header that follows BMP's file header: "BM" alone begins too many texts.
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)

# Beginnings, in lower case, of what is often found under an image's name.
_STRANGERS = (
    ((b"<!doctype html", b"<html", b"<head", b"<script"), "an HTML page"),
    ((b"<?xml", b"<svg"), "an XML or SVG text"),
    ((b"%pdf",), "a PDF"),
    ((b"pk\x03\x04",), "a ZIP archive"),
    ((b"\x1f\x8b",), "a gzip archive"),
    ((b"\x89hdf",), "an HDF5 file"),
    ((b"zisrawfile",), "a Zeiss CZI file (export it as TIFF)"),
    ((b"version https://git-lfs",), "a Git LFS pointer (fetch the file itself: git lfs pull)"),
)

_FILE_KINDS = (
    (stat.S_ISDIR, "is a directory"),
    (stat.S_ISFIFO, "is a named pipe"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)


def read_bytes(path: str | Path) -> bytes:
    """All bytes of a regular file. Pipes and devices are refused before they are opened: they could hang.

    Raises:
        ImageError: no such file, no permission, not a regular file, or empty.
    """
    return _read(Path(path), Path.read_bytes)


def read_head(path: str | Path, num_bytes: int) -> bytes:
    """The first bytes of a regular file, fewer where it ends before. Raises what `read_bytes` raises."""

    def head(file: Path) -> bytes:
        with file.open("rb") as handle:
            return handle.read(num_bytes)

    return _read(Path(path), head)


def _read(path: Path, read: Callable[[Path], bytes]) -> bytes:
    try:
        mode = path.stat().st_mode
        for is_kind, reason in _FILE_KINDS:
            if is_kind(mode):
                raise ImageError(path, reason)
        data = read(path)
    except OSError as error:
        raise ImageError(path, _reason_of(error, path)) from error
    except MemoryError as error:
        raise ImageError(path, "needs more memory than there is") from error
    except ValueError as error:  # a NUL in the name
        raise ImageError(path, "has a name that no file can have") from error
    if not data:
        raise ImageError(path, "is empty (0 bytes)")
    return data


def _reason_of(error: OSError, path: Path) -> str:
    if isinstance(error, PermissionError):
        return "permission denied"
    if error.errno == errno.ELOOP:
        return "link points to itself"
    if isinstance(error, FileNotFoundError):
        return "link points to nothing" if path.is_symlink() else "does not exist"
    if isinstance(error, NotADirectoryError):
        return "does not exist"
    return f"cannot be read ({error.strerror or 'unknown cause'})"


def file_format(data: bytes) -> str:
    """BMP, GIF, JPEG, PNG, TIFF or WEBP, by the first bytes.

    Raises:
        UnreadableError: none of these; says what it looks like instead.
    """
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    raise UnreadableError(_stranger(data))


def _stranger(data: bytes) -> str:
    """What data that are no image look like, in words."""
    if not data:
        return "is empty (0 bytes)"
    if not data.strip(b"\x00"):
        return "is not an image: it holds zeros only, as after an interrupted copy"
    if data[128:132] == b"DICM":
        return "is not a raster image: it starts like a DICOM file"
    head = data[:512].removeprefix(b"\xef\xbb\xbf").lstrip()
    for beginnings, name in _STRANGERS:
        if head.lower().startswith(beginnings):
            return f"is not an image: it starts like {name}"
    looks_like = "a text" if _is_text(data[:512]) else "no image format that can be read"
    return f"is not an image: it starts like {looks_like}"


def _is_text(head: bytes) -> bool:
    """Whether these bytes are UTF-8 without control characters; a character cut off at the end is allowed."""
    text = head.decode("utf-8", errors="ignore")
    is_whole = len(text.encode()) > len(head) - 4
    return is_whole and all(character.isprintable() or character in "\t\n\r\f" for character in text)
