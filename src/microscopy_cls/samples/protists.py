"""Large organisms: amoeba, euglena, hydra and paramecium. Lengths are in units of about one pixel of the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.samples.microscope import Specimen
from microscopy_cls.samples.shapes import (
    Plane,
    Points,
    centre_line,
    clouds,
    depth_px,
    ellipse,
    filled,
    melted,
    normals,
    placed,
    rounded,
    smoothed,
    stroked,
    tube,
    wobbly,
)

Numbers = NDArray[np.float64]

CHLOROPHYLL = (0.85, 0.18, 0.95)
CAROTENE = (0.15, 1.3, 1.3)  # the eyespot
FOOD = (0.60, 0.72, 0.90)
SOOT = (0.70, 0.75, 0.80)  # what an amoeba has eaten, and its crystals
AMBER = (0.04, 0.34, 0.75)  # the inner layer of a hydra

# Half-width of a paramecium from its blunt front to its pointed end, relative to the widest place.
SLIPPER = (
    (0.0, 0.02, 0.06, 0.12, 0.22, 0.38, 0.55, 0.68, 0.80, 0.90, 0.96, 1.0),
    (0.22, 0.42, 0.58, 0.69, 0.78, 0.90, 1.0, 0.98, 0.84, 0.58, 0.34, 0.08),
)


def amoeba(specimen: Specimen, rng: np.random.Generator) -> None:
    """One large or two small cells: pseudopods, a clear rim, granular plasm, nucleus, vacuoles."""
    num = int(rng.choice([1, 2]))
    for _ in range(num):
        _one_amoeba(specimen, specimen.free_spot(rng), rng.uniform(35, 43) / num**0.4 * specimen.unit, rng)


def _one_amoeba(specimen: Specimen, centre: Points, radius: float, rng: np.random.Generator) -> None:
    outlines = [wobbly(centre, radius, 0.3, rng)]
    heading = rng.uniform(0, 2 * np.pi)
    angles = heading + np.cumsum(rng.uniform(0.4, 1.7, rng.integers(2, 7)))
    outlines += [_pseudopod(centre, angle, radius, rng) for angle in angles]
    mask = melted(filled(specimen.size, outlines), 0.13 * radius)
    core = smoothed(np.clip(depth_px(mask) / np.float32(0.22 * radius) - 0.35, 0, 1), 0.06 * radius)
    granules = np.clip(clouds(specimen.size, 2.2 * specimen.unit, rng) - 0.5, 0, 1)
    specimen.add(mask, dye=0.24)
    specimen.add(core * (0.28 + 0.7 * granules), dye=1.0)
    specimen.add(rounded(mask, 0.3 * radius), phase=1.0)
    _fill_amoeba(specimen, core, radius, rng)


def _pseudopod(centre: Points, angle: float, radius: float, rng: np.random.Generator) -> Points:
    """A blunt, bent finger that starts inside the body."""
    length = radius * rng.uniform(0.6, 1.8)
    line = placed(centre_line(length, rng.normal(0, 0.7)), angle, np.zeros(2))
    start = centre + 0.55 * radius * np.array([np.cos(angle), np.sin(angle)])
    return tube(
        line - line[0] + start, radius * np.linspace(rng.uniform(0.35, 0.6), rng.uniform(0.15, 0.34), len(line))
    )


def _fill_amoeba(specimen: Specimen, core: Plane, radius: float, rng: np.random.Generator) -> None:
    nucleus, *spots = _spots_inside(core, 12, rng)
    disc = filled(specimen.size, [wobbly(nucleus, 0.26 * radius, 0.08, rng)])
    specimen.add(disc, dye=0.55, phase=0.25)
    specimen.add(filled(specimen.size, [ellipse(nucleus, 0.1 * radius, 0.1 * radius)]), dye=0.5)
    clear = filled(specimen.size, [ellipse(spots[0], 0.2 * radius, 0.2 * radius)])
    specimen.hollow(clear)
    food = [wobbly(spot, radius * rng.uniform(0.05, 0.12), 0.1, rng) for spot in spots[1 : rng.integers(5, 12)]]
    specimen.add(filled(specimen.size, food), dye=0.25, phase=0.4, pigment=SOOT)


def _spots_inside(mask: Plane, num: int, rng: np.random.Generator) -> Points:
    """Random points where `mask` is nearly 1, as (x, y)."""
    rows, columns = np.nonzero(mask > 0.9 * mask.max())
    chosen = rng.integers(0, len(rows), num)
    return np.stack([columns[chosen], rows[chosen]], 1).astype(float)


def euglena(specimen: Specimen, rng: np.random.Generator) -> None:
    """Two to four green spindles with an eyespot and a flagellum; some contract."""
    for _ in range(rng.integers(2, 5)):
        _one_euglena(specimen, rng)


def _one_euglena(specimen: Specimen, rng: np.random.Generator) -> None:
    unit = specimen.unit
    contracted = rng.random() < 0.12
    length = rng.uniform(45, 56) * unit if contracted else rng.uniform(74, 98) * unit
    half_width = rng.uniform(13, 16) * unit if contracted else rng.uniform(9, 12) * unit
    bend, angle, centre = rng.normal(0, 0.5), rng.uniform(0, 2 * np.pi), specimen.free_spot(rng)
    line = placed(centre_line(length, bend), angle, centre)
    along = np.linspace(0, 1, len(line))
    profile = np.sin(np.pi * along**0.75) ** 0.75 * (1 - 0.35 * along)  # blunt in front, pointed behind
    mask = filled(specimen.size, [tube(line, half_width * profile / profile.max())])
    specimen.add(mask, dye=0.3, pigment=(0.22, 0.05, 0.25))
    specimen.add(rounded(mask, half_width), phase=0.9)
    _fill_euglena(specimen, line, half_width * profile, rng)
    lash = centre_line(
        length * rng.uniform(0.4, 0.7), rng.normal(0, 1.0), wave=(2.2 * unit, 16 * unit, rng.uniform(0, 6))
    )
    lash = placed(lash - lash[-1], np.arctan2(*(line[1] - line[0])[::-1]) + rng.normal(0, 0.3), line[0])
    specimen.add(stroked(specimen.size, [lash], 0.9 * unit), dye=0.45, phase=0.5)


def _fill_euglena(specimen: Specimen, line: Points, half_widths: Numbers, rng: np.random.Generator) -> None:
    unit, side = specimen.unit, normals(line)
    plastids = []
    for _ in range(rng.integers(14, 24)):
        at = int(rng.uniform(0.2, 0.9) * len(line))
        centre = line[at] + side[at] * half_widths[at] * rng.uniform(-0.75, 0.75)
        plastids.append(
            ellipse(centre, rng.uniform(2.8, 4.4) * unit, rng.uniform(1.7, 2.6) * unit, rng.uniform(0, 3), 16)
        )
    specimen.add(filled(specimen.size, plastids), dye=0.1, phase=0.15, pigment=CHLOROPHYLL)
    middle = line[int(0.55 * len(line))]
    specimen.add(filled(specimen.size, [ellipse(middle, 4.6 * unit, 4.0 * unit)]), dye=0.5)
    at = int(0.12 * len(line))
    eyespot = line[at] + side[at] * half_widths[at] * 0.45
    specimen.add(filled(specimen.size, [ellipse(eyespot, 2.6 * unit, 2.1 * unit)]), pigment=CAROTENE)


def hydra(specimen: Specimen, rng: np.random.Generator) -> None:
    """One polyp: a two-layered stalk, a mouth cone, a crown of beaded tentacles, sometimes a bud."""
    unit, angle = specimen.unit, rng.uniform(0, 2 * np.pi)
    length = rng.uniform(72, 94) * unit
    line = placed(centre_line(length, rng.normal(0, 0.9)), angle, specimen.free_spot(rng))
    line -= 0.25 * (line[-1] - line[0])  # the crown needs room too
    _polyp(specimen, line, rng.uniform(10, 13) * unit, int(rng.integers(6, 10)), rng)
    if rng.random() < 0.35:
        at = int(rng.uniform(0.35, 0.6) * len(line))
        outward = normals(line)[at] * rng.choice([-1, 1])
        bud = line[at] + outward * np.linspace(5, 32, 20)[:, None] * unit
        _polyp(specimen, bud, 5.2 * unit, int(rng.integers(3, 6)), rng)


def _polyp(specimen: Specimen, line: Points, half_width: float, num_tentacles: int, rng: np.random.Generator) -> None:
    along = np.linspace(0, 1, len(line))
    widths = half_width * (0.62 + 0.38 * along + 0.25 * np.exp(-(((along - 0.0) / 0.06) ** 2)))  # foot disc, wider head
    widths *= np.where(along > 0.94, 1 - 6 * (along - 0.94), 1)  # the mouth cone
    body = filled(specimen.size, [tube(line, widths)])
    inner = filled(specimen.size, [tube(line[2:-2], 0.62 * widths[2:-2])])
    cavity = filled(specimen.size, [tube(line[4:-4], 0.24 * widths[4:-4])])
    grain = np.clip(0.8 + 0.35 * clouds(specimen.size, 2.5 * specimen.unit, rng), 0, 2)
    specimen.add(body * grain, dye=0.25)
    specimen.add(inner * grain, dye=0.25, pigment=AMBER)
    specimen.add(cavity, dye=-0.22)
    specimen.add(rounded(body, half_width), phase=1.0)
    _crown(specimen, line, half_width, num_tentacles, rng)


def _crown(specimen: Specimen, line: Points, half_width: float, num: int, rng: np.random.Generator) -> None:
    unit, forward = specimen.unit, line[-1] - line[-3]
    heading = np.arctan2(forward[1], forward[0])
    arms, beads = [], []
    for angle in heading + np.linspace(-1.5, 1.5, num) + rng.normal(0, 0.15, num):
        length = half_width * rng.uniform(4.0, 7.0)
        wave = (rng.uniform(1, 3.5) * unit, rng.uniform(22, 40) * unit, rng.uniform(0, 6))
        arm = centre_line(length, rng.normal(0, 1.1), 48, wave)
        arm = placed(arm - arm[0], angle, line[-2])
        arms.append(tube(arm, half_width * np.linspace(0.24, 0.1, len(arm))))
        beads += [ellipse(point, 0.2 * half_width, 0.16 * half_width, num=10) for point in arm[4 :: rng.integers(3, 5)]]
    mask = filled(specimen.size, arms)
    specimen.add(mask, dye=0.35)
    specimen.add(rounded(mask, 0.24 * half_width), phase=0.55)
    specimen.add(filled(specimen.size, beads), dye=0.3, phase=0.2)


def paramecium(specimen: Specimen, rng: np.random.Generator) -> None:
    """Two or three slippers: cilia, oral groove, nucleus, two contractile vacuoles, food vacuoles."""
    for _ in range(rng.integers(2, 4)):
        _one_paramecium(specimen, rng)


def _one_paramecium(specimen: Specimen, rng: np.random.Generator) -> None:
    unit = specimen.unit
    length = rng.uniform(84, 108) * unit
    half_width = length * rng.uniform(0.15, 0.18)
    line = placed(centre_line(length, rng.normal(0, 0.3)), rng.uniform(0, 2 * np.pi), specimen.free_spot(rng))
    widths = half_width * np.interp(np.linspace(0, 1, len(line)), *SLIPPER)
    outline = tube(line, widths)
    mask = filled(specimen.size, [outline])
    specimen.add(stroked(specimen.size, _cilia(outline, unit, rng), 0.8 * unit), dye=0.5, phase=0.35)
    grain = np.clip(clouds(specimen.size, 2.0 * unit, rng), -1, 1.5)
    specimen.add(mask * (0.22 + 0.06 * grain), dye=1.0)
    specimen.add(stroked(specimen.size, [outline], 1.2 * unit, closed=True), dye=0.3)
    specimen.add(rounded(mask, half_width), phase=1.0)
    _fill_paramecium(specimen, line, widths, rng)


def _cilia(outline: Points, unit: float, rng: np.random.Generator) -> list[Points]:
    """Short hairs all round, swept along by the metachronal wave."""
    gaps = np.linalg.norm(np.diff(outline, axis=0, append=outline[:1]), axis=1)
    where = np.cumsum(gaps)
    places = np.arange(0, where[-1], 2.4 * unit)
    roots = np.stack([np.interp(places, where, outline[:, axis]) for axis in (0, 1)], 1)
    along = np.gradient(roots, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    out = np.stack([-along[:, 1], along[:, 0]], 1)
    reach = rng.uniform(3.4, 5.2, len(roots))[:, None] * unit
    sweep = 0.5 * np.sin(places / (9 * unit))[:, None]
    return [np.stack([root, tip]) for root, tip in zip(roots, roots + reach * (out + sweep * along), strict=True)]


def _fill_paramecium(specimen: Specimen, line: Points, widths: Numbers, rng: np.random.Generator) -> None:
    unit, side, size, num = specimen.unit, normals(line), specimen.size, len(line)
    flank = rng.choice([-1, 1])
    reach = slice(int(0.22 * num), int(0.55 * num))
    groove = (
        line[reach] + side[reach] * (widths[reach] * np.linspace(0.95, 0.15, reach.stop - reach.start) * flank)[:, None]
    )
    specimen.add(filled(size, [tube(groove, np.linspace(2.6, 1.0, len(groove)) * unit)]), dye=-0.2, phase=-0.5)
    specimen.add(stroked(size, [groove], 1.2 * unit), dye=0.35)
    nucleus = placed(ellipse(np.zeros(2), 12 * unit, 6.5 * unit), rng.uniform(0, 3), line[int(0.56 * num)])
    specimen.add(filled(size, [nucleus]), dye=0.6, phase=0.15)
    food = []
    for at in rng.integers(int(0.2 * num), int(0.88 * num), rng.integers(7, 14)):
        centre = line[at] + side[at] * widths[at] * rng.uniform(-0.6, 0.6)
        food.append(ellipse(centre, rng.uniform(2.0, 4.2) * unit, rng.uniform(2.0, 4.2) * unit, num=16))
    specimen.add(filled(size, food), dye=0.25, phase=0.3, pigment=FOOD)
    for at in (int(0.2 * num), int(0.8 * num)):
        rays = [placed(np.array([[3.5, 0], [7, 0]]) * unit, angle, line[at]) for angle in np.arange(6) * np.pi / 3]
        specimen.add(stroked(size, rays, 1.0 * unit), dye=-0.2)
        radius = rng.uniform(2.8, 5.2) * unit
        specimen.hollow(filled(size, [ellipse(line[at], radius, radius)]))
