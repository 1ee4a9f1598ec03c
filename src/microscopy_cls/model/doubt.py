"""How sure an answer is: the arithmetic that evaluation fits and classification applies. Numpy alone.

A member's logits become calibrated probabilities; these become a set of classes that holds the right one as often as
was asked for; and an image whose features lie far from all that the member was tried on, or that looks like none of
the training images, is a novelty.
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
        axes: float32 (k, d + 1), orthogonal, each no longer than 1: the directions that points lie in, shorter the
            rarer they are.
        length: of the features, on average.
        threshold: distance of a novelty.
    """

    axes: NDArray[np.float32]
    length: float
    threshold: float

    def novelty(self, features: NDArray[np.float32]) -> Array:
        """Distance of each feature vector (n, d) in units of the threshold, (n,): from 1 on a novelty.

        Computed one by one: a matrix product of many may round otherwise, and an answer would hang on its neighbours.
        """
        return np.array([distance(self.axes, one) for one in points(features, self.length)]) / self.threshold


@dataclass(frozen=True, eq=False)
class Usual:
    """How a model's training images look, in the numbers of `images.appearance`.

    Attributes:
        mean: of the images, float64 (k,).
        whitening: float64 (k, k), makes their spread one in all directions.
        threshold: distance of a novelty.
    """

    mean: Array
    whitening: Array
    threshold: float

    def novelty(self, looks: Array) -> Array:
        """Mahalanobis distance of each look (n, k) in units of the threshold, (n,): from 1 on a novelty.

        One by one, as `Known.novelty`.
        """
        return np.array([np.linalg.norm(self.whitening @ (one - self.mean)) for one in looks]) / self.threshold


@dataclass(frozen=True, eq=False)
class Experience:
    """What a member knows and how its model's images usually look: strange is what is strange to either."""

    known: Known
    usual: Usual

    def novelty(self, features: NDArray[np.float32], looks: Array) -> Array:
        """Of n images by their features (n, d) and looks (n, k): the larger of both, (n,), from 1 on a novelty."""
        larger: Array = np.maximum(self.known.novelty(features), self.usual.novelty(looks))
        return larger


def points(features: NDArray[np.float32], length: float) -> Array:
    """Features (n, d) as points (n, d + 1): the direction, as long as the root of its length over `length`, then 1.

    The root, because networks say with the length of their features how much they saw: a blank or strange picture may
    have a common direction. The 1 lets a covariance about the origin count like one about the mean.
    """
    wide = np.nan_to_num(features.astype(np.float64), posinf=0, neginf=0)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    scales = np.sqrt(np.where(lengths > 0, lengths, 1) * (length or 1))
    return np.concatenate([wide / scales, np.ones((len(wide), 1))], axis=1)


def distance(axes: NDArray[np.float32], point: Array) -> float:
    """What the axes leave of a point (d + 1,), from 0 (all known).

    This is the Mahalanobis distance with a covariance shrunk towards a sphere, up to a factor. Its square is the
    variance that a Gaussian process with a linear kernel would state.
    """
    shares = (axes @ point.astype(np.float32)).astype(np.float64)
    return float(np.sqrt(max(0.0, float(point @ point) - float(shares @ shares))))
