"""`metrics.json`: every promised figure, each the same as scikit-learn's, and nothing that JSON does not know."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from microscopy_cls.evaluation.metrics import out_of_fold_metrics
from microscopy_cls.evaluation.scores import METRICS, PER_CLASS

CLASSES = ["alga", "hydra", "yeast"]
FIGURE = {"value", "ci_low", "ci_high", "fold_values"}


def draw(
    seed: int = 0, num: int = 90, classes: list[str] = CLASSES, num_groups: int = 20
) -> tuple[pd.DataFrame, pd.Series]:
    """Out-of-fold table and groups: better than chance, three folds that divide no group."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(len(classes), size=num)
    probs = rng.dirichlet(np.ones(len(classes)), size=num) * 0.6 + 0.4 * np.eye(len(classes))[truth]
    groups = rng.integers(num_groups, size=num)
    names = np.array(classes, dtype=object)
    oof = pd.DataFrame(probs, columns=[f"prob_{name}" for name in classes])
    oof = oof.assign(label=names[truth], predicted=names[probs.argmax(1)], fold=groups % 3)
    return oof, pd.Series([f"slide{group}" for group in groups])


def measure(oof: pd.DataFrame, groups: pd.Series, classes: list[str] = CLASSES, **settings: Any) -> dict[str, Any]:
    return out_of_fold_metrics(oof, groups, classes, **({"resamples": 100, "positive_class": None} | settings))


def figures(value: Any) -> list[dict[str, Any]]:
    """Every figure anywhere inside."""
    if isinstance(value, dict):
        return [value] if set(value) == FIGURE else [found for part in value.values() for found in figures(part)]
    return []


def test_all_promised_entries_are_there() -> None:
    oof, groups = draw()
    metrics = measure(oof, groups)
    assert set(METRICS) <= set(metrics)
    assert metrics["classes"] == CLASSES
    assert (metrics["num_images"], metrics["num_groups"], metrics["num_folds"]) == (90, groups.nunique(), 3)
    assert metrics["interval"] == {"level": 0.95, "resamples": 100, "unit": "group"}
    assert list(metrics["per_class"]) == CLASSES
    assert "binary" not in metrics
    assert len(figures(metrics)) == len(METRICS) + len(CLASSES) * len(PER_CLASS)


def test_every_figure_has_an_interval_that_holds_it_and_a_value_a_fold() -> None:
    metrics = measure(*draw())
    for figure in figures(metrics):
        assert figure["ci_low"] <= figure["value"] <= figure["ci_high"]
        assert len(figure["fold_values"]) == 3


def test_values_and_fold_values_are_those_of_scikit_learn() -> None:
    oof, groups = draw()
    metrics = measure(oof, groups)
    parts = [oof, *(oof[oof["fold"] == fold] for fold in range(3))]
    for name, reference_of in {
        "accuracy": lambda part: reference.accuracy_score(part["label"], part["predicted"]),
        "f1_macro": lambda part: reference.f1_score(part["label"], part["predicted"], average="macro"),
        "recall_macro": lambda part: reference.recall_score(part["label"], part["predicted"], average="macro"),
        "log_loss": lambda part: reference.log_loss(part["label"], part[[f"prob_{name}" for name in CLASSES]]),
    }.items():
        found = [metrics[name]["value"], *metrics[name]["fold_values"]]
        assert found == pytest.approx([reference_of(part) for part in parts], abs=1e-6), name


def test_all_right_is_no_certainty_and_few_groups_give_less_of_it() -> None:
    oof, groups = draw()
    for name in CLASSES:
        oof[f"prob_{name}"] = (oof["label"] == name) * 0.8 + 0.05
    metrics = measure(oof.assign(predicted=oof["label"]), groups)
    low = 0.025 ** (1 / groups.nunique())
    for name in ("accuracy", "f1_macro", "auroc_macro"):
        assert (metrics[name]["value"], metrics[name]["ci_high"]) == (1, 1)
        assert metrics[name]["ci_low"] == pytest.approx(low, abs=1e-6)
    for row in metrics["per_class"].values():
        assert row["recall"]["ci_low"] == pytest.approx(0.025 ** (1 / row["num_groups"]), abs=1e-6)
    assert metrics["log_loss"]["ci_low"] > 0
    wrong = measure(
        oof.assign(label=np.roll(CLASSES, 1)[pd.Categorical(oof["label"], categories=CLASSES).codes]), groups
    )
    assert wrong["accuracy"]["value"] == 0
    assert wrong["accuracy"]["ci_high"] == pytest.approx(1 - low, abs=1e-6)


def test_counts_agree_with_each_other() -> None:
    oof, groups = draw()
    metrics = measure(oof, groups)
    matrix = np.array(metrics["confusion_matrix"])
    assert np.array_equal(matrix, reference.confusion_matrix(oof["label"], oof["predicted"], labels=CLASSES))
    assert [metrics["per_class"][name]["num_images"] for name in CLASSES] == matrix.sum(1).tolist()
    assert np.trace(matrix) / 90 == pytest.approx(metrics["accuracy"]["value"], abs=1e-6)
    assert metrics["majority_accuracy"] == matrix.sum(1).max() / 90
    for name in CLASSES:
        assert metrics["per_class"][name]["num_groups"] == groups[oof["label"] == name].nunique()


def test_the_classes_may_come_in_any_order() -> None:
    oof, groups = draw()
    first, second = measure(oof, groups), measure(oof, groups, CLASSES[::-1])
    assert all(first[name]["value"] == pytest.approx(second[name]["value"], abs=1e-6) for name in METRICS)
    assert first["per_class"] == {name: second["per_class"][name] for name in CLASSES}
    assert np.array_equal(first["confusion_matrix"], np.array(second["confusion_matrix"])[::-1, ::-1])


@pytest.mark.parametrize("classes", [CLASSES, CLASSES[:2]])
def test_a_class_that_a_fold_lacks_leaves_no_nan(classes: list[str]) -> None:
    """DVC and browsers refuse NaN; a figure that does not exist is null."""
    oof, groups = draw(classes=classes)
    kept = (oof["label"] != "alga") | (oof["fold"] == 0)
    oof, groups = oof[kept].reset_index(drop=True), groups[kept].reset_index(drop=True)
    metrics = measure(oof, groups, classes)
    json.dumps(metrics, allow_nan=False)
    assert metrics["per_class"]["alga"]["recall"]["fold_values"][1:] == [None, None]
    assert metrics["per_class"]["alga"]["recall"]["value"] is not None
    assert None not in metrics["f1_macro"]["fold_values"]
    assert (None in metrics["auroc_macro"]["fold_values"]) == (len(classes) == 2)


def test_two_rare_groups_leave_no_nan_in_intervals() -> None:
    oof, groups = draw(num=30, num_groups=3)
    json.dumps(measure(oof, groups), allow_nan=False)


def test_the_same_predictions_give_the_same_figures_and_another_seed_other_intervals() -> None:
    oof, groups = draw()
    assert measure(oof, groups) == measure(oof, groups)
    other = measure(oof, groups, seed=1)
    assert other["accuracy"]["value"] == measure(oof, groups)["accuracy"]["value"]
    assert other["accuracy"] != measure(oof, groups)["accuracy"]


# Two classes


def test_two_classes_have_sensitivity_specificity_and_average_precision_of_the_rarer() -> None:
    oof, groups = draw(classes=["sick", "well"])
    kept = (oof["label"] == "well") | (oof.index % 2 == 0)
    binary = measure(oof[kept].reset_index(drop=True), groups[kept].reset_index(drop=True), ["sick", "well"])["binary"]
    assert binary["positive_class"] == "sick"
    assert 0 < binary["threshold"] < 1
    assert set(binary) == {"positive_class", "threshold", "sensitivity", "specificity", "average_precision"}
    assert all(figure["ci_low"] <= figure["value"] <= figure["ci_high"] for figure in figures(binary))


def test_the_positive_class_may_be_named_and_then_the_two_errors_change_places() -> None:
    oof, groups = draw(classes=["sick", "well"])
    sick, well = (measure(oof, groups, ["sick", "well"], positive_class=name)["binary"] for name in ("sick", "well"))
    assert (sick["positive_class"], well["positive_class"]) == ("sick", "well")
    assert sick["sensitivity"]["value"] == pytest.approx(well["specificity"]["value"], abs=0.05)
    assert math.isclose(sick["threshold"], 1 - well["threshold"], abs_tol=0.05)
