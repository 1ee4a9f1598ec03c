"""The page says how far its figures hang on the division into folds, and that a refit was never tested."""

from __future__ import annotations

import json

import pytest
from experiment import SCORES, config, experiment, report, write_complete

SPREAD = {"values": [0.8, 0.84, 0.79], "mean": 0.81, "std": 0.026458, "min": 0.79, "max": 0.84}
REPEATS = {"num": 3, **dict.fromkeys(SCORES, SPREAD)}
REFIT = {"num_epochs": 7, "tested": "data/runs/tiny/tested"}


def with_metrics(paths, **added):
    metrics = json.loads(paths.metrics.read_text())
    paths.metrics.write_text(json.dumps(metrics | added))
    return paths


def test_the_headline_says_how_much_the_figures_hang_on_how_the_folds_were_drawn() -> None:
    shown = report(with_metrics(experiment(), repeats=REPEATS), config(folds={"repeats": 3})).shown
    assert "drawn 3 times 79.0–84.0 %" in shown
    assert (
        "over 3 divisions of the same images, all else equal, accuracy 79.0–84.0 % (standard deviation 2.6 points) and "
        "macro F1 0.790–0.840 (standard deviation 0.026). All else on this page is of the first division." in shown
    )
    assert "Drawn more than once. The images were divided anew" in shown
    assert (
        "repeated on 3 divisions of the images: accuracy 81.0 % on average, with a standard deviation of 2.6" in shown
    )
    assert "one member per fold (3) of the first division" in shown
    assert "Divisions" in shown


def test_folds_that_were_drawn_once_are_not_called_repeated() -> None:
    shown = report(experiment()).shown
    assert "drawn" not in shown
    assert "division" not in shown


def test_a_repeat_without_a_value_is_a_dash() -> None:
    empty = {"values": [None, 0.8], "mean": None, "std": None, "min": None, "max": None}
    shown = report(with_metrics(experiment(), repeats={**REPEATS, "num": 2, "f1_macro": empty})).shown
    assert "macro F1 – (standard deviation –)" in shown


def test_one_group_a_fold_is_named_so() -> None:
    figure = {"value": 0.8, "ci_low": 0.7, "ci_high": 0.9, "fold_values": [None, None, None]}
    paths = with_metrics(experiment(), auroc_macro=figure)
    shown = report(paths, config(folds={"scheme": "leave_one_group_out"})).shown
    assert "3 folds, one a group" in shown
    assert "leave-one-group-out cross-validation (3 folds)" in shown
    assert "One group left out at a time. Each group is a fold." in shown
    assert "Macro AUROC 0.800 0.700–0.900 –" in shown, "no fold has one"


@pytest.mark.parametrize("strategy", ["full", "probe"])
def test_a_refit_is_told_in_the_verdict_the_remarks_and_the_card(strategy: str) -> None:
    settings = config(evaluate={"bundle": "refit"}, finetune={"strategy": strategy})
    paths = with_metrics(experiment(), refit=REFIT)
    if strategy == "probe":
        curves = paths.curves.read_text().splitlines()
        paths.curves.write_text("\n".join([curves[0] + ",penalty", *(line + ",1.0" for line in curves[1:])]))
    shown = report(paths, settings).shown
    assert "A model trained as this one, on the other folds, names 80.0 %" in shown
    caveat = (
        "Figures of the very model that classifies: it was refitted on all images of the folds and never tested. They "
        "are those of the folds’ members, trained in the same way on fewer images."
    )
    assert shown.count(caveat) == 2, "in the verdict and on the card"
    assert "but nothing here tested it" in shown
    assert "one network, refitted on all 24 images after the folds" in shown
    assert "The 3 members that were tested lie in data/runs/tiny/tested" in shown
    assert ("for 7 epochs, the median of the folds, after the folds" in shown) == (strategy == "full")
    assert "The model names" not in shown


@pytest.mark.parametrize(
    ("missing", "tests"),
    [
        ((), "a test split of the same data and an external test set"),
        (("test_split",), "an external test set"),
        (("external_test",), "a test split of the same data"),
    ],
)
def test_what_tested_a_refit_is_named_and_nothing_else(missing: tuple[str, ...], tests: str) -> None:
    paths = write_complete(experiment(), **dict.fromkeys(missing))
    shown = report(with_metrics(paths, refit=REFIT), config(evaluate={"bundle": "refit"})).shown
    assert f"refitted on all images of the folds and never tested but on {tests}. The others are those of the" in shown
    assert f"a little better than the figures, but only {tests} tested it." in shown
    assert "nothing here tested it" not in shown
    one = tests.split(" and ", maxsplit=1)[0]
    assert f"On {one} the refit names" in shown
    assert "one model, trained on all images of the folds, had an accuracy of" in shown
    assert "the mean of all" not in shown


def test_what_classifies_is_named_beside_the_prediction_sets_and_the_tests() -> None:
    paths = write_complete(experiment())
    assert (
        "for the mean of several models, which classification gives unless told otherwise, nothing"
        in report(paths).shown
    )
    shown = report(with_metrics(paths, refit=REFIT), config(evaluate={"bundle": "refit"})).shown
    assert "for the refit, which classifies, and was trained on all of them, nothing is promised" in shown
    assert "several models" not in shown
    assert "In cross-validation one model answers, here the refit on all folds, which" in shown
