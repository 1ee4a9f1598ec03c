"""An interval holds its value, narrows with more groups, and knows that images of one group are not independent."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from microscopy_cls.evaluation import intervals
from microscopy_cls.evaluation.figures import figures
from microscopy_cls.evaluation.intervals import Array, Scores, group_resamples, interval, with_intervals
from microscopy_cls.evaluation.scores import Predicted, all_scores


def names(values: NDArray[np.int64]) -> NDArray[np.object_]:
    return np.array([f"g{value}" for value in values], dtype=object)


def simulate(seed: int, num_groups: int, per_group: int) -> tuple[Array, NDArray[np.object_]]:
    """Right or wrong by image, and groups; groups differ in how easy they are, the mean is 0.8."""
    rng = np.random.default_rng(seed)
    easy = rng.beta(4, 1, size=num_groups)
    right = (rng.random((num_groups, per_group)) < easy[:, None]).ravel().astype(float)
    return right, names(np.repeat(np.arange(num_groups), per_group))


def accuracy_of(right: Array) -> Scores:
    return lambda weights: {"accuracy": weights @ right / weights.sum(1)}


def limits(right: Array, groups: NDArray[np.object_], num: int = 400) -> tuple[float, float]:
    ((_, _, low, high, _),) = with_intervals(accuracy_of(right), groups, np.arange(len(right)) % 3, num, seed=0)
    return float(low), float(high)


def width(right: Array, groups: NDArray[np.object_]) -> float:
    low, high = limits(right, groups)
    return high - low


# Resamples


def test_images_of_one_group_come_and_go_together() -> None:
    groups = names(np.random.default_rng(0).integers(9, size=40))
    weights = np.concatenate(list(group_resamples(groups, 50, seed=0)))
    assert weights.shape == (50, 40)
    by_group = pd.DataFrame(weights.T).groupby(groups)
    assert (by_group.nunique() == 1).all(axis=None)
    assert (by_group.first().sum() == len(set(groups))).all()  # as many draws as groups
    assert (weights == weights.round()).all()


def test_each_group_is_drawn_once_on_average() -> None:
    groups = names(np.repeat(np.arange(8), 3))
    weights = np.concatenate(list(group_resamples(groups, 4000, seed=1)))
    assert weights.mean(0) == pytest.approx(np.ones(24), abs=0.06)


def test_the_seed_alone_decides_and_chunks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = names(np.arange(12) // 2)
    first = np.concatenate(list(group_resamples(groups, 30, seed=3)))
    assert not np.array_equal(first, np.concatenate(list(group_resamples(groups, 30, seed=4))))
    monkeypatch.setattr(intervals, "CELLS_AT_ONCE", 50)
    chunks = list(group_resamples(groups, 30, seed=3))
    assert len(chunks) == 8
    assert np.array_equal(np.concatenate(chunks), first)


def test_the_order_of_images_changes_no_weight() -> None:
    groups = names(np.random.default_rng(0).integers(9, size=40))
    order = np.random.default_rng(1).permutation(40)
    first = np.concatenate(list(group_resamples(groups, 20, seed=0)))
    assert np.array_equal(first[:, order], np.concatenate(list(group_resamples(groups[order], 20, seed=0))))


# Percentiles


def test_of_many_groups_the_interval_holds_the_middle_95_percent() -> None:
    low, high = interval(np.arange(1001.0)[:, None] / 1000, 100_000)
    assert (low[0], high[0]) == pytest.approx((0.025, 0.975), abs=1e-4)


def test_of_fewer_groups_it_reaches_further_out() -> None:
    values = np.random.default_rng(0).normal(size=4000)[:, None]
    widths = [np.subtract(*interval(values, num)[::-1])[0] for num in (2, 3, 5, 8, 20, 800)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == pytest.approx(2 * 12.706 * 2**0.5, rel=0.02)  # Student's with one degree of freedom
    assert widths[-1] == pytest.approx(2 * 1.96, rel=0.03)


def test_of_one_group_there_is_no_interval() -> None:
    assert np.isnan(interval(np.ones((50, 1)), 1)).all()
    right, groups = np.array([1.0, 1, 0]), names(np.zeros(3, np.int64))
    found = figures(accuracy_of(right), groups, resamples=50, shares={"accuracy": 1})
    assert found["accuracy"] == {"value": 0.666667, "ci_low": 0.0, "ci_high": 1.0}


def test_a_share_s_interval_ends_at_0_and_1() -> None:
    right, groups = np.array([1.0, 1, 1, 0]), names(np.array([0, 0, 1, 1]))
    found = figures(accuracy_of(right), groups, resamples=200, shares={"accuracy": 2})
    assert found["accuracy"] == {"value": 0.75, "ci_low": 0.0, "ci_high": 1.0}


def test_resamples_without_a_value_do_not_count_and_without_any_there_is_no_interval() -> None:
    values = np.stack([np.r_[np.arange(1001.0), [np.nan] * 99], np.full(1100, np.nan)], 1)
    low, high = interval(values, 100_000)
    assert (low[0], high[0]) == pytest.approx((25, 975), abs=0.1)
    assert np.isnan([low[1], high[1]]).all()


# Laws


def draws(num: int) -> Iterator[tuple[Predicted, NDArray[np.object_], NDArray[np.int64]]]:
    for seed in range(num):
        rng = np.random.default_rng(seed)
        num_classes, size = int(rng.integers(2, 5)), int(rng.choice([25, 90]))
        probs = rng.dirichlet(np.full(num_classes, 0.4), size=size)
        truth = np.array([rng.choice(num_classes, p=row) for row in probs])
        yield Predicted(truth, probs), names(rng.integers(size // 2, size=size)), rng.integers(3, size=size)


def test_every_interval_holds_its_value() -> None:
    """The calibration error among them, which resampling raises."""
    for predicted, groups, folds in draws(20):

        def overall(weights: Array, predicted: Predicted = predicted) -> dict[str, Array]:
            return all_scores(predicted, weights)[0]

        for name, value, low, high, _ in with_intervals(overall, groups, folds, 200, seed=0):
            assert low <= value <= high, name


def test_fold_values_are_the_scores_of_the_fold_alone() -> None:
    right, groups = simulate(0, 12, 5)
    folds = np.repeat([4, 0, 2], 20)
    ((_, value, _, _, per_fold),) = with_intervals(accuracy_of(right), groups, folds, 100, seed=0)
    assert value == right.mean()
    assert per_fold == pytest.approx([right[folds == fold].mean() for fold in (0, 2, 4)])


def test_more_groups_narrow_the_interval() -> None:
    widths = [width(*simulate(0, num_groups, 4)) for num_groups in (10, 40, 160, 640)]
    assert widths == sorted(widths, reverse=True)
    assert widths[1] / widths[3] == pytest.approx(4, rel=0.3)  # by the root of their number


def test_more_images_of_the_same_groups_hardly_narrow_it() -> None:
    rng = np.random.default_rng(0)
    easy = rng.beta(4, 1, size=40)
    few, many = (
        width((rng.random((40, num)) < easy[:, None]).ravel().astype(float), names(np.repeat(np.arange(40), num)))
        for num in (20, 200)
    )
    assert many == pytest.approx(few, rel=0.2)


def test_on_correlated_images_the_grouped_interval_is_the_wider_one() -> None:
    for seed in range(10):
        right, groups = simulate(seed, 30, 10)
        assert width(right, groups) > 1.2 * width(right, names(np.arange(300)))


def test_on_independent_images_grouping_hardly_matters() -> None:
    right = (np.random.default_rng(0).random(600) < 0.8).astype(float)
    assert width(right, names(np.arange(600) // 3)) == pytest.approx(width(right, names(np.arange(600))), rel=0.2)


@pytest.mark.parametrize(("num_groups", "least"), [(3, 0.9), (5, 0.9), (8, 0.88), (15, 0.9)])
def test_of_few_groups_too_it_covers_the_truth_nearly_as_often_as_it_says(num_groups: int, least: float) -> None:
    """300 simulated studies each; plain quantiles of the resamples cover it in 68, 84, 85 and 91 %."""
    covered = 0
    for seed in range(300):
        low, high = limits(*simulate(seed, num_groups, 6), num=300)
        covered += low <= 0.8 <= high
    assert covered / 300 >= least


def test_the_interval_covers_the_truth_about_95_times_in_100() -> None:
    """300 simulated studies of 40 groups; an interval over images alone covers it in about 86 %."""
    grouped = images = 0
    for seed in range(300):
        right, groups = simulate(seed, 40, 6)
        low, high = limits(right, groups, num=300)
        grouped += low <= 0.8 <= high
        low, high = limits(right, names(np.arange(240)), num=300)
        images += low <= 0.8 <= high
    assert 0.91 <= grouped / 300 <= 0.98
    assert images < grouped


def test_predictions_that_are_all_right_have_no_spread() -> None:
    right, groups = simulate(0, 10, 3)
    assert limits(np.ones_like(right), groups) == (1, 1)
