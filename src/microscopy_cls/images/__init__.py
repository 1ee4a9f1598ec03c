"""Pixels from any file: uint8 (h, w, 3) RGB, or an `ImageError` with a reason in plain words."""

from microscopy_cls.images.decoded import Decoded
from microscopy_cls.images.jpeg_quality import jpeg_quality
from microscopy_cls.images.raster import IMAGE_SUFFIXES, decode, read_image
from microscopy_cls.images.source import ending, read_bytes
from microscopy_cls.images.square import fit_square
from microscopy_cls.images.stack import Stack, is_stack, read_stack

__all__ = [
    "IMAGE_SUFFIXES",
    "Decoded",
    "Stack",
    "decode",
    "ending",
    "fit_square",
    "is_stack",
    "jpeg_quality",
    "read_bytes",
    "read_image",
    "read_stack",
]
