"""How strongly a JPEG was compressed, read from its header: a trace of the software that wrote it."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile

from microscopy_cls.images.quiet import muted_warnings

# ITU-T T.81, table K.1: the luminance table that the IJG library scales by its quality; rows of the 8 x 8 block.
_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip


def jpeg_quality(data: bytes) -> float:
    """The IJG quality, 1 to 100, whose luminance table is nearest to that of a JPEG file.

    Exact for files of libjpeg and what is built on it; for cameras with tables of their own an equivalent.

    Returns:
        NaN where there is no JPEG file or it has no table.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        return float("nan")
    try:
        with muted_warnings():
            tables = JpegImageFile(io.BytesIO(data)).quantization
    except (OSError, SyntaxError, ValueError):
        return float("nan")
    table = tables.get(0)
    if table is None or len(table) != 64:
        return float("nan")
    return float(1 + np.abs(_tables() - np.asarray(table)).sum(axis=1).argmin())


@cache
def _tables() -> NDArray[np.int64]:
    """The tables of qualities 1 to 100, int64 (100, 64); source: jpeg_quality_scaling in libjpeg's jcparam.c."""
    quality = np.arange(1, 101)
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    scaled: NDArray[np.int64] = np.clip((np.array(_LUMINANCE) * percent[:, None] + 50) // 100, 1, 255)
    return scaled
