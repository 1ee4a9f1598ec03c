"""Pixels from any file: uint8 (h, w, 3) RGB, or an `ImageError` with a reason in plain words."""

from microscopy_cls.images.decoded import Decoded
from microscopy_cls.images.raster import IMAGE_SUFFIXES, decode, read_image
from microscopy_cls.images.source import read_bytes
from microscopy_cls.images.square import fit_square

__all__ = ["IMAGE_SUFFIXES", "Decoded", "decode", "fit_square", "read_bytes", "read_image"]
