"""From stored DICOM samples to the grey or colour that a viewer shows. Source: DICOM PS3.3, C.7.6.3, C.11.1, C.11.2."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset  # noqa: TID251
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi  # noqa: TID251

from microscopy_cls.config.schema import Intensity
from microscopy_cls.images.decoded import UnreadableError
from microscopy_cls.images.intensity import to_uint8, type_range


def physical(values: NDArray[Any], dataset: Dataset, index: int) -> NDArray[Any]:
    """Samples of a frame in the modality's units (HU for CT): float64 after a rescale; unchanged where it is none."""
    source = _of_frame(dataset, index, "PixelValueTransformationSequence")
    rescale = (source.get("RescaleSlope"), source.get("RescaleIntercept"))
    if (None in rescale or rescale == (1, 0)) and not source.get("ModalityLUTSequence"):
        return values
    return apply_modality_lut(values, source)


def grey(
    values: NDArray[Any],
    dataset: Dataset,
    index: int,
    proposal: Dataset,
    intensity: Intensity,
    num_bits: int,
    fallback: Intensity,
) -> NDArray[np.uint8]:
    """Monochrome samples (h, w) of a frame as uint8.

    Args:
        values: as stored.
        dataset: the header.
        index: of the frame.
        proposal: see `display_proposal`.
        intensity: `percentile` takes the window or table that the file proposes; `full` the range of the stored bits;
            a window is in the modality's units. Up to 8 bits without a rescale, a window is ignored as everywhere.
        num_bits: significant bits of the stored samples.
        fallback: the rule where the file proposes nothing.
    """
    shown = physical(values, dataset, index)
    if intensity == "full" and values.dtype.kind in "iu":
        ends = physical(np.array(type_range(values, num_bits), np.int64), dataset, index)
        intensity = (float(ends.min()), float(ends.max()))
    elif intensity == "percentile":
        if proposal.get("VOILUTSequence"):
            return _by_table(shown, proposal)
        if window := _window(proposal):
            return _by_window(shown, *window)
        intensity = fallback
    return to_uint8(shown, intensity, num_bits if shown is values else None)


def display_proposal(dataset: Dataset, index: int) -> Dataset:
    """Where the file says how to show a frame, if it does."""
    return _of_frame(dataset, index, "FrameVOILUTSequence")


def proposes_display(proposal: Dataset) -> bool:
    """Whether there is a window or table."""
    return bool(proposal.get("VOILUTSequence")) or _window(proposal) is not None


def colours(
    values: NDArray[Any], dataset: Dataset, photometric: str, intensity: Intensity, num_bits: int
) -> NDArray[np.uint8]:
    """Samples of a colour frame, (h, w, 3) or palette indices (h, w), as uint8 (h, w, 3)."""
    if photometric == "PALETTE COLOR":
        rgb = apply_color_lut(values, dataset)
        small = rgb.astype(np.uint8) if rgb.max() <= 255 else rgb  # some writers fill 16 bits with 8
        return to_uint8(np.asarray(small), "full")
    assert photometric == "RGB", "the decoder has converted all other colours"
    return to_uint8(values, intensity, num_bits)


def _of_frame(dataset: Dataset, index: int, keyword: str) -> Dataset:
    """Where an enhanced file keeps one kind of value: by frame or for all; elsewhere the data set itself."""
    for groups, place in (("PerFrameFunctionalGroupsSequence", index), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups) or []
        found = items[place].get(keyword) if place < len(items) else None
        if found:
            item: Dataset = found[0]
            return item
    return dataset


def _window(source: Dataset) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window that the file proposes; None where there is no usable one."""
    center, width = _first(source.get("WindowCenter")), _first(source.get("WindowWidth"))
    if not (math.isfinite(center) and width > 0 and math.isfinite(width)):
        return None
    return center, width, str(source.get("VOILUTFunction") or "LINEAR")


def _first(value: Any) -> float:
    """A number, or the first of several; NaN where there is none."""
    if value is None or isinstance(value, str | bytes):
        return math.nan
    numbers = value if hasattr(value, "__len__") else [value]
    return float(numbers[0]) if len(numbers) else math.nan


def _by_window(values: NDArray[Any], center: float, width: float, function: str) -> NDArray[np.uint8]:
    """C.11.2.1.2 and .3. Widths up to 1, which LINEAR forbids, are found with values between 0 and 1: taken exactly."""
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return to_uint8(1 / (1 + np.exp(-4 * (values.astype(np.float64) - center) / width)), (0.0, 1.0))
    if function != "LINEAR_EXACT" and width > 1:
        center, width = center - 0.5, width - 1
    wide = values.astype(np.int16) if values.dtype.itemsize == 1 else values  # 8 bits are not scaled elsewhere
    return to_uint8(wide, (center - width / 2, center + width / 2))


def _by_table(values: NDArray[Any], source: Dataset) -> NDArray[np.uint8]:
    """C.11.2.1.1: the table's third descriptor is the number of bits that it gives."""
    indices = values if values.dtype.kind in "iu" else np.rint(values).astype(np.int64)
    num_bits = int(source.VOILUTSequence[0].LUTDescriptor[2])
    if not 1 <= num_bits <= 16:
        raise UnreadableError("is damaged: its display table has an impossible number of bits")
    return to_uint8(np.asarray(apply_voi(indices, source)), "full", num_bits)
