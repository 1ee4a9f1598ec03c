"""ROC and precision–recall curves, a class against the rest, with the band that the folds span."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from microscopy_cls.reporting.numbers import Estimate
from microscopy_cls.reporting.svg import BLUE, MUTED, ORANGE, RULE, STYLE, inches, inline_svg
from microscopy_cls.reporting.tables import ClassRow

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Trace = Callable[[Bools, Floats], Floats]

NUM_DRAWN = 6  # classes with panels of their own; of more, the worst ones
GRID = np.linspace(0, 1, 101)  # a hundredth is less than a line's width in the figure


@dataclass(frozen=True)
class ClassCurves:
    """Both curves of one class."""

    name: str
    auroc: Estimate
    svg: Markup


@dataclass(frozen=True)
class Band:
    """A curve on `GRID`: of all images together, and the lowest and highest fold; each float64 (101,)."""

    whole: Floats
    low: Floats
    high: Floats


def class_curves(oof: pd.DataFrame, classes: Sequence[ClassRow]) -> list[ClassCurves]:
    """Curves of each class, worst AUROC first; of more than `NUM_DRAWN` classes the worst, beside the mean of all.

    Args:
        oof: `label, fold, prob_<class>`.
        classes: in index order.
    """
    scored = [row for row in classes if 0 < int((oof["label"] == row.name).sum()) < len(oof)]
    order = sorted(scored, key=lambda row: 1.0 if row.auroc.value is None else row.auroc.value)
    means = (_mean(oof, scored, roc), _mean(oof, scored, precision_recall)) if len(scored) > NUM_DRAWN else None
    return [
        ClassCurves(row.name, row.auroc, _draw(oof, row, f"roc{rank}", means))
        for rank, row in enumerate(order[:NUM_DRAWN])
    ]


def roc(truth: Bools, score: Floats) -> Floats:
    """Share of the class found (101,), over the share of the others that is taken for it."""
    false_alarms, found, _ = roc_curve(truth, score)
    traced: Floats = np.interp(GRID, false_alarms, found)
    return traced


def precision_recall(truth: Bools, score: Floats) -> Floats:
    """Share right among those named (101,), when at least the share `GRID` of the class is found."""
    precision, recall, _ = precision_recall_curve(truth, score)
    steps, which = np.unique(recall[:-1], return_inverse=True)  # the last point, 1 at nothing named, is a convention
    best = np.zeros(len(steps))
    np.maximum.at(best, which, precision[:-1])
    return best[np.searchsorted(steps, GRID - 1e-12)]


def band(truth: Bools, score: Floats, fold: NDArray[np.int64], trace: Trace) -> Band:
    """The curve of all images and the range of the folds that hold both kinds."""
    parts = [fold == one for one in np.unique(fold)]
    of_folds = [trace(truth[part], score[part]) for part in parts if 0 < truth[part].sum() < part.sum()]
    whole = trace(truth, score)
    return Band(whole, np.min(of_folds, 0), np.max(of_folds, 0)) if of_folds else Band(whole, whole, whole)


def _columns(oof: pd.DataFrame, name: str) -> tuple[Bools, Floats]:
    return (oof["label"] == name).to_numpy(bool), oof[f"prob_{name}"].to_numpy(np.float64)


def _mean(oof: pd.DataFrame, classes: Sequence[ClassRow], trace: Trace) -> Floats:
    return np.asarray(np.mean([trace(*_columns(oof, row.name)) for row in classes], axis=0))


def _draw(oof: pd.DataFrame, row: ClassRow, name: str, means: tuple[Floats, Floats] | None) -> Markup:
    truth, score = _columns(oof, row.name)
    fold = oof["fold"].to_numpy(np.int64)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(inches(500), inches(262)))
        left, right = figure.add_axes((0.085, 0.17, 0.39, 0.73)), figure.add_axes((0.585, 0.17, 0.39, 0.73))
        left.plot((0, 1), (0, 1), color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
        right.axhline(truth.mean(), color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
        for axes, trace, mean in zip((left, right), (roc, precision_recall), means or (None, None), strict=True):
            _plot(axes, band(truth, score, fold, trace), mean)
        left.set(title="ROC", xlabel="others taken for it", ylabel="found")
        right.set(title="Precision–recall", xlabel="found", ylabel="right among those named so")
    alt = f"ROC and precision–recall curves of {row.name}: AUROC {row.auroc.text}, {truth.sum()} of {len(truth)} images"
    return inline_svg(figure, name, alt)


def _plot(axes: Any, curve: Band, mean: Floats | None) -> None:
    axes.fill_between(GRID, curve.low, curve.high, color=BLUE, alpha=0.2, linewidth=0)
    if mean is not None:
        axes.plot(GRID, mean, color=ORANGE, linewidth=1.4, linestyle=(0, (4, 2)))
    axes.plot(GRID, curve.whole, color=BLUE, linewidth=2)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.title.set(fontsize=11, color=MUTED)
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
