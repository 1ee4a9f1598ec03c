"""Random changes of training images: what each imaging modality allows. The only home of albumentations.

albumentations 2.0.8 draws the same numbers in every worker and every epoch, with or without a seed. Each item is
therefore seeded from (seed, epoch, image id): no two repeat each other, and the number of workers changes nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from microscopy_cls.config.schema import Preset

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
    """

    def __init__(self, preset: Preset, size_px: int) -> None:
        self._pipeline = _compose(preset, size_px) if preset != "none" else None

    def __call__(self, pixels: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Change uint8 (size_px, size_px, 3); the same seed always gives the same change."""
        if self._pipeline is None:
            return pixels
        self._pipeline.set_random_seed(seed)
        changed: NDArray[np.uint8] = self._pipeline(image=pixels)["image"]
        return changed


def _compose(preset: Preset, size_px: int) -> alb.Compose:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its version on import otherwise
    import albumentations as alb  # noqa: TID251  this is its home

    cv2.setNumThreads(1)  # images are small and workers many
    return alb.Compose(_PRESETS[preset](alb, size_px))


def _micrograph(alb: Any, size_px: int) -> list[alb.BasicTransform]:
    return [
        alb.RandomResizedCrop((size_px, size_px), scale=(0.6, 1.0), ratio=(0.85, 1.18)),
        alb.D4(),
        alb.Affine(rotate=(-20, 20), border_mode=cv2.BORDER_REFLECT_101, p=0.5),
    ]


def _brightfield(alb: Any, size_px: int) -> list[alb.BasicTransform]:
    return [
        *_micrograph(alb, size_px),
        alb.ColorJitter(brightness=(0.8, 1.2), contrast=(0.8, 1.2), saturation=(0.7, 1.3), hue=(-0.03, 0.03), p=0.8),
        alb.GaussianBlur(blur_limit=(3, 5), p=0.15),
        alb.GaussNoise(std_range=(0.01, 0.04), p=0.15),
    ]


def _fluorescence(alb: Any, size_px: int) -> list[alb.BasicTransform]:
    return [
        *_micrograph(alb, size_px),
        alb.RandomBrightnessContrast(0.25, 0.25, p=0.8),
        alb.RandomGamma((80, 125), p=0.3),
        alb.GaussNoise(std_range=(0.01, 0.05), p=0.3),
    ]


def _upright(alb: Any, size_px: int) -> list[alb.BasicTransform]:
    return [
        alb.RandomResizedCrop((size_px, size_px), scale=(0.75, 1.0), ratio=(0.9, 1.11)),
        alb.Affine(rotate=(-8, 8), shear=(-3, 3), border_mode=cv2.BORDER_REPLICATE, p=0.7),
    ]


def _xray(alb: Any, size_px: int) -> list[alb.BasicTransform]:
    return [
        *_upright(alb, size_px),
        alb.RandomBrightnessContrast(0.2, 0.2, p=0.8),
        alb.RandomGamma((80, 125), p=0.3),
        alb.GaussNoise(std_range=(0.01, 0.03), p=0.2),
    ]


def _ct(alb: Any, size_px: int) -> list[alb.BasicTransform]:
    return [
        *_upright(alb, size_px),
        alb.RandomBrightnessContrast(0.15, 0.15, p=0.8),
        alb.GaussianBlur(blur_limit=(3, 3), p=0.1),
        alb.GaussNoise(std_range=(0.01, 0.03), p=0.2),
    ]


_PRESETS: dict[Preset, Callable[[Any, int], list[alb.BasicTransform]]] = {
    "brightfield": _brightfield,
    "fluorescence": _fluorescence,
    "xray": _xray,
    "ct": _ct,
}
