"""Metrics of weighted images, many weightings at once: all images, each fold, and every bootstrap resample.

One formula serves the value, the folds and the interval, so they cannot disagree. Each function takes weights of
shape (b, n) and returns shape (b,) or (b, classes). A class without truth in a weighting has no recall, F1 or AUROC
there (NaN) and is left out of that macro mean; a class that is never predicted has precision 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Array = NDArray[np.float64]
METRICS = (
    "accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "precision_macro", "recall_macro", "auroc_macro",
    "log_loss", "ece",
)  # fmt: skip
PER_CLASS = ("precision", "recall", "f1", "auroc")
NUM_BINS = 15  # of the calibration error
SMALLEST_PROB = 1e-15  # keeps one certain error from an infinite log loss


@dataclass(frozen=True)
class Predicted:
    """True class indices int64 (n,) and predicted probabilities float64 (n, classes)."""

    truth: NDArray[np.int64]
    probs: Array

    @classmethod
    def of(cls, table: pd.DataFrame, classes: Sequence[str]) -> Predicted:
        """Of a table's `label` and `prob_<class>...`, a row an image; classes in index order."""
        truth = pd.Categorical(table["label"], categories=list(classes)).codes.astype(np.int64)
        return cls(truth, table[[f"prob_{name}" for name in classes]].to_numpy(np.float64))

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return int(self.probs.shape[1])

    @property
    def top(self) -> NDArray[np.int64]:
        """The likeliest class of each image, (n,)."""
        top: NDArray[np.int64] = self.probs.argmax(1)
        return top


def all_scores(predicted: Predicted, weights: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """Every metric for every weighting.

    Returns:
        The overall metrics (`METRICS`), each (b,), and the metrics of each class (`PER_CLASS`), each (b, classes).
    """
    overall, per_class = scores_of_answers(predicted, weights)
    auroc = np.stack(
        [binary_auroc(predicted.truth == k, predicted.probs[:, k], weights) for k in _classes(predicted)], 1
    )
    overall["auroc_macro"] = _nanmean(auroc)
    return {name: overall[name] for name in METRICS}, per_class | {"auroc": auroc}


def scores_of_answers(predicted: Predicted, weights: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """As `all_scores`, but for the AUROC: ranking all images anew for each class takes most of the time."""
    hits, support, named = class_totals(predicted, weights)
    present = np.where(support > 0, 1.0, np.nan)
    precision = present * _ratio(hits, named)
    recall = present * _ratio(hits, support)
    f1 = present * _ratio(2 * hits, support + named)
    total = weights.sum(1)
    overall = {
        "accuracy": hits.sum(1) / total,
        "balanced_accuracy": _nanmean(recall),
        "f1_macro": _nanmean(f1),
        "f1_weighted": np.nansum(f1 * support, axis=1) / total,
        "precision_macro": _nanmean(precision),
        "recall_macro": _nanmean(recall),
        "log_loss": weights @ surprise(predicted) / total,
        "ece": calibration_error(predicted, weights),
    }
    return overall, {"precision": precision, "recall": recall, "f1": f1}


def confusion_counts(predicted: Predicted, weights: Array) -> Array:
    """Weighted counts, rows truth, columns predicted: (b, classes, classes)."""
    num, classes = len(predicted.truth), predicted.num_classes
    cell = predicted.truth * classes + predicted.top
    member = csr_matrix((np.ones(num), (np.arange(num), cell)), shape=(num, classes * classes))
    counts: Array = (member.T @ weights.T).T.reshape(-1, classes, classes)
    return counts


def class_totals(predicted: Predicted, weights: Array) -> tuple[Array, Array, Array]:
    """Diagonal, row sums and column sums of the confusion counts, (b, classes) each: hits, truth, answers.

    Without the counts themselves, which are 320 MB of 1,000 resamples of 200 classes.
    """

    def totals(labels: NDArray[np.int64], counted: NDArray[np.bool_]) -> Array:
        rows = np.flatnonzero(counted)
        shape = (len(labels), predicted.num_classes)
        found: Array = (csr_matrix((np.ones(len(rows)), (rows, labels[rows])), shape=shape).T @ weights.T).T
        return found

    every = np.ones(len(predicted.truth), bool)
    hits = totals(predicted.truth, predicted.top == predicted.truth)
    return hits, totals(predicted.truth, every), totals(predicted.top, every)


def binary_auroc(positive: NDArray[np.bool_], score: Array, weights: Array) -> Array:
    """Area under the ROC curve as the probability that a positive outranks a negative, ties by halves: (b,)."""
    above, below = _by_score(positive, score, weights)
    beaten = np.cumsum(below, axis=1) - below / 2
    return _ratio((above * beaten).sum(1), above.sum(1) * below.sum(1), empty=np.nan)


def average_precision(positive: NDArray[np.bool_], score: Array, weights: Array) -> Array:
    """Sum of precision times the step in recall over falling thresholds, without interpolation: (b,)."""
    above, below = (part[:, ::-1] for part in _by_score(positive, score, weights))
    found, wrong = np.cumsum(above, axis=1), np.cumsum(below, axis=1)
    precision = _ratio(found, found + wrong)
    return _ratio((above * precision).sum(1), above.sum(1), empty=np.nan)


def calibration_error(predicted: Predicted, weights: Array) -> Array:
    """Expected calibration error of the top class in bins of equal mass: (b,).

    The bins are those of all images, whatever their weights. Naeini et al. 2015, Obtaining well calibrated
    probabilities; equal mass after Nixon et al. 2019, arXiv:1904.01685.
    """
    confidence = predicted.probs.max(1)
    gap = (predicted.top == predicted.truth) - confidence
    error: Array = np.abs(weights @ (gap[:, None] * confidence_bins(confidence))).sum(1) / weights.sum(1)
    return error


def confidence_bins(confidence: Array) -> Array:
    """Which of the bins of equal mass each image is in: (n, bins), one 1 in each row.

    Equal confidences share a bin, or else the order of the images would count; so a bin may be empty.
    """
    num_bins = min(NUM_BINS, len(confidence))
    num_below = np.searchsorted(np.sort(confidence), confidence)
    bins: Array = np.eye(num_bins)[num_below * num_bins // len(confidence)]
    return bins


def _by_score(positive: NDArray[np.bool_], score: Array, weights: Array) -> tuple[Array, Array]:
    """Weight of positives and of negatives at each distinct score, rising: two arrays (b, scores)."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])
    ranked = weights[:, order]
    return tuple(np.add.reduceat(ranked * side, starts, axis=1) for side in (positive[order], ~positive[order]))  # type: ignore[return-value]


def surprise(predicted: Predicted) -> Array:
    """Log loss of each image, (n,)."""
    given = predicted.probs[np.arange(len(predicted.truth)), predicted.truth]
    loss: Array = -np.log(np.clip(given, SMALLEST_PROB, 1))
    return loss


def _ratio(part: Array, whole: Array, empty: float = 0.0) -> Array:
    ratio: Array = np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, empty), where=whole > 0)
    return ratio


def _nanmean(values: Array) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a weighting without any class has no mean
        mean: Array = np.nanmean(values, axis=1)
    return mean


def _classes(predicted: Predicted) -> range:
    return range(predicted.num_classes)
