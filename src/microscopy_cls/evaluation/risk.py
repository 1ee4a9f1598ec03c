"""How often the answers are right when the doubtful ones go to a person."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.evaluation.figures import figures, number
from microscopy_cls.evaluation.held_out import HeldOut
from microscopy_cls.evaluation.intervals import Array

MAX_POINTS = 100
Json = dict[str, Any]


def risk_report(held_out: HeldOut, probs: Array, is_referred: NDArray[np.bool_], *, resamples: int) -> Json:
    """The section `risk_coverage` of `metrics.json`.

    Args:
        probs: cross-fitted, (n, classes).
        is_referred: which images go to a person, (n,).
    """
    is_right = (probs.argmax(1) == held_out.truth).astype(float)
    return {
        "points": _points(held_out, probs.max(1), is_right, resamples),
        "referred": _referral(held_out, is_right, is_referred, resamples),
    }


def risk_table(report: Json) -> pd.DataFrame:
    """The curve for DVC: `coverage, accuracy, ci_low, ci_high, min_confidence`."""
    return pd.DataFrame(report["points"])


def _points(held_out: HeldOut, confidence: Array, is_right: Array, resamples: int) -> list[Json]:
    """Accuracy among the surest images, for up to 100 shares of them; equally sure ones go together."""
    order = np.argsort(-confidence, kind="stable")
    surest = confidence[order]
    wanted = np.ceil(np.arange(1, MAX_POINTS + 1) / MAX_POINTS * len(surest)).astype(int) - 1
    ends = np.unique(np.searchsorted(-surest, -surest[wanted], side="right"))  # of images kept at each point

    def scores(weights: Array) -> dict[str, Array]:
        ranked = weights[:, order]
        kept = np.cumsum(ranked, axis=1)[:, ends - 1]
        with np.errstate(invalid="ignore"):  # a resample without any image so sure: NaN
            return {"accuracy": np.cumsum(ranked * is_right[order], axis=1)[:, ends - 1] / kept}

    each = [len(set(held_out.groups[order[:end]])) for end in ends]
    shown = figures(scores, held_out.groups, resamples=resamples, shares={"accuracy": each})["accuracy"]
    return [
        {
            "coverage": number(end / len(surest)), "accuracy": one["value"], "ci_low": one["ci_low"],
            "ci_high": one["ci_high"], "min_confidence": number(surest[end - 1]),
        }
        for one, end in zip(shown, ends, strict=True)
    ]  # fmt: skip


def _referral(held_out: HeldOut, is_right: Array, is_referred: NDArray[np.bool_], resamples: int) -> Json:
    """The share that goes to a person, and how often the answers are right without it and in it."""

    def scores(weights: Array) -> dict[str, Array]:
        with np.errstate(invalid="ignore"):  # nothing is referred, or all: NaN
            return {
                "share": weights @ is_referred / weights.sum(1),
                "accuracy_kept": weights @ (is_right * ~is_referred) / (weights @ ~is_referred),
                "accuracy_referred": weights @ (is_right * is_referred) / (weights @ is_referred),
            }

    shares = {
        "share": held_out.num_groups(),
        "accuracy_kept": held_out.num_groups(~is_referred),
        "accuracy_referred": held_out.num_groups(is_referred),
    }
    return figures(scores, held_out.groups, resamples=resamples, shares=shares)
