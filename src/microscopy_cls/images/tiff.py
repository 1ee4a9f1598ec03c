"""TIFF and BigTIFF pages of any depth and up to four channels.

tifffile and imagecodecs read the samples, Pillow converts colours (CMYK, YCbCr, LAB). Pillow's own TIFF reader is not
used: above 8 bits it knows few layouts, and its libtiff prints to stderr what it finds wrong with a file.
"""

from __future__ import annotations

import io
import math
import struct
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from microscopy_cls.config.schema import Intensity
from microscopy_cls.images.channels import on_white, three_channels, unmultiplied
from microscopy_cls.images.decoded import Decoded, UnreadableError, check_page, check_size, decoded, upright
from microscopy_cls.images.intensity import to_uint8
from microscopy_cls.images.pillow import rgb_of
from microscopy_cls.images.quiet import muted_logs

# Photometric interpretations. TIFF 6.0, sections 3 to 6, 16, 21 and 23.
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_PILLOW_MODES = {5: "CMYK", _YCBCR: "YCbCr", 8: "LAB"}
_PREMULTIPLIED, _STRAIGHT = 1, 2  # kinds of extra sample that are alpha
_JPEG = 7  # compression
_ORIENTATION_TAG = 274
# Size, bits, compression, photometric interpretation, strips, channels, planes, predictor, palette, tiles, extra
# samples, sample format: whoever misses one of these decodes something else.
_LAYOUT_TAGS = frozenset({256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339})


def read_tiff(data: bytes, intensity: Intensity, page: int, max_pixels: int) -> Decoded:
    """Decode one page.

    Raises:
        UnreadableError: no such page, too large, truncated, too many channels, or colours of an unknown kind.
        ValueError, RuntimeError, ...: what tifffile and its codecs raise for a damaged file.
    """
    with muted_logs(), tifffile.TiffFile(io.BytesIO(data)) as file:
        directory = _directory(file, data, page)
        _check_tags(file, directory, data)
        _check_layout(directory, max_pixels)
        _check_segments(directory, data)
        values = directory.asarray(maxworkers=1)  # in this thread: log records of others are not muted
        values = np.moveaxis(values, 0, -1) if directory.axes == "SYX" else values.reshape(*values.shape[:2], -1)
        stored_bits = directory.bitspersample  # a tuple where channels differ (RGB 565); such values come rescaled
        num_bits = stored_bits if isinstance(stored_bits, int) else values.dtype.itemsize * 8
        pixels = upright(_rgb(values, directory, num_bits, intensity), directory.tags.valueof(_ORIENTATION_TAG, 1))
        return decoded(pixels, "TIFF", directory.samplesperpixel, int(np.max(stored_bits)))


def _directory(file: tifffile.TiffFile, data: bytes, page: int) -> tifffile.TiffPage:
    """The header of a page. Those behind it are not looked at."""
    try:
        if page >= 0:
            return file.pages[page].aspage()
    except IndexError:
        pass
    num_pages = len(file.pages)
    if num_pages == 0:
        start, size = (8, 8) if file.is_bigtiff else (4, 4)
        offset = int.from_bytes(data[start : start + size], "little" if data[:1] == b"I" else "big")
        raise UnreadableError("is truncated" if offset >= len(data) else "is a TIFF that holds no image")
    check_page(page, num_pages)
    raise UnreadableError(f"page {page} is damaged")


def _check_tags(file: tifffile.TiffFile, directory: tifffile.TiffPage, data: bytes) -> None:
    """Refuse a page whose layout is not fully known: tifffile passes over tags that it cannot read."""
    form = file.tiff
    (num_tags,) = struct.unpack_from(form.tagnoformat, data, directory.offset)
    starts = (directory.offset + form.tagnosize + index * form.tagsize for index in range(num_tags))
    codes = {struct.unpack_from(f"{form.byteorder}H", data, start)[0] for start in starts}
    if not (codes & _LAYOUT_TAGS) <= set(directory.tags.keys()):
        raise UnreadableError("is truncated or damaged: its header is incomplete")


def _check_layout(directory: tifffile.TiffPage, max_pixels: int) -> None:
    """Refuse, from the header alone, what cannot or must not be decoded."""
    check_size(directory.imagewidth, directory.imagelength, max_pixels)
    if directory.is_tiled:
        check_size(directory.tilewidth, directory.tilelength, max_pixels)
    if directory.imagedepth > 1:
        raise UnreadableError(f"is a volume of {directory.imagedepth} slices: save the slice to classify as an image")
    if directory.samplesperpixel > 4:
        raise _too_many_channels(directory.samplesperpixel)
    if directory.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, *_PILLOW_MODES):
        name = getattr(directory.photometric, "name", directory.photometric)
        raise UnreadableError(f"stores colours as {name}, which is not supported: save it as RGB")


def _check_segments(directory: tifffile.TiffPage, data: bytes) -> None:
    """Refuse a page of which a strip or tile is missing or cut off."""
    segments = list(zip(directory.dataoffsets, directory.databytecounts, strict=True))
    is_whole = len(segments) >= math.prod(directory.chunked)
    for start, size in segments:
        end = start + size
        is_whole &= end <= len(data)
        if size and directory.compression == _JPEG:  # as for JPEG files: decoders make a missing end grey
            is_whole &= data.rfind(b"\xff\xd9", start, end) >= 0
    if not is_whole:
        raise UnreadableError("is truncated")


def _too_many_channels(num_channels: int) -> UnreadableError:
    return UnreadableError(
        f"has {num_channels} channels, and which of them to show is a choice: save one, two, or three as RGB"
    )


def _rgb(values: NDArray[Any], directory: tifffile.TiffPage, num_bits: int, intensity: Intensity) -> NDArray[np.uint8]:
    """Stored samples (h, w, c) as uint8 (h, w, 3)."""
    extra = directory.extrasamples[-1] if directory.extrasamples else None
    if values.shape[2] not in (2, 4) or extra not in (_PREMULTIPLIED, _STRAIGHT):
        return _colours(values, directory, num_bits, intensity)
    colours, alpha = values[..., :-1], values[..., -1]
    if extra == _PREMULTIPLIED:
        colours = unmultiplied(colours, alpha, num_bits)
    return on_white(_colours(colours, directory, num_bits, intensity), alpha, num_bits)


def _colours(
    values: NDArray[Any], directory: tifffile.TiffPage, num_bits: int, intensity: Intensity
) -> NDArray[np.uint8]:
    """Stored samples (h, w, c) without alpha as uint8 (h, w, 3)."""
    if directory.photometric == _PALETTE:
        return _looked_up(values[..., 0], directory.colormap)
    # JPEG and its successors convert YCbCr while they decode.
    is_rgb_already = directory.photometric == _YCBCR and directory.compression in tifffile.TIFF.IMAGE_COMPRESSIONS
    if directory.photometric in _PILLOW_MODES and not is_rgb_already:
        samples = to_uint8(values, "full", num_bits)
        mode, size = _PILLOW_MODES[directory.photometric], (values.shape[1], values.shape[0])
        return rgb_of(Image.frombytes(mode, size, samples.tobytes()))
    if values.shape[2] == 4:
        if directory.photometric != _RGB:
            raise _too_many_channels(4)
        values = values[..., :3]  # the fourth is declared to be no colour and no alpha
    rgb = three_channels(to_uint8(values, intensity, num_bits))
    return 255 - rgb if directory.photometric == _WHITE_IS_ZERO else rgb


def _looked_up(indices: NDArray[Any], colormap: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Colours (h, w, 3) of palette indices (h, w), by a palette (3, n) of 16 bits, which some writers fill with 8."""
    palette = (colormap >> 8 if colormap.max() > 255 else colormap).astype(np.uint8)
    return np.ascontiguousarray(palette.T[indices])
