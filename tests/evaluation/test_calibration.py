"""Scaled probabilities mean what they say, on images that had no part in the scaling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.evaluation.held import some_held_out

from microscopy_cls.evaluation.calibration import (
    calibrate,
    calibration_report,
    fit_temperature,
    fit_vector,
    reliability,
    reliability_table,
)
from microscopy_cls.evaluation.held_out import HeldOut
from microscopy_cls.evaluation.scores import Predicted, surprise
from microscopy_cls.model.doubt import Scaling, softmax


def mean_loss(held_out: HeldOut, scaling: Scaling) -> float:
    return float(surprise(Predicted(held_out.truth, softmax(scaling.scaled(held_out.logits)))).mean())


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 5.0])
def test_the_temperature_is_the_factor_by_which_logits_are_too_sharp(sharpness: float) -> None:
    held_out = some_held_out(4000, sharpness=sharpness)
    assert fit_temperature(held_out.logits, held_out.truth) == pytest.approx(sharpness, rel=0.07)


def test_no_other_temperature_has_less_log_loss() -> None:
    held_out = some_held_out(sharpness=3.0)
    best = fit_temperature(held_out.logits, held_out.truth)
    losses = [mean_loss(held_out, Scaling.none(4, best * factor)) for factor in (0.9, 1, 1.1)]
    assert losses[1] == min(losses)


def test_an_over_trained_model_is_at_least_twice_as_honest_afterwards() -> None:
    held_out = some_held_out(sharpness=4.0)
    report = calibration_report(held_out, calibrate(held_out, resamples=200), resamples=200)
    assert report["ece_before"]["value"] > 0.1
    assert report["ece_after"]["value"] <= report["ece_before"]["value"] / 2
    assert report["log_loss_after"]["ci_high"] < report["log_loss_before"]["ci_low"]
    assert len(report["temperatures"]) == 5


def test_a_temperature_changes_no_answer() -> None:
    held_out = some_held_out(sharpness=4.0)
    found = calibrate(held_out, resamples=100)
    assert found.method == "temperature"
    np.testing.assert_array_equal(found.probs.argmax(1), held_out.logits.argmax(1))


def test_classes_are_scaled_apart_only_where_that_is_surely_better() -> None:
    assert calibrate(some_held_out(sharpness=2.0), resamples=200).method == "temperature"
    skewed = some_held_out(scale=2.5)
    found = calibrate(skewed, resamples=200)
    assert found.method == "vector"
    plain = skewed.cross_fitted(lambda logits, truth: Scaling.none(4, fit_temperature(logits, truth)))
    losses = [surprise(Predicted(skewed.truth, probs)).mean() for probs in (found.probs, plain)]
    assert losses[0] < losses[1]


def test_a_folds_probabilities_do_not_depend_on_its_labels() -> None:
    held_out = some_held_out(300, scale=2.5)
    inside = held_out.folds == 2
    other = held_out.truth.copy()
    other[inside] = (other[inside] + 1) % 4
    before, after = (one.cross_fitted(fit_vector) for one in (held_out, replace(held_out, truth=other)))
    np.testing.assert_array_equal(before[inside], after[inside])
    assert not np.array_equal(before[~inside], after[~inside])


def test_each_member_is_scaled_by_its_own_fold() -> None:
    held_out = some_held_out(6000)
    logits = held_out.logits.copy()
    logits[held_out.folds == 1] *= 3
    by_fold = calibrate(replace(held_out, logits=logits), resamples=100).by_fold
    assert sorted(by_fold) == [0, 1, 2, 3, 4]
    assert by_fold[1].temperature == pytest.approx(3 * by_fold[0].temperature, rel=0.15)


def test_a_few_images_do_not_lead_far_away() -> None:
    few = some_held_out(6, sharpness=8.0)
    around = Scaling(1.0, np.full(4, 1.5), np.full(4, -0.5))
    found = fit_vector(few.logits, few.truth, around)
    assert abs(np.log(found.temperature)) < 0.7
    np.testing.assert_allclose(found.scale, around.scale, atol=0.2)
    np.testing.assert_allclose(found.bias, around.bias, atol=0.2)


def test_a_fold_without_an_error_does_not_make_answers_certain() -> None:
    logits = 3 * np.eye(3)[np.arange(30) % 3]
    temperature = fit_temperature(logits, np.arange(30) % 3)
    assert softmax(logits / temperature).max() < 0.999


def test_bins_hold_all_images_from_the_least_sure_to_the_surest() -> None:
    held_out = some_held_out(303)
    bins = reliability(Predicted(held_out.truth, held_out.probs), held_out, resamples=100)
    assert sum(one["num_images"] for one in bins) == 303
    assert max(one["num_images"] for one in bins) - min(one["num_images"] for one in bins) <= 1
    confidence = [one["confidence"] for one in bins]
    assert confidence == sorted(confidence)
    assert all(one["ci_low"] <= one["accuracy"] <= one["ci_high"] for one in bins)
    table = reliability_table({"bins_before": bins, "bins_after": bins[:3]})
    assert list(table["calibration"]) == ["before"] * 15 + ["after"] * 3
