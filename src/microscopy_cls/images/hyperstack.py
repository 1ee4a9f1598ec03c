"""OME-TIFF and ImageJ hyperstacks: which pages of a TIFF are the channels of one picture."""

from __future__ import annotations

import tifffile

from microscopy_cls.images.channels import check_has_channels
from microscopy_cls.images.decoded import UnreadableError, check_page

_PLANE = {"Y", "X"}


def channel_pages(file: tifffile.TiffFile, page: int) -> list[int] | None:
    """Numbers of the pages that hold the channels of one place in depth and time, in the order of the channels.

    Args:
        file: opened so that other files which its OME header names are left alone.
        page: the place, counted through depth and time in the order of storage.

    Returns:
        None where the file's pages are no separate channels: then each page is a picture.

    Raises:
        UnreadableError: no such place, or its pages are missing.
    """
    series = _series(file)
    if series is None:
        return None
    axes = series.axes[: len(series.axes) - 2]
    shape = series.shape[: len(axes)]
    channel_axis = axes.index("C")
    places = [index for index, axis in enumerate(axes) if axis != "C"]
    strides = [_product(shape[index + 1 :]) for index in range(len(axes))]
    check_page(page, _product(tuple(shape[index] for index in places)))
    first = 0
    for index in reversed(places):
        page, at = divmod(page, shape[index])
        first += at * strides[index]
    numbers = [first + channel * strides[channel_axis] for channel in range(shape[channel_axis])]
    return [_index_of(series, number) for number in numbers]


def check_number(num_channels: int, channels: tuple[int, ...] | None) -> tuple[int, ...]:
    """The channels to show: those chosen, or up to three as they are.

    Raises:
        UnreadableError: a channel that is not there, or more than three and no choice.
    """
    if channels is not None:
        check_has_channels(channels, num_channels)
        return channels
    if num_channels > 3:
        raise UnreadableError(
            f"has {num_channels} channels, and which of them to show is a choice: set data.channels to one, two, or "
            "three of them (counted from 0), or save one, two, or three as RGB"
        )
    return tuple(range(num_channels))


def _series(file: tifffile.TiffFile) -> tifffile.TiffPageSeries | None:
    """The file's first image, if it is a hyperstack whose channels are grey pages."""
    try:
        first = file.pages.first  # the pages behind it are not looked at unless it is one of these
    except IndexError:
        return None
    if not (first.is_ome or first.is_imagej):
        return None
    series = file.series[0] if file.series else None
    if series is None or series.kind not in ("ome", "imagej") or "C" not in series.axes:
        return None
    return series if set(series.axes[-2:]) == _PLANE and "S" not in series.axes else None


def _index_of(series: tifffile.TiffPageSeries, number: int) -> int:
    """Where in the file a plane of the series lies."""
    page = series.pages[number] if number < len(series.pages) else None
    if page is None or not isinstance(page.index, int):
        raise UnreadableError("lacks pages of its channels: they lie in other files, or it is truncated")
    return page.index


def _product(sizes: tuple[int, ...]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product
