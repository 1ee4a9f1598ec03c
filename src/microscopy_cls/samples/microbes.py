"""Small organisms, many to a picture: rods, cocci, spirals and yeast. Lengths are in units of about one pixel."""

from __future__ import annotations

import numpy as np

from microscopy_cls.samples.microscope import Specimen
from microscopy_cls.samples.shapes import Points, centre_line, ellipse, filled, placed, rounded, stroked, tube, wobbly


def rod_bacteria(specimen: Specimen, rng: np.random.Generator) -> None:
    """Straight rods with round ends: scattered, in chains or side by side, some with spores."""
    unit = specimen.unit
    half_width, length = rng.uniform(4.4, 5.4) * unit, rng.uniform(36, 50) * unit
    bodies: list[Points] = []
    while len(bodies) < _crowd(specimen, rng.uniform(13, 20)):
        bodies += _rod_group(specimen.spot(rng), half_width, length, rng)
    _stain_bodies(specimen, bodies, half_width, 0.6, rng)
    specimen.add(stroked(specimen.size, bodies, 1.2 * unit, closed=True), dye=0.3)
    if rng.random() < 0.4:
        spores = [ellipse(body.mean(axis=0), 0.7 * half_width, 0.7 * half_width, num=12) for body in bodies[::2]]
        specimen.add(filled(specimen.size, spores), dye=-0.45, phase=0.6)


def _rod_group(start: Points, half_width: float, length: float, rng: np.random.Generator) -> list[Points]:
    """One rod, a chain end to end, or a palisade side by side."""
    angle = rng.uniform(0, np.pi)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    kind, num = rng.choice(["single", "chain", "palisade"], p=[0.7, 0.18, 0.12]), int(rng.integers(2, 4))
    rods = []
    for index in range(1 if kind == "single" else num):
        size = length * rng.uniform(0.75, 1.25)
        apart = along * (length + 2.2 * half_width) if kind == "chain" else across * 2.4 * half_width
        line = centre_line(size, rng.normal(0, 0.06), 8)
        rods.append(tube(placed(line, angle + rng.normal(0, 0.1), start + index * apart), half_width))
    return rods


def spherical_bacteria(specimen: Specimen, rng: np.random.Generator) -> None:
    """Cocci: grape clusters, chains, pairs, tetrads, singles; one arrangement prevails in a picture."""
    radius = rng.uniform(5.0, 6.2) * specimen.unit
    habit = rng.choice(["cluster", "cluster", "cluster", "chain", "pair", "tetrad"])
    wanted = _crowd(specimen, rng.uniform(48, 75))
    centres: list[Points] = []
    while len(centres) < wanted:
        start = specimen.spot(rng)
        offsets = _cocci_offsets(str(habit), rng) if rng.random() < 0.7 else [np.zeros(2)]
        centres += [start + radius * offset for offset in offsets]
    sizes = radius * rng.uniform(0.9, 1.1, (len(centres), 2))
    bodies = [ellipse(centre, long, wide, num=20) for centre, (long, wide) in zip(centres, sizes, strict=True)]
    _stain_bodies(specimen, bodies, radius, 1.3, rng)


def _cocci_offsets(kind: str, rng: np.random.Generator) -> list[Points]:
    """Where the cells of one group lie, in radii from its first cell."""
    if kind == "pair":
        return [np.zeros(2), _direction(rng) * 2]
    if kind == "tetrad":
        return list(placed(np.array([[0, 0], [2, 0], [0, 2], [2, 2]]) * 1.02, rng.uniform(0, 2), np.zeros(2)))
    if kind == "chain":
        headings = rng.uniform(0, 6) + np.cumsum(rng.normal(0, 0.35, rng.integers(4, 11)))
        return list(np.cumsum(np.stack([np.cos(headings), np.sin(headings)], 1) * 1.95, axis=0))
    grapes = [np.zeros(2)]
    for _ in range(rng.integers(6, 18)):
        grapes.append(grapes[rng.integers(len(grapes))] + _direction(rng) * 1.9)
    return grapes


def spiral_bacteria(specimen: Specimen, rng: np.random.Generator) -> None:
    """Corkscrews seen from the side; a few short commas among them."""
    unit = specimen.unit
    half_width, wavelength = rng.uniform(2.1, 2.7) * unit, rng.uniform(19, 25) * unit
    bodies = []
    for _ in range(round(_crowd(specimen, rng.uniform(8, 13)))):
        turns = rng.uniform(0.9, 1.5) if rng.random() < 0.1 else rng.uniform(2.2, 4.2)
        wave = (rng.uniform(5.5, 7.5) * unit, wavelength, rng.uniform(0, 6))
        line = centre_line(turns * wavelength, rng.normal(0, 0.35), int(14 * turns) + 8, wave)
        bodies.append(tube(placed(line, rng.uniform(0, np.pi), specimen.spot(rng)), half_width))
    _stain_bodies(specimen, bodies, half_width, 0.8, rng)


def yeast(specimen: Specimen, rng: np.random.Generator) -> None:
    """Oval cells with a bright wall, a vacuole and granules; about half of them bud."""
    cells: list[Points] = []
    middles: list[Points] = []
    radius = rng.uniform(11, 14) * specimen.unit
    for _ in range(round(_crowd(specimen, rng.uniform(8, 13)))):
        start, angle = specimen.free_spot(rng), rng.uniform(0, 2 * np.pi)
        for _ in range(rng.choice([1, 1, 1, 2])):
            long, short = radius * rng.uniform(0.95, 1.25), radius * rng.uniform(0.8, 0.95)
            cells.append(ellipse(start, long, short, angle))
            middles.append(start)
            if rng.random() < 0.5:
                small = radius * rng.uniform(0.3, 0.65)
                turn = angle + rng.normal(0, 0.5)
                cells.append(
                    ellipse(start + (long + 0.75 * small) * np.array([np.cos(turn), np.sin(turn)]), small, small)
                )
            start = start + _direction(rng) * radius * 2.1
    _stain_yeast(specimen, cells, middles, radius, rng)


def _stain_yeast(
    specimen: Specimen, cells: list[Points], middles: list[Points], radius: float, rng: np.random.Generator
) -> None:
    unit, size = specimen.unit, specimen.size
    body = filled(size, cells)
    specimen.add(body, dye=0.16)
    specimen.add(rounded(body, 0.8 * radius), phase=2.4)
    specimen.add(stroked(size, cells, 2.0 * unit, closed=True), dye=0.95, phase=0.5)
    holes = [
        wobbly(middle + rng.normal(0, 0.2 * radius, 2), radius * rng.uniform(0.25, 0.42), 0.1, rng)
        for middle in middles
    ]
    specimen.add(filled(size, holes), dye=-0.14, phase=-0.5)
    dots = [
        ellipse(middle + rng.normal(0, 0.38 * radius, 2), rng.uniform(1.0, 2.0) * unit, rng.uniform(1.0, 2.0) * unit)
        for middle in middles * 3
    ]
    specimen.add(filled(size, dots) * body, dye=0.4, phase=0.3)


def _stain_bodies(
    specimen: Specimen, bodies: list[Points], radius: float, dye: float, rng: np.random.Generator
) -> None:
    """About `dye` in two shades, for no smear takes the stain up evenly."""
    for share in (bodies[::2], bodies[1::2]):
        mask = filled(specimen.size, share)
        thick = rounded(mask, radius)
        specimen.add(mask * (0.35 + 0.65 * thick), dye=dye * rng.uniform(0.8, 1.2))
        specimen.add(thick, phase=0.5)


def _crowd(specimen: Specimen, per_field: float) -> float:
    """How many individuals fit the box for centres at the density of `per_field` in 160 x 160 units."""
    width, height = (specimen.centres[1] - specimen.centres[0]) / specimen.unit
    return max(4.0, float(per_field * width * height / 160**2))


def _direction(rng: np.random.Generator) -> Points:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])
