"""Images of 8 bits a sample, and 16-bit PNGs, through Pillow: the strict reader.

Pillow refuses a truncated file where others return a picture that is grey from some row on. Its readers are called
by class, not through `Image.open`: only the formats of this room are tried (none that starts another program), the
limit on pixels is ours alone, and Pillow's process-wide `MAX_IMAGE_PIXELS` stays as it is for everyone else.
Colour profiles are not applied.
"""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from microscopy_cls.config.schema import Intensity
from microscopy_cls.images.channels import on_white, three_channels
from microscopy_cls.images.decoded import Decoded, UnreadableError, check_size, decoded, upright
from microscopy_cls.images.intensity import to_uint8
from microscopy_cls.images.quiet import muted_warnings

_READERS: dict[str, type[ImageFile]] = {
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
}
_ORIENTATION_TAG = 0x0112
_ORIENTATION_SOURCES = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the header's colour type; 3 is a palette
_OPENCV_ORDER = {"RGB": [2, 1, 0], "RGBA": [2, 1, 0, 3], "LA": [0, 3]}  # OpenCV's planes, by Pillow's mode
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")


def read_image_file(data: bytes, file_format: str, intensity: Intensity, max_pixels: int) -> Decoded:
    """Decode any format of this room but TIFF; of animations the first frame.

    Raises:
        UnreadableError: too large, a JPEG without an end, or a PNG whose chunks are cut off or fail their checksum.
        OSError, SyntaxError, ValueError: what Pillow and OpenCV raise for a damaged file.
    """
    with muted_warnings():
        image = _READERS[file_format](io.BytesIO(data))
    check_size(*image.size, max_pixels)
    channels, bit_depth = _stored(image, data, file_format)
    if file_format == "JPEG":
        _check_jpeg_end(image, data)
    chunks = _png_chunks(data) if file_format == "PNG" else []
    if chunks and bit_depth == 16:
        pixels = _read_deep_png(image, chunks, intensity)
    elif file_format == "JPEG" and image.mode == "RGB":
        # Pillow's pixels to the bit in two thirds of its time; a missing end, which it would fill, is refused above.
        pixels = imagecodecs.jpeg8_decode(data)
    else:
        pixels = rgb_of(image)
    return decoded(upright(pixels, _orientation(image)), file_format, channels, bit_depth)


def _check_jpeg_end(image: ImageFile, data: bytes) -> None:
    """Refuse a JPEG without an end marker: decoders turn a tail of zeros (an interrupted copy) into grey."""
    start = image.fp.tell() if image.fp else 0
    if data.rfind(b"\xff\xd9", start) < 0:
        raise UnreadableError("is truncated (its end marker is missing)")


def _stored(image: ImageFile, data: bytes, file_format: str) -> tuple[int, int]:
    """Channels and bits a channel as stored in the file."""
    num_bands = len(image.getbands())
    if file_format == "PNG":
        return _PNG_CHANNELS[data[25]], data[24]
    if file_format == "BMP":
        offset = 24 if data[14] == 12 else 28
        bits_per_pixel = int.from_bytes(data[offset : offset + 2], "little")
        return num_bands, bits_per_pixel if bits_per_pixel <= 8 else 5 if bits_per_pixel == 16 else 8
    return num_bands, 8


def _orientation(image: ImageFile) -> int:
    """How the camera was held (1 to 8, 1 is upright). Unreadable metadata do not make an image unreadable."""
    if _ORIENTATION_SOURCES.isdisjoint(image.info):
        return 1
    try:
        with muted_warnings():
            value = image.getexif().get(_ORIENTATION_TAG, 1)
    except (ArithmeticError, AttributeError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error):
        return 1
    return value if isinstance(value, int) else 1


def rgb_of(image: Image.Image) -> NDArray[np.uint8]:
    """A Pillow image of 8 bits a sample as uint8 (h, w, 3)."""
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return on_white(rgba[..., :3], rgba[..., 3], num_bits=8)
    if image.mode == "LAB":
        return np.array(ImageCms.applyTransform(image, _lab_to_srgb()))
    if image.mode == "L":  # OpenCV repeats grey several times faster
        return three_channels(np.asarray(image)[..., None])
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


@cache
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def _read_deep_png(image: ImageFile, chunks: list[memoryview], intensity: Intensity) -> NDArray[np.uint8]:
    """A PNG of 16 bits a sample as uint8 (h, w, 3).

    Pillow keeps only the high byte of colours, so that OpenCV reads those. Pillow decodes the file first all the same
    and OpenCV gets no optional chunks: Pillow is strict and silent, OpenCV prints what it finds wrong to stderr.
    """
    image.load()
    if image.mode in ("I", "I;16"):  # grey; I before Pillow 11
        values = np.asarray(image).astype(np.uint16, copy=False)[..., None]
    else:
        plain = b"".join([_PNG_SIGNATURE, *chunks])
        stored = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_UNCHANGED)
        values = np.asarray(stored)[..., _OPENCV_ORDER[image.mode]]
    colours, alpha = (values[..., :-1], values[..., -1]) if image.mode in ("LA", "RGBA") else (values, None)
    transparent = image.info.get("transparency")  # one colour that stands for nothing
    if transparent is not None:
        alpha = (colours != np.asarray(transparent)).any(axis=2).astype(np.uint16) * 65535
    rgb = three_channels(to_uint8(colours, intensity))
    return rgb if alpha is None else on_white(rgb, alpha, num_bits=16)


def _png_chunks(data: bytes) -> list[memoryview]:
    """The chunks that pixels depend on, each checked: Pillow and its zlib pass over the checksums of pixel data.

    Costs about a twentieth of decoding.
    """
    view, chunks, kind, end = memoryview(data), [], b"", len(_PNG_SIGNATURE)
    while kind != b"IEND":
        start = end
        if start + 12 > len(data):
            raise UnreadableError("is truncated")
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if end > len(data):
            raise UnreadableError("is truncated")
        if kind in _PNG_CRITICAL:
            if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
                raise UnreadableError("is damaged: a checksum does not match its data")
            chunks.append(view[start:end])
    return chunks
