"""The curve of a range test, as a table and as a picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from microscopy_cls.system.files import atomic_path, write_csv
from microscopy_cls.training.range_test import RangeTest

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a8a8a"  # after Okabe and Ito: apart for every kind of colour vision


def write_range_test(found: RangeTest, folder: Path) -> tuple[Path, Path]:
    """Write `learning_rate.csv` and `learning_rate.png` into `folder`; returns both paths."""
    table, picture = folder / "learning_rate.csv", folder / "learning_rate.png"
    write_csv(table, found.table)
    with atomic_path(picture) as temporary:
        _drawn(found).savefig(temporary, dpi=150)
    return table, picture


def _drawn(found: RangeTest) -> Figure:
    table = found.table
    with mpl.rc_context({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(table["learning_rate"], table["loss"], ".", color=GREY, markersize=4, label="loss of a batch")
        axes.plot(table["learning_rate"], table["smoothed_loss"], color=BLUE, linewidth=2, label="smoothed")
        if found.rose:
            axes.axvline(found.turn, color=GREY, linestyle=":", label=f"rises for good beyond {found.turn:.2g}")
        axes.axvline(found.peak, color=ORANGE, linestyle="--", label=_suggested(found))
        axes.set(xscale="log", xlabel="learning rate of the head", ylabel="training loss")
        smoothed = table["smoothed_loss"]
        low, high = min(smoothed.min(), table["loss"].min()), max(smoothed.iloc[:10].max(), 1.5 * smoothed.min())
        axes.set_ylim(max(0.0, low - 0.1 * (high - low)), high + 0.5 * (high - low))  # not what was lost at the end
        axes.set_title(f"Learning-rate range test, training images of fold {found.fold}", loc="left", fontsize=11)
        axes.legend(frameon=False, fontsize=9)
    return figure


def _suggested(found: RangeTest) -> str:
    """The place of the line, and the setting that leads there where that is another number."""
    place, setting = f"{found.peak:.2g}", f"{found.suggestion:.2g}"
    return f"suggested: {place}" + (f", by finetune.learning_rate {setting}" if setting != place else "")
