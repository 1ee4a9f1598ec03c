"""From the answers of tiles to one answer for the slide."""

from __future__ import annotations

from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.config.schema import SlideRule


def aggregate(
    probs: NDArray[np.float64], weights: NDArray[np.float64], rule: SlideRule = "mean", fraction: float = 0.1
) -> NDArray[np.float64]:
    """Probabilities of a slide from those of its tiles; the order of the tiles does not matter.

    `mean`: the mean, each tile weighted by its tissue. For what fills the slide.
    `top_k`: for each class the mean of its largest `fraction` of values (at least one tile, all tiles alike), then
    divided by their sum. For what is found in few places, such as a tumour: the assumption of multiple-instance
    learning, where Campanella et al. (Clinical-grade computational pathology, Nature Medicine 2019) take the one
    highest tile; a tenth of them is less at the mercy of a single artefact.
    `majority`: shares of the tiles' predictions, weighted by tissue. A count, not a probability.

    Args:
        probs: (tiles, classes), rows that sum to 1; at least one tile.
        weights: (tiles,), not negative, at least one above 0: the part of each tile that is tissue.
        rule: how.
        fraction: of the tiles that `top_k` takes, above 0 to 1.

    Returns:
        float64 (classes,), sums to 1.
    """
    assert len(probs) == len(weights) > 0, "a slide has tiles, and a weight for each"
    scores: NDArray[np.float64]
    match rule:
        case "mean":
            scores = weights @ probs
        case "top_k":
            scores = _largest(probs, fraction).mean(axis=0)
        case "majority":
            scores = np.bincount(probs.argmax(axis=1), weights, minlength=probs.shape[1]).astype(np.float64)
        case _:
            assert_never(rule)
    shares: NDArray[np.float64] = scores / scores.sum()
    return shares


def _largest(probs: NDArray[np.float64], fraction: float) -> NDArray[np.float64]:
    """The largest values of each column (k, classes)."""
    num = max(1, round(fraction * len(probs)))
    return np.sort(probs, axis=0)[-num:]
