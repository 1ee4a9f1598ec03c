"""Repeats say how far the figures depend on the division into folds; folds of one class give no false numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from microscopy_cls.config import Paths
from microscopy_cls.errors import DataError
from microscopy_cls.evaluation.metrics import out_of_fold_metrics
from microscopy_cls.evaluation.repeats import read_repeats, repeats_report
from microscopy_cls.evaluation.scores import METRICS
from microscopy_cls.system.files import write_parquet

CLASSES = ["alga", "yeast"]
PATHS = Paths("cells")


def table(seed: int, num: int = 40, folds: int = 4) -> pd.DataFrame:
    """Answers that are right three times in four, of groups of one class each, a group a fold."""
    rng = np.random.default_rng(seed)
    rows = np.arange(num)
    fold = rows * folds // num
    truth = fold % 2
    prob = np.where((rng.random(num) < 0.75) == (truth == 0), 0.8, 0.2) + rng.normal(0, 0.01, num)
    return pd.DataFrame(
        {
            "image_id": [f"{row:02}.png" for row in rows], "fold": fold, "label": np.array(CLASSES, object)[truth],
            "prob_alga": prob, "prob_yeast": 1 - prob,
        }
    )  # fmt: skip


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    monkeypatch.chdir(tmp_path)
    first, second = table(0), table(1).assign(fold=lambda rows: (rows["fold"] + 1) % 4)
    write_parquet(PATHS.oof, first)
    write_parquet(PATHS.oof_of(1), second.iloc[::-1])
    return first[["image_id", "label", "fold"]].assign(fold_1=second["fold"])


def test_each_metric_has_the_value_of_each_repeat_and_their_spread() -> None:
    tables = [table(seed) for seed in range(3)]
    found = repeats_report(tables, CLASSES)
    assert found["num"] == 3
    assert set(found) == {"num", *METRICS}
    groups = tables[0]["fold"].astype(str)
    whole = [out_of_fold_metrics(one, groups, CLASSES, resamples=5, positive_class=None) for one in tables]
    for name in METRICS:
        values = [one[name]["value"] for one in whole]
        assert found[name]["values"] == values
        assert found[name]["mean"] == pytest.approx(np.mean(values), abs=1e-6)
        assert found[name]["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)
        assert (found[name]["min"], found[name]["max"]) == (min(values), max(values))


def test_repeats_are_read_in_their_order(manifest: pd.DataFrame) -> None:
    first, second = read_repeats(PATHS, manifest, 2)
    assert first.equals(table(0))
    assert not second.equals(first)


def test_a_repeat_that_is_missing_or_of_other_folds_is_refused(manifest: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"oof_2\.parquet: repeat 2 is not there\. Run prepare and train again"):
        read_repeats(PATHS, manifest, 3)
    with pytest.raises(DataError, match="repeat 1 is not there"):
        read_repeats(PATHS, manifest.drop(columns="fold_1"), 2)
    with pytest.raises(DataError, match=r"oof_1\.parquet: is of other images or folds than .* names\. Run train again"):
        read_repeats(PATHS, manifest.assign(fold_1=manifest["fold"]), 2)


def test_folds_of_one_class_have_no_auroc_and_no_false_numbers() -> None:
    one = table(0)
    metrics = out_of_fold_metrics(one, one["fold"].astype(str), CLASSES, resamples=20, positive_class=None)
    json.dumps(metrics, allow_nan=False)
    assert metrics["auroc_macro"]["fold_values"] == [None] * 4
    assert metrics["auroc_macro"]["value"] is not None, "over all folds both classes are there"
    for fold in range(4):
        of_fold = one[one["fold"] == fold]
        right = ((of_fold["prob_alga"] > 0.5) == (of_fold["label"] == "alga")).mean()
        assert metrics["accuracy"]["fold_values"][fold] == pytest.approx(right)
    binary = metrics["binary"]
    for name, absent in (("sensitivity", {"alga", "yeast"} - {binary["positive_class"]}), ("specificity", None)):
        lacking = one.groupby("fold")["label"].first()
        lacks = lacking.isin(absent) if absent else lacking == binary["positive_class"]
        assert [value is None for value in binary[name]["fold_values"]] == lacks.tolist()
