"""NIfTI volumes as axial slices, in the convention of radiology.

Whatever axes a file is stored along, a slice is shown with the front of the body (anterior) up and the patient's right
on the left of the picture, as seen from the feet; slice 0 is the lowest (inferior). A file without orientation is taken
as the standard says: its voxel sizes alone, first axis to the left.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from nibabel import Nifti1Header, Nifti2Header  # noqa: TID251
from nibabel.orientations import apply_orientation, io_orientation  # noqa: TID251
from nibabel.spatialimages import HeaderDataError  # noqa: TID251
from numpy.typing import NDArray

from microscopy_cls.config.schema import Intensity
from microscopy_cls.images.channels import three_channels
from microscopy_cls.images.decoded import Decoded, UnreadableError, check_page, check_size, decoded
from microscopy_cls.images.intensity import SAMPLE_SIZE, limits, to_uint8, type_range

_GZIP = b"\x1f\x8b"
_HEADER_SIZE = {1: 348, 2: 540}
_MAX_SLICES_FACTOR = 4  # a volume may hold so many times data.max_pixels: 2000 slices of 768 x 768 by default
_MAX_START = 2**24  # bytes of header and its extensions: gigabytes of these would be a bomb
_DAMAGED = "has a damaged NIfTI header"


@dataclass(frozen=True, eq=False)
class NiftiFile:
    """The first volume of a NIfTI file.

    Attributes:
        values: as stored, (right, anterior, superior): the first axis runs to the patient's right.
        slope: what stored values are multiplied by.
        intercept: what is added then.
        intensity: the rule; percentiles are those of the whole volume, a window is in scaled values.
    """

    values: NDArray[Any] = field(repr=False)
    slope: float
    intercept: float
    intensity: Intensity
    kind: Literal["volume"] = "volume"

    @property
    def num_frames(self) -> int:
        """Axial slices."""
        return int(self.values.shape[2])

    def frame(self, index: int) -> Decoded:
        """One axial slice, from 0 at the feet.

        Raises:
            UnreadableError: no such slice, or no finite value.
        """
        check_page(index, self.num_frames)
        seen = np.ascontiguousarray(self.values[::-1, ::-1, index].T)
        pixels = to_uint8(self._scaled(seen), self._rule)
        return decoded(three_channels(pixels[..., None]), "NIFTI", 1, self.values.itemsize * 8)

    def _scaled(self, values: NDArray[Any]) -> NDArray[Any]:
        if (self.slope, self.intercept) == (1.0, 0.0):
            return values
        with np.errstate(over="ignore", invalid="ignore"):
            return values.astype(np.float64) * self.slope + self.intercept

    @cached_property
    def _rule(self) -> Intensity:
        """The same window for all slices."""
        if not isinstance(self.intensity, str) or (
            self.values.itemsize == 1 and self._scaled(self.values) is self.values
        ):
            return self.intensity
        if self.intensity == "percentile":
            step = max(1, round((self.values.size / SAMPLE_SIZE) ** (1 / 3)))
            return limits(self._scaled(self.values[::step, ::step, ::step]))
        if self.values.dtype.kind == "f":
            return self.intensity
        ends = self._scaled(np.array(type_range(self.values, self.values.itemsize * 8)))
        return float(ends.min()), float(ends.max())


def open_nifti(data: bytes, intensity: Intensity, max_pixels: int) -> NiftiFile:
    """Read the first volume.

    Raises:
        UnreadableError: too large, by the header, before it is inflated; truncated; damaged; or no volume of numbers.
    """
    try:
        return _opened(data, _header(data), intensity, max_pixels)
    except (HeaderDataError, np.linalg.LinAlgError) as error:  # the latter from an orientation that is not finite
        raise UnreadableError(_DAMAGED) from error


def _opened(data: bytes, header: Nifti1Header, intensity: Intensity, max_pixels: int) -> NiftiFile:
    shape, dtype = _shape(header, max_pixels), header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise UnreadableError("holds colours or complex numbers in its voxels, which is not supported: save one number")
    orientation = _orientation(header)
    width_px, height_px = (shape[int(axis)] for axis in np.argsort(orientation[:, 0])[:2])
    check_size(width_px, height_px, max_pixels)
    start = _start(header)
    plain = _inflated(data, start + math.prod(shape) * dtype.itemsize)
    values = np.frombuffer(plain, dtype, math.prod(shape), start).reshape(shape, order="F")
    slope, intercept = header.get_slope_inter()
    return NiftiFile(
        apply_orientation(values, orientation),
        1.0 if slope is None else float(slope),
        0.0 if intercept is None else float(intercept),
        intensity,
    )


def _header(data: bytes) -> Nifti1Header:
    head = _inflated(data, max(_HEADER_SIZE.values()), whole=False)[: max(_HEADER_SIZE.values())]
    kind = Nifti2Header if 540 in (int.from_bytes(head[:4], order) for order in ("little", "big")) else Nifti1Header
    size = _HEADER_SIZE[2 if kind is Nifti2Header else 1]
    if len(head) < size:
        raise UnreadableError("is truncated")
    magic = head[4:8] if kind is Nifti2Header else head[344:348]
    if magic[:2] == b"ni":
        raise UnreadableError("is the header of a pair .hdr and .img: join them as one .nii file")
    return kind.from_fileobj(io.BytesIO(head))


def _shape(header: Nifti1Header, max_pixels: int) -> tuple[int, int, int]:
    """Voxels along the three axes of space."""
    shape = tuple(int(size) for size in header.get_data_shape())
    if len(shape) < 2 or min(shape) < 1:
        raise UnreadableError("is a NIfTI file without a picture: it has fewer than two axes")
    columns, rows, slices = (*shape, 1)[:3]
    if columns * rows * slices > max_pixels * _MAX_SLICES_FACTOR:
        raise UnreadableError(
            f"claims {columns} x {rows} x {slices} voxels, more than {_MAX_SLICES_FACTOR} times the limit of "
            f"{max_pixels:,} (data.max_pixels)"
        )
    return columns, rows, slices


def _orientation(header: Nifti1Header) -> NDArray[np.float64]:
    """By stored axis: the axis of the body that it runs along, and its direction."""
    orientation: NDArray[np.float64] = io_orientation(header.get_best_affine())
    if not np.isfinite(orientation).all():
        raise UnreadableError(f"{_DAMAGED}: it does not say how the patient lay")
    return orientation


def _start(header: Nifti1Header) -> int:
    """Where the voxels begin."""
    start = float(header["vox_offset"])
    if not (math.isfinite(start) and header.sizeof_hdr <= start <= _MAX_START):
        raise UnreadableError(_DAMAGED)
    return int(start)


def _inflated(data: bytes, size: int, *, whole: bool = True) -> bytes:
    """At least the first `size` bytes, decompressed; fewer where there are fewer, unless the `whole` is asked for."""
    plain = _gunzipped(data, size, whole=whole) if data[:2] == _GZIP else data
    if whole and len(plain) < size:
        raise UnreadableError("is truncated")
    return plain


def _gunzipped(data: bytes, size: int, *, whole: bool) -> bytes:
    archive = gzip.GzipFile(fileobj=io.BytesIO(data))
    try:
        plain = archive.read(size)
        if whole:
            archive.read(1)  # at the end of the archive its checksum is compared
    except EOFError:
        raise UnreadableError("is truncated") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableError("is damaged: its gzip data cannot be decompressed") from error
    return plain
