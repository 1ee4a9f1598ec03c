"""Paired statistics: the values of the published formulas, and no test where there is nothing to test."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, t, ttest_1samp

from microscopy_cls.evaluation.paired import corrected_t_test, discordant, same_division

SIZES = np.array([20, 20, 20, 20, 20])


def test_the_test_over_folds_is_the_usual_one_with_the_variance_corrected_for_shared_training_images() -> None:
    differences = np.array([0.02, 0.05, 0.01, 0.04, 0.03])
    found = corrected_t_test(differences, SIZES, int(SIZES.sum()))
    usual = ttest_1samp(differences, 0)
    assert found is not None
    assert found["t"] == pytest.approx(usual.statistic * math.sqrt((1 / 5) / (1 / 5 + 1 / 4)), abs=1e-6)
    assert found["p_value"] > usual.pvalue
    assert found["num_folds"] == 5


def test_over_the_folds_of_repeats_the_share_of_tested_images_stays_that_of_one() -> None:
    """Bouckaert and Frank 2004: t = mean / sqrt((1 / (k r) + n2 / n1) variance), with k r - 1 degrees of freedom."""
    differences = np.array([0.02, 0.05, 0.01, 0.04, 0.03, 0.00, 0.06, 0.02, 0.03, 0.04])
    found = corrected_t_test(differences, np.tile(SIZES, 2), 100)
    assert found is not None
    expected = differences.mean() / math.sqrt((1 / 10 + 1 / 4) * differences.var(ddof=1))
    assert found["t"] == pytest.approx(expected, abs=1e-6)
    assert found["p_value"] == pytest.approx(2 * t.sf(expected, 9), abs=1e-6)


@pytest.mark.parametrize("differences", [[0.1] * 5, [0.0] * 5, [0.1, np.nan, 0.2, 0.1, 0.3]])
def test_folds_without_variation_or_value_give_no_test(differences: list[float]) -> None:
    assert corrected_t_test(np.array(differences), SIZES, int(SIZES.sum())) is None


def test_discordant_images_are_counted_and_their_p_value_is_that_of_a_fair_coin() -> None:
    right_a = np.array([True] * 8 + [False] * 3 + [True] * 9)
    right_b = np.array([True] * 1 + [False] * 7 + [True] * 3 + [True] * 9)
    found = discordant(right_a, right_b)
    assert (found["only_a_right"], found["only_b_right"]) == (7, 3)
    assert found["mcnemar_p_value"] == pytest.approx(2 * binom.cdf(3, 10, 0.5))


def test_equal_answers_differ_by_chance_alone() -> None:
    right = np.array([True, False])
    assert discordant(right, right) == {"only_a_right": 0, "only_b_right": 0, "mcnemar_p_value": 1.0}


def test_a_division_is_the_same_under_other_names_only() -> None:
    first = pd.Series(["a", "a", "b", "c"])
    assert same_division(first, pd.Series([7, 7, 1, 3]))
    assert not same_division(first, pd.Series(["a", "b", "b", "c"]))
    assert not same_division(first, pd.Series(["a", "a", "a", "c"]))
