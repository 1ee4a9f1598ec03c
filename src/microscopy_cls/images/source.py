"""The bytes of a file, and what kind of file they say it is."""

from __future__ import annotations

import errno
import stat
import zlib
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
HEAD_SIZE = 4096
"""So many bytes at the beginning tell a file's format."""
_DICOM_SUFFIXES = (".dcm", ".dicom")
# How a DICOM data set without a signature begins: with group 2 (the file's own header) or 8, elements being sorted.
_DICOM_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
_GZIP = b"\x1f\x8b"
# NIfTI 1 and 2: size of the header, where its magic word stands, and the word (of one file, and of a pair).
_NIFTI_HEADERS = ((348, 344, (b"n+1\x00", b"ni1\x00")), (540, 4, (b"n+2\x00", b"ni2\x00")))
_NIFTI_HEAD_SIZE = 540  # of an archive no more is inflated: at its end a checksum would be compared
# Lengths of the header that follows BMP's file header: "BM" alone begins too many texts.
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)

# Beginnings, in lower case, of what is often found under an image's name.
_STRANGERS = (
    ((b"<!doctype html", b"<html", b"<head", b"<script"), "an HTML page"),
    ((b"<?xml", b"<svg"), "an XML or SVG text"),
    ((b"%pdf",), "a PDF"),
    ((b"pk\x03\x04",), "a ZIP archive"),
    ((_GZIP,), "a gzip archive, without a NIfTI volume inside"),
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


def ending(path: str | Path) -> str:
    """What follows the last dot of a file's name, in lower case and with the dot; `.nii.gz` is one ending."""
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def file_format(data: bytes, name: str | Path = "") -> str:
    """BMP, DICOM, GIF, JPEG, NIFTI, PNG, TIFF or WEBP, by the first bytes.

    Args:
        data: the file, or its first `HEAD_SIZE` bytes.
        name: of the file. Only DICOM files without a signature are recognised by its ending (and their content).

    Raises:
        UnreadableError: none of these; says what it looks like instead.
    """
    if data[128:132] == b"DICM":  # before TIFF: slides may begin as both
        return "DICOM"
    for signature, format_name in _SIGNATURES:
        if data.startswith(signature):
            return format_name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if _is_nifti(data):
        return "NIFTI"
    if ending(name) in _DICOM_SUFFIXES and data[:2] in _DICOM_GROUPS:
        return "DICOM"
    raise UnreadableError(_stranger(data))


def _is_nifti(data: bytes) -> bool:
    head = _unzipped_head(data) if data[:2] == _GZIP else data[:HEAD_SIZE]
    sizes = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")}
    return any(size in sizes and head[at : at + 4] in words for size, at, words in _NIFTI_HEADERS)


def _unzipped_head(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data[:HEAD_SIZE], _NIFTI_HEAD_SIZE)
    except zlib.error:
        return b""


def _stranger(data: bytes) -> str:
    """What data that are no image look like, in words."""
    if not data:
        return "is empty (0 bytes)"
    if not data.strip(b"\x00"):
        return "is not an image: it holds zeros only, as after an interrupted copy"
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
