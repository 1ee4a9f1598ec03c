"""One decoded result for every tool: uint8 (h, w, 3) RGB from any raster file, or one reason why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.config.schema import Intensity
from microscopy_cls.images.channels import check_channels, chosen
from microscopy_cls.images.decoded import Decoded, check_page
from microscopy_cls.images.intensity import check_intensity
from microscopy_cls.images.pillow import read_image_file
from microscopy_cls.images.reasons import explained
from microscopy_cls.images.source import file_format, read_bytes
from microscopy_cls.images.stack import MEDICAL, open_medical, read_frame
from microscopy_cls.images.tiff import read_tiff

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".dcm", ".dib", ".dicom", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".nii", ".nii.gz", ".png", ".tif"}
    | {".tiff", ".webp"}
)
"""Endings, as `ending` gives them, of the files that `decode` can read. The format itself is told by the content."""


def read_image(
    path: str | Path,
    *,
    intensity: Intensity = "percentile",
    page: int = 0,
    max_pixels: int = 300_000_000,
    channels: tuple[int, ...] | None = None,
) -> NDArray[np.uint8]:
    """Pixels of an image file: uint8 (h, w, 3), RGB. See `decode`.

    >>> import microscopy_cls as mc
    >>> pixels = mc.read_image(picture)
    >>> pixels.shape, pixels.dtype.name
    ((20, 30, 3), 'uint8')
    """
    return decode(path, intensity=intensity, page=page, max_pixels=max_pixels, channels=channels).pixels


def decode(
    source: str | Path | bytes,
    *,
    name: str | Path = "image",
    intensity: Intensity = "percentile",
    page: int = 0,
    max_pixels: int = 300_000_000,
    channels: tuple[int, ...] | None = None,
) -> Decoded:
    """Decode a JPEG, PNG, BMP, WebP, GIF (first frame), TIFF, DICOM or NIfTI, recognised by content.

    Grey is repeated, two channels become red and green, transparency is composited on white, palettes and CMYK are
    converted, the camera's orientation is applied. DICOM is shown as the file proposes. A file is decoded whole or not
    at all; nothing of it but pixels and technical facts is kept.

    Args:
        source: a path, or the bytes of a file read before.
        name: what to call `bytes` in errors; its ending helps to recognise DICOM files without a signature.
        intensity: which stored values become 0 and 255 above 8 bits, see `intensity.to_uint8`. In DICOM and NIfTI a
            window is in the values that the file means (HU for CT), `percentile` takes DICOM's own window where there
            is one, and percentiles of a volume are those of all its slices.
        page: from 0: of a TIFF (of a hyperstack, place in depth and time), frame of a DICOM, axial slice of a NIfTI
            counted from the feet; other formats have one page.
        max_pixels: larger images are refused by their header, before memory is taken, and volumes of more than four
            times as many voxels.
        channels: one to three stored channels to show as grey, red and green, or RGB; None takes up to three as they
            are.

    Raises:
        ImageError: no pixels, for one reason in plain words.
        ConfigError: an intensity or channels that are no rule.
    """
    check_intensity(intensity)
    check_channels(channels)
    data, path = (source, name) if isinstance(source, bytes) else (read_bytes(source), source)
    kind = explained(path, "", data, lambda: file_format(data, path))
    return explained(path, kind, data, lambda: _decode(data, kind, intensity, page, max_pixels, channels))


def _decode(
    data: bytes, kind: str, intensity: Intensity, page: int, max_pixels: int, channels: tuple[int, ...] | None
) -> Decoded:
    """Decode by the format's reader."""
    if kind == "TIFF":
        return read_tiff(data, intensity, page, max_pixels, channels)
    if kind in MEDICAL:
        return chosen(read_frame(open_medical(data, kind, intensity, max_pixels), page), channels)
    check_page(page, 1)
    return chosen(read_image_file(data, kind, intensity, max_pixels), channels)
