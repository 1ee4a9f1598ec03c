"""Whether stated confidence can be believed: calibration before and after scaling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from microscopy_cls.reporting.numbers import Estimate, finite, shown
from microscopy_cls.reporting.svg import BLUE, MUTED, RULE, STYLE, inches, inline_svg

METHODS = {
    "temperature": "Temperature scaling: one number per model stretches or shrinks its confidence.",
    "vector": "Vector scaling: for each model a factor and an offset per class, better here than one number per model.",
    "none": "Confidence is left as the models state it.",
}


@dataclass(frozen=True)
class Change:
    """One figure before and after scaling."""

    title: str
    meaning: str
    before: Estimate
    after: Estimate


@dataclass(frozen=True)
class Calibration:
    """What the section shows; a diagram is None where its bins are missing.

    `was_chosen` says whether there was another kind of scaling to choose: of an ensemble there is none.
    """

    method: str
    was_chosen: bool
    changes: list[Change]
    temperatures: str
    diagrams: list[tuple[str, Markup]]


def calibration(metrics: Mapping[str, Any]) -> Calibration | None:
    """From the metrics file; None where it says nothing of calibration."""
    found = metrics.get("calibration")
    if not found:
        return None
    accuracy = metrics.get("accuracy")
    one_number = found.get("method") in {"none", "temperature"}
    told = "one number a model changes no answer" if one_number else "scaling may change which class is likeliest"
    changes = [
        Change("Calibration error", "mean gap between stated confidence and accuracy; few images raise it by chance",
               *_pair(found, "ece", "decimal")),
        Change("Log loss", "surprise at the truth in nats; lower is better", *_pair(found, "log_loss", "decimal")),
        Change("Accuracy", told,
               Estimate.read(accuracy, "percent"), Estimate.read(found.get("accuracy_after"), "percent")),
    ]  # fmt: skip
    alone = found.get("method") == "temperature"  # of vector scaling it is but one number of many
    temperatures = [finite(value) for value in found.get("temperatures") or ()] if alone else []
    diagrams = [
        (title, reliability_diagram(found[key], key.replace("_", "-"), title))
        for key, title in (("bins_before", "As the models state it"), ("bins_after", "After scaling"))
        if found.get(key)
    ]
    told = ", ".join(shown(value, "decimal") for value in temperatures)
    method = METHODS.get(found.get("method"), str(found.get("method") or ""))
    was_chosen = found.get("method") in ("temperature", "vector") and not metrics.get("ensemble")
    return Calibration(method, was_chosen, changes, told, diagrams)


def _pair(found: Mapping[str, Any], key: str, kind: Any) -> tuple[Estimate, Estimate]:
    return Estimate.read(found.get(f"{key}_before"), kind), Estimate.read(found.get(f"{key}_after"), kind)


def reliability_diagram(bins: Sequence[Mapping[str, Any]], name: str, title: str) -> Markup:
    """Accuracy over stated confidence, with intervals; the area of a dot is its share of the images.

    Args:
        bins: `confidence, accuracy, ci_low, ci_high, num_images` each; those without a number are left out.
        name: unique on the page.
        title: what the bins are, for the alternative text.
    """
    points = [
        one for one in bins if finite(one.get("confidence")) is not None and finite(one.get("accuracy")) is not None
    ]
    num_images = max(1, sum(int(one.get("num_images") or 0) for one in points))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(inches(340), inches(320)))
        axes = figure.add_axes((0.13, 0.13, 0.84, 0.84))
        axes.plot((0, 1), (0, 1), color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
        for one in points:
            _draw_bin(axes, one, int(one.get("num_images") or 0) / num_images)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="stated confidence", ylabel="share right")
        axes.grid(color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
    told = "; ".join(
        f"{shown(one['confidence'], 'percent')} stated, {shown(one['accuracy'], 'percent')} right" for one in points
    )
    return inline_svg(figure, name, f"Reliability diagram, {title}: {told}")


def _draw_bin(axes: Any, one: Mapping[str, Any], share: float) -> None:
    low, high = finite(one.get("ci_low")), finite(one.get("ci_high"))
    if low is not None and high is not None:
        axes.plot([one["confidence"]] * 2, [low, high], color=BLUE, alpha=0.4, linewidth=2.2)
    size = 20 + 220 * share
    axes.scatter([one["confidence"]], [one["accuracy"]], s=size, color=BLUE, linewidth=0, clip_on=False, zorder=3)
