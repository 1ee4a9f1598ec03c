"""The page of a study shows what its results say, and no name breaks it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.reporting.experiment import Page, figure

from microscopy_cls.evaluation.study import detectable, told, verdict_of
from microscopy_cls.reporting.study_page import NEAREST, render, spread_out


def difference(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "ci_low": low, "ci_high": high}


def variant(name: str, params: int, gflops: float | None = 0.2, gain: float | None = None) -> dict[str, Any]:
    differences = None if gain is None else dict.fromkeys(("accuracy", "f1_macro"), figure(gain))
    return {
        "name": name, "run": f"cells-{name}", "set": {"model.layers": [1, 2, 1, 1], "model.shortcut": name},
        "params": params, "gflops": gflops, "gmacs": gflops, "core_minutes": 3.25, "accuracy": figure(0.7),
        "f1_macro": figure(0.6), "difference": differences,
    }  # fmt: skip


def results(*variants: dict[str, Any], **claim: Any) -> dict[str, Any]:
    return {
        "name": "width", "config": "cells", "question": "Is it better?", "source": "A & B, <i>2017</i>",
        "claim": {"sentence": "It is.", "better": "b", "than": ["a"], "verdict": "open", "headline": "Cannot be told.",
                  "sentences": ["No evidence of a difference."], "half_width": 0.03} | claim,
        "num_images": 1200, "num_groups": 1, "num_folds": 3, "num_repeats": 1, "num_classes": 4,
        "majority_accuracy": 0.3, "image_size_px": 64, "variants": list(variants),
        "cautions": ["One training stands behind each."],
    }  # fmt: skip


def page(*variants: dict[str, Any], **claim: Any) -> Page:
    return Page(render(results(*variants, **claim)))


def test_the_page_tells_question_source_claim_verdict_and_every_figure() -> None:
    shown = page(variant("a", 7_410_000), variant("b", 8_060_000, 0.131, gain=0.021)).shown
    for text in (
        "Is it better?", "A & B, <i>2017</i>", "It is.", "Cannot be told.", "No evidence of a difference.",
        "1,200 images in 1 group, 4 classes, at 64 px; 3 folds", "8.06", "0.131", "70.0 % 60.0–80.0", "0.600", "+2.1",
        "3.2", "One training stands behind each.", "model.layers: [1, 2, 1, 1]", "gives 30.0 %",
    ):  # fmt: skip
        assert text in shown, text


def test_further_divisions_are_told_to_take_no_part() -> None:
    told_once = results(variant("a", 10), variant("b", 11, gain=0.0))
    assert "divided" not in Page(render(told_once)).shown
    assert (
        "The images were divided into folds 3 times. Figures, differences, minutes and the verdict are of the first "
        "division." in Page(render(told_once | {"num_repeats": 3})).shown
    )


def test_time_on_a_device_is_not_called_core_minutes() -> None:
    on_cpu = variant("a", 10)
    on_device = variant("b", 11, gain=0.0) | {"core_minutes": None, "device_minutes": 1.5}
    assert "Core-minutes are the training of all folds, time by threads;" in page(on_cpu).shown
    assert "evice-minutes" not in page(on_cpu).shown
    shown = page(on_device, on_device).shown
    assert "Device-minutes are the training of all folds, time on the device, whatever its processor did;" in shown
    assert "ore-minutes" not in shown
    both = page(on_cpu, on_device).shown
    assert "Core-minutes Device-minutes a" in both
    assert "3.2 – b" in both
    assert "– 1.5" in both


def test_names_of_any_kind_are_escaped_and_cut_in_figures() -> None:
    name = "<script>alert('$x_1$')</script>" + "x" * 40
    text = render(results(variant("a", 10), variant(name, 11, gain=0.0)))
    assert "<script>" not in text
    assert name in Page(text).shown


@pytest.mark.parametrize(("verdict", "light"), [("holds", "Pass"), ("fails", "Fail"), ("open", "Warning")])
def test_the_light_is_the_verdicts(verdict: str, light: str) -> None:
    found = page(variant("a", 10), variant("b", 11, gain=0.0), verdict=verdict)
    assert [svg["aria-label"] for svg in found.all("svg") if svg.get("class")] == [light]


def test_a_cost_that_is_not_known_has_no_figure() -> None:
    found = page(variant("a", 10, None), variant("b", 11, None, gain=0.0))
    assert [svg["aria-label"].split(".")[0] for svg in found.all("svg") if not svg.get("class")] == [
        "Accuracy over parameters, millions"
    ]


def test_variants_without_any_spread_are_drawn_all_the_same() -> None:
    same = {"accuracy": {"value": 0.0, "ci_low": 0.0, "ci_high": 0.0}}
    assert len(page(variant("a", 10) | same, variant("b", 10, gain=0.0) | same).all("svg")) == 3


@pytest.mark.parametrize("values", [[1.0, 1.0], [5.0, 1.0, 1.001, 9.0], [3.0, 2.0, 1.0], [7.0], [2.0, 2.0, 2.0, 2.1]])
def test_points_keep_their_order_and_stand_apart(values: list[float]) -> None:
    moved = spread_out(np.array(values))
    order = np.argsort(values, kind="stable")
    gap = NEAREST * (np.ptp(values) or values[0])
    assert (np.diff(moved[order]) >= gap * 0.999).all()
    assert moved.mean() == pytest.approx(np.mean(values))


def test_points_far_enough_apart_stay_where_they_are() -> None:
    np.testing.assert_allclose(spread_out(np.array([3.0, 1.0, 2.0])), [3.0, 1.0, 2.0])


# What the intervals allow to say


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ([(0.01, 0.05)], "holds"),
        ([(0.01, 0.05), (0.02, 0.09)], "holds"),
        ([(0.01, 0.05), (-0.02, 0.09)], "open"),
        ([(-0.02, 0.0)], "open"),
        ([(0.0, 0.04)], "open"),
        ([(-0.05, -0.01)], "fails"),
        ([(0.01, 0.05), (-0.05, -0.01)], "fails"),
    ],
)
def test_a_claim_holds_only_where_every_interval_lies_above_zero(ends: list[tuple[float, float]], verdict: str) -> None:
    assert verdict_of(difference((low + high) / 2, low, high) for low, high in ends) == verdict


def test_a_difference_is_told_as_its_interval_allows() -> None:
    end = "percentage points of accuracy, 95 % interval"
    assert told("b", "a", difference(0.02, -0.01, 0.05)) == (
        f"No evidence of a difference between b and a: +2.0 {end} -1.0 to +5.0."
    )
    assert told("b", "a", difference(0.03, 0.01, 0.05)) == f"b is better than a: +3.0 {end} +1.0 to +5.0."
    assert told("b", "a", difference(-0.03, -0.05, -0.01)) == f"b is worse than a: -3.0 {end} -5.0 to -1.0."


def test_what_could_have_been_seen_is_the_intervals_half_width_where_it_has_one() -> None:
    assert detectable(0.0312) == "A difference below about 3.1 percentage points could not be told from none here."
    assert "right on the same images, so nothing tells how large" in detectable(0.0)
