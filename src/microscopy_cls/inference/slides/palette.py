"""A colour for each class, the same in every picture and file of a model."""

from __future__ import annotations

Colour = tuple[int, int, int]

# Seven of Okabe and Ito (Color Universal Design, 2008), without black, which is drawn over; then nine of Paul Tol's
# "muted" (SRON/EPS/TN/09-002, 2021). Up to seven stay apart for every kind of colour vision, more do not: hence the
# numbers in the legend and on the map.
_BASE: tuple[Colour, ...] = (
    (230, 159, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (240, 228, 66),
    (51, 34, 136), (136, 34, 85), (153, 153, 51), (17, 119, 51), (204, 102, 119), (136, 204, 238), (170, 68, 153),
    (221, 204, 119), (68, 170, 153),
)  # fmt: skip
NUM_DISTINCT = 7


def class_colours(num_classes: int) -> list[Colour]:
    """Colours of the classes in index order; beyond sixteen darker turns of the same."""
    return [_darker(_BASE[index % len(_BASE)], index // len(_BASE)) for index in range(num_classes)]


def _darker(colour: Colour, turns: int) -> Colour:
    red, green, blue = (round(value * 0.55**turns) for value in colour)
    return red, green, blue
