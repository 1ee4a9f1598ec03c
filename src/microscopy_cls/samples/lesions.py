"""What the two diseases add to a chest: ground glass at both peripheries, or one lobe filled."""

from __future__ import annotations

import numpy as np

from microscopy_cls.samples.chest import RASTER_PX, Chest, at, curve, size
from microscopy_cls.samples.shapes import (
    Plane,
    Points,
    centre_line,
    clouds,
    depth_px,
    filled,
    placed,
    smoothed,
    stroked,
    wobbly,
)


def draw_lesion(label: str, chest: Chest, rng: np.random.Generator) -> Plane:
    """Opacity of a patient's lesion, 0 (none) to about 1, (RASTER_PX, RASTER_PX)."""
    if label == "covid19":
        return ground_glass(chest, rng)
    if label == "pneumonia":
        return consolidation(chest, rng)
    return np.zeros(size(), np.float32)


def ground_glass(chest: Chest, rng: np.random.Generator) -> Plane:
    """Hazy patches in both lungs, mostly near the outer wall of the middle and lower zones."""
    opacity = np.zeros(size(), np.float32)
    for lung in (chest.right, chest.left):
        patches = [
            wobbly(spot, rng.uniform(0.045, 0.085) * RASTER_PX, 0.35, rng)
            for spot in _peripheral(lung, int(rng.integers(5, 9)), rng)
        ]
        haze = smoothed(filled(size(), patches), rng.uniform(4, 7))
        opacity += haze * lung * np.float32(rng.uniform(0.9, 1.15))
    mottle = 0.90 + 0.15 * clouds(size(), 12, rng) + 0.07 * clouds(size(), 5, rng)
    return np.asarray(0.68 * opacity * np.clip(mottle, 0.2, 1.4), np.float32)


def _peripheral(lung: Plane, num: int, rng: np.random.Generator) -> Points:
    """Random places close to the outer wall and below the upper third."""
    depth = depth_px(lung) / RASTER_PX
    y, x = np.mgrid[: lung.shape[0], : lung.shape[1]] / RASTER_PX
    outer = np.abs(x - 0.5) > np.interp(y, (0.2, 0.6), (0.17, 0.24))
    rows, columns = np.nonzero((depth > 0.015) & (depth < 0.09) & (y > 0.3) & outer)
    chosen = rng.integers(0, len(rows), num)
    return np.stack([columns[chosen], rows[chosen]], 1).astype(float)


def consolidation(chest: Chest, rng: np.random.Generator) -> Plane:
    """One lobe of one lung, dense and even up to the fissure, with air-filled bronchi in it."""
    side = rng.choice([-1, 1])
    lung = chest.right if side < 0 else chest.left
    outline = _lobe(str(rng.choice(["upper", "middle", "lower"])), int(side), rng)
    reach = wobbly(outline.mean(axis=0), rng.uniform(0.13, 0.19) * RASTER_PX, 0.3, rng)
    lobe = smoothed(filled(size(), [outline]), 3.0) * smoothed(filled(size(), [reach]), 9.0) * lung
    even = 0.9 + 0.10 * clouds(size(), 20, rng) + 0.05 * clouds(size(), 6, rng)
    start = np.array([0.5 + side * 0.11, 0.43])
    bronchi = []
    for angle in np.linspace(-1.0, 1.2, 6) + rng.normal(0, 0.15, 6):
        line = placed(centre_line(0.22, rng.normal(0, 0.4), 16), angle if side > 0 else np.pi - angle, np.zeros(2))
        bronchi.append(at(line - line[0] + start))
    air = smoothed(stroked(size(), bronchi, 2.0), 1.0)
    return np.asarray(lobe * np.clip(even, 0, 1.1) * (1 - 0.3 * air) * rng.uniform(0.85, 1.0), np.float32)


def _lobe(name: str, side: int, rng: np.random.Generator) -> Points:
    shapes = {
        "upper": [(0.03, 0.06), (0.36, 0.06), (0.40, 0.36), (0.24, 0.40), (0.06, 0.40)],
        "middle": [(0.05, 0.40), (0.24, 0.40), (0.40, 0.44), (0.38, 0.60), (0.20, 0.66), (0.05, 0.66)],
        "lower": [(0.10, 0.50), (0.26, 0.46), (0.42, 0.54), (0.44, 0.84), (0.06, 0.84)],
    }
    points = np.array(shapes[name]) + rng.normal(0, 0.015, (len(shapes[name]), 2))
    points[:, 0] = 0.5 + side * points[:, 0]
    return curve(at(points), 2)
