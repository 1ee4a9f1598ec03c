"""Every metric is scikit-learn's, for all images, for weighted ones, with ties and with a class that is not there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from microscopy_cls.evaluation.scores import (
    METRICS,
    PER_CLASS,
    Array,
    Predicted,
    all_scores,
    average_precision,
    binary_auroc,
    calibration_error,
    class_totals,
    confusion_counts,
    scores_of_answers,
)

SEEDS = range(6)


def draw(seed: int, num: int = 120, num_classes: int = 4, *, ties: bool = False) -> Predicted:
    """Predictions that are better than chance; with `ties`, of few distinct probabilities."""
    rng = np.random.default_rng(seed)
    truth = np.r_[
        np.arange(num_classes), rng.choice(num_classes, num - num_classes, p=rng.dirichlet([4] * num_classes))
    ]
    alpha = np.ones((num, num_classes)) + 2 * np.eye(num_classes)[truth]
    if ties:
        counts = np.array([rng.multinomial(6, row / row.sum()) for row in alpha]) + 1
        return Predicted(truth, counts / counts.sum(1, keepdims=True))
    return Predicted(truth, np.array([rng.dirichlet(row) for row in alpha]))


def expected(predicted: Predicted, weights: Array) -> dict[str, float | Array]:
    """The same by scikit-learn; classes without truth are left out of means."""
    truth, top, probs = predicted.truth, predicted.top, predicted.probs
    present = sorted(set(truth[weights > 0]))
    about = {"sample_weight": weights, "labels": present, "zero_division": 0.0}
    precision, recall, f1, _ = reference.precision_recall_fscore_support(truth, top, average=None, **about)
    auroc = [reference.roc_auc_score(truth == k, probs[:, k], sample_weight=weights) for k in present]
    return {
        "accuracy": reference.accuracy_score(truth, top, sample_weight=weights),
        "balanced_accuracy": recall.mean(),
        "f1_macro": reference.f1_score(truth, top, average="macro", **about),
        "f1_weighted": reference.f1_score(truth, top, average="weighted", **about),
        "precision_macro": reference.precision_score(truth, top, average="macro", **about),
        "recall_macro": reference.recall_score(truth, top, average="macro", **about),
        "auroc_macro": np.mean(auroc),
        "log_loss": reference.log_loss(truth, probs, labels=range(probs.shape[1]), sample_weight=weights),
        "precision": precision, "recall": recall, "f1": f1, "auroc": np.array(auroc),
    }  # fmt: skip


def agrees(predicted: Predicted, weights: Array) -> None:
    overall, per_class = all_scores(predicted, weights[None])
    wanted = expected(predicted, weights)
    present = sorted(set(predicted.truth[weights > 0]))
    for name in set(METRICS) - {"ece"}:
        assert overall[name][0] == pytest.approx(wanted[name], abs=1e-12), name
    for name in PER_CLASS:
        assert per_class[name][0, present] == pytest.approx(wanted[name], abs=1e-12), name
        absent = np.setdiff1d(range(predicted.num_classes), present)
        assert np.isnan(per_class[name][0, absent]).all()


def test_scores_without_ranking_are_the_same_but_for_the_auroc() -> None:
    weights = np.random.default_rng(0).poisson(1, (5, 120)).astype(float)
    whole, part = all_scores(draw(0), weights), scores_of_answers(draw(0), weights)
    for every, some, missing in zip(whole, part, ("auroc_macro", "auroc"), strict=True):
        assert set(every) - set(some) == {missing}
        for name, values in some.items():
            np.testing.assert_array_equal(values, every[name])


def test_all_promised_metrics_are_there_and_have_one_value_a_weighting() -> None:
    overall, per_class = all_scores(draw(0), np.ones((7, 120)))
    assert tuple(overall) == METRICS
    assert tuple(per_class) == PER_CLASS
    assert {values.shape for values in overall.values()} == {(7,)}
    assert {values.shape for values in per_class.values()} == {(7, 4)}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("num_classes", [2, 3, 5])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_metric_is_that_of_scikit_learn(seed: int, num_classes: int, ties: bool) -> None:
    agrees(draw(seed, num_classes=num_classes, ties=ties), np.ones(120))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_weighted_metric_is_that_of_scikit_learn(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    agrees(draw(seed, ties=ties), rng.uniform(0.1, 3, size=120))
    agrees(draw(seed, ties=ties), np.r_[np.ones(4), rng.integers(0, 3, size=116)])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_fold_is_a_weighting_and_so_is_a_part_without_some_class(seed: int) -> None:
    predicted = draw(seed, ties=seed % 2 == 0)
    agrees(predicted, (np.random.default_rng(seed).integers(3, size=120) == 0).astype(float))
    agrees(predicted, (predicted.truth != 1).astype(float))
    agrees(predicted, np.isin(predicted.truth, [0, 3]).astype(float))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_integer_weights_are_repeated_images(seed: int, ties: bool) -> None:
    """What the bootstrap draws twice counts twice. The calibration error's bins are those of all images by intent."""
    predicted = draw(seed, ties=ties)
    weights = np.random.default_rng(seed).integers(0, 4, size=120)
    repeated = Predicted(predicted.truth.repeat(weights), predicted.probs.repeat(weights, axis=0))
    weighted, by_class = all_scores(predicted, weights[None].astype(float))
    plain, plain_by_class = all_scores(repeated, np.ones((1, weights.sum())))
    for name in set(METRICS) - {"ece"}:
        assert weighted[name] == pytest.approx(plain[name], abs=1e-12)
    for name in PER_CLASS:
        assert by_class[name] == pytest.approx(plain_by_class[name], abs=1e-12, nan_ok=True)


def test_many_weightings_at_once_are_each_as_alone() -> None:
    predicted, weights = draw(1), np.random.default_rng(1).uniform(0, 2, size=(9, 120))
    together, by_class = all_scores(predicted, weights)
    for b in range(9):
        alone, alone_by_class = all_scores(predicted, weights[b : b + 1])
        assert all(together[name][b] == pytest.approx(alone[name][0], abs=1e-12) for name in METRICS)
        assert all(by_class[name][b] == pytest.approx(alone_by_class[name][0], abs=1e-12) for name in PER_CLASS)


@pytest.mark.parametrize("ties", [False, True])
def test_neither_the_order_of_images_nor_the_size_of_weights_counts(ties: bool) -> None:
    predicted, rng = draw(2, ties=ties), np.random.default_rng(2)
    weights, order = rng.uniform(0.5, 2, size=(3, 120)), rng.permutation(120)
    shuffled = Predicted(predicted.truth[order], predicted.probs[order])
    for changed, weighting in ((shuffled, weights[:, order]), (predicted, 10 * weights)):
        for part, other in zip(all_scores(predicted, weights), all_scores(changed, weighting), strict=True):
            assert all(part[name] == pytest.approx(other[name], abs=1e-12) for name in part)


# Corners


def test_perfect_predictions_have_the_best_of_every_metric() -> None:
    truth = np.arange(30) % 3
    overall, per_class = all_scores(Predicted(truth, np.eye(3)[truth]), np.ones((1, 30)))
    best = dict.fromkeys(METRICS, 1.0) | {"log_loss": 0.0, "ece": 0.0}
    assert {name: float(values[0]) for name, values in overall.items()} == pytest.approx(best)
    assert all((values == 1).all() for values in per_class.values())


def test_a_class_that_is_never_predicted_has_precision_and_f1_zero() -> None:
    predicted = Predicted(np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]))
    overall, per_class = all_scores(predicted, np.ones((1, 3)))
    assert per_class["precision"][0].tolist() == [2 / 3, 0]
    assert per_class["f1"][0].tolist() == [0.8, 0]
    assert overall["f1_macro"][0] == pytest.approx(0.4)


def test_a_weighting_of_one_class_has_no_auroc_and_one_recall() -> None:
    predicted = Predicted(np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]))
    overall, per_class = all_scores(predicted, np.array([[1.0, 1.0, 0.0]]))
    assert np.isnan(overall["auroc_macro"][0])
    assert overall["balanced_accuracy"][0] == 0.5
    assert per_class["recall"][0, 0] == 0.5
    assert np.isnan(per_class["recall"][0, 1])


def test_one_certain_error_keeps_the_log_loss_finite() -> None:
    overall, _ = all_scores(Predicted(np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]])), np.ones((1, 2)))
    assert 10 < overall["log_loss"][0] < 40


def test_confusion_rows_are_truth_and_columns_what_was_predicted() -> None:
    predicted = draw(3)
    weights = np.random.default_rng(3).integers(0, 3, size=(2, 120)).astype(float)
    for counts, weighting in zip(confusion_counts(predicted, weights), weights, strict=True):
        wanted = reference.confusion_matrix(predicted.truth, predicted.top, labels=range(4), sample_weight=weighting)
        assert np.array_equal(counts, wanted)


def test_totals_of_classes_are_those_of_the_confusion_counts() -> None:
    predicted = draw(3)
    weights = np.random.default_rng(3).integers(0, 3, size=(2, 120)).astype(float)
    counts = confusion_counts(predicted, weights)
    wanted = np.diagonal(counts, axis1=1, axis2=2), counts.sum(2), counts.sum(1)
    for found, total in zip(class_totals(predicted, weights), wanted, strict=True):
        assert np.array_equal(found, total)


# Ranking scores


RANKING: dict[str, tuple[Callable[..., Array], Callable[..., float]]] = {
    "auroc": (binary_auroc, reference.roc_auc_score),
    "average precision": (average_precision, reference.average_precision_score),
}


@pytest.mark.parametrize("num_values", [2, 5, 10**6])
@pytest.mark.parametrize("name", RANKING)
@pytest.mark.parametrize("seed", SEEDS)
def test_ranking_scores_are_those_of_scikit_learn_with_ties(seed: int, name: str, num_values: int) -> None:
    ours, theirs = RANKING[name]
    rng = np.random.default_rng(seed)
    positive = np.r_[True, False, rng.random(80) < 0.3]
    score = rng.integers(num_values, size=82) / num_values + 0.2 * positive
    weights = rng.integers(1, 4, size=(5, 82)).astype(float)
    for found, weighting in zip(ours(positive, score, weights), weights, strict=True):
        assert found == pytest.approx(theirs(positive, score, sample_weight=weighting), abs=1e-12)


@pytest.mark.parametrize("name", RANKING)
def test_ranking_scores_without_a_positive_do_not_exist(name: str) -> None:
    ours, _ = RANKING[name]
    assert np.isnan(ours(np.array([True, False]), np.array([0.3, 0.4]), np.array([[0.0, 1.0]]))[0])


# Calibration


def two_classes(confidence: Array, right: NDArray[np.bool_]) -> Predicted:
    """The top class is always 0; it is right where told."""
    return Predicted((~right).astype(np.int64), np.stack([confidence, 1 - confidence], 1))


def one_weighting(predicted: Predicted) -> float:
    return float(calibration_error(predicted, np.ones((1, len(predicted.truth))))[0])


@pytest.mark.parametrize("gap", [0.0, 0.05, 0.2, -0.1])
def test_the_calibration_error_is_the_known_gap(gap: float) -> None:
    """Right with probability confidence - gap: zero for calibrated predictions, but for what chance adds."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.6, 0.85, size=30_000)
    assert one_weighting(two_classes(confidence, rng.random(30_000) < confidence - gap)) == pytest.approx(
        abs(gap), abs=0.012
    )


def test_the_calibration_error_is_zero_when_each_confidence_is_right_so_often() -> None:
    confidence = np.array([0.75] * 40 + [0.6] * 40)
    assert one_weighting(two_classes(confidence, np.r_[np.arange(40) % 4 > 0, np.arange(40) % 5 > 1])) == pytest.approx(
        0
    )


def test_equal_confidences_are_one_bin_in_whatever_order_they_come() -> None:
    """Sorted by class, as manifests are, the right ones come first: bins by position would see a gap everywhere."""
    right = np.arange(200) < 160
    assert one_weighting(two_classes(np.full(200, 0.8), right)) == pytest.approx(0)
    assert one_weighting(two_classes(np.full(200, 0.8), right[::-1])) == pytest.approx(0)


def test_errors_that_cancel_over_all_images_do_not_cancel_between_bins() -> None:
    confidence = np.r_[np.full(100, 0.6), np.full(100, 0.9)]
    right = np.r_[np.arange(100) < 90, np.arange(100) < 60]
    assert one_weighting(two_classes(confidence, right)) == pytest.approx(0.3)


def test_fewer_images_than_bins_have_a_calibration_error_too() -> None:
    assert one_weighting(two_classes(np.array([0.9, 0.6]), np.array([True, False]))) == pytest.approx((0.1 + 0.6) / 2)
