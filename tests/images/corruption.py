"""One law for every format: whatever is done to a file, it gives pixels or an error with a reason."""

from __future__ import annotations

import zlib

import numpy as np

from microscopy_cls.errors import ImageError
from microscopy_cls.images import decode


def errors_of_corruptions(
    data: bytes, seed: str, num: int, *, header_size: int = 600, name: str = "image"
) -> list[ImageError]:
    """Corrupt a file in `num` ways; returns the errors. Those that are none have given pixels of the size they say."""
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    errors = []
    for _ in range(num):
        try:
            result = decode(corrupted(data, rng, header_size), name=name, max_pixels=1_000_000)
        except ImageError as error:
            errors.append(error)
        else:
            assert result.pixels.shape == (result.height_px, result.width_px, 3)
    assert not [error.reason for error in errors if not error.reason or "Error" in error.reason]
    return errors


def corrupted(data: bytes, rng: np.random.Generator, header_size: int) -> bytes:
    """One of: cut off, a few bytes changed, zeros, the header changed, bytes removed or put in, an extreme number."""
    broken = bytearray(data)
    at = int(rng.integers(len(broken)))
    match rng.integers(6):
        case 0:
            return data[:at]
        case 1:
            for _ in range(rng.integers(1, 6)):
                broken[rng.integers(len(broken))] = rng.integers(256)
        case 2:
            broken[at : at + 100] = bytes(len(broken[at : at + 100]))
        case 3:
            for _ in range(rng.integers(1, 4)):
                broken[rng.integers(min(header_size, len(broken)))] = rng.integers(256)
        case 4:
            broken[at : at + rng.integers(40)] = rng.bytes(rng.integers(40))
        case _:
            broken[at : at + 4] = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f")[rng.integers(3)]
    return bytes(broken)
