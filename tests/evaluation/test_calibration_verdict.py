"""The verdict on calibration accuses models, not small data sets."""

from __future__ import annotations

import pytest
from tests.evaluation.held import some_held_out

from microscopy_cls.evaluation.figures import figures
from microscopy_cls.evaluation.held_out import HeldOut
from microscopy_cls.evaluation.scores import Predicted, calibration_error
from microscopy_cls.evaluation.scrutiny import judge_calibration


def verdict_of(held_out: HeldOut) -> str:
    predicted = Predicted(held_out.truth, held_out.probs)
    error = figures(
        lambda weights: {"ece": calibration_error(predicted, weights)}, held_out.groups, resamples=100, shares={}
    )["ece"]
    return judge_calibration({"ece_before": error, "ece_after": error})[0]


@pytest.mark.parametrize("num", [240, 1500])
def test_a_calibrated_model_passes_of_few_images_or_many(num: int) -> None:
    verdicts = [verdict_of(some_held_out(num, seed=seed)) for seed in range(20)]
    assert verdicts.count("pass") >= 18
    assert "fail" not in verdicts


def test_a_model_that_is_far_too_sure_does_not_pass() -> None:
    assert verdict_of(some_held_out(240, sharpness=4)) in ("warn", "fail")
    assert verdict_of(some_held_out(1500, sharpness=4)) == "fail"


@pytest.mark.parametrize(
    ("value", "high", "verdict", "reason"),
    [
        (0.02, 0.04, "pass", "off by 2.0 points on average (30.0 before calibration)."),
        (0.09, 0.15, "pass", "(30.0 before calibration), which so few images can give by chance."),
        (0.09, 0.12, "warn", "(30.0 before calibration): do not read them as chances."),
        (0.20, 0.28, "fail", "(30.0 before calibration): do not read them as chances."),
    ],
)
def test_the_reason_names_the_error_and_what_follows(value: float, high: float, verdict: str, reason: str) -> None:
    after = {"value": value, "ci_low": value, "ci_high": high}
    judged, told = judge_calibration({"ece_before": {"value": 0.3}, "ece_after": after})
    assert judged == verdict
    assert told.endswith(reason)
    assert told.startswith("Stated probabilities are off by")
