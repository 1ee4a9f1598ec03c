"""Whole-slide images: a rectangle of any place at any size, read from the level that fits, never the whole slide."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.errors import ImageError
from microscopy_cls.images.decoded import UnreadableError
from microscopy_cls.images.reasons import DECODER_ERRORS
from microscopy_cls.images.slide_reader import Level, SlideReader
from microscopy_cls.images.slide_tiff import TiledTiff, is_tiled_slide
from microscopy_cls.images.slide_vendor import VendorSlide, openslide_library, vendor_of
from microscopy_cls.images.source import file_format, read_head
from microscopy_cls.images.square import resized

SLIDE_SUFFIXES = frozenset({".bif", ".mrxs", ".ndpi", ".scn", ".svs", ".vms"})
"""Endings, in lower case, that only slides have."""

_HEAD_BYTES = 4096
_MAX_SIDE_PX = 4096  # of what is read from a level at once: 48 MiB of colours
_CLOSE = 1.01  # levels are rounded to whole pixels, so that a half may be 2.003 times smaller
# DICOM's class of slides (PS3.4, B.5: VL Whole Slide Microscopy Image Storage), as it stands in a file's first bytes.
_DICOM_SLIDE = re.compile(rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.77\.1\.6[^.0-9]")
_DATABASES = (b"ZISRAWFILE", b"SQLite format 3\x00")  # CZI and Sakura's, of which OpenSlide knows which are slides


class Slide:
    """An open slide; see `open_slide`. All methods may be called from several threads at once.

    Attributes:
        path: the file.
        width_px: of level 0, as all coordinates.
        height_px: of level 0.
        um_per_px: microns per pixel of level 0, mean of both axes; None where the file says nothing plausible.
        format: OpenSlide's name of the maker's format, `ome-tiff` or `generic-tiff`.
        levels: the stored sizes, the largest first.
    """

    def __init__(self, path: Path, reader: SlideReader) -> None:
        self.path, self._reader = path, reader
        self.levels: tuple[Level, ...] = reader.levels
        self.width_px, self.height_px = self.levels[0].width_px, self.levels[0].height_px
        self.um_per_px = reader.um_per_px
        self.format = reader.format

    def region(self, x_px: int, y_px: int, width_px: int, height_px: int, out_px: tuple[int, int]) -> NDArray[np.uint8]:
        """Pixels of a rectangle, shrunk by the mean over the area of each pixel (or enlarged, bicubic).

        Read from the smallest level that is not smaller than asked, in parts, so that memory is bounded also where
        a slide has no small levels. What is transparent or beyond the slide's edge is white.

        Args:
            x_px: left edge, in level 0; may lie outside.
            y_px: upper edge, in level 0.
            width_px: in level 0.
            height_px: in level 0.
            out_px: width and height of the answer.

        Returns:
            uint8 (height, width, 3) of `out_px`, RGB.

        Raises:
            ImageError: this part of the file is damaged.
        """
        assert min(width_px, height_px, *out_px) > 0, "a rectangle and its picture have an area"
        number = self._level_for(min(width_px / out_px[0], height_px / out_px[1]))
        level = self.levels[number]
        x, width = _scaled(x_px, width_px, level.width_px / self.width_px)
        y, height = _scaled(y_px, height_px, level.height_px / self.height_px)
        out = np.empty((out_px[1], out_px[0], 3), np.uint8)
        for top, rows, to_rows in _cuts(height, out_px[1]):
            for left, columns, to_columns in _cuts(width, out_px[0]):
                part = self._padded(number, x + left, y + top, columns, rows)
                out[to_rows, to_columns] = resized(
                    part, to_columns.stop - to_columns.start, to_rows.stop - to_rows.start
                )
        return out

    def thumbnail(self, max_side_px: int) -> NDArray[np.uint8]:
        """The whole slide, uint8 (h, w, 3), its longer side `max_side_px` (or its own, if that is shorter).

        Raises:
            ImageError: a part of the file is damaged.
        """
        scale = min(1.0, max_side_px / max(self.width_px, self.height_px))
        size = (max(1, round(self.width_px * scale)), max(1, round(self.height_px * scale)))
        return self.region(0, 0, self.width_px, self.height_px, size)

    def _level_for(self, downsample: float) -> int:
        """The level with the largest downsample that is not above the wanted one."""
        fitting = [number for number, level in enumerate(self.levels) if level.downsample <= downsample * _CLOSE]
        return max(fitting, key=lambda number: self.levels[number].downsample, default=0)

    def _padded(self, number: int, x_px: int, y_px: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
        """A rectangle in pixels of a level, white beyond its edges."""
        level = self.levels[number]
        left, right = max(x_px, 0), min(x_px + width_px, level.width_px)
        top, bottom = max(y_px, 0), min(y_px + height_px, level.height_px)
        if (left, top, right, bottom) == (x_px, y_px, x_px + width_px, y_px + height_px):
            return self._read(number, x_px, y_px, width_px, height_px)
        paper = np.full((height_px, width_px, 3), 255, np.uint8)
        if left < right and top < bottom:
            inside = self._read(number, left, top, right - left, bottom - top)
            paper[top - y_px : bottom - y_px, left - x_px : right - x_px] = inside
        return paper

    def _read(self, number: int, x_px: int, y_px: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
        try:
            return self._reader.read(number, x_px, y_px, width_px, height_px)
        except DECODER_ERRORS as error:
            what = str(error) if isinstance(error, UnreadableError) else "a tile cannot be decoded"
            place = f"level {number}, {width_px} x {height_px} px at {x_px}, {y_px}"
            raise ImageError(self.path, f"is truncated or damaged ({place}): {what}") from error


@contextmanager
def open_slide(path: str | Path) -> Iterator[Slide]:
    """Open a slide for reading.

    Raises:
        ImageError: not a slide, damaged, of an unsupported kind, or OpenSlide is needed and not installed.
    """
    path = Path(path)
    head = read_head(path, _HEAD_BYTES)
    try:
        reader = _reader(path, head)
    except UnreadableError as error:
        raise ImageError(path, str(error)) from error
    except DECODER_ERRORS as error:
        raise ImageError(path, "is truncated or damaged: its header cannot be read") from error
    try:
        yield Slide(path, reader)
    finally:
        reader.close()


def is_slide(path: str | Path) -> bool:
    """Whether a file is to be read as a slide, by its header; never raises.

    That is what OpenSlide knows as a maker's format, and tiled TIFFs with smaller levels or of more than 300 million
    pixels. An ending that only slides have is enough, so that a damaged slide is refused as such.
    """
    path = Path(path)
    try:
        head = read_head(path, _HEAD_BYTES)
    except ImageError:
        return path.suffix.lower() in SLIDE_SUFFIXES
    if path.suffix.lower() in SLIDE_SUFFIXES or _is_dicom_slide(head):
        return True
    if _kind(head) == "TIFF":
        return _is_tiled_slide(path) or vendor_of(path) is not None
    return head.startswith(_DATABASES) and vendor_of(path) is not None


def _is_tiled_slide(path: Path) -> bool:
    try:
        return is_tiled_slide(path)
    except DECODER_ERRORS:
        return False


def _is_dicom_slide(head: bytes) -> bool:
    return head[128:132] == b"DICM" and _DICOM_SLIDE.search(head) is not None


def _reader(path: Path, head: bytes) -> SlideReader:
    vendor = vendor_of(path)
    if vendor is not None:
        return VendorSlide(path, vendor)
    if _kind(head) == "TIFF":
        return TiledTiff(path)
    is_expected = path.suffix.lower() in SLIDE_SUFFIXES or _is_dicom_slide(head) or head.startswith(_DATABASES)
    if is_expected and openslide_library() is None:
        raise UnreadableError("needs OpenSlide, which is not installed: pip install 'microscopy-cls[slides]'")
    if path.suffix.lower() == ".mrxs" and not path.with_suffix("").is_dir():
        raise UnreadableError(f"lacks its pixels: the folder {path.stem} that belongs beside it is missing")
    raise UnreadableError(f"is not a slide: {_appearance(head)}")


def _kind(head: bytes) -> str | None:
    """The raster format that a file begins like, or None."""
    try:
        return file_format(head)
    except UnreadableError:
        return None


def _appearance(head: bytes) -> str:
    """What a file that is no slide looks like, in words."""
    try:
        return f"it is a {file_format(head)} image"
    except UnreadableError as error:
        reason = str(error)
        return reason.partition(": ")[2] or reason


def _scaled(start_px: int, length_px: int, scale: float) -> tuple[int, int]:
    """Start and length of an interval of level 0 in whole pixels of a level, at least one."""
    return round(start_px * scale), max(1, round(length_px * scale))


def _cuts(length: int, out: int) -> Iterator[tuple[int, int, slice]]:
    """Cut an axis of a rectangle into parts that are read singly: start, length, and place in the answer."""
    num = min(out, -(-length // _MAX_SIDE_PX))
    to = [out * part // num for part in range(num + 1)]
    edges = [round(place * length / out) for place in to]
    for part in range(num):
        yield edges[part], edges[part + 1] - edges[part], slice(to[part], to[part + 1])
