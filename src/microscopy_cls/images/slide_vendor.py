"""Slides of scanners' makers, through OpenSlide: the extra `slides`, imported only when a slide is met."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.images.channels import on_white
from microscopy_cls.images.decoded import UnreadableError
from microscopy_cls.images.slide_reader import CACHE_BYTES, levels_of, mean_um


def openslide_library() -> Any:
    """The module `openslide`, or None where it or the library behind it is not installed."""
    try:
        import openslide  # noqa: TID251  the images room's library
    except (ImportError, OSError):  # the second where the shared library does not load
        return None
    return openslide


def vendor_of(path: Path) -> str | None:
    """OpenSlide's name of the maker's format; None for plain TIFFs, for other files, and without OpenSlide."""
    library = openslide_library()
    if library is None:
        return None
    try:
        vendor = library.OpenSlide.detect_format(path)
    except library.OpenSlideError:
        return None
    return None if vendor == "generic-tiff" else vendor


class VendorSlide:
    """A slide that OpenSlide reads. Its handles may be used by several threads at once (OpenSlide's own promise).

    Args:
        path: the file; for some formats one of several.
        vendor: what `vendor_of` says of it.

    Raises:
        UnreadableError: OpenSlide cannot open it.
    """

    def __init__(self, path: Path, vendor: str) -> None:
        library = openslide_library()
        self._error: type[Exception] = library.OpenSlideError
        try:
            self._slide = library.OpenSlide(path)
        except self._error as error:
            raise UnreadableError(f"is truncated or damaged: OpenSlide says {error} ({vendor})") from error
        self._slide.set_cache(library.OpenSlideCache(CACHE_BYTES))
        self.format = vendor
        self.levels = levels_of(self._slide.level_dimensions)
        self.um_per_px = mean_um(_number(self._slide.properties.get(f"openslide.mpp-{axis}")) for axis in "xy")

    def read(self, level: int, x_px: int, y_px: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
        """See `SlideReader.read`. What the scanner left out is white."""
        (width, height), stored = self._slide.dimensions, self.levels[level]
        corner = (round(x_px * width / stored.width_px), round(y_px * height / stored.height_px))
        try:
            rgba = np.asarray(self._slide.read_region(corner, level, (width_px, height_px)))
        except self._error as error:
            raise UnreadableError(f"OpenSlide says {error}") from error
        colours, alpha = np.ascontiguousarray(rgba[..., :3]), rgba[..., 3]
        return colours if alpha.min() == 255 else on_white(colours, alpha, 8)

    def close(self) -> None:
        """Release the file."""
        self._slide.close()


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
