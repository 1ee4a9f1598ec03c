"""Files of many frames: volumes and multi-frame DICOM, one frame decoded at a time.

DICOM and NIfTI come with the extra `medical`, hence the imports inside: without it every other format is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from microscopy_cls.config.schema import Intensity
from microscopy_cls.errors import ImageError
from microscopy_cls.images.channels import check_channels, chosen
from microscopy_cls.images.decoded import Decoded, UnreadableError
from microscopy_cls.images.intensity import check_intensity
from microscopy_cls.images.quiet import muted_logs, muted_warnings
from microscopy_cls.images.reasons import explained
from microscopy_cls.images.source import HEAD_SIZE, file_format, read_bytes

if TYPE_CHECKING:
    from microscopy_cls.images.dicom import DicomFile
    from microscopy_cls.images.nifti import NiftiFile

MEDICAL = ("DICOM", "NIFTI")


@dataclass(frozen=True, eq=False)
class Stack:
    """The frames of one file.

    Attributes:
        format: DICOM or NIFTI.
        num_frames: at least 1.
        kind: `volume` for slices of one body, whose intensities are scaled alike; `frames` for pictures in time.
    """

    format: str
    num_frames: int
    kind: Literal["frames", "volume"]
    _read: Callable[[int], Decoded] = field(repr=False)

    def frame(self, index: int) -> Decoded:
        """Decode frame `index`, from 0; of a NIfTI volume the axial slices from the feet.

        Raises:
            ImageError: there is no such frame, or it cannot be decoded.
        """
        return self._read(index)


def is_stack(source: Path | bytes) -> bool:
    """Whether a file is a NIfTI volume or a DICOM file of more than one frame, by its header alone.

    A file that cannot be read is none; reading it says why. Pages of a TIFF are chosen by `page` and no stack.
    """
    try:
        name, head = ("", source) if isinstance(source, bytes) else (source, _head(source))
        kind = file_format(head, name)
    except (OSError, ImageError, UnreadableError, ValueError):
        return False
    if kind != "DICOM":
        return kind == "NIFTI"
    return _num_dicom_frames(source) > 1


def read_stack(
    source: Path | bytes,
    *,
    name: str | Path = "image",
    intensity: Intensity = "percentile",
    channels: tuple[int, ...] | None = None,
    max_pixels: int = 300_000_000,
) -> Stack:
    """Open a DICOM file or a NIfTI volume; the frames are decoded when asked for.

    The file's bytes stay in memory, inflated for a volume; of decoded frames only the one asked for does.

    Args:
        source: a path, or the bytes of a file read before.
        name: what to call `bytes` in errors; its ending helps to recognise DICOM files without a signature.
        intensity: see `decode`.
        channels: see `decode`.
        max_pixels: larger frames are refused, and volumes of more than four times as many voxels.

    Raises:
        ImageError: no stack, or one that cannot be read, for one reason in plain words.
        ConfigError: an intensity or channels that are no rule.
    """
    check_intensity(intensity)
    check_channels(channels)
    data, path = (source, name) if isinstance(source, bytes) else (read_bytes(source), source)
    kind = explained(path, "", data, lambda: file_format(data, path))
    if kind not in MEDICAL:
        raise ImageError(path, f"is a {kind} image and no stack of frames: read it as an image")
    file = explained(path, kind, data, lambda: open_medical(data, kind, intensity, max_pixels))

    def read(index: int) -> Decoded:
        return explained(path, kind, data, lambda: chosen(read_frame(file, index), channels))

    return Stack(kind, file.num_frames, file.kind, read)


def open_medical(data: bytes, kind: str, intensity: Intensity, max_pixels: int) -> DicomFile | NiftiFile:
    """Open the bytes of a DICOM file or a NIfTI volume.

    Raises:
        UnreadableError: the extra `medical` is not installed, or what the reader raises.
    """
    with muted_warnings(), muted_logs():
        try:
            if kind == "DICOM":
                from microscopy_cls.images.dicom import open_dicom

                return open_dicom(data, intensity, max_pixels)
            from microscopy_cls.images.nifti import open_nifti

            return open_nifti(data, intensity, max_pixels)
        except ModuleNotFoundError as error:
            raise UnreadableError(
                f"is a {kind} file, and reading those needs {error.name}: pip install 'microscopy-cls[medical]'"
            ) from error


def read_frame(file: DicomFile | NiftiFile, index: int) -> Decoded:
    """Decode one frame in silence."""
    with muted_warnings(), muted_logs():
        return file.frame(index)


def _head(path: Path) -> bytes:
    if not path.is_file():  # pipes and devices could hang
        raise FileNotFoundError
    with path.open("rb") as file:
        return file.read(HEAD_SIZE)


def _num_dicom_frames(source: Path | bytes) -> int:
    try:
        from microscopy_cls.images.dicom import declared_frames
    except ModuleNotFoundError:
        return 1
    with muted_warnings(), muted_logs():
        return declared_frames(source)
