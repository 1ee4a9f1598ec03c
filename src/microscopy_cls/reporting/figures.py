"""The three figures of the page: the spread of the folds, the confusion matrix, learning curves.

Blue and orange (after Okabe and Ito) stay apart for every kind of colour vision, and dashes repeat the difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from microscopy_cls.reporting.numbers import Estimate, shortened, shown
from microscopy_cls.reporting.svg import (
    BLUE,
    HIT,
    INK,
    MISS,
    MUTED,
    ON_CELL,
    ORANGE,
    RULE,
    STYLE,
    inches,
    inline_svg,
)

Counts = NDArray[np.int64]
Range = tuple[float, float]

NUM_LABEL_CHARS = 26
MAX_VECTOR_CLASSES = 60  # above, cells are pixels of one picture and only their colour is shown
MAX_LABELLED_CLASSES = 100  # above, labels would be thinner than a reader can see
MAX_TOLD_CLASSES = 5  # up to here the alternative text holds every cell
MATRIX_PX = 850.0
RASTER_HIT, RASTER_MISS = "#2f6fb8", "#c05a12"  # on light and on dark paper alike


def fold_strip(estimate: Estimate, title: str) -> Markup | None:
    """The folds as dots over the interval as a band and the value as a line; None without a value."""
    values = [value for value in (estimate.value, estimate.low, estimate.high, *estimate.folds) if value is not None]
    if estimate.value is None:
        return None
    low, high = math.floor(min(values) * 20) / 20, math.ceil(max(values) * 20) / 20
    if high - low < 0.05:  # all values are the same: air on the side where a share can go
        low, high = (low - 0.05, high) if high >= 1 else (low, low + 0.05)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(inches(430), inches(74)))
        axes = figure.add_axes((0.07, 0.34, 0.86, 0.62))
        if estimate.low is not None and estimate.high is not None:
            axes.axvspan(estimate.low, estimate.high, color=BLUE, alpha=0.22, linewidth=0)
        axes.axvline(estimate.value, color=BLUE, linewidth=2)
        folds = sorted(estimate.folds)
        offsets = [(-1) ** index * 0.22 for index in range(len(folds))]  # neighbours do not hide each other
        axes.plot(folds, offsets, "o", color=ORANGE, markersize=7, markeredgecolor="none", alpha=0.85, clip_on=False)
        axes.set(xlim=(low, high), ylim=(-1, 1), yticks=[])
        axes.spines["left"].set_visible(False)
        axes.set_xticks([low, (low + high) / 2, high])
        axes.set_xticklabels([shown(tick, estimate.kind) for tick in (low, (low + high) / 2, high)])
    alt = f"{title} {estimate.text}, interval {estimate.interval}, folds {estimate.spread}"
    return inline_svg(figure, f"folds-{title.replace(' ', '-').lower()}", alt)


def confusion_matrix(counts: Counts, classes: Sequence[str]) -> Markup:
    """Counts, rows truth, columns predicted, (classes, classes); colour is the share of the row.

    Right answers are blue, wrong ones orange; cells without an image stay empty.
    """
    num = len(classes)
    cell_px = _cell_px(num)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(inches(cell_px * num), inches(cell_px * num)))
        axes = figure.add_axes((0, 0, 1, 1))
        if num <= MAX_VECTOR_CLASSES:
            _draw_cells(axes, counts, shares, cell_px)
        else:
            axes.imshow(_raster(shares), extent=(0, num, num, 0), interpolation="none")
        axes.set(xlim=(0, num), ylim=(num, 0), xlabel="predicted", ylabel="truth")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelcolor=INK, labelsize=min(12, max(7, cell_px * 0.42)))
        _label_classes(axes, classes, cell_px)
    return inline_svg(figure, "confusion", _in_words(counts, classes), tight=True, min_width_px=200 + 25 * num)


def _in_words(counts: Counts, classes: Sequence[str]) -> str:
    """The matrix for those who cannot see it: whole when small, otherwise its diagonal."""
    told = f"Confusion matrix of {len(classes)} classes, {np.trace(counts)} of {counts.sum()} images named correctly."
    if len(classes) > MAX_TOLD_CLASSES:
        return told
    rows = (", ".join(f"{num} as {name}" for num, name in zip(row, classes, strict=True)) for row in counts)
    return " ".join([told, *(f"{name} was named {row}." for name, row in zip(classes, rows, strict=True))])


def _cell_px(num_classes: int) -> float:
    largest = {2: 104, 3: 92, 4: 80, 5: 72}.get(num_classes, 60)
    return max(4.0, min(largest, MATRIX_PX / max(1, num_classes)))


def _draw_cells(axes: Any, counts: Counts, shares: NDArray[np.float64], cell_px: float) -> None:
    num = len(counts)
    axes.hlines(np.arange(num + 1), 0, num, color=RULE, linewidth=0.6)
    axes.vlines(np.arange(num + 1), 0, num, color=RULE, linewidth=0.6)
    size, roomy = min(15.0, cell_px * 0.42), cell_px >= 58
    for row, column in np.argwhere(counts > 0):
        share, right = float(shares[row, column]), row == column
        fill = Rectangle((column, row), 1, 1, facecolor=HIT if right else MISS, alpha=0.06 + 0.94 * share, linewidth=0)
        axes.add_patch(fill)
        color = ON_CELL if share > 0.6 else INK
        middle = {"x": column + 0.5, "ha": "center", "va": "center_baseline", "color": color}
        axes.text(y=row + (0.4 if roomy else 0.5), s=f"{counts[row, column]}", fontsize=size, **middle)
        if roomy:
            axes.text(y=row + 0.68, s=shown(share, "percent"), fontsize=min(11.0, cell_px * 0.17), **middle)


def _raster(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours of the cells with the share as opacity, (classes, classes, 4)."""
    diagonal = np.eye(len(shares), dtype=bool)
    colors = np.where(diagonal[..., None], to_rgb(RASTER_HIT), to_rgb(RASTER_MISS))
    return np.dstack([colors, np.where(shares > 0, 0.15 + 0.85 * shares, 0)])


def _label_classes(axes: Any, classes: Sequence[str], cell_px: float) -> None:
    if len(classes) > MAX_LABELLED_CLASSES:
        axes.set(xticks=[], yticks=[])
        return
    middles = np.arange(len(classes)) + 0.5
    labels = [shortened(name, NUM_LABEL_CHARS) for name in classes]
    fit = max(map(len, labels)) * 7 < cell_px  # 7 px is a wide letter
    slant = {} if fit else {"rotation": 90 if cell_px < 45 else 40, "rotation_mode": "anchor", "ha": "right"}
    if not fit and cell_px < 45:
        slant["va"] = "center"
    axes.set_yticks(middles, labels)
    axes.set_xticks(middles, labels, **slant)


def learning_curve(history: pd.DataFrame, name: str, loss_range: Range, f1_range: Range) -> Markup:
    """Training and validation loss over validation F1 of one fold, the chosen epoch marked.

    Args:
        history: `epoch, train_loss, val_loss, val_f1_macro, chosen`; epochs count from 0, are shown from 1.
        name: unique on the page.
        loss_range, f1_range: shared by all folds, so that they can be compared.
    """
    validated = bool(history["val_f1_macro"].notna().any())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(inches(300), inches(280 if validated else 170)), layout="constrained")
        panels = figure.subplots(2 if validated else 1, 1, sharex=True, squeeze=False)[:, 0]
        epochs = history["epoch"] + 1
        _panel(panels[0], "Loss", loss_range)
        panels[0].plot(epochs, history["train_loss"], color=BLUE, linewidth=1.8)
        if validated:
            panels[0].plot(epochs, history["val_loss"], color=ORANGE, linewidth=1.8, linestyle=(0, (4, 2)))
            _panel(panels[1], "Macro F1, validation part", f1_range)
            panels[1].plot(epochs, history["val_f1_macro"], color=ORANGE, linewidth=1.8, linestyle=(0, (4, 2)))
        for panel in panels:
            for epoch in epochs[history["chosen"] == 1]:
                panel.axvline(epoch, color=INK, linewidth=1.2, linestyle=(0, (1, 1.5)))
        panels[-1].set_xlabel("epoch")
        panels[-1].xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    last = history.iloc[-1]
    alt = f"Learning curve: after {len(history)} epochs training loss {last['train_loss']:.3f}"
    return inline_svg(figure, name, f"{alt}, validation F1 {last['val_f1_macro']:.3f}" if validated else alt)


def _panel(axes: Any, title: str, limits: Range) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=MUTED)
    axes.set_ylim(*limits)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)


def finite_range(values: pd.DataFrame, margin: float = 0.05) -> Range:
    """Limits that hold all finite values with some air; 0 to 1 when there are none."""
    numbers = values.to_numpy(np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        return 0.0, 1.0
    low, high = float(numbers.min()), float(numbers.max())
    air = margin * ((high - low) or 1.0)
    return low - air, high + air
