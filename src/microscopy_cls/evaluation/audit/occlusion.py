"""Hide the middle or the margin of images: where a model looks, told by what it misses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CENTRE = 0.5  # of the sides: the middle that is hidden
KEPT = 0.7  # of the sides: what stays when the border is hidden
# With the middle hidden, a model of what lies there loses most of its skill; one that keeps four fifths of it reads
# something else. The same bound as for artefacts that explain a model (`judge.FAIL`).
SUSPICIOUS = 0.8

Json = dict[str, Any]
Squares = NDArray[np.uint8]


def hide_centre(squares: Squares) -> Squares:
    """A copy with the middle half of the sides filled, uint8 (n, s, s, 3), each with the image's mean colour."""
    return _filled(squares, _middle(squares.shape[1], CENTRE))


def hide_border(squares: Squares) -> Squares:
    """A copy with all but the middle 70 % of the sides filled, uint8 (n, s, s, 3), with the image's mean colour."""
    return _filled(squares, ~_middle(squares.shape[1], KEPT))


def judge_occlusion(found: Json, chance: float) -> tuple[str, str]:
    """`warn` where the model hardly needs the middle of the images, and no less than their border.

    A picture that is alike all over (a smear of bacteria) survives both; then nothing is wrong.

    Args:
        found: accuracy as figures: `whole, centre_hidden, border_hidden`.
        chance: accuracy of always naming the commonest class.

    Returns:
        Verdict and reason.
    """
    gained = found["whole"]["value"] - chance
    hidden = {name: found[name]["value"] for name in ("centre_hidden", "border_hidden")}
    listed = (
        f"accuracy {found['whole']['value']:.3f}, {hidden['centre_hidden']:.3f} with the middle hidden, "
        f"{hidden['border_hidden']:.3f} with the border hidden"
    )
    keeps = gained > 0 and (found["centre_hidden"]["ci_low"] - chance) / gained >= SUSPICIOUS
    if keeps and hidden["border_hidden"] < hidden["centre_hidden"]:
        return "warn", f"The model needs the border of the images more than their middle: {listed}."
    return "pass", f"The model needs the middle of the images, or finds the same all over them: {listed}."


def _middle(side: int, share: float) -> NDArray[np.bool_]:
    """True in the middle `share` of the sides, (side, side)."""
    margin = round(side * (1 - share) / 2)
    inside = np.zeros((side, side), bool)
    inside[margin : side - margin, margin : side - margin] = True
    return inside


def _filled(squares: Squares, where: NDArray[np.bool_]) -> Squares:
    means = squares.mean((1, 2), keepdims=True).round().astype(np.uint8)
    return np.where(where[None, :, :, None], means, squares)
