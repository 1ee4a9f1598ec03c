"""Test-time augmentation: the views of an image that its modality does not distinguish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

View = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

# A cell lies in any orientation, so half turns and mirrors of it are as good; a chest and a slice have one only.
_MIRRORS: list[View] = [
    lambda pixels: pixels,
    lambda pixels: pixels[:, :, ::-1],
    lambda pixels: pixels[:, ::-1],
    lambda pixels: pixels[:, ::-1, ::-1],
]
_AS_IT_IS = _MIRRORS[:1]


def views_of(config: dict[str, Any]) -> list[View]:
    """What `--tta` averages over, for pixels (b, h, w, 3), by the preset that the model was trained with."""
    preset = config.get("augment", {}).get("preset", "none")
    return _MIRRORS if preset in ("brightfield", "fluorescence") else _AS_IT_IS
