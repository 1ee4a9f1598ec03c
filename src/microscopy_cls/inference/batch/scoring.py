"""How often the answers are those that the inputs' own table gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

LABEL = "label"
NUM_NAMED = 10  # labels that are no class, in a line on the terminal


@dataclass(frozen=True)
class ClassScore:
    """One class; None where nothing was named so (precision), nothing is so (recall), or neither (f1)."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class Score:
    """Answers against labels. Inputs whose label is no class of the model are in none of the figures but `unknown`.

    Attributes:
        num_labelled: inputs whose label is a class.
        num_answered: of these, those with an answer.
        accuracy: over the answered ones; None where there are none.
        accuracy_all: over all labelled ones, a failed one being wrong; None where there are none.
        f1_macro: over the classes that occur as label or answer, as scikit-learn has it; None where none was answered.
        per_class: in index order.
        confusion: counts of the answered ones, a row a label, a column an answer, in index order.
        unknown: labels that are no class of the model, with their counts, the most frequent first.
    """

    num_labelled: int
    num_answered: int
    accuracy: float | None
    accuracy_all: float | None
    f1_macro: float | None
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    unknown: dict[str, int]

    @property
    def num_failed(self) -> int:
        """Labelled inputs without an answer."""
        return self.num_labelled - self.num_answered

    def lines(self) -> list[str]:
        """The figures over all classes, to be printed."""
        lines = []
        if self.accuracy is not None:
            lines.append(
                f"accuracy {self.accuracy:.1%}, macro F1 {self.f1_macro:.3f}, of {self.num_answered} labelled inputs"
            )
        if self.num_failed:
            lines.append(
                f"accuracy {self.accuracy_all:.1%} of all {self.num_labelled} labelled inputs, with the "
                f"{self.num_failed} failed ones as wrong"
            )
        if self.unknown:
            named = [f"{name} ({count})" for name, count in list(self.unknown.items())[:NUM_NAMED]]
            more = ["..."] if len(self.unknown) > NUM_NAMED else []
            lines.append(
                f"{sum(self.unknown.values())} inputs are not scored, as the model has no such class: "
                f"{', '.join(named + more)}"
            )
        return lines


def labels_of(rows: pd.DataFrame) -> pd.Series:
    """The labels as text, empty where there is none."""
    if LABEL not in rows:
        return pd.Series("", index=rows.index)
    return rows[LABEL].where(rows[LABEL].notna(), "").astype(str)


def score(rows: pd.DataFrame, classes: Sequence[str]) -> Score | None:
    """Compare answers with labels.

    Args:
        rows: with `status, predicted` and perhaps `label`, which may be missing (null or empty) in some.
        classes: of the model, in index order.

    Returns:
        None where no row has a label.
    """
    labels = labels_of(rows)
    if not labels.ne("").any():
        return None
    from sklearn import metrics  # takes most of a second, and most classifications are not scored

    known = labels.isin(list(classes))
    answered = known & (rows["status"] == "ok")
    truth = labels[answered].to_numpy(object)
    predicted = rows.loc[answered, "predicted"].to_numpy(object)
    right = int((truth == predicted).sum())
    unknown = labels[~known & labels.ne("")].value_counts()
    return Score(
        num_labelled=int(known.sum()),
        num_answered=len(truth),
        accuracy=right / len(truth) if len(truth) else None,
        accuracy_all=right / int(known.sum()) if known.any() else None,
        f1_macro=float(metrics.f1_score(truth, predicted, average="macro", zero_division=0)) if len(truth) else None,
        per_class=_per_class(truth, predicted, classes),
        confusion=_confusion(truth, predicted, classes),
        unknown={str(name): int(count) for name, count in unknown.items()},
    )


def _per_class(truth: Any, predicted: Any, classes: Sequence[str]) -> tuple[ClassScore, ...]:
    if not len(truth):
        return tuple(ClassScore(name, None, None, None, 0) for name in classes)
    from sklearn import metrics

    columns = metrics.precision_recall_fscore_support(truth, predicted, labels=list(classes), zero_division=0)
    found = []
    for name, precision, recall, f1, support in zip(classes, *columns, strict=True):
        is_named, is_so = bool((predicted == name).any()), bool(support)
        found.append(
            ClassScore(
                name,
                float(precision) if is_named else None,
                float(recall) if is_so else None,
                float(f1) if is_named or is_so else None,
                int(support),
            )
        )
    return tuple(found)


def _confusion(truth: Any, predicted: Any, classes: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    if not len(truth):
        return tuple((0,) * len(classes) for _ in classes)
    from sklearn import metrics

    counts = metrics.confusion_matrix(truth, predicted, labels=list(classes))
    return tuple(tuple(int(count) for count in row) for row in counts)
