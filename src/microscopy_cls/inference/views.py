"""Test-time augmentation: the views of an image that its modality does not distinguish."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

View = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
Axes = tuple[int, ...]  # of pixels (b, h, w, 3), that a view runs through backwards

# A cell lies in any orientation, so half turns and mirrors of it are as good; a chest and a slice have one only.
_MIRRORS: tuple[Axes, ...] = ((), (2,), (1,), (1, 2))
_AS_IT_IS = _MIRRORS[:1]


def mirrors_of(config: dict[str, Any], *, tta: bool = False) -> tuple[Axes, ...]:
    """The views to average over, where `tta` or the model's own config (`evaluate.tta`) asks for more than one.

    Which these are, the preset that the model was trained with says.
    """
    asked = tta or config.get("evaluate", {}).get("tta", False)
    preset = config.get("augment", {}).get("preset", "none")
    return _MIRRORS if asked and preset in ("brightfield", "fluorescence") else _AS_IT_IS


def views_of(mirrors: tuple[Axes, ...]) -> tuple[View, ...]:
    """The views as functions of pixels (b, h, w, 3)."""
    return tuple(partial(np.flip, axis=axes) for axes in mirrors)
