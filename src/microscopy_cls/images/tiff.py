"""TIFF and BigTIFF pages of any depth, and the channels of OME-TIFF and ImageJ hyperstacks.

tifffile reads the headers and, with imagecodecs, the samples; Pillow converts colours (CMYK, YCbCr, LAB). Pillow's own
TIFF reader is not used: above 8 bits it knows few layouts, and its libtiff prints to stderr what it finds wrong.
"""

from __future__ import annotations

import io
import math
import struct
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from microscopy_cls.config.schema import Intensity
from microscopy_cls.images.channels import check_has_channels, on_white, three_channels, unmultiplied
from microscopy_cls.images.decoded import Decoded, UnreadableError, check_page, check_size, decoded, upright
from microscopy_cls.images.hyperstack import channel_pages, check_number
from microscopy_cls.images.intensity import to_uint8
from microscopy_cls.images.pillow import rgb_of
from microscopy_cls.images.quiet import muted_logs

# Photometric interpretations. TIFF 6.0, sections 3 to 6, 16, 21 and 23.
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_PLAIN = (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)  # samples that are what is shown
_PILLOW_MODES = {_CMYK: "CMYK", _YCBCR: "YCbCr", _LAB: "LAB"}
_PREMULTIPLIED, _STRAIGHT = 1, 2  # kinds of extra sample that are alpha
# Compressions: none, fax, LZW, PackBits, JPEG, Deflate (two numbers), JPEG 2000, LZMA, Zstandard, WebP. imagecodecs
# knows more, but a decoder has to withstand damaged data. It wrote those of fax, LZW and PackBits itself, and that of
# LZW (2026.3) can end the process; libtiff, which it brings too, is hardened, and silent there.
BY_LIBTIFF = (2, 3, 4, 5, 32773)
_NOT_COMPRESSED, _JPEG = 1, 7
_COMPRESSIONS = (_NOT_COMPRESSED, *BY_LIBTIFF, _JPEG, 8, 32946, 34712, 34925, 50000, 50001)
# By how much LZW, Deflate and PackBits shrink data at best: a damaged header that claims more would cost gigabytes and
# half a minute.
_MAX_RATIO = {5: 4096, 8: 1032, 32946: 1032, 32773: 64}
_MAX_SAMPLES_FACTOR = 4  # so many times max_pixels: RGB and alpha at the limit
_ORIENTATION_TAG = 274
# Size, bits, compression, photometric interpretation, strips, channels, planes, predictor, palette, tiles, extra
# samples, sample format: whoever misses one of these decodes something else.
_LAYOUT_TAGS = frozenset({256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339})


def read_tiff(
    data: bytes, intensity: Intensity, page: int, max_pixels: int, channels: tuple[int, ...] | None
) -> Decoded:
    """Decode one page, or the channels of one place of a hyperstack.

    Raises:
        UnreadableError: no such page or channel, too large, truncated, too many channels to show without a choice, or
            colours of an unknown kind.
        ValueError, RuntimeError, ...: what tifffile and its codecs raise for a damaged file.
    """
    # A header may name other files as holding channels: they are not opened, and this one's pages stand alone.
    with muted_logs(), tifffile.TiffFile(io.BytesIO(data), _multifile=False) as file:
        pages = channel_pages(file, page)
        if pages is not None:
            return _composite(file, data, pages, intensity, max_pixels, channels)
        directory = _directory(file, data, page)
        _check(file, directory, data, max_pixels)
        values = _samples(directory, data, page)
        num_bits, bit_depth = _bits(directory, values)
        rgb = rgb_of_samples(values, directory, num_bits, intensity, channels)
        return decoded(_upright(rgb, directory), "TIFF", directory.samplesperpixel, bit_depth)


def _composite(
    file: tifffile.TiffFile,
    data: bytes,
    pages: list[int],
    intensity: Intensity,
    max_pixels: int,
    channels: tuple[int, ...] | None,
) -> Decoded:
    """Channels that are pages, each scaled on its own."""
    planes = []
    for channel in check_number(len(pages), channels):
        directory = _directory(file, data, pages[channel])
        _check(file, directory, data, max_pixels)
        values = _samples(directory, data, pages[channel])
        if values.shape[2] != 1:
            raise UnreadableError("is damaged: a channel has channels of its own")
        num_bits, bit_depth = _bits(directory, values)
        planes.append(_upright(to_uint8(values, intensity, num_bits), directory))
    return decoded(three_channels(np.concatenate(planes, axis=2)), "TIFF", len(pages), bit_depth)


def _check(file: tifffile.TiffFile, directory: tifffile.TiffPage, data: bytes, max_pixels: int) -> None:
    """Refuse, from the header alone, what cannot or must not be decoded."""
    _check_tags(file, directory, data)
    _check_layout(directory, max_pixels)
    _check_segments(directory, data)


def _bits(directory: tifffile.TiffPage, values: NDArray[Any]) -> tuple[int, int]:
    """Significant bits of the samples as decoded, and bits as stored."""
    stored = directory.bitspersample  # a tuple where channels differ (RGB 565); such values come rescaled
    return stored if isinstance(stored, int) else values.dtype.itemsize * 8, int(np.max(stored))


def _upright(pixels: NDArray[np.uint8], directory: tifffile.TiffPage) -> NDArray[np.uint8]:
    return upright(pixels, directory.tags.valueof(_ORIENTATION_TAG, 1))


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
    check_size(directory.imagewidth, directory.imagelength, max_pixels)
    if directory.is_tiled:
        check_size(directory.tilewidth, directory.tilelength, max_pixels)
    num_channels = directory.samplesperpixel
    if directory.imagewidth * directory.imagelength * num_channels > max_pixels * _MAX_SAMPLES_FACTOR:
        raise UnreadableError(
            f"claims {directory.imagewidth} x {directory.imagelength} pixels of {num_channels} channels, more samples "
            f"than {_MAX_SAMPLES_FACTOR} times the limit of {max_pixels:,} (data.max_pixels)"
        )
    check_kind(directory)


def check_kind(directory: tifffile.TiffPage) -> None:
    """Refuse, from the header alone, samples that no picture can be made of: volumes and rare kinds."""
    if directory.imagedepth > 1:
        raise UnreadableError(f"is a volume of {directory.imagedepth} slices: save the slice to classify as an image")
    num_channels = directory.samplesperpixel
    photometric = directory.photometric
    if photometric not in (*_PLAIN, _PALETTE, *_PILLOW_MODES) or (num_channels > 4 and photometric not in _PLAIN):
        raise UnreadableError(f"stores colours as {_name(photometric)}, which is not supported: save RGB")
    if directory.compression not in _COMPRESSIONS:
        raise UnreadableError(
            f"is compressed by {_name(directory.compression)}, which is not supported: save it with Deflate or none"
        )


def _name(code: object) -> str:
    """A number of the TIFF standard by its name, where tifffile knows it."""
    return str(getattr(code, "name", code))


def _check_segments(directory: tifffile.TiffPage, data: bytes) -> None:
    """Refuse a page of which a strip or tile is missing or cut off."""
    segments = list(zip(directory.dataoffsets, directory.databytecounts, strict=True))
    is_whole = len(segments) >= math.prod(directory.chunked)
    num_bytes = _segment_bytes(directory)
    least = num_bytes / _MAX_RATIO.get(directory.compression, math.inf)
    for start, size in segments:
        # Some cameras' software writes too large a size where nothing is compressed.
        end = start + (min(size, num_bytes) if directory.compression == _NOT_COMPRESSED else size)
        is_whole &= end <= len(data)
        if not size:  # a segment left out on purpose: it holds the background
            continue
        if directory.compression == _JPEG:  # as for JPEG files: decoders make a missing end grey
            is_whole &= data.rfind(b"\xff\xd9", start, end) >= 0
        if size < least:
            raise UnreadableError("is damaged: claims more pixels than its data can hold")
    if not is_whole:
        raise UnreadableError("is truncated")


def _segment_bytes(directory: tifffile.TiffPage) -> int:
    """Size of a strip or tile once decoded, but for bits that fill up rows."""
    width, length = directory.imagewidth, min(directory.rowsperstrip or math.inf, directory.imagelength)
    if directory.is_tiled:
        width, length = directory.tilewidth, directory.tilelength
    num_samples = directory.samplesperpixel if directory.planarconfig == 1 else 1
    return int(width * length * num_samples * np.max(directory.bitspersample)) // 8


def _samples(directory: tifffile.TiffPage, data: bytes, page: int) -> NDArray[Any]:
    """What is stored, (h, w, c); but colours that the decoder converts are RGB already (`_is_converted`)."""
    if directory.compression in BY_LIBTIFF:
        values = imagecodecs.tiff_decode(data, index=page)
    else:
        values = directory.asarray(maxworkers=1)  # in this thread: log records of others are not muted
    if directory.axes == "SYX" and not _is_converted(directory):
        return np.moveaxis(values, 0, -1)
    return values.reshape(*values.shape[:2], -1)


def _is_converted(directory: tifffile.TiffPage) -> bool:
    """Whether decoding makes RGB of other colours: libtiff always, JPEG and its successors of YCbCr."""
    if directory.compression in BY_LIBTIFF:
        return directory.photometric in (_CMYK, _YCBCR)
    return directory.photometric == _YCBCR and directory.compression in tifffile.TIFF.IMAGE_COMPRESSIONS


def rgb_of_samples(
    values: NDArray[Any],
    directory: tifffile.TiffPage,
    num_bits: int,
    intensity: Intensity,
    channels: tuple[int, ...] | None = None,
) -> NDArray[np.uint8]:
    """Stored samples (h, w, c) as uint8 (h, w, 3)."""
    if channels is not None and directory.photometric in _PLAIN:
        return _separate(values, directory, num_bits, intensity, channels)
    extra = directory.extrasamples[-1] if directory.extrasamples else None
    if values.shape[2] not in (2, 4) or extra not in (_PREMULTIPLIED, _STRAIGHT):
        rgb = _colours(values, directory, num_bits, intensity)
    else:
        colours, alpha = values[..., :-1], values[..., -1]
        if extra == _PREMULTIPLIED:
            colours = unmultiplied(colours, alpha, num_bits)
        rgb = on_white(_colours(colours, directory, num_bits, intensity), alpha, num_bits)
    if channels is None:
        return rgb
    check_has_channels(channels, 3)
    return three_channels(np.ascontiguousarray(rgb[..., list(channels)]))


def _separate(
    values: NDArray[Any],
    directory: tifffile.TiffPage,
    num_bits: int,
    intensity: Intensity,
    channels: tuple[int, ...] | None,
) -> NDArray[np.uint8]:
    """Channels that are no colours, each scaled on its own: dyes differ in brightness."""
    shown = check_number(values.shape[2], channels)
    planes = [to_uint8(values[..., channel], intensity, num_bits) for channel in shown]
    rgb = three_channels(np.stack(planes, axis=2))
    return 255 - rgb if directory.photometric == _WHITE_IS_ZERO else rgb


def _colours(
    values: NDArray[Any], directory: tifffile.TiffPage, num_bits: int, intensity: Intensity
) -> NDArray[np.uint8]:
    """Stored samples (h, w, c) without alpha as uint8 (h, w, 3)."""
    if directory.photometric == _PALETTE:
        return _looked_up(values[..., 0], directory.colormap)
    if directory.photometric in _PILLOW_MODES and not _is_converted(directory):
        samples = to_uint8(values, "full", num_bits)
        mode, size = _PILLOW_MODES[directory.photometric], (values.shape[1], values.shape[0])
        return rgb_of(Image.frombytes(mode, size, samples.tobytes()))
    if values.shape[2] == 4 and directory.photometric == _RGB:
        values = values[..., :3]  # the fourth is declared to be no colour and no alpha
    is_colour = directory.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    if is_colour and values.shape[2] <= 3:
        return three_channels(to_uint8(values, intensity, num_bits))
    return _separate(values, directory, num_bits, intensity, None)


def _looked_up(indices: NDArray[Any], colormap: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Colours (h, w, 3) of palette indices (h, w), by a palette (3, n) of 16 bits, which some writers fill with 8."""
    palette = (colormap >> 8 if colormap.max() > 255 else colormap).astype(np.uint8)
    return np.ascontiguousarray(palette.T[indices])
