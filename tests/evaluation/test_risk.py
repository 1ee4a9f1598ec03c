"""The surer the answers that are kept, the more of them are right."""

from __future__ import annotations

import numpy as np
import pytest
from tests.evaluation.held import some_held_out

from microscopy_cls.evaluation.held_out import HeldOut
from microscopy_cls.evaluation.risk import risk_report, risk_table


def report(held_out: HeldOut, is_referred: np.ndarray) -> dict:
    return risk_report(held_out, held_out.probs, is_referred, resamples=100)


def test_the_curve_ends_with_all_images_and_their_accuracy() -> None:
    held_out = some_held_out(700)
    points = report(held_out, np.zeros(700, bool))["points"]
    assert len(points) == 100
    accuracy = (held_out.probs.argmax(1) == held_out.truth).mean()
    assert (points[-1]["coverage"], points[-1]["accuracy"]) == (1, pytest.approx(accuracy, abs=1e-6))
    assert points[10]["accuracy"] > points[50]["accuracy"] > points[99]["accuracy"]
    assert list(risk_table({"points": points})["coverage"]) == sorted(point["coverage"] for point in points)


def test_each_point_is_the_accuracy_of_the_images_at_least_so_sure() -> None:
    held_out = some_held_out(90)
    confidence, is_right = held_out.probs.max(1), held_out.probs.argmax(1) == held_out.truth
    for point in report(held_out, np.zeros(90, bool))["points"]:
        kept = confidence >= point["min_confidence"] - 1e-6
        assert point["coverage"] == pytest.approx(kept.mean(), abs=1e-6)
        assert point["accuracy"] == pytest.approx(is_right[kept].mean(), abs=1e-6)
        assert point["ci_low"] <= point["accuracy"] <= point["ci_high"]


def test_equally_sure_answers_are_kept_or_left_together() -> None:
    held_out = some_held_out(60)
    probs = np.full((60, 4), 0.1)
    probs[:, 0] = 0.7
    (point,) = risk_report(held_out, probs, np.zeros(60, bool), resamples=100)["points"]
    assert (point["coverage"], point["min_confidence"]) == (1, 0.7)


def test_referral_divides_the_images() -> None:
    held_out = some_held_out(300)
    is_right = held_out.probs.argmax(1) == held_out.truth
    is_referred = held_out.probs.max(1) < 0.6
    found = report(held_out, is_referred)["referred"]
    assert found["share"]["value"] == pytest.approx(is_referred.mean(), abs=1e-6)
    assert found["accuracy_kept"]["value"] == pytest.approx(is_right[~is_referred].mean(), abs=1e-6)
    assert found["accuracy_referred"]["value"] == pytest.approx(is_right[is_referred].mean(), abs=1e-6)


@pytest.mark.parametrize(("everything", "empty"), [(True, "accuracy_kept"), (False, "accuracy_referred")])
def test_what_nobody_is_in_has_no_accuracy(everything: bool, empty: str) -> None:
    found = report(some_held_out(30), np.full(30, everything))["referred"]
    assert found[empty] == {"value": None, "ci_low": None, "ci_high": None}
    assert found["share"]["value"] == float(everything)
