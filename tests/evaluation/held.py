"""Held-out answers of a network that is too sure, or not sure enough, by a known factor."""

from __future__ import annotations

import numpy as np

from microscopy_cls.evaluation.held_out import HeldOut
from microscopy_cls.model.doubt import softmax


def some_held_out(
    num: int = 1500, classes: int = 4, *, sharpness: float = 1.0, scale: float = 1.0, folds: int = 5, seed: int = 0
) -> HeldOut:
    """Labels are drawn from the probabilities of the logits, which are then multiplied by `sharpness` and, from the
    second class on, by `scale`: 1 and 1 are calibrated. Three images a group.
    """
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (num, classes))
    truth = np.array([rng.choice(classes, p=one) for one in softmax(logits)])
    logits[:, 1:] *= scale
    groups = np.arange(num) // 3
    features = (np.eye(classes)[truth] @ rng.normal(size=(classes, 32)) + 0.3 * rng.normal(size=(num, 32))) * 5
    return HeldOut(
        truth, sharpness * logits, features.astype(np.float32), (groups % folds).astype(np.int64),
        np.array([f"g{one}" for one in groups], object), tuple("abcdefghijkl"[:classes]),
    )  # fmt: skip
