"""What the model does when it is not sure: referral to an expert, prediction sets, unfamiliar images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from microscopy_cls.reporting.numbers import Estimate, finite, named, shown
from microscopy_cls.reporting.svg import BLUE, ORANGE, RULE, STYLE, inches, inline_svg

RELIABLE_SHARE = 0.95  # of drawn noise, blank fields and text, which no useful sense of novelty lets pass
MATERIALS = {"noise": "random noise", "blank": "blank fields", "text": "pages of text"}


@dataclass(frozen=True)
class Referral:
    """Accuracy on what the model keeps, over how much it keeps."""

    sentence: str
    svg: Markup | None


@dataclass(frozen=True)
class SetRow:
    """How often the prediction sets of one class hold it."""

    name: str
    coverage: Estimate
    threshold: float | None
    num_calibration: int | None
    coarse: bool


@dataclass(frozen=True)
class Sets:
    """Prediction sets over all images and per class; `sizes` are number of classes in a set, and images."""

    target: float
    coverage: Estimate
    mean_size: Estimate
    rows: list[SetRow]
    sizes: list[tuple[str, int]]
    coarse: list[str]

    @property
    def falls_short(self) -> bool:
        """Whether the sets are shown to hold the truth less often than aimed at."""
        return self.coverage.high is not None and self.coverage.high < self.target


@dataclass(frozen=True)
class Novelty:
    """How unfamiliar images are told apart."""

    kept: str
    false_alarms: Estimate
    strangers: list[tuple[str, float | None, float | None]]  # their name, the share flagged, the area under the curve

    @property
    def unreliable(self) -> bool:
        """Whether some strangers pass, easy as they are."""
        return any(flagged is not None and flagged < RELIABLE_SHARE for _, flagged, _ in self.strangers)


def referral(metrics: Mapping[str, Any]) -> Referral | None:
    """From the metrics file; None where it has no risk–coverage curve."""
    found = metrics.get("risk_coverage")
    if not found:
        return None
    referred = found.get("referred") or {}
    share, kept, sent = (
        Estimate.read(referred.get(key), "percent") for key in ("share", "accuracy_kept", "accuracy_referred")
    )
    sentence = ""
    if share.value is not None:
        sentence = f"Refer {share.full} of the images to an expert"
        sentence += ": none is left." if kept.value is None else f", and {kept.full} of the rest are named correctly."
        if sent.value is not None:
            sentence += f" Of those referred the model would have named {sent.full} correctly."
    points = [point for point in found.get("points") or () if finite(point.get("accuracy")) is not None]
    return Referral(sentence, risk_coverage_curve(points, share, kept) if points else None)


def risk_coverage_curve(points: Sequence[Mapping[str, Any]], share: Estimate, kept: Estimate) -> Markup:
    """Accuracy of the most confident images over their share, with the band of the intervals.

    Args:
        points: `coverage, accuracy, ci_low, ci_high` each.
        share: of the images that the rule refers.
        kept: accuracy of the others; both make the diamond.
    """
    points = sorted(points, key=lambda point: float(point["coverage"]))
    table = np.array(
        [[_number(point.get(key)) for key in ("coverage", "accuracy", "ci_low", "ci_high")] for point in points]
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(inches(460), inches(290)))
        axes = figure.add_axes((0.14, 0.15, 0.81, 0.82))
        axes.fill_between(table[:, 0], table[:, 2], table[:, 3], color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(table[:, 0], table[:, 1], color=BLUE, linewidth=2)
        if share.value is not None and kept.value is not None:
            axes.plot([1 - share.value], [kept.value], "D", color=ORANGE, markersize=9, clip_on=False)
        axes.set(
            xlim=(0, 1),
            ylim=(_floor(table), 1.005),
            xlabel="share of the images that the model answers",
            ylabel="share right",
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}\u202f%"))
        axes.grid(color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
    told = (
        f"from {shown(table[0, 1], 'percent')} on the most confident images to {shown(table[-1, 1], 'percent')} on all"
    )
    return inline_svg(figure, "risk-coverage", f"Accuracy over the share of images answered: {told}")


def _number(value: Any) -> float:
    number = finite(value)
    return float("nan") if number is None else number


def _floor(table: Any) -> float:
    """The lower end of the axis: a tenth below what is drawn."""
    lowest = float(np.nanmin(table[:, 1:]))
    return max(0.0, math.floor(lowest * 10 - 0.5) / 10)


def sets(metrics: Mapping[str, Any]) -> Sets | None:
    """From the metrics file; None where it has no prediction sets."""
    found = metrics.get("conformal")
    if not found:
        return None
    coarse = [str(name) for name in found.get("coarse_classes") or ()]
    per_class, thresholds, numbers = (
        found.get(key) or {} for key in ("coverage_per_class", "thresholds", "num_calibration")
    )
    rows = [
        SetRow(
            name,
            Estimate.read(per_class.get(name), "percent"),
            finite(thresholds.get(name)),
            numbers.get(name),
            name in coarse,
        )
        for name in metrics["classes"]
    ]
    sizes = sorted((found.get("set_sizes") or {}).items(), key=lambda item: int(item[0]))
    target = finite(found.get("target_coverage")) or 0.0
    coverage, size = (
        Estimate.read(found.get("coverage"), "percent"),
        Estimate.read(found.get("mean_set_size"), "decimal"),
    )
    return Sets(target, coverage, size, rows, [(str(key), int(num)) for key, num in sizes], [*map(named, coarse)])


def novelty(metrics: Mapping[str, Any]) -> Novelty | None:
    """From the metrics file; None where nothing was tried."""
    found = metrics.get("novelty")
    if not found:
        return None
    flagged, auroc = found.get("flagged") or {}, found.get("auroc") or {}
    strangers = [(MATERIALS.get(key, key), finite(value), finite(auroc.get(key))) for key, value in flagged.items()]
    kept = shown(finite(found.get("threshold_share")), "percent")
    return Novelty(kept, Estimate.read(found.get("false_alarms"), "percent"), strangers)
