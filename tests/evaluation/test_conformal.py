"""Prediction sets hold the right class as often as was asked for, in each class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.evaluation.held import some_held_out

from microscopy_cls.evaluation.conformal import class_thresholds, conformal_report, cross_fitted_sets, is_coarse
from microscopy_cls.evaluation.held_out import HeldOut
from microscopy_cls.model.doubt import Scaling


def as_it_is(logits: np.ndarray, truth: np.ndarray) -> Scaling:
    assert len(logits) == len(truth)
    return Scaling.none(logits.shape[1])


def covered(held_out: HeldOut, sets: np.ndarray) -> np.ndarray:
    return sets[np.arange(len(sets)), held_out.truth]


@pytest.mark.parametrize("target", [0.8, 0.9, 0.95])
def test_coverage_is_what_was_asked_for_in_each_class(target: float) -> None:
    held_out = some_held_out(6000)
    is_covered = covered(held_out, cross_fitted_sets(held_out, as_it_is, target))
    assert is_covered.mean() == pytest.approx(target, abs=0.02)
    for label in range(4):
        assert is_covered[held_out.truth == label].mean() == pytest.approx(target, abs=0.03)


def test_coverage_holds_also_where_probabilities_mean_nothing() -> None:
    held_out = some_held_out(3000)
    nonsense = replace(held_out, logits=np.random.default_rng(1).normal(size=(3000, 4)))
    assert covered(held_out, cross_fitted_sets(nonsense, as_it_is, 0.9)).mean() == pytest.approx(0.9, abs=0.025)


def test_a_folds_sets_do_not_depend_on_its_labels() -> None:
    held_out = some_held_out(300)
    inside = held_out.folds == 2
    other = np.where(inside, (held_out.truth + 1) % 4, held_out.truth)
    before = cross_fitted_sets(held_out, as_it_is, 0.9)
    after = cross_fitted_sets(replace(held_out, truth=other), as_it_is, 0.9)
    np.testing.assert_array_equal(before[inside], after[inside])


def test_a_folds_sets_depend_on_scalings_of_other_folds_alone() -> None:
    held_out, seen = some_held_out(300), []

    def fit(logits: np.ndarray, truth: np.ndarray) -> Scaling:
        seen.append({one.tobytes() for one in logits})
        return Scaling.none(4, 2.0)

    cross_fitted_sets(held_out, fit, 0.9)
    for fold, logits in enumerate(seen):
        assert not logits & {one.tobytes() for one in held_out.logits[held_out.folds == fold]}


@pytest.mark.parametrize(("num", "rank"), [(9, 1), (18, 1), (19, 2), (99, 10)])
def test_the_threshold_counts_the_image_to_come(num: int, rank: int) -> None:
    """The rank is n + 1 - ceil((n + 1) * 0.9); with 9 images the lowest, with 8 none."""
    probs = np.full((num, 2), 0.5)
    probs[:, 0] = np.linspace(0.1, 0.9, num)
    (threshold, _) = class_thresholds(probs, np.zeros(num, np.int64), 0.9)
    assert threshold == probs[rank - 1, 0]


def test_a_class_with_too_few_images_takes_the_threshold_of_all() -> None:
    probs = np.full((108, 2), 0.5)
    probs[:100, 0], probs[100:, 1] = np.linspace(0.2, 0.9, 100), 0.95
    truth = np.repeat([0, 1], [100, 8])
    own, common = class_thresholds(probs, truth, 0.9)
    given = np.sort(np.concatenate([probs[:100, 0], probs[100:, 1]]))
    assert own == np.sort(probs[:100, 0])[9]
    assert common == given[109 - 99 - 1]
    (alone, _) = class_thresholds(probs[:3], truth[:3], 0.9)
    assert alone == 0, "with hardly any image at all, every class is in the set"


@pytest.mark.parametrize(("num", "coarse"), [(0, True), (8, True), (18, True), (19, False), (100, False)])
def test_a_threshold_that_hangs_on_one_image_is_coarse(num: int, coarse: bool) -> None:
    assert is_coarse(num, 0.9) == coarse


def test_the_report_counts_every_image_once() -> None:
    held_out = some_held_out(600)
    held_out = replace(held_out, truth=np.where(np.arange(600) < 10, 3, held_out.truth % 3))
    sets = cross_fitted_sets(held_out, as_it_is, 0.9)
    thresholds = class_thresholds(held_out.probs, held_out.truth, 0.9)
    report = conformal_report(held_out, sets, thresholds, 0.9, resamples=100)
    assert report["coarse_classes"] == ["d"]
    assert report["num_calibration"]["d"] == 10
    assert sum(report["set_sizes"].values()) == 600
    sizes = sum(int(size) * num for size, num in report["set_sizes"].items())
    assert report["mean_set_size"]["value"] == pytest.approx(sizes / 600, abs=1e-6)
    assert report["coverage"]["value"] == pytest.approx(covered(held_out, sets).mean(), abs=1e-6)
    assert list(report["coverage_per_class"]) == list(report["thresholds"]) == list("abcd")
    for figure in (report["coverage"], *report["coverage_per_class"].values()):
        assert figure["ci_low"] <= figure["value"] <= figure["ci_high"]
