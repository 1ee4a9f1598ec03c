"""DICOM: one frame at a time, shown as the file proposes. Nothing but pixels and technical facts leaves this module.

Reasons quote no values of the file but names that the standard defines: a damaged header can put the patient's name
anywhere.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, uid  # noqa: TID251
from pydicom.errors import BytesLengthException, InvalidDicomError  # noqa: TID251

from microscopy_cls.config.schema import Intensity
from microscopy_cls.images.channels import three_channels
from microscopy_cls.images.decoded import Decoded, UnreadableError, check_page, check_size, decoded
from microscopy_cls.images.dicom_codec import frame_samples
from microscopy_cls.images.dicom_display import colours, display_proposal, grey, physical, proposes_display
from microscopy_cls.images.intensity import SAMPLE_SIZE, limits
from microscopy_cls.images.reasons import DECODER_ERRORS

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_VOLUMES = frozenset(
    {
        uid.BreastTomosynthesisImageStorage,
        uid.EnhancedCTImageStorage,
        uid.EnhancedMRImageStorage,
        uid.EnhancedPETImageStorage,
        uid.LegacyConvertedEnhancedCTImageStorage,
        uid.LegacyConvertedEnhancedMRImageStorage,
        uid.LegacyConvertedEnhancedPETImageStorage,
        uid.RTDoseStorage,
        uid.XRay3DAngiographicImageStorage,
        uid.XRay3DCraniofacialImageStorage,
    }
)
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_OTHER_COLOURS = ("ARGB", "CMYK", "HSV", "YBR_PARTIAL_420", "YBR_PARTIAL_422")
_DEFLATED = uid.DeflatedExplicitVRLittleEndian.encode()
_META_SIZE = 1024  # the transfer syntax stands within so many bytes
_MAX_HEADER = 2**30  # bytes inflated to count frames
_META_GROUP = slice(132, 144)  # the element that says how long the file's own header is
_BYTES_PER_PIXEL = 16  # the most that a sample-rich pixel takes, for the limit on what is inflated


@dataclass(frozen=True, eq=False)
class DicomFile:
    """A readable DICOM image.

    Attributes:
        dataset: the header, and the pixel data as stored.
        syntax: how these are encoded.
        intensity: the rule of `dicom_display.grey`.
        num_frames: at least 1.
        num_channels: samples a pixel.
        bit_depth: significant bits a sample.
    """

    dataset: Dataset = field(repr=False)
    syntax: uid.UID
    intensity: Intensity
    num_frames: int
    num_channels: int
    bit_depth: int

    @property
    def kind(self) -> Literal["frames", "volume"]:
        """Whether frames are slices of one body or pictures in time."""
        return "volume" if self.dataset.get("SOPClassUID") in _VOLUMES else "frames"

    def frame(self, index: int) -> Decoded:
        """Decode one frame, from 0.

        Raises:
            UnreadableError: no such frame, truncated, or encoded in a way that is not supported.
            ValueError, RuntimeError, ...: what pydicom and its decoders raise for damaged data.
        """
        check_page(index, self.num_frames)
        with _known_errors():
            return decoded(self._pixels(index), "DICOM", self.num_channels, self.bit_depth)

    def _pixels(self, index: int) -> NDArray[np.uint8]:
        values, photometric = frame_samples(self.dataset, self.syntax, index)
        if photometric not in _GREY:
            return colours(values, self.dataset, photometric, self.intensity, self.bit_depth)
        # A volume's frames share one window: the first frame's.
        proposal = display_proposal(self.dataset, 0 if self.kind == "volume" else index)
        shown = grey(values, self.dataset, index, proposal, self.intensity, self.bit_depth, self._fallback)
        shown = 255 - shown if photometric == "MONOCHROME1" else shown
        return three_channels(shown[..., None])

    @cached_property
    def _fallback(self) -> Intensity:
        """What `percentile` means where the file proposes nothing: for a volume, one window for all frames.

        That costs decoding every frame once.
        """
        is_alone = self.kind == "frames" or proposes_display(display_proposal(self.dataset, 0))
        if self.intensity != "percentile" or is_alone or self.bit_depth <= 8:
            return "percentile"
        step = max(1, round((self.num_frames * self.dataset.Rows * self.dataset.Columns / SAMPLE_SIZE) ** 0.5))
        frames = range(self.num_frames)
        parts = [frame_samples(self.dataset, self.syntax, index)[0][::step, ::step] for index in frames]
        return limits(
            np.stack([physical(part, self.dataset, index) for index, part in zip(frames, parts, strict=True)])
        )


def open_dicom(data: bytes, intensity: Intensity, max_pixels: int) -> DicomFile:
    """Read the header and check that it describes an image; pixels are not decoded yet.

    Raises:
        UnreadableError: no image, a slide, too large, truncated, or an incomplete header.
        ValueError, TypeError, ...: what pydicom raises for a damaged header.
    """
    with _known_errors():
        return _opened(_dataset(data, max_pixels), intensity, max_pixels)


def _opened(dataset: Dataset, intensity: Intensity, max_pixels: int) -> DicomFile:
    _check_is_image(dataset)
    _check_colours(dataset)
    check_size(_number(dataset, "Columns"), _number(dataset, "Rows"), max_pixels)
    bit_depth = _number(dataset, "BitsAllocated")
    if "PixelData" in dataset:
        bit_depth = min(bit_depth, _number(dataset, "BitsStored", bit_depth))
    num_frames = _number(dataset, "NumberOfFrames", 1)
    num_channels = _number(dataset, "SamplesPerPixel")
    if num_channels not in (1, 3):
        raise UnreadableError("is a DICOM file of neither 1 nor 3 samples a pixel, which is not supported: save RGB")
    file = DicomFile(dataset, _syntax(dataset), intensity, num_frames, num_channels, bit_depth)
    _check_length(file)
    return file


def declared_frames(source: Path | bytes) -> int:
    """The number of frames that a header claims, pixels unread; 1 where there is none or it cannot be read."""
    try:
        with _known_errors(), io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            if _DEFLATED in file.read(_META_SIZE):
                file.seek(0)
                _check_inflated_size(file.read(), _MAX_HEADER)
            file.seek(0)
            dataset = dcmread(file, stop_before_pixels=True, force=True, specific_tags=["NumberOfFrames"])
            return int(dataset.get("NumberOfFrames") or 1)
    except DECODER_ERRORS:
        return 1


@contextmanager
def _known_errors() -> Iterator[None]:
    """Errors of pydicom's own kind as ValueErrors, without their words."""
    try:
        yield
    except (BytesLengthException, InvalidDicomError):
        raise ValueError from None


def _dataset(data: bytes, max_pixels: int) -> Dataset:
    if _DEFLATED in data[:_META_SIZE]:
        _check_inflated_size(data, max_pixels * _BYTES_PER_PIXEL)
    return dcmread(io.BytesIO(data), force=True)


def _check_inflated_size(data: bytes, limit: int) -> None:
    """Refuse a deflated data set that would fill the memory: pydicom inflates it whole."""
    start = _META_GROUP.stop + int.from_bytes(data[_META_GROUP][8:12], "little")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    rest, size = data[start:], 0
    while rest and size <= limit:
        size += len(inflater.decompress(rest, 2**24))
        rest = inflater.unconsumed_tail
    if size > limit:
        raise UnreadableError("inflates to more than the limit on pixels allows (data.max_pixels)")


def _check_is_image(dataset: Dataset) -> None:
    name = _class_name(dataset)
    if dataset.get("SOPClassUID") == uid.VLWholeSlideMicroscopyImageStorage:
        raise UnreadableError(f"is a slide ({name}), not one image: classify it as a slide")
    if any(keyword in dataset for keyword in _PIXELS):
        return
    if "Rows" in dataset or name.endswith("Image Storage"):
        raise UnreadableError("is truncated: its header describes an image, but the pixel data are missing")
    if len(dataset) == 0:  # pydicom gives up the whole data set where compressed pixels are cut off
        raise UnreadableError("is truncated: its DICOM data set ends early")
    if not name:
        raise UnreadableError("is damaged or no image: its DICOM header does not say what it describes")
    raise UnreadableError(f"is a DICOM file without an image ({name})")


def _check_colours(dataset: Dataset) -> None:
    stated = dataset.get("PhotometricInterpretation")
    if stated is None:
        raise UnreadableError("has an incomplete DICOM header: PhotometricInterpretation is missing")
    if stated not in (*_GREY, *_COLOURS):
        name = stated if stated in _OTHER_COLOURS else "an unknown model"
        raise UnreadableError(f"stores colours as {name}, which is not supported: save RGB")


def _class_name(dataset: Dataset) -> str:
    """What kind of object a data set is, in the standard's words and not the file's; empty where it does not say."""
    if "DirectoryRecordSequence" in dataset:
        return "a directory of other files, DICOMDIR"
    stated = uid.UID(str(dataset.get("SOPClassUID") or ""))
    if not stated:
        return ""
    return stated.name if stated.type == "SOP Class" else "an unknown kind of object"


def _number(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    """A positive integer of the header."""
    value = dataset.get(keyword)
    if value is None:
        if default is None:
            raise UnreadableError(f"has an incomplete DICOM header: {keyword} is missing")
        return default
    number = int(value)
    if number <= 0:
        raise UnreadableError(f"has a damaged DICOM header: {keyword} is not positive")
    return number


def _syntax(dataset: Dataset) -> uid.UID:
    """How the pixel data are encoded; where the file does not say, as its header was."""
    named = dataset.file_meta.get("TransferSyntaxUID")
    if named:
        return uid.UID(named)
    is_implicit, is_little_endian = dataset.original_encoding
    if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
        raise UnreadableError("is compressed, but does not say how (its transfer syntax is missing)")
    if is_implicit:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if is_little_endian else uid.ExplicitVRBigEndian


def _check_length(file: DicomFile) -> None:
    """Refuse pixel data that are not compressed and shorter than the header says."""
    dataset = file.dataset
    if "PixelData" not in dataset or not file.syntax.is_transfer_syntax or file.syntax.is_encapsulated:
        return
    num_samples = dataset.Rows * dataset.Columns * file.num_channels * file.num_frames
    if dataset.get("PhotometricInterpretation") == "YBR_FULL_422":  # two pixels share their colours
        num_samples = num_samples * 2 // 3
    if len(dataset.PixelData) < num_samples * _number(dataset, "BitsAllocated") // 8:
        raise UnreadableError("is truncated: holds fewer pixels than its header says")
