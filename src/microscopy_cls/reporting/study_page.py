"""The page of a study: what was asked, each variant's score against its cost, and what the intervals allow to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from microscopy_cls import __version__
from microscopy_cls.reporting.numbers import Estimate, count, counted, finite, shortened, shown
from microscopy_cls.reporting.svg import BLUE, INK, ORANGE, RULE, STYLE, inches, inline_svg
from microscopy_cls.system.files import write_text

TEMPLATES = Path(__file__).parent / "templates"
LIGHTS = {"holds": "pass", "fails": "fail", "open": "warn"}
COSTS = (("params", 1e6, "parameters, millions"), ("gflops", 1.0, "GFLOPs an image"))
# key, name and what it counts
TIMES = {
    "core_minutes": ("Core-minutes", "time by threads"),
    "device_minutes": ("Device-minutes", "time on the device, whatever its processor did"),
}
ENDS = ("ci_low", "ci_high")
NEAREST = 0.12  # of the axis: closer points would hide each other's intervals and names
NUM_LABEL_CHARS = 12


@dataclass(frozen=True)
class Row:
    """One variant of the table; its `minutes` are those of `TIMES`."""

    name: str
    params_m: float
    gflops: float | None
    accuracy: Estimate
    f1: Estimate
    accuracy_gain: Estimate
    f1_gain: Estimate
    minutes: tuple[float | None, ...]


def write_study_page(results: Mapping[str, Any], path: Path) -> None:
    """Write the page; the same results give the same bytes.

    Args:
        results: the content of `study.json`.
    """
    write_text(path, render(results))


def render(results: Mapping[str, Any]) -> str:
    """The page as HTML text."""
    environment = Environment(
        loader=PackageLoader("microscopy_cls.reporting"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(count=count, counted=counted, shown=shown)
    rows = [_row(variant) for variant in results["variants"]]
    told = [place for place in range(len(TIMES)) if any(row.minutes[place] is not None for row in rows)]
    return environment.get_template("study.html.j2").render(
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),  # noqa: S704  our own file
        version=__version__,
        study=results,
        state=LIGHTS[results["claim"]["verdict"]],
        rows=rows,
        times=[(place, *list(TIMES.values())[place]) for place in told],
        settings=[(variant["name"], _settings(variant["set"])) for variant in results["variants"]],
        figures=[
            scatter(results["variants"], cost, unit, title)
            for cost, unit, title in COSTS
            if all(finite(variant[cost]) is not None for variant in results["variants"])
        ],
    )


def _row(variant: Mapping[str, Any]) -> Row:
    gain = variant["difference"] or {}
    return Row(
        variant["name"],
        variant["params"] / 1e6,
        finite(variant["gflops"]),
        Estimate.read(variant["accuracy"], "percent"),
        Estimate.read(variant["f1_macro"], "decimal"),
        Estimate.read(gain.get("accuracy"), "points"),
        Estimate.read(gain.get("f1_macro"), "points"),
        tuple(finite(variant.get(key)) for key in TIMES),
    )


def _settings(keys: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in keys.items())


def scatter(variants: Sequence[Mapping[str, Any]], cost: str, unit: float, title: str) -> Markup:
    """Accuracy with its interval over a cost, a point a variant; the first one in the other colour.

    Args:
        variants: of `study.json`.
        cost: its key.
        unit: that it is divided by.
        title: of its axis.
    """
    costs = np.array([variant[cost] / unit for variant in variants])
    places = spread_out(costs)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(inches(470), inches(310)))
        axes = figure.add_axes((0.13, 0.16, 0.84, 0.78))
        for place, (x, variant) in enumerate(zip(places, variants, strict=True)):
            _draw(axes, x, variant, BLUE if place else ORANGE)
        axes.set(xlabel=title, ylabel="accuracy", xlim=_with_air(places, 0.14))
        axes.set_ylim(*_with_air([variant["accuracy"][end] for variant in variants for end in ENDS], 0.1))
        axes.yaxis.set_major_formatter(lambda tick, _: shown(tick, "percent"))
        axes.grid(axis="y", color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
    told = (
        f"{variant['name']} {value:.3g}: {Estimate.read(variant['accuracy'], 'percent').full}"
        for variant, value in zip(variants, costs, strict=True)
    )
    return inline_svg(figure, f"cost-{cost}", f"Accuracy over {title}. {'; '.join(told)}", min_width_px=330)


def _draw(axes: Any, x: float, variant: Mapping[str, Any], color: str) -> None:
    score = variant["accuracy"]
    axes.plot((x, x), [score[end] for end in ENDS], color=color, linewidth=2, alpha=0.55)
    axes.plot(x, score["value"], "o", color=color, markersize=8, markeredgecolor="none")
    axes.annotate(
        shortened(variant["name"], NUM_LABEL_CHARS), (x, score["ci_high"]), (0, 5), color=INK, fontsize=9.5,
        textcoords="offset points", ha="center",
    )  # fmt: skip


def _with_air(values: Any, share: float) -> tuple[float, float]:
    low, high = float(np.min(values)), float(np.max(values))
    air = share * ((high - low) or abs(high) or 1.0)
    return low - air, high + air


def spread_out(values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The values, in (n,) and out (n,), moved as far apart as it takes to see them all, in their order.

    Neighbours end at least `NEAREST` of the whole range apart; equal values share what room there is around them.
    """
    order = np.argsort(values, kind="stable")
    moved = values[order].astype(np.float64)
    gap = NEAREST * (float(np.ptp(moved)) or abs(float(moved[0])) or 1.0)
    for place in range(1, len(moved)):
        moved[place] = max(moved[place], moved[place - 1] + gap)
    moved -= np.mean(moved - values[order])
    result = np.empty_like(moved)
    result[order] = moved
    return result
