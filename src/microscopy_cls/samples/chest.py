"""The chest of one phantom patient: how much each place weakens X-rays, seen from the front.

Places are fractions of the side, x to the right and y down; the patient's right is on the left of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from microscopy_cls.samples.shapes import (
    Plane,
    Points,
    Size,
    centre_line,
    clouds,
    ellipse,
    filled,
    placed,
    rounded,
    smoothed,
    stroked,
    tube,
)

RASTER_PX = 352

# Half of the trunk's outline, from the neck down; beyond 0.5 lies outside the picture.
TRUNK = [
    (0.095, -0.2),
    (0.10, 0.0),
    (0.14, 0.055),
    (0.28, 0.075),
    (0.42, 0.10),
    (0.53, 0.18),
    (0.56, 0.40),
    (0.52, 1.4),
]
# Outlines of the lungs as distance from the midline and height: apex, side wall, diaphragm, mediastinum.
RIGHT_LUNG = [
    (0.06, 0.19), (0.10, 0.11), (0.18, 0.10), (0.27, 0.18), (0.34, 0.34), (0.385, 0.54), (0.40, 0.765), (0.33, 0.69),
    (0.22, 0.655), (0.12, 0.675), (0.085, 0.70), (0.095, 0.58), (0.07, 0.46), (0.06, 0.32),
]  # fmt: skip
LEFT_LUNG = [
    (0.06, 0.19), (0.10, 0.11), (0.18, 0.10), (0.27, 0.18), (0.34, 0.34), (0.385, 0.54), (0.40, 0.785), (0.34, 0.715),
    (0.26, 0.69), (0.215, 0.70), (0.215, 0.62), (0.17, 0.52), (0.10, 0.44), (0.075, 0.38), (0.085, 0.30),
]  # fmt: skip


@dataclass(frozen=True)
class Chest:
    """One patient.

    Attributes:
        attenuation: 0 (air around the patient) to about 1, (RASTER_PX, RASTER_PX).
        air: what a disease can fill: 0 (none in the path) to 1 (as much as in the middle of a lung).
        right, left: masks of the lungs as seen in the picture, 0 to 1; `right` is the patient's.
    """

    attenuation: Plane
    air: Plane
    right: Plane
    left: Plane


@dataclass(frozen=True)
class Build:
    """Measures of one patient: factors on width and height, size of the heart, drop of the ribs."""

    width: float
    inspiration: float
    heart: float
    rib_drop: float
    fat: float


def draw_chest(view: str, rng: np.random.Generator) -> Chest:
    """A new patient; lying down (view AP) the heart looks larger and the breath is shallower."""
    supine = view == "AP"
    build = Build(
        width=rng.uniform(0.92, 1.06),
        inspiration=rng.uniform(0.94, 1.12) - 0.05 * supine,
        heart=rng.uniform(0.88, 1.12) + 0.08 * supine,
        rib_drop=rng.uniform(0.07, 0.15),
        fat=rng.uniform(0.0, 1.0),
    )
    right, left = _lung(RIGHT_LUNG, -1, build, rng), _lung(LEFT_LUNG, 1, build, rng)
    lungs, heart = np.maximum(right, left), _heart(build)
    air = _depth(right, left) * (1 - 0.85 * heart)
    trunk = _trunk(build, rng)
    attenuation = trunk + 0.05 * smoothed(heart, 6)
    attenuation -= np.float32(0.50 - 0.08 * build.fat) * air
    attenuation += _vessels(build, rng) * lungs * (1 - 0.7 * heart)
    attenuation += _spine(build, rng) + _bones(build, rng) * (0.5 + 0.5 * lungs) * (trunk > 0.1)
    return Chest(_airways(attenuation, build, rng), air, right, left)


def size() -> Size:
    """Height and width of the raster, px."""
    return RASTER_PX, RASTER_PX


def at(points: list[tuple[float, float]] | Points) -> Points:
    """Fractions of the side become raster px."""
    return np.asarray(points, float) * RASTER_PX


def curve(corners: Points, rounds: int = 3, closed: bool = True) -> Points:
    """Cut corners until the outline is smooth (Chaikin 1974)."""
    for _ in range(rounds):
        following = np.roll(corners, -1, axis=0) if closed else corners[1:]
        here = corners if closed else corners[:-1]
        corners = np.stack([0.75 * here + 0.25 * following, 0.25 * here + 0.75 * following], 1).reshape(-1, 2)
    return corners


def _lung(half: list[tuple[float, float]], side: int, build: Build, rng: np.random.Generator) -> Plane:
    points = np.array(half)
    points[:, 0] *= build.width
    points[:, 1] = 0.12 + (points[:, 1] - 0.12) * build.inspiration
    points += rng.normal(0, 0.006, points.shape)
    points[:, 0] = 0.5 + side * points[:, 0]
    return smoothed(filled(size(), [curve(at(points))]), 1.8)


def _depth(right: Plane, left: Plane) -> Plane:
    """How much air lies in the path: little at the rim, most in the middle of each lung."""
    thick = np.maximum(rounded(right, 0.11 * RASTER_PX), rounded(left, 0.11 * RASTER_PX))
    return smoothed(np.maximum(right, left) * np.asarray(0.45 + 0.55 * thick, np.float32), 2.0)


def _trunk(build: Build, rng: np.random.Generator) -> Plane:
    half = np.array(TRUNK)
    half[2:, 0] *= rng.uniform(0.9, 1.05)
    outline = np.concatenate([half * [1, 1] + [0.5, 0], (half * [-1, 1] + [0.5, 0])[::-1]])
    mask = smoothed(filled(size(), [curve(at(outline), closed=True)]), 2.5)
    thick = rounded(np.pad(mask, 40, mode="edge"), 0.13 * RASTER_PX)[40:-40, 40:-40]
    soft = 0.62 + 0.04 * build.fat + 0.018 * clouds(size(), 26, rng)
    belly = np.linspace(-0.06, 0.12, RASTER_PX, dtype=np.float32)[:, None]
    return np.asarray(mask * (0.25 + 0.75 * thick) * (soft + belly), np.float32)


def _heart(build: Build) -> Plane:
    """How much of the air's place mediastinum, heart and aortic arch take, 0 to 1."""
    low = 0.12 + (0.70 - 0.12) * build.inspiration
    middle = [(0.445, -0.1), (0.555, -0.1), (0.56, 0.26), (0.57, low + 0.1), (0.43, low + 0.1), (0.44, 0.26)]
    right_edge, left_edge = 0.5 - 0.095 * build.heart, 0.5 + 0.205 * build.heart
    heart = [
        (0.46, 0.30), (0.54, 0.30), (0.60, 0.44), (left_edge - 0.02, low - 0.12), (left_edge, low), (0.66, low + 0.09),
        (0.46, low + 0.09), (right_edge, low), (right_edge, low - 0.16), (0.44, 0.44),
    ]  # fmt: skip
    arch = ellipse(at([(0.555, 0.30)])[0], 0.038 * RASTER_PX, 0.045 * RASTER_PX)
    shadows = [(1.0, heart, 3.0), (0.7, middle, 5.0)]
    masks = [strength * smoothed(filled(size(), [curve(at(points))]), blur) for strength, points, blur in shadows]
    return np.asarray(np.maximum.reduce([*masks, 0.6 * smoothed(filled(size(), [arch]), 3)]), np.float32)


def _spine(build: Build, rng: np.random.Generator) -> Plane:
    bend = rng.normal(0, 0.006)
    heights = np.arange(-0.02, 1.05, 0.052)
    boxes = []
    for height in heights:
        x, half = 0.5 + bend * np.sin(3 * height), 0.030 + 0.008 * height
        corners = [(x - half, height), (x + half, height), (x + half, height + 0.040), (x - half, height + 0.040)]
        boxes.append(curve(at(corners), 2))
    bodies = smoothed(filled(size(), boxes), 1.6)
    knobs = [ellipse(at([(0.5 + bend, height + 0.02)])[0], 3.0, 5.0, num=12) for height in heights]
    return 0.07 * bodies + 0.03 * smoothed(filled(size(), knobs), 1.5) - 0.01 * np.float32(build.fat)


def _bones(build: Build, rng: np.random.Generator) -> Plane:
    """Ribs behind and, fainter, in front; collar bones; heads of the upper arms and shoulder blades."""
    ribs_behind, ribs_in_front, others = [], [], []
    for side in (-1, 1):
        for rib in range(10):
            behind, front = _rib(rib, build)
            ribs_behind.append(_bone(behind, side, 0.0125, rng))
            ribs_in_front.append(_bone(front, side, 0.0115, rng))
        collar = [(0.03, 0.155), (0.10, 0.150), (0.20, 0.115), (0.30, 0.095), (0.40, 0.115)]
        others.append(_bone(curve(np.array(collar), 2, closed=False), side, 0.0145, rng))
        blade = [(0.40, 0.15), (0.37, 0.24), (0.385, 0.36), (0.42, 0.44)]
        others.append(_bone(curve(np.array(blade), 2, closed=False), side, 0.006, rng))
    heads = [ellipse(at([(0.5 + side * 0.46, 0.155)])[0], 0.055 * RASTER_PX, 0.05 * RASTER_PX) for side in (-1, 1)]
    return _hollow(ribs_behind, 0.11) + _hollow(ribs_in_front, 0.055) + _hollow(others, 0.2) + _hollow(heads, 0.12)


def _hollow(outlines: list[Points], strength: float) -> Plane:
    """Bone is densest in its rind."""
    solid = np.zeros(size(), np.float32)
    for share in (outlines[::2], outlines[1::2]):  # where two neighbours cross, both count
        solid += filled(size(), share)
    rind = stroked(size(), outlines, 1.3, closed=True)
    return smoothed(np.float32(strength) * (0.6 * solid + 0.5 * rind), 0.9)


def _rib(index: int, build: Build) -> tuple[Points, Points]:
    """Centre lines of a rib from the spine to the side wall, and from there forward and down."""
    along = np.linspace(0, 1, 24)
    start = 0.105 + 0.063 * index * build.inspiration
    wall = (
        np.interp(start + build.rib_drop, (0.1, 0.2, 0.36, 0.55, 0.8), (0.20, 0.29, 0.355, 0.395, 0.41)) * build.width
    )
    x = 0.045 + (wall - 0.045) * np.sin(along * np.pi / 2)
    y = start - 0.022 * np.sin(np.pi * along) + build.rib_drop * along**2.2
    front_x = wall * np.cos(along * np.pi / 2 * 0.72)
    front_y = y[-1] + 0.02 * np.sin(np.pi * along) + 0.105 * along
    return np.stack([x, y], 1), np.stack([front_x, front_y], 1)


def _bone(line: Points, side: int, half_width: float, rng: np.random.Generator) -> Points:
    drawn = line * [side, 1] + [0.5, 0] + rng.normal(0, 0.002, 2)
    return tube(at(drawn), half_width * RASTER_PX * rng.uniform(0.9, 1.1))


def _vessels(build: Build, rng: np.random.Generator) -> Plane:
    """Arteries and veins: they leave the hilum, branch and taper."""
    thick, thin = [], []
    for side in (-1, 1):
        hilum = np.array([0.5 + side * 0.095, 0.41 + 0.02 * side])
        for angle in np.linspace(-1.25, 1.45, 11) + rng.normal(0, 0.1, 11):
            heading = angle if side > 0 else np.pi - angle
            trunk = _branch(hilum, heading, rng.uniform(0.10, 0.19), rng)
            thick.append(tube(at(trunk), np.linspace(2.5, 1.1, len(trunk))))
            for turn in rng.uniform(-0.8, 0.8, 4):
                twig = _branch(trunk[rng.integers(8, len(trunk))], heading + turn, rng.uniform(0.06, 0.15), rng)
                thin.append(tube(at(twig), np.linspace(1.2, 0.4, len(twig))))
    hila = [ellipse(at([(0.5 + side * 0.10, 0.41 + 0.02 * side)])[0], 13, 22, 0.25 * side) for side in (-1, 1)]
    markings = 0.09 * smoothed(filled(size(), thick), 1.4) + 0.06 * filled(size(), thin)
    markings += 0.13 * smoothed(filled(size(), hila), 7) * np.clip(1 + 0.4 * clouds(size(), 9, rng), 0, 2)
    return smoothed(markings + 0.012 * clouds(size(), 5, rng), 1.0 + 0.4 * build.fat)


def _branch(start: Points, heading: float, length: float, rng: np.random.Generator) -> Points:
    line = placed(centre_line(length, rng.normal(0, 0.5), 14), heading, np.zeros(2))
    return np.asarray(line - line[0] + start)


def _airways(attenuation: Plane, build: Build, rng: np.random.Generator) -> Plane:
    """Windpipe and main bronchi, and often the stomach's bubble of air: darker than what surrounds them."""
    fork = (0.5 + rng.normal(0, 0.004), 0.37)
    pipe = at(np.linspace((0.5, -0.05), fork, 12))
    bronchi = [at(np.linspace(fork, (0.5 + side * 0.075, 0.42), 6)) for side in (-1, 1)]
    dark = 0.11 * smoothed(filled(size(), [tube(pipe, 6.0), *(tube(line, 3.0) for line in bronchi)]), 2)
    if rng.random() < 0.6:
        place = (0.5 + rng.uniform(0.16, 0.24), 0.12 + 0.70 * build.inspiration)
        bubble = ellipse(at([place])[0], rng.uniform(0.035, 0.07) * RASTER_PX, 0.03 * RASTER_PX)
        dark = dark + 0.16 * smoothed(filled(size(), [bubble]), 3)
    return (attenuation - dark).astype(np.float32)
