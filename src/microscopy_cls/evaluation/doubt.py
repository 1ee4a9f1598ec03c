"""What is fitted on held-out answers so that a classification knows when to doubt, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.evaluation.calibration import Calibrated, Method, calibrate, calibration_report
from microscopy_cls.evaluation.conformal import class_thresholds, conformal_report, cross_fitted_sets
from microscopy_cls.evaluation.held_out import HeldOut
from microscopy_cls.evaluation.intervals import Array
from microscopy_cls.evaluation.novelty import fit_experience
from microscopy_cls.evaluation.risk import risk_report
from microscopy_cls.model.doubt import Experience

Json = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Doubt:
    """The fits.

    Attributes:
        calibrated: probabilities and scalings.
        target: coverage asked of the prediction sets.
        thresholds: of all images, for the bundle, (classes,).
        sets: cross-fitted, bool (n, classes).
        experience: what each member has seen, by fold.
        novelty: of each image to the member that never saw it, (n,).
    """

    calibrated: Calibrated
    target: float
    thresholds: Array
    sets: NDArray[np.bool_]
    experience: Mapping[int, Experience]
    novelty: Array

    @property
    def is_referred(self) -> NDArray[np.bool_]:
        """Which images go to a person, (n,), by the rule that classifications follow."""
        return np.asarray((self.sets.sum(1) != 1) | (self.novelty >= 1))


def fit_doubt(
    held_out: HeldOut,
    looks: Array,
    target: float,
    *,
    resamples: int,
    seed: int,
    methods: Sequence[Method] = ("temperature", "vector"),
) -> Doubt:
    """Fit calibration, prediction sets and novelty.

    Args:
        looks: of the images, (n, k).
        target: coverage of the prediction sets.
        resamples: of the groups, for the choice between methods.
        seed: of choices among images.
        methods: of calibration, to choose from.
    """
    calibrated = calibrate(held_out, resamples=resamples, methods=methods)
    experience, novelty = fit_experience(held_out, looks, seed=seed)
    return Doubt(
        calibrated,
        target,
        class_thresholds(calibrated.probs, held_out.truth, target),
        cross_fitted_sets(held_out, calibrated.fit, target),
        experience,
        novelty,
    )


def doubt_report(held_out: HeldOut, doubt: Doubt, *, resamples: int) -> Json:
    """The sections `calibration`, `conformal` and `risk_coverage` of `metrics.json`."""
    return {
        "calibration": calibration_report(held_out, doubt.calibrated, resamples=resamples),
        "conformal": conformal_report(held_out, doubt.sets, doubt.thresholds, doubt.target, resamples=resamples),
        "risk_coverage": risk_report(held_out, doubt.calibrated.probs, doubt.is_referred, resamples=resamples),
    }


def doubt_of_bundle(doubt: Doubt) -> Json:
    """The fields `calibration` and `conformal` of `bundle.json`."""
    scalings = [doubt.calibrated.by_fold[fold] for fold in sorted(doubt.calibrated.by_fold)]
    calibration: Json = {
        "method": doubt.calibrated.method, "temperatures": [one.temperature for one in scalings],
    }  # fmt: skip
    if doubt.calibrated.method == "vector":
        calibration |= {
            "scales": [one.scale.tolist() for one in scalings], "biases": [one.bias.tolist() for one in scalings],
        }  # fmt: skip
    conformal = {"target_coverage": doubt.target, "thresholds": doubt.thresholds.tolist()}
    return {"calibration": calibration, "conformal": conformal}
