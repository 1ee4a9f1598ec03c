"""Figures of one epoch."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, log_loss

from microscopy_cls.model.doubt import softmax

EpochRow = dict[str, float]


def validation_scores(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> EpochRow:
    """`val_loss, val_accuracy, val_f1_macro`; NaN without images.

    Args:
        logits: float32 (n, classes).
        truth: class index, (n,).
    """
    if len(truth) == 0:
        return {"val_loss": math.nan, "val_accuracy": math.nan, "val_f1_macro": math.nan}
    probs = softmax(logits.astype(np.float64))
    predicted = probs.argmax(1)
    return {
        "val_loss": float(log_loss(truth, probs, labels=range(probs.shape[1]))),
        "val_accuracy": float(accuracy_score(truth, predicted)),
        "val_f1_macro": float(f1_score(truth, predicted, average="macro", zero_division=0)),
    }


def mean_loss(
    logits: NDArray[np.floating], truth: NDArray[np.int64], counts: NDArray[np.floating] | None = None
) -> float:
    """Cross-entropy, (n, classes) against (n,), where row i counts `counts[i]` times."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(truth)), truth]
    return float(np.average(losses, weights=counts))
