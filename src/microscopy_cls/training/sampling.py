"""Which images an epoch shows, and how often."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.training.fold_data import Rows


def balanced(rows: Rows, labels: NDArray[np.int64], seed: int, epoch: int) -> Rows:
    """As many rows, each class as often as the others (one image apart where they do not divide).

    A class with fewer images repeats all of them equally often before any once more; of one with more, other images
    are left out in another epoch. Made from (seed, epoch) alone, so the same in every process.

    Args:
        rows: of the training images, (n,).
        labels: class index of each of them, (n,).

    Returns:
        Rows, class by class, (n,).
    """
    rng = np.random.default_rng([seed, epoch, 1])  # the 1 keeps apart from the order, which draws from (seed, epoch)
    present = rng.permutation(np.unique(labels))
    shares = len(rows) // len(present) + (np.arange(len(present)) < len(rows) % len(present))
    return np.concatenate([_drawn(rows[labels == one], share, rng) for one, share in zip(present, shares, strict=True)])


def _drawn(rows: Rows, num: int, rng: np.random.Generator) -> Rows:
    """`num` of them, none twice more often than another."""
    whole, rest = divmod(num, len(rows))
    return np.concatenate([np.tile(rows, whole), rng.permutation(rows)[:rest]])
