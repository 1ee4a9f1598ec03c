"""Tiled TIFFs with levels, through tifffile: only the tiles that a rectangle touches are read.

For plain TIFFs and OME-TIFFs always, so that a file gives the same pixels whether OpenSlide is installed or not (and
OpenSlide finds no levels in SubIFDs); for Aperio's SVS where it is not installed.
"""

from __future__ import annotations

import io
import math
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from microscopy_cls.images.decoded import UnreadableError
from microscopy_cls.images.quiet import muted_logs
from microscopy_cls.images.slide_reader import CACHE_BYTES, levels_of, mean_um
from microscopy_cls.images.slide_vendor import openslide_library
from microscopy_cls.images.tiff import BY_LIBTIFF, check_kind, rgb_of_samples

_MANY_PIXELS = 300_000_000  # above, a tiled TIFF is a slide also without levels: it cannot be read whole
_MAX_PAGES = 64  # looked at in search of levels: a stack of thousands would take long, and no pyramid is so high
_MAX_TILE_PX = 2**26
_JPEG = 7
_UM = {"nm": 0.001, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1000.0}  # with the micro sign, and with the Greek letter
_UM_PER_RESOLUTION_UNIT = {2: 25_400.0, 3: 10_000.0}  # inch, centimetre


def is_tiled_slide(path: Path) -> bool:
    """Whether a TIFF is a scanner's, or tiled with smaller levels or too large to be read whole.

    Raises:
        ValueError, RuntimeError, ...: what tifffile raises for a damaged file.
    """
    with muted_logs(), path.open("rb") as handle, tifffile.TiffFile(handle) as file:
        first = file.pages[0].aspage()
        is_large = first.imagewidth * first.imagelength > _MANY_PIXELS
        is_pyramid = first.is_tiled and (is_large or len(_level_pages(file)) > 1)
        return bool(file.is_svs or _needs_openslide(file) or is_pyramid)


class TiledTiff:
    """A pyramid whose tiles are decoded one by one. Threads read bytes one after the other, and decode side by side.

    Where there are several pages of full size (depths, times), the first is read.

    Raises:
        UnreadableError: no tiles, a kind of samples that is not supported, or truncated.
        ValueError, RuntimeError, ...: what tifffile raises for a damaged file.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        with muted_logs(), ExitStack() as opened:
            handle = opened.enter_context(path.open("rb"))  # tifffile forgets to close its own when a header is damaged
            self._file = opened.enter_context(tifffile.TiffFile(handle))
            self._pages = self._checked_pages()
            self._describe()
            self._opened = opened.pop_all()
        tile_bytes = max(page.tilewidth * page.tilelength for page in self._pages) * 3
        self._tile = lru_cache(max(1, CACHE_BYTES // tile_bytes))(self._decoded_tile)

    def read(self, level: int, x_px: int, y_px: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
        """See `SlideReader.read`."""
        page = self._pages[level]
        num_columns = math.ceil(page.imagewidth / page.tilewidth)
        out = np.empty((height_px, width_px, 3), np.uint8)
        for row, rows, to_rows in _parts(y_px, height_px, page.tilelength):
            for column, columns, to_columns in _parts(x_px, width_px, page.tilewidth):
                out[to_rows, to_columns] = self._tile(level, row * num_columns + column)[rows, columns]
        return out

    def close(self) -> None:
        """Release the file and the decoded tiles."""
        self._tile.cache_clear()
        self._opened.close()

    def _describe(self) -> None:
        self.format = "aperio" if self._file.is_svs else "ome-tiff" if self._file.is_ome else "generic-tiff"
        self.levels = levels_of((page.imagewidth, page.imagelength) for page in self._pages)
        self.um_per_px = _um_per_px(self._file, self._pages[0])
        # Looked up now: tifffile reads some tags when they are first asked for, which threads must not do.
        self._segments = [(page.dataoffsets, page.databytecounts, page.jpegtables) for page in self._pages]
        self._decoders = [page.decode for page in self._pages]

    def _checked_pages(self) -> list[tifffile.TiffPage]:
        if _needs_openslide(self._file):
            todo = "convert it to a tiled RGB TIFF" if openslide_library() else "pip install 'microscopy-cls[slides]'"
            raise UnreadableError(f"is a slide that only OpenSlide could read, and it does not: {todo}")
        if not len(self._file.pages):
            raise UnreadableError("is truncated or damaged: its TIFF header names no image")
        pages = _level_pages(self._file)
        num_bytes = self._file.filehandle.size
        for page in pages:
            _check_stored(page, num_bytes)
        if pages[0].samplesperpixel == 1:
            _check_alone(self._file, pages[0])
        return pages

    def _decoded_tile(self, level: int, index: int) -> NDArray[np.uint8]:
        """One tile (tile height, tile width, 3), which at the lower and right edge may be cut to the level."""
        page = self._pages[level]
        num_tiles = math.ceil(page.imagewidth / page.tilewidth) * math.ceil(page.imagelength / page.tilelength)
        num_planes = page.samplesperpixel if page.planarconfig == 2 else 1
        planes = [self._samples(level, index + plane * num_tiles) for plane in range(num_planes)]
        stored = [plane for plane in planes if plane is not None]
        if len(stored) < num_planes:  # left out on purpose: nothing was scanned there
            return np.full((page.tilelength, page.tilewidth, 3), 255, np.uint8)
        return rgb_of_samples(np.concatenate(stored, axis=2), page, 8, "full")

    def _samples(self, level: int, index: int) -> NDArray[Any] | None:
        """Samples (h, w, c) of a stored tile; None for one that is left out."""
        page = self._pages[level]
        offsets, sizes, tables = self._segments[level]
        if not sizes[index]:
            return None
        with self._lock:
            self._file.filehandle.seek(offsets[index])
            encoded = self._file.filehandle.read(sizes[index])
        if page.compression == _JPEG and b"\xff\xd9" not in encoded:  # decoders make a missing end grey
            raise UnreadableError("a tile is cut off")
        if page.compression in BY_LIBTIFF:
            return _by_libtiff(encoded, page)
        with muted_logs():
            values, _, _ = self._decoders[level](encoded, index, **({"jpegtables": tables} if tables else {}))
        samples: NDArray[Any] = values[0]
        return samples


def _needs_openslide(file: tifffile.TiffFile) -> bool:
    """Whether a maker's TIFF has tiles that overlap, are missing or stand in other places than TIFF says."""
    return bool(file.is_ndpi or file.is_scn or file.is_bif or file.is_philips)


def _level_pages(file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """The first page and the smaller pictures of the same: its SubIFDs, or tiled pages behind it."""
    levels = [file.pages[0].aspage()]
    others: Iterator[Any] = chain(levels[0].pages or (), islice(file.pages, 1, _MAX_PAGES))
    levels.extend(page for page in map(_as_page, others) if _is_reduced(page, levels[0]))
    levels.sort(key=lambda page: -int(page.imagewidth))
    return levels


def _as_page(page: tifffile.TiffPage | tifffile.TiffFrame) -> tifffile.TiffPage:
    return page.aspage()


def _is_reduced(page: tifffile.TiffPage, full: tifffile.TiffPage) -> bool:
    """Whether a page shows the first one smaller: stored alike, and its sides are those divided by one number.

    Flags are not asked: SVS and others do not set them. Labels and overviews are not tiled, or of another shape.
    Sides that were rounded up or down differ by less than a pixel, hence the margin.
    """
    (width, height), (w, h) = (full.imagewidth, full.imagelength), (page.imagewidth, page.imagelength)
    is_alike = page.is_tiled and (page.samplesperpixel, page.bitspersample) == (
        full.samplesperpixel,
        full.bitspersample,
    )
    return bool(is_alike and 0 < w < width and abs(w * height - h * width) <= width + height)


def _check_stored(page: tifffile.TiffPage, num_bytes: int) -> None:
    if not page.is_tiled:
        raise UnreadableError("is not a slide but a TIFF without tiles: classify it as an image")
    check_kind(page)
    if page.samplesperpixel > 4:
        raise UnreadableError(f"has {page.samplesperpixel} channels, and slides are read in colour: export it as RGB")
    if page.dtype != np.uint8 or page.bitspersample != 8:
        raise UnreadableError(
            f"stores {page.bitspersample} bits a sample, and slides are read with 8: export it as RGB of 8 bits"
        )
    if page.tilewidth * page.tilelength > _MAX_TILE_PX:
        raise UnreadableError(f"has tiles of {page.tilewidth} x {page.tilelength} pixels, too large to be read singly")
    ends = np.add(np.asarray(page.dataoffsets, np.int64), np.asarray(page.databytecounts, np.int64))
    if len(ends) < math.prod(page.chunked) or ends.max() > num_bytes:
        raise UnreadableError("is truncated")


def _check_alone(file: tifffile.TiffFile, first: tifffile.TiffPage) -> None:
    """Refuse channels in pages of their own: one of them alone would be taken for the picture."""
    size = (first.imagewidth, first.imagelength)
    same = [page for page in islice(file.pages, _MAX_PAGES) if (page.imagewidth, page.imagelength) == size]
    if len(same) > 1:
        raise UnreadableError(
            f"holds {len(same)} grey pages of full size, and which channel to show is a choice: export it as RGB"
        )


def _by_libtiff(encoded: bytes, page: tifffile.TiffPage) -> NDArray[Any]:
    """Decode one tile as the only tile of a TIFF in memory: libtiff withstands damaged data (see `tiff.py`)."""
    num_samples = page.samplesperpixel if page.planarconfig == 1 else 1
    shape = (page.tilelength, page.tilewidth, *([num_samples] if num_samples > 1 else []))
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(
            iter([encoded]),
            shape=shape,
            dtype=page.dtype,
            tile=shape[:2],
            photometric=page.photometric if page.planarconfig == 1 else "minisblack",
            extrasamples=page.extrasamples if page.planarconfig == 1 else (),
            compression=page.compression,
            predictor=page.predictor,
            metadata=None,
        )
    return np.asarray(imagecodecs.tiff_decode(buffer.getvalue())).reshape(*shape[:2], -1)


def _parts(start: int, length: int, tile: int) -> Iterator[tuple[int, slice, slice]]:
    """Which tiles an interval touches: number, where in the tile, and where in the interval."""
    end = start + length
    for number in range(start // tile, (end - 1) // tile + 1):
        first, last = max(start, number * tile), min(end, (number + 1) * tile)
        yield number, slice(first - number * tile, last - number * tile), slice(first - start, last - start)


def _um_per_px(file: tifffile.TiffFile, page: tifffile.TiffPage) -> float | None:
    """Microns per pixel as OME-XML, Aperio or the resolution tags say, in this order."""
    if file.is_ome:
        return mean_um(_ome_um(file.ome_metadata or "", axis) for axis in "XY")
    if file.is_svs:
        found = re.search(r"\bMPP\s*=\s*([\d.]+)", page.description)
        return mean_um([float(found[1])] if found else [])
    unit = _UM_PER_RESOLUTION_UNIT.get(int(page.tags.valueof("ResolutionUnit", 1)))
    return mean_um(_um_of(page.tags.valueof(name), unit) for name in ("XResolution", "YResolution"))


def _ome_um(xml: str, axis: str) -> float | None:
    size = re.search(rf'\bPhysicalSize{axis}="([^"]+)"', xml)
    unit = re.search(rf'\bPhysicalSize{axis}Unit="([^"]+)"', xml)
    factor = _UM.get(unit[1] if unit else "µm")
    return float(size[1]) * factor if size and factor else None


def _um_of(resolution: tuple[int, int] | None, unit: float | None) -> float | None:
    """Microns per pixel of pixels per unit, a fraction; None where either is missing."""
    if resolution is None or unit is None or 0 in resolution:
        return None
    numerator, denominator = resolution
    return unit * denominator / numerator
