"""Probabilities that mean what they say: logits scaled so that the log loss on held-out images is least.

One temperature a member (Guo et al. 2017, arXiv:1706.04599), or besides a scale and a bias a class where these do
better on images that they were not fitted on. What is reported of a fold is fitted on the other folds; what the bundle
holds for a member is fitted on that member's own held-out fold. Only which of the two it is is chosen on all folds: to
choose it anew within the others would cost as many times more fits as there are folds, and it takes a clear lead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from microscopy_cls.evaluation.figures import figures, number
from microscopy_cls.evaluation.held_out import Fit, HeldOut
from microscopy_cls.evaluation.intervals import group_resamples, interval
from microscopy_cls.evaluation.scores import Predicted, calibration_error, confidence_bins, surprise
from microscopy_cls.model.doubt import Scaling, softmax

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Method = Literal["temperature", "vector"]
Json = dict[str, Any]

MAX_LOG_TEMPERATURE = 3.0  # a twentieth to twenty: beyond it a fit says only that there are few images
# How far from where it is drawn to a parameter may lie (as standard deviations of a normal prior). Chosen by the
# cross-fitted log loss of four runs on real images: pollen 0.519 to 0.490, plankton 1.295 to 1.267, chest scans
# 0.462 to 0.412; half and double do as well. A member's fold has few images a class: 0.5 there undoes the gain.
SPREAD_TEMPERATURE = 0.25  # of a member's logarithm around that of all members
SPREAD_CLASS = 0.5  # of scales around 1 and biases around 0
SPREAD_MEMBER = 0.1  # of a member's scales and biases around those of all members


@dataclass(frozen=True, eq=False)
class Calibrated:
    """The outcome.

    Attributes:
        method: the better one.
        probs: cross-fitted, (n, classes).
        by_fold: each member's scaling.
    """

    method: Method
    probs: Array
    by_fold: Mapping[int, Scaling]

    @property
    def fit(self) -> Fit:
        """How the method is fitted."""
        return fit_of(self.method)


def calibrate(
    held_out: HeldOut, *, resamples: int, seed: int = 0, methods: Sequence[Method] = ("temperature", "vector")
) -> Calibrated:
    """Choose the method, and fit it for the figures and for the bundle."""
    plain = held_out.cross_fitted(_temperature_alone)
    if "vector" not in methods:
        return Calibrated("temperature", plain, _members(held_out, "temperature"))
    vector = held_out.cross_fitted(fit_vector)
    gain = surprise(Predicted(held_out.truth, plain)) - surprise(Predicted(held_out.truth, vector))
    is_better = _lower_end(gain, held_out.groups, resamples, seed) > 0
    method: Method = "vector" if is_better else "temperature"
    return Calibrated(method, vector if is_better else plain, _members(held_out, method))


def fit_temperature(logits: Array, truth: Ints, around: float | None = None) -> float:
    """The temperature of least log loss.

    The images count as though one more had been among them whose class nobody could tell, or else a fold without an
    error would ask for infinite confidence.

    Args:
        around: a temperature that few images do not lead away from.
    """
    rows = np.arange(len(truth))

    def loss(log_temperature: float) -> float:
        scaled = logits * np.exp(-log_temperature)
        normaliser = _log_sum(scaled)
        total = (normaliser - scaled[rows, truth]).sum() + (normaliser - scaled.mean(1)).mean()
        pull = 0.0 if around is None else ((log_temperature - np.log(around)) / SPREAD_TEMPERATURE) ** 2 / 2
        return float(total + pull)

    found = minimize_scalar(loss, bounds=(-MAX_LOG_TEMPERATURE, MAX_LOG_TEMPERATURE), method="bounded")
    return float(np.exp(found.x))


def fit_vector(logits: Array, truth: Ints, around: Scaling | None = None) -> Scaling:
    """A temperature, and a scale and a bias a class, of least log loss; the loss is convex in scales and biases.

    Args:
        around: a scaling that few images do not lead away from; without it, from the temperature alone.
    """
    num = logits.shape[1]
    start, spread = (Scaling.none(num), SPREAD_CLASS) if around is None else (around, SPREAD_MEMBER)
    temperature = fit_temperature(logits, truth, around.temperature if around else None)
    at_start, is_truth = np.concatenate([start.scale, start.bias]), np.eye(num)[truth]
    tempered = logits / temperature

    def loss(values: Array) -> tuple[float, Array]:
        scaled = tempered * values[:num] + values[num:]
        away = (values - at_start) / spread
        total = (_log_sum(scaled) - (scaled * is_truth).sum(1)).sum() + away @ away / 2
        excess = softmax(scaled) - is_truth
        return float(total), np.concatenate([(excess * tempered).sum(0), excess.sum(0)]) + away / spread

    values = minimize(loss, at_start, jac=True, method="L-BFGS-B").x
    return Scaling(temperature, values[:num], values[num:])


def calibration_report(held_out: HeldOut, found: Calibrated, *, resamples: int) -> Json:
    """The section `calibration` of `metrics.json`."""
    before, after = Predicted(held_out.truth, held_out.probs), Predicted(held_out.truth, found.probs)

    def scores(weights: Array) -> dict[str, Array]:
        total = weights.sum(1)
        return {
            "ece_before": calibration_error(before, weights),
            "ece_after": calibration_error(after, weights),
            "log_loss_before": weights @ surprise(before) / total,
            "log_loss_after": weights @ surprise(after) / total,
            "accuracy_after": weights @ (after.top == after.truth) / total,
        }

    shares = {"accuracy_after": held_out.num_groups()}
    return {
        "method": found.method,
        **figures(scores, held_out.groups, resamples=resamples, shares=shares),
        "temperatures": [number(found.by_fold[fold].temperature) for fold in sorted(found.by_fold)],
        "bins_before": reliability(before, held_out, resamples=resamples),
        "bins_after": reliability(after, held_out, resamples=resamples),
    }


def reliability(predicted: Predicted, held_out: HeldOut, *, resamples: int) -> list[Json]:
    """How sure and how often right, in bins of as many images each, the least sure first."""
    confidence, is_right = predicted.probs.max(1), (predicted.top == predicted.truth).astype(float)
    bins = confidence_bins(confidence)
    bins = bins[:, bins.any(0)]

    def scores(weights: Array) -> dict[str, Array]:
        with np.errstate(invalid="ignore"):  # a resample without any image of a bin: NaN
            return {"accuracy": (weights * is_right) @ bins / (weights @ bins)}

    each = [held_out.num_groups(inside) for inside in bins.T.astype(bool)]
    shown = figures(scores, held_out.groups, resamples=resamples, shares={"accuracy": each})["accuracy"]
    return [
        {
            "confidence": number(float(confidence[inside].mean())), "accuracy": one["value"],
            "ci_low": one["ci_low"], "ci_high": one["ci_high"], "num_images": int(inside.sum()),
        }
        for one, inside in zip(shown, bins.T.astype(bool), strict=True)
    ]  # fmt: skip


def reliability_table(report: Json) -> pd.DataFrame:
    """The bins for DVC: `calibration` (before, after), then the columns of `reliability`."""
    rows = [{"calibration": when, **row} for when in ("before", "after") for row in report[f"bins_{when}"]]
    return pd.DataFrame(rows)


def _members(held_out: HeldOut, method: Method) -> dict[int, Scaling]:
    """Each member's scaling on its own fold, drawn to that of all folds."""
    whole, num = fit_of(method)(held_out.logits, held_out.truth), len(held_out.classes)
    found = {}
    for fold in np.unique(held_out.folds).tolist():
        logits, truth = held_out.logits[held_out.folds == fold], held_out.truth[held_out.folds == fold]
        if method == "vector":
            found[fold] = fit_vector(logits, truth, whole)
        else:
            found[fold] = Scaling.none(num, fit_temperature(logits, truth, whole.temperature))
    return found


def fit_of(method: Method) -> Fit:
    """How a method is fitted."""
    return fit_vector if method == "vector" else _temperature_alone


def _temperature_alone(logits: Array, truth: Ints) -> Scaling:
    return Scaling.none(logits.shape[1], fit_temperature(logits, truth))


def _lower_end(gain: Array, groups: NDArray[np.object_], resamples: int, seed: int) -> float:
    """Of the mean of a gain a image, over resampled groups."""
    means = [weights @ gain / weights.sum(1) for weights in group_resamples(groups, resamples, seed)]
    return float(interval(np.concatenate(means), len(np.unique(groups)))[0])


def _log_sum(logits: Array) -> Array:
    largest = logits.max(1)
    total: Array = largest + np.log(np.exp(logits - largest[:, None]).sum(1))
    return total
