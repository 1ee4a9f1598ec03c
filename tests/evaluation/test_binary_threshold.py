"""The threshold is the one that Youden's index chooses, and never by the fold that it is tested on."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from microscopy_cls.evaluation.binary import binary_scores, cross_fitted_calls, youden_threshold

SEEDS = range(8)


def draw(seed: int, num: int = 90, num_values: int = 10**6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positive, score in 0 to 1, fold."""
    rng = np.random.default_rng(seed)
    positive = np.r_[True, False, rng.random(num - 2) < 0.3]
    score = np.clip(rng.normal(0.4 + 0.2 * positive, 0.15), 0.01, 0.99)
    return positive, np.ceil(score * num_values) / num_values, rng.integers(3, size=num)


def index_at(threshold: float, positive: np.ndarray, score: np.ndarray) -> float:
    called = score >= threshold
    return float(called[positive].mean() - called[~positive].mean())


@pytest.mark.parametrize("num_values", [4, 10**6])
@pytest.mark.parametrize("seed", SEEDS)
def test_no_threshold_has_a_larger_sensitivity_plus_specificity(seed: int, num_values: int) -> None:
    positive, score, _ = draw(seed, num_values=num_values)
    best = max(index_at(threshold, positive, score) for threshold in np.r_[score, 2])
    assert index_at(youden_threshold(positive, score), positive, score) == pytest.approx(best)


def test_the_threshold_lies_halfway_between_two_scores() -> None:
    assert youden_threshold(np.array([False, True, False, True]), np.array([0.2, 0.6, 0.3, 0.9])) == pytest.approx(0.45)
    assert youden_threshold(np.array([True, True]), np.array([0.4, 0.6])) == pytest.approx(0.2)  # nothing lies below


@pytest.mark.parametrize("positive", [[True, True], [False, False]])
def test_one_class_alone_has_some_finite_threshold(positive: list[bool]) -> None:
    assert 0 <= youden_threshold(np.array(positive), np.array([0.3, 0.8])) <= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_labels_of_the_tested_fold_never_influence_its_calls(seed: int) -> None:
    positive, score, folds = draw(seed)
    called = cross_fitted_calls(positive, score, folds)
    for fold in range(3):
        inside = folds == fold
        for labels in (~positive[inside], np.random.default_rng(seed).permutation(positive[inside]), True, False):
            changed = positive.copy()
            changed[inside] = labels
            assert np.array_equal(cross_fitted_calls(changed, score, folds)[inside], called[inside])


@pytest.mark.parametrize("seed", SEEDS)
def test_each_fold_is_called_by_the_threshold_of_the_others(seed: int) -> None:
    positive, score, folds = draw(seed)
    called = cross_fitted_calls(positive, score, folds)
    for fold in range(3):
        inside = folds == fold
        threshold = youden_threshold(positive[~inside], score[~inside])
        assert np.array_equal(called[inside], score[inside] >= threshold)


def test_labels_of_the_other_folds_do_influence_the_calls() -> None:
    positive, score, folds = draw(0)
    changed = np.where(folds == 0, positive, score < 0.3)
    assert not np.array_equal(
        cross_fitted_calls(changed, score, folds)[folds == 0], cross_fitted_calls(positive, score, folds)[folds == 0]
    )


def test_a_threshold_chosen_on_its_own_fold_would_flatter() -> None:
    """On scores without any information the cross-fitted index is about 0; the one chosen on the spot is not."""
    honest, flattering = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        positive, score, folds = rng.random(60) < 0.5, rng.random(60), np.arange(60) % 3
        called = cross_fitted_calls(positive, score, folds)
        honest.append(called[positive].mean() - called[~positive].mean())
        flattering.append(index_at(youden_threshold(positive, score), positive, score))
    assert np.mean(honest) == pytest.approx(0, abs=0.06)
    assert np.mean(flattering) > 0.15


@pytest.mark.parametrize("seed", SEEDS)
def test_the_scores_are_those_of_scikit_learn(seed: int) -> None:
    positive, score, folds = draw(seed, num_values=20)
    called = cross_fitted_calls(positive, score, folds)
    weights = np.random.default_rng(seed).integers(1, 4, size=(3, 90)).astype(float)
    found = binary_scores(positive, called, score, weights)
    for b, weighting in enumerate(weights):
        about = {"sample_weight": weighting}
        assert found["sensitivity"][b] == pytest.approx(reference.recall_score(positive, called, **about))
        assert found["specificity"][b] == pytest.approx(reference.recall_score(~positive, ~called, **about))
        average_precision = reference.average_precision_score(positive, score, **about)
        assert found["average_precision"][b] == pytest.approx(average_precision)


def test_a_weighting_without_one_of_the_classes_has_no_score_of_it() -> None:
    positive, score = np.array([True, False]), np.array([0.8, 0.3])
    found = binary_scores(positive, positive, score, np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert found["sensitivity"].tolist() == pytest.approx([np.nan, 1], nan_ok=True)
    assert found["specificity"].tolist() == pytest.approx([1, np.nan], nan_ok=True)
    assert found["average_precision"].tolist() == pytest.approx([np.nan, 1], nan_ok=True)
