"""A study's page says where a network that it compares has learnt nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd

from microscopy_cls.evaluation.finished import FinishedRun
from microscopy_cls.evaluation.study import unlearnt


def run_that_is_right_on(share: float) -> FinishedRun:
    labels = np.repeat(["alga", "yeast"], [60, 40])
    right = np.random.default_rng(0).random(100) < share
    alga = np.where((labels == "alga") == right, 0.9, 0.1)
    table = {"label": labels, "fold": np.arange(100) % 3, "split_group": [f"g{number}" for number in range(100)]}
    images = pd.DataFrame(table | {"prob_alga": alga, "prob_yeast": 1 - alga}, index=[str(n) for n in range(100)])
    return FinishedRun("run", images, ["alga", "yeast"], {})


def test_a_variant_at_the_level_of_guessing_is_named() -> None:
    told = unlearnt("1x64d", run_that_is_right_on(0.65))
    assert told is not None
    assert told.startswith("1x64d is not shown to be better than always naming the commonest class (60.0 %)")


def test_of_one_that_has_learnt_nothing_is_said() -> None:
    assert unlearnt("1x64d", run_that_is_right_on(0.9)) is None
