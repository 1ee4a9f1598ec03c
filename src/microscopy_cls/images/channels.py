"""Stored channels as RGB: grey repeated, two channels named, transparency on white."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from microscopy_cls.errors import ConfigError
from microscopy_cls.images.decoded import Decoded, UnreadableError
from microscopy_cls.images.intensity import to_uint8


def check_channels(channels: tuple[int, ...] | None) -> None:
    """Raise ConfigError for a choice of channels that no image can be shown by."""
    if channels is not None and not (1 <= len(channels) <= 3 and min(channels) >= 0):
        raise ConfigError(f"data.channels is {list(channels)}: give one to three channel numbers, counted from 0")


def check_has_channels(channels: tuple[int, ...], num_channels: int) -> None:
    """Refuse a choice of channels that the file does not have."""
    if max(channels) >= num_channels:
        has = "1 channel" if num_channels == 1 else f"{num_channels} channels"
        raise UnreadableError(f"channel {max(channels)} asked, has {has} (counted from 0; data.channels)")


def chosen(image: Decoded, channels: tuple[int, ...] | None) -> Decoded:
    """The image shown by some of its colours: red, green and blue are its channels 0 to 2; grey has only 0."""
    if channels is None:
        return image
    is_grey = bool((image.pixels == image.pixels[..., :1]).all())
    check_has_channels(channels, 1 if is_grey and image.channels < 3 else 3)
    return replace(image, pixels=three_channels(np.ascontiguousarray(image.pixels[..., list(channels)])))


def three_channels(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Red, green and blue (h, w, 3) of one to three channels (h, w, c).

    One channel is grey. Two are red and green, as two fluorescence channels are usually shown; blue is 0.
    """
    num_channels = values.shape[2]
    if num_channels == 3:
        return values
    planes = [np.ascontiguousarray(values[..., index]) for index in range(num_channels)]
    planes = planes * 3 if num_channels == 1 else [*planes, np.zeros_like(planes[0])]
    return np.asarray(cv2.merge(planes))


def on_white(rgb: NDArray[np.uint8], alpha: NDArray[Any], num_bits: int) -> NDArray[np.uint8]:
    """Composite colours (h, w, 3) on white, rounded to the nearest.

    Args:
        rgb: the colours, not multiplied by alpha.
        alpha: opacity (h, w), of any type: 0 shows white, the largest value of `num_bits` bits (1 for floats) hides it.
        num_bits: significant bits of alpha.
    """
    opacity = to_uint8(alpha, (0.0, opaque_value(alpha, num_bits)), num_bits)
    paper = Image.new("RGB", (rgb.shape[1], rgb.shape[0]), "white")
    paper.paste(Image.fromarray(rgb), mask=Image.fromarray(opacity))
    return np.array(paper)


def unmultiplied(colours: NDArray[Any], alpha: NDArray[Any], num_bits: int) -> NDArray[Any]:
    """Colours (h, w, c) that were stored multiplied by alpha (h, w), divided by it again."""
    opaque = opaque_value(alpha, num_bits)
    opacity = alpha[..., None].astype(np.float64)
    factor = np.divide(opaque, opacity, out=np.zeros_like(opacity), where=opacity > 0)
    divided = np.minimum(colours * factor, opaque)
    rounded = divided if colours.dtype.kind == "f" else np.rint(divided)
    return np.asarray(rounded, colours.dtype)


def opaque_value(alpha: NDArray[Any], num_bits: int) -> float:
    """The value of alpha at which a pixel hides what is behind it."""
    return 1.0 if alpha.dtype.kind == "f" else 2.0**num_bits - 1
