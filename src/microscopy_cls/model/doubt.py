"""How sure an answer is: the arithmetic that evaluation fits and classification applies. Numpy alone.

A member's logits become calibrated probabilities; these become a set of classes that holds the right one as often as
was asked for; and features that lie far from all that the member was tried on make the image a novelty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scaling:
    """What a member's logits are divided by, then multiplied by and raised by a class: `scale, bias` (classes,)."""

    temperature: float
    scale: Array
    bias: Array

    @classmethod
    def none(cls, num_classes: int, temperature: float = 1.0) -> Scaling:
        """Of a temperature alone; 1 changes nothing."""
        return cls(temperature, np.ones(num_classes), np.zeros(num_classes))

    def scaled(self, logits: NDArray[np.floating]) -> Array:
        """Logits (..., classes) on the calibrated scale, float64."""
        scaled: Array = logits.astype(np.float64) / self.temperature * self.scale + self.bias
        return scaled


def softmax(logits: Array) -> Array:
    """Probabilities from logits (..., classes)."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probs: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return probs


def prediction_sets(probs: Array, thresholds: Array) -> NDArray[np.bool_]:
    """Which classes each set holds, bool (n, classes): those whose probability reaches the class's threshold."""
    return np.asarray(probs >= thresholds)


@dataclass(frozen=True, eq=False)
class Known:
    """What one member's features look like on images that it never saw, and from which distance on they do not.

    Attributes:
        axes: float32 (k, d), orthogonal, each no longer than 1: the directions that features lie in, shorter the
            rarer they are.
        threshold: distance of a novelty, above 0 to 1.
    """

    axes: NDArray[np.float32]
    threshold: float

    def novelty(self, features: NDArray[np.float32]) -> Array:
        """Distance of each feature vector (n, d) in units of the threshold, (n,): from 1 on a novelty.

        Computed one by one: a matrix product of many may round otherwise, and an answer would hang on its neighbours.
        """
        return np.array([distance(self.axes, one) for one in features]) / self.threshold


def distance(axes: NDArray[np.float32], features: NDArray[np.float32]) -> float:
    """What the axes leave of a feature vector's direction (d,): 0 (all known) to 1 (nothing).

    This is the Mahalanobis distance to the origin of directions, with a covariance shrunk towards a sphere, in units
    of the farthest that there is. Its square is the variance that a Gaussian process with a linear kernel would state.
    """
    length = float(np.linalg.norm(features.astype(np.float64)))
    if not 0 < length < np.inf:
        return 1.0  # features that are no direction resemble nothing
    shares = axes @ (features / np.float32(length))
    return float(np.sqrt(max(0.0, 1 - float(shares @ shares))))
