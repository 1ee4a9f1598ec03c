"""Scores are scikit-learn's, over the answered inputs whose label is a class; what is left out is said."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from microscopy_cls.inference.batch.scoring import Score, score

CLASSES = ("a", "b", "c")


def rows_of(*rows: tuple[str | None, str | None]) -> pd.DataFrame:
    """Rows of (label, answer); no answer is a failure."""
    found = [{"label": label, "predicted": answer, "status": "ok" if answer else "failed"} for label, answer in rows]
    return pd.DataFrame(found, columns=["label", "predicted", "status"])


def scored(*rows: tuple[str | None, str | None]) -> Score:
    found = score(rows_of(*rows), CLASSES)
    assert found is not None
    return found


def test_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, answers = rng.choice(CLASSES, 200).tolist(), rng.choice(CLASSES, 200).tolist()
    found = scored(*zip(truth, answers, strict=True))
    assert found.accuracy == found.accuracy_all == pytest.approx(accuracy_score(truth, answers))
    assert found.f1_macro == pytest.approx(f1_score(truth, answers, average="macro"))
    assert [list(row) for row in found.confusion] == confusion_matrix(truth, answers, labels=CLASSES).tolist()
    columns = np.transpose([[one.precision, one.recall, one.f1, one.support] for one in found.per_class])
    np.testing.assert_allclose(columns, precision_recall_fscore_support(truth, answers, labels=CLASSES))


def test_failed_inputs_are_wrong_in_the_accuracy_of_all_and_absent_elsewhere() -> None:
    found = scored(("a", "a"), ("a", "b"), ("b", "b"), ("b", None))
    assert (found.accuracy, found.accuracy_all) == (pytest.approx(2 / 3), pytest.approx(2 / 4))
    assert (found.num_labelled, found.num_answered, found.num_failed) == (4, 3, 1)
    assert sum(map(sum, found.confusion)) == 3
    assert found.lines() == [
        "accuracy 66.7%, macro F1 0.667, of 3 labelled inputs",
        "accuracy 50.0% of all 4 labelled inputs, with the 1 failed ones as wrong",
    ]


def test_labels_that_are_no_class_are_counted_and_named_and_change_no_figure() -> None:
    known = [("a", "a"), ("b", "c")]
    found = scored(*known, ("Unsure", "a"), ("x", None), ("Unsure", "b"))
    assert found.unknown == {"Unsure": 2, "x": 1}
    assert found.lines()[-1] == "3 inputs are not scored, as the model has no such class: Unsure (2), x (1)"
    alone = scored(*known)
    assert asdict(found) | {"unknown": {}} == asdict(alone)


def test_of_very_many_unknown_labels_the_line_names_the_first() -> None:
    (line,) = scored(*((f"label {number}", "a") for number in range(30))).lines()
    assert line.startswith("30 inputs are not scored")
    assert line.endswith(", ...")
    assert line.count("(1)") == 10


def test_inputs_without_a_label_are_left_out() -> None:
    found = scored(("a", "a"), (None, "b"), ("", "b"), (float("nan"), None))  # type: ignore[arg-type]
    assert (found.num_labelled, found.accuracy, found.unknown) == (1, 1.0, {})


def test_without_any_label_there_is_no_score() -> None:
    assert score(rows_of(("a", "a")).drop(columns="label"), CLASSES) is None
    assert score(rows_of((None, "a"), ("", "b")), CLASSES) is None
    assert score(rows_of(), CLASSES) is None


def test_what_is_undefined_is_no_number() -> None:
    by_name = {one.name: one for one in scored(("a", "b")).per_class}
    assert (by_name["a"].precision, by_name["a"].recall, by_name["a"].f1) == (None, 0, 0)
    assert (by_name["b"].precision, by_name["b"].recall, by_name["b"].f1) == (0, None, 0)
    assert (by_name["c"].precision, by_name["c"].recall, by_name["c"].f1) == (None, None, None)
    failed = scored(("a", None))
    assert (failed.accuracy, failed.accuracy_all, failed.f1_macro) == (None, 0, None)
    assert scored(("x", "a")).accuracy_all is None


def test_labels_that_are_numbers_are_compared_as_text() -> None:
    rows = pd.DataFrame({"label": [0, 1], "predicted": ["0", "0"], "status": "ok"})
    found = score(rows, ("0", "1"))
    assert found is not None
    assert found.accuracy == 0.5


@pytest.mark.parametrize("rows", [[("a", "a"), ("b", "c")], [("a", None)], [("x", "a")]])
def test_a_score_is_json(rows: list[tuple[str, str]]) -> None:
    assert json.loads(json.dumps(asdict(scored(*rows)), allow_nan=False))["unknown"] is not None
