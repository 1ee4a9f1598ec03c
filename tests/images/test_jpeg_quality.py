"""The quality at which a JPEG was written is read back from it."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image

from microscopy_cls.images import jpeg_quality


def file_of(file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).convert(options.pop("mode", "RGB")).save(
        file, file_format, **options
    )
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_each_quality_is_read_back(mode: str) -> None:
    assert [jpeg_quality(file_of("JPEG", quality=quality, mode=mode)) for quality in range(1, 101)] == list(
        range(1, 101)
    )


def test_tables_of_another_making_give_the_nearest_quality() -> None:
    flat = file_of("JPEG", qtables=[[3] * 64, [3] * 64])
    assert 93 <= jpeg_quality(flat) <= 98
    assert jpeg_quality(file_of("JPEG", qtables=[[200] * 64, [200] * 64])) < 25


@pytest.mark.parametrize(
    "data", [file_of("PNG"), file_of("WEBP"), file_of("TIFF"), b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0"]
)
def test_what_is_no_jpeg_has_no_quality(data: bytes) -> None:
    assert math.isnan(jpeg_quality(data))


def test_a_header_without_tables_has_no_quality() -> None:
    whole = file_of("JPEG", quality=80)
    start = whole.index(b"\xff\xdb")
    end = whole.index(b"\xff\xc0")
    assert math.isnan(jpeg_quality(whole[:start] + whole[end:]))
