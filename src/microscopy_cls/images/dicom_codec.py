"""Samples of one DICOM frame: pydicom's decoders, and imagecodecs where pydicom knows only one under the GPL.

pydicom finds decoders as "plugins": modules with `is_available`, `DECODER_DEPENDENCIES` and a function for one frame.
This module is one, added to decoders of our own: pydicom's stay as they are for everyone else.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import imagecodecs
from numpy.typing import NDArray
from pydicom import Dataset, uid  # noqa: TID251
from pydicom.encaps import get_frame  # noqa: TID251
from pydicom.pixels.decoders.base import Decoder, DecodeRunner, get_decoder  # noqa: TID251

from microscopy_cls.images.decoded import UnreadableError

_BY_IMAGECODECS = (
    uid.JPEGExtended12Bit,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
)
DECODER_DEPENDENCIES = dict.fromkeys(_BY_IMAGECODECS, ("imagecodecs",))
_START_OF_CODESTREAM = b"\xff\x4f\xff\x51"  # JPEG 2000: SOC and SIZ
_JP2 = b"\x00\x00\x00\x0cjP  "  # the first box of a JP2 file, but for its four bytes of content
_END_OF_IMAGE = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike
_NOT_A_SIZE = (0xC4, 0xC8, 0xCC)  # between JPEG's start-of-frame markers: tables, reserved, arithmetic conditioning
_JPEG_LS_SIZE = 0xF7


def is_available(transfer_syntax: str) -> bool:
    """Whether this module decodes a transfer syntax; pydicom asks."""
    return transfer_syntax in _BY_IMAGECODECS


def frame_samples(dataset: Dataset, syntax: uid.UID, index: int) -> tuple[NDArray[Any], str]:
    """Decode one frame.

    Args:
        dataset: with pixel data and the header that describes them, checked.
        syntax: how the pixel data are encoded.
        index: of the frame, from 0, checked.

    Returns:
        Samples (h, w) or (h, w, c), integers or floats as stored (YBR already converted), and their photometric
        interpretation.

    Raises:
        UnreadableError: no decoder for this transfer syntax, a cut-off frame, or one of another size than declared.
        ValueError, RuntimeError, ...: what pydicom and its decoders raise for damaged data.
    """
    decoder = _decoder(syntax)
    if syntax.is_encapsulated:
        _check_frame(_encapsulated(dataset, index), dataset, syntax)
    # pylibjpeg's decoder of run lengths panics on damaged data: it prints, and raises what is no Exception.
    plugin = "pydicom" if syntax == uid.RLELossless else ""
    values, facts = decoder.as_array(dataset, index=index, decoding_plugin=plugin)
    return values, str(facts["photometric_interpretation"])


@cache
def _decoder(syntax: uid.UID) -> Decoder:
    """A decoder whose libraries are there."""
    if syntax in _BY_IMAGECODECS:
        decoder = Decoder(syntax)
        decoder.add_plugin("imagecodecs", (__name__, "decode_frame"))
        return decoder
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise _unsupported(syntax) from None
    if not decoder.is_available:
        raise _unsupported(syntax)
    return decoder


def _unsupported(syntax: uid.UID) -> UnreadableError:
    name = syntax.name if syntax.is_transfer_syntax else "an unknown transfer syntax"
    return UnreadableError(f"is encoded as {name}, which is not supported: save it as Explicit VR Little Endian")


def decode_frame(source: bytes, runner: DecodeRunner) -> bytes:
    """One frame of lossless, JPEG-LS or 12-bit JPEG as its samples' bytes, colours as stored; pydicom calls it."""
    if runner.transfer_syntax in uid.JPEGLSTransferSyntaxes:
        values = imagecodecs.jpegls_decode(source)
    elif runner.samples_per_pixel == 1:
        values = imagecodecs.jpeg8_decode(source)
    else:  # naming both alike keeps the decoder from converting
        values = imagecodecs.jpeg8_decode(source, colorspace="YCBCR", outcolorspace="YCBCR")
    runner.set_option("bits_allocated", values.itemsize * 8)
    runner.set_option("planar_configuration", 0)
    return bytes(values.tobytes())


def _encapsulated(dataset: Dataset, index: int) -> bytes:
    """The compressed bytes of one frame."""
    offsets = None
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    num_frames = int(dataset.get("NumberOfFrames") or 1)
    return get_frame(dataset.PixelData, index, extended_offsets=offsets, number_of_frames=num_frames)


def _check_frame(frame: bytes, dataset: Dataset, syntax: uid.UID) -> None:
    """Refuse a frame that is cut off, or that claims another size than the header whose size was checked."""
    if syntax == uid.RLELossless:
        return
    if frame.rfind(_END_OF_IMAGE) < 0:
        raise UnreadableError("is truncated (the end marker of its frame is missing)")
    declared = (dataset.Columns, dataset.Rows, dataset.SamplesPerPixel)
    if _size(frame) != declared:
        raise UnreadableError("is damaged: its frame has another size than its header says")


def _size(frame: bytes) -> tuple[int, int, int] | None:
    """Width, height and components that a JPEG, JPEG-LS or JPEG 2000 codestream claims; None where it is damaged."""
    if frame[:2] != b"\xff\xd8":
        return _jpeg_2000_size(frame)
    place = 2
    while place + 9 < len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if (0xC0 <= marker <= 0xCF and marker not in _NOT_A_SIZE) or marker == _JPEG_LS_SIZE:
            return _number(frame, place + 7, 2), _number(frame, place + 5, 2), frame[place + 9]
        place += 1 if marker == 0xFF else 2 + max(2, _number(frame, place + 2, 2))
    return None


def _jpeg_2000_size(frame: bytes) -> tuple[int, int, int] | None:
    """The same of a codestream, bare or in the boxes of a JP2 file; pydicom would follow a box of length 0 for ever."""
    place = len(_JP2) + 4 if frame.startswith(_JP2) else 0
    while place and frame[place + 4 : place + 8] != b"jp2c":
        length = _number(frame, place, 4)
        if length < 8:
            return None
        place += length
    start = place + 8 if place else 0
    if frame[start : start + 4] != _START_OF_CODESTREAM:
        return None
    right, lower, left, upper = (_number(frame, start + at, 4) for at in (8, 12, 16, 20))
    return right - left, lower - upper, _number(frame, start + 40, 2)


def _number(data: bytes, place: int, num_bytes: int) -> int:
    return int.from_bytes(data[place : place + num_bytes], "big")
