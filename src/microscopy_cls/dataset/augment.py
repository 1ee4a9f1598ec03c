"""Random changes of training images: what each imaging modality allows. The only home of albumentations.

albumentations 2.0.8 draws the same numbers in every worker and every epoch, with or without a seed. Each item is
therefore seeded from (seed, epoch, image id): no two repeat each other, and the number of workers changes nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from microscopy_cls.config.schema import Preset
from microscopy_cls.errors import ConfigError

if TYPE_CHECKING:
    import albumentations as alb  # noqa: TID251  this is its home

REASONS: dict[Preset, str] = {
    "brightfield": "cells lie in any orientation (D4); stain, lamp and focus differ between slides",
    "fluorescence": "cells lie in any orientation (D4); exposure and shot noise differ, colours are channels and stay",
    "xray": "a chest has an up, a down and a heart on its left: no flips; positioning and exposure differ a little",
    "ct": "a slice has an anterior side and a liver on its right: no flips; table height and window differ a little",
    "none": "nothing is changed",
}


def item_seed(seed: int, epoch: int, image_id: str) -> int:
    """A 32-bit seed that differs between runs, epochs and images."""
    digest = hashlib.blake2b(f"{seed}\0{epoch}\0{image_id}".encode(), digest_size=4)
    return int.from_bytes(digest.digest(), "little")


class Augmenter:
    """Applies one preset to one image at a time.

    Args:
        preset: the modality.
        size_px: side of the square images, in and out.
        strength: scales how large the changes are; flips and quarter turns, which change nothing, stay.

    Raises:
        ConfigError: the preset needs albumentations, which is not installed.
    """

    def __init__(self, preset: Preset, size_px: int, strength: float = 1.0) -> None:
        self._pipeline = _compose(preset, size_px, strength) if preset != "none" else None

    def __call__(self, pixels: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Change uint8 (size_px, size_px, 3); the same seed always gives the same change."""
        if self._pipeline is None:
            return pixels
        self._pipeline.set_random_seed(seed)
        changed: NDArray[np.uint8] = self._pipeline(image=pixels)["image"]
        return changed


def _compose(preset: Preset, size_px: int, strength: float) -> alb.Compose:
    if find_spec("albumentations") is None:
        raise ConfigError(
            f"augment.preset {preset}: needs albumentations, which is not installed. Install it with "
            "`pip install 'albumentations>=2.0.8,<3'`, or set augment.preset to none."
        )
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its version on import otherwise
    import albumentations as alb  # noqa: TID251  this is its home

    cv2.setNumThreads(1)  # images are small and workers many
    return alb.Compose(_PRESETS[preset](alb, size_px, strength))


def _around_one(reach: float) -> tuple[float, float]:
    """Factors from 1 - reach to 1 + reach."""
    return 1 - reach, 1 + reach


def _crop(alb: Any, size_px: int, lost: float, squeeze: float) -> alb.BasicTransform:
    """A part of the image, at most `lost` of its area away, at most `squeeze` out of proportion."""
    return alb.RandomResizedCrop((size_px, size_px), scale=(1 - lost, 1.0), ratio=_around_one(squeeze))


def _micrograph(alb: Any, size_px: int, strength: float) -> list[alb.BasicTransform]:
    angle = 20 * strength
    return [
        _crop(alb, size_px, 0.4 * strength, 0.16 * strength),
        alb.D4(),
        alb.Affine(rotate=(-angle, angle), border_mode=cv2.BORDER_REFLECT_101, p=0.5),
    ]


def _brightfield(alb: Any, size_px: int, strength: float) -> list[alb.BasicTransform]:
    light, stain, hue = _around_one(0.2 * strength), _around_one(0.3 * strength), 0.03 * strength
    return [
        *_micrograph(alb, size_px, strength),
        alb.ColorJitter(brightness=light, contrast=light, saturation=stain, hue=(-hue, hue), p=0.8),
        alb.GaussianBlur(blur_limit=(3, 5), p=0.15 * strength),
        alb.GaussNoise(std_range=(0.01, 0.04), p=0.15 * strength),
    ]


def _fluorescence(alb: Any, size_px: int, strength: float) -> list[alb.BasicTransform]:
    return [
        *_micrograph(alb, size_px, strength),
        alb.RandomBrightnessContrast(0.25 * strength, 0.25 * strength, p=0.8),
        alb.RandomGamma((80, 125), p=0.3 * strength),
        alb.GaussNoise(std_range=(0.01, 0.05), p=0.3 * strength),
    ]


def _upright(alb: Any, size_px: int, strength: float) -> list[alb.BasicTransform]:
    angle, shear = 8 * strength, 3 * strength
    return [
        _crop(alb, size_px, 0.25 * strength, 0.1 * strength),
        alb.Affine(rotate=(-angle, angle), shear=(-shear, shear), border_mode=cv2.BORDER_REPLICATE, p=0.7),
    ]


def _xray(alb: Any, size_px: int, strength: float) -> list[alb.BasicTransform]:
    return [
        *_upright(alb, size_px, strength),
        alb.RandomBrightnessContrast(0.2 * strength, 0.2 * strength, p=0.8),
        alb.RandomGamma((80, 125), p=0.3 * strength),
        alb.GaussNoise(std_range=(0.01, 0.03), p=0.2 * strength),
    ]


def _ct(alb: Any, size_px: int, strength: float) -> list[alb.BasicTransform]:
    return [
        *_upright(alb, size_px, strength),
        alb.RandomBrightnessContrast(0.15 * strength, 0.15 * strength, p=0.8),
        alb.GaussianBlur(blur_limit=(3, 3), p=0.1 * strength),
        alb.GaussNoise(std_range=(0.01, 0.03), p=0.2 * strength),
    ]


_PRESETS: dict[Preset, Callable[[Any, int, float], list[alb.BasicTransform]]] = {
    "brightfield": _brightfield,
    "fluorescence": _fluorescence,
    "xray": _xray,
    "ct": _ct,
}
