"""Draws docs/figures/cardinality.png: python docs/figures/cardinality.py. The numbers in it are computed."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

LADDER = ((1, 64), (2, 40), (4, 24), (8, 14), (32, 4))  # cardinality, width of a path: Xie et al. 2017, table 2
CHANNELS = 256  # in and out of a block of the first stage
BLUE, GREY, LIGHT, INK = "#1f5fa8", "#8a8f98", "#e8eef7", "#22262c"


def main() -> None:
    """Above: one block in three forms. Below: which channels a 3 x 3 convolution connects, for the paper's ladder."""
    plt.rcParams.update({"font.size": 9, "font.family": "DejaVu Sans", "text.color": INK})
    figure = plt.figure(figsize=(10, 7.8))
    above, below = figure.subfigures(2, 1, height_ratios=[1.3, 1])
    above.subplots_adjust(left=0.02, right=0.98, top=0.9, bottom=0.02, wspace=0.05)
    for axes, draw in zip(above.subplots(1, 3), (one_path, many_paths, grouped), strict=True):
        axes.set(xlim=(0, 10), ylim=(0, 10))
        axes.axis("off")
        draw(axes)
    below.subplots_adjust(left=0.03, right=0.97, top=0.84, bottom=0.1, wspace=0.16)
    for axes, (cardinality, width) in zip(below.subplots(1, len(LADDER)), LADDER, strict=True):
        connections(axes, cardinality, width)
    below.suptitle(
        "Which channels the 3 × 3 convolution connects (blue), at about constant cost: more paths, each narrower",
        fontsize=10, y=0.95,
    )  # fmt: skip
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=150, facecolor="white", metadata={"Software": None})


def one_path(axes: Axes) -> None:
    """ResNet's bottleneck."""
    axes.set_title("Cardinality 1: one wide path (ResNet)", fontsize=10)
    column(axes, 4.2, 3.2, [f"{CHANNELS}, 1×1, 64", "64, 3×3, 64", f"64, 1×1, {CHANNELS}"], top=8.05)
    joined(axes, [4.2])


def many_paths(axes: Axes) -> None:
    """ResNeXt's, as it is thought of."""
    axes.set_title("Cardinality 32: 32 narrow paths, added", fontsize=10)
    centres = [1.2, 3.6, 7.2]
    for x in centres:
        column(axes, x, 2.2, [f"{CHANNELS}, 1×1, 4", "4, 3×3, 4", f"4, 1×1, {CHANNELS}"], top=8.05)
    axes.text(5.4, 5.45, "…", ha="center", va="center", color=GREY, fontsize=14)
    joined(axes, centres)


def grouped(axes: Axes) -> None:
    """ResNeXt's, as it is computed."""
    axes.set_title("The same as one grouped convolution", fontsize=10)
    texts = [f"{CHANNELS}, 1×1, 128", "128, 3×3, 128\nin 32 groups of 4", f"128, 1×1, {CHANNELS}"]
    column(axes, 4.2, 4.0, texts, top=8.05)
    joined(axes, [4.2])


def column(axes: Axes, x: float, width: float, texts: list[str], top: float) -> None:
    """Layers from top to bottom: channels in, kernel, channels out."""
    height, step = 1.15, 2.0
    for index, text in enumerate(texts):
        y = top - index * step - height
        box = FancyBboxPatch(
            (x - width / 2, y), width, height, boxstyle="round,pad=0.02,rounding_size=0.15",
            facecolor=LIGHT if index != 1 else "#c9dbf2", edgecolor=BLUE, linewidth=1,
        )  # fmt: skip
        axes.add_patch(box)
        axes.text(x, y + height / 2, text, ha="center", va="center", fontsize=8 if width > 3 else 7)
        if index:
            arrow(axes, (x, y + step), (x, y + height))


def joined(axes: Axes, centres: list[float]) -> None:
    """The input above, the sum below, the shortcut at the right."""
    middle, right, plus = 4.2, 9.3, (4.2, 1.55)
    axes.text(middle, 9.62, f"{CHANNELS} channels in", ha="center", va="center", fontsize=8)
    for x in centres:
        axes.plot([middle, middle], [9.35, 8.95], color=GREY, linewidth=1)
        arrow(axes, (middle, 8.95), (x, 8.1))
        arrow(axes, (x, 2.88), (plus[0], plus[1] + 0.3))
    axes.plot([middle, right, right], [8.95, 8.95, plus[1]], color=GREY, linewidth=1)
    arrow(axes, (right, plus[1]), (plus[0] + 0.32, plus[1]))
    axes.text(right - 0.15, 2.0, "shortcut", ha="right", va="center", fontsize=8, color=GREY)
    axes.text(*plus, "+", ha="center", va="center", fontsize=11, bbox={"boxstyle": "circle,pad=0.15", "fc": "white"})
    arrow(axes, (plus[0], plus[1] - 0.35), (plus[0], 0.75))
    axes.text(middle, 0.45, f"{CHANNELS} channels out", ha="center", va="center", fontsize=8)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From one place to the other."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": GREY, "linewidth": 1, "shrinkA": 0})


def connections(axes: Axes, cardinality: int, width: int) -> None:
    """Output channels by input channels of the 3 x 3 convolution in the first stage."""
    matrix = np.kron(np.eye(cardinality), np.ones((width, width)))
    axes.imshow(matrix, cmap=mpl.colors.ListedColormap(["#f3f4f6", BLUE]), vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    side = cardinality * width
    weights = CHANNELS * side + 9 * side * width + side * CHANNELS
    axes.set_title(f"{cardinality} × {width}d", fontsize=10)
    axes.set_xlabel(f"{side} channels\n{9 * side * width:,} weights here\n{weights:,} in the block", fontsize=8)


if __name__ == "__main__":
    main()
