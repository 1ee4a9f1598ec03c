"""What is minimised, and how much each class counts in it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from microscopy_cls.config.schema import ClassWeights, Finetune


def make_loss(labels: NDArray[np.int64], num_classes: int, settings: Finetune) -> nn.Module:
    """The configured loss of float32 logits (b, classes) against class indices (b,) or, after mixup, probabilities.

    Args:
        labels: class index of each training image, (n,): the frequencies that it makes up for.
    """
    weights = class_weights(labels, num_classes, settings.class_weights, settings.effective_beta)
    weight = None if weights is None else torch.from_numpy(weights).float()
    loss: nn.Module = nn.CrossEntropyLoss(weight=weight, label_smoothing=settings.label_smoothing)
    if settings.loss == "focal":
        loss = FocalLoss(settings.focal_gamma, weight)
    if settings.logit_adjustment:
        loss = LogitAdjusted(loss, settings.logit_adjustment * log_frequencies(labels, num_classes))
    return loss


def class_weights(
    labels: NDArray[np.int64], num_classes: int, kind: ClassWeights, beta: float
) -> NDArray[np.float64] | None:
    """How much an image of each class counts, (classes,), on average over the images 1; None where all count alike.

    `effective` (Cui et al. 2019, doi:10.1109/CVPR.2019.00949) takes n images for (1 - beta^n) / (1 - beta) different
    ones: with beta 0 all classes weigh the same, towards 1 the weights become the balanced ones.
    """
    if kind == "none":
        return None
    counts = np.maximum(1, np.bincount(labels, minlength=num_classes))
    weights = 1 / (counts if kind == "balanced" else 1 - beta**counts)
    normalised: NDArray[np.float64] = weights * (len(labels) / weights[labels].sum())
    return normalised


def log_frequencies(labels: NDArray[np.int64], num_classes: int) -> torch.Tensor:
    """Logarithm of each class's share of the images, float32 (classes,)."""
    counts = np.maximum(1, np.bincount(labels, minlength=num_classes))
    return torch.from_numpy(np.log(counts / counts.sum())).float()


class FocalLoss(nn.Module):
    """Cross-entropy in which an image counts by (1 - p)^gamma, p its class's probability.

    Lin et al. 2017, doi:10.1109/ICCV.2017.324. With class weights, the mean is over weights, as cross-entropy's is.
    """

    weight: torch.Tensor | None

    def __init__(self, gamma: float, weight: torch.Tensor | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("weight", weight)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean over the batch; logits (b, classes), targets int64 (b,)."""
        each = functional.cross_entropy(logits, targets, reduction="none")
        # -expm1(-x) = 1 - p, exact near 1; kept off 0, where the power's slope is infinite for gamma below 1.
        focal = (-torch.expm1(-each)).clamp_min(torch.finfo(each.dtype).tiny) ** self.gamma * each
        if self.weight is None:
            return focal.mean()
        weights = self.weight[targets]
        return (weights * focal).sum() / weights.sum()


class LogitAdjusted(nn.Module):
    """A loss of logits to which the scaled log frequencies of the classes were added; the network answers without.

    Menon et al. 2021, arXiv:2007.07314: rare classes get the margin that a balanced error asks for.
    """

    shift: torch.Tensor

    def __init__(self, loss: nn.Module, shift: torch.Tensor) -> None:
        super().__init__()
        self.loss = loss
        self.register_buffer("shift", shift)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The inner loss of the shifted logits."""
        loss: torch.Tensor = self.loss(logits + self.shift, targets)
        return loss
