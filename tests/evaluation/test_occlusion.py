"""Hiding takes away what it names and leaves the rest; the middle that nobody misses is suspicious."""

from __future__ import annotations

import numpy as np
import pytest

from microscopy_cls.evaluation.audit.occlusion import hide_border, hide_centre, judge_occlusion

SQUARES = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)


def test_hiding_fills_with_the_mean_colour_and_leaves_the_rest() -> None:
    before = SQUARES.copy()
    means = SQUARES.mean((1, 2)).round().astype(np.uint8)
    middle, inner = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    middle[10:30, 10:30], inner[6:34, 6:34] = True, True
    for hidden, where in ((hide_centre(SQUARES), middle), (hide_border(SQUARES), ~inner)):
        assert hidden.dtype == np.uint8
        assert (hidden[:, where] == means[:, None]).all()
        assert np.array_equal(hidden[:, ~where], SQUARES[:, ~where])
    assert np.array_equal(SQUARES, before)


@pytest.mark.parametrize(
    ("centre_hidden", "border_hidden", "verdict", "said"),
    [
        (0.88, 0.60, "warn", "needs the border of the images more than their middle"),
        (0.60, 0.88, "pass", "needs the middle of the images"),
        (0.88, 0.89, "pass", "finds the same all over them"),
        (0.60, 0.55, "pass", "needs the middle of the images"),
    ],
)
def test_a_model_that_does_not_miss_the_middle_is_suspected(
    centre_hidden: float, border_hidden: float, verdict: str, said: str
) -> None:
    values = {"whole": 0.9, "centre_hidden": centre_hidden, "border_hidden": border_hidden}
    found = {name: {"value": value, "ci_low": value - 0.02, "ci_high": value + 0.02} for name, value in values.items()}
    judged, reason = judge_occlusion(found, chance=0.5)
    assert judged == verdict
    assert said in reason
    assert f"accuracy 0.900, {centre_hidden:.3f} with the middle hidden, {border_hidden:.3f} with the border" in reason


def test_a_model_without_skill_is_not_suspected() -> None:
    flat = {"value": 0.5, "ci_low": 0.45, "ci_high": 0.55}
    assert judge_occlusion(dict.fromkeys(("whole", "centre_hidden", "border_hidden"), flat), chance=0.5)[0] == "pass"
