"""The organism set: eight classes of micrographs, taken of ten slides that differ in everything but their meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from microscopy_cls.samples import microbes, protists
from microscopy_cls.samples.microscope import (
    Optics,
    Picture,
    Specimen,
    empty_specimen,
    photographed,
    slide_optics,
    transmitted,
)
from microscopy_cls.samples.shapes import centre_line, filled, placed, stroked, wobbly

Draw = Callable[[Specimen, np.random.Generator], None]

ORGANISMS: dict[str, Draw] = {
    "amoeba": protists.amoeba,
    "euglena": protists.euglena,
    "hydra": protists.hydra,
    "paramecium": protists.paramecium,
    "rod_bacteria": microbes.rod_bacteria,
    "spherical_bacteria": microbes.spherical_bacteria,
    "spiral_bacteria": microbes.spiral_bacteria,
    "yeast": microbes.yeast,
}
LARGE = ("amoeba", "euglena", "hydra", "paramecium")  # few to a picture: their centres keep off the border

SIDES_PX = (128, 144, *[160] * 8, 176, 200)
SUFFIXES = (".png", ".png", ".png", ".png", ".jpg", ".jpg", ".tif")
HARD_SHARE = 0.04  # pictures out of focus and pale, which an honest score must lose some of


@dataclass(frozen=True)
class Shot:
    """One picture to be taken: its class, slide, place below the set's folder, and random stream."""

    label: str
    slide: int
    path: str
    stream: tuple[int, ...]


def plan_shots(images_per_class: int, num_slides: int, seed: int) -> list[Shot]:
    """Which class is photographed on which slide: every class on at least eight in ten of them, in unequal numbers.

    Numbers in the file names run through a slide in random order and tell nothing about the class.
    """
    rng = np.random.default_rng([seed, 0])
    pairs = []
    for label in ORGANISMS:
        used = rng.permutation(num_slides)[: max(1, round(num_slides * rng.uniform(0.85, 1.0)))]
        slides = np.concatenate([np.resize(used, images_per_class // 2), rng.choice(used, -(-images_per_class // 2))])
        pairs += [(label, int(slide)) for slide in slides]
    numbers = dict.fromkeys(range(num_slides), 0)
    shots = []
    for index in rng.permutation(len(pairs)):
        label, slide = pairs[index]
        numbers[slide] += 1
        name = f"{label}/slide{slide + 1:02d}_{numbers[slide]:03d}{rng.choice(SUFFIXES)}"
        shots.append(Shot(label, slide, name, (seed, 1, int(index))))
    return sorted(shots, key=lambda shot: shot.path)


def draw_organisms(folder: Path, shots: list[Shot], seed: int) -> Iterator[Path]:
    """Take every picture, yielding each file when it is written."""
    for shot in shots:
        path = folder / shot.path
        path.parent.mkdir(parents=True, exist_ok=True)
        save(draw_shot(shot, seed), path)
        yield path


def draw_shot(shot: Shot, seed: int) -> Picture:
    """Take one picture through the optics of its slide, (side, side, 3) uint8 RGB."""
    optics = slide_optics(shot.slide, np.random.default_rng([seed, 2, shot.slide]))
    return draw_organism(shot.label, optics, np.random.default_rng(shot.stream))


def draw_organism(label: str, optics: Optics, rng: np.random.Generator) -> Picture:
    """One field of view with several individuals of a class and some litter, (side, side, 3) uint8 RGB."""
    specimen = empty_specimen(int(rng.choice(SIDES_PX)), optics.scale, 0.2 if label in LARGE else 0.0)
    ORGANISMS[label](specimen, rng)
    litter(specimen, rng)
    hard = rng.random() < HARD_SHARE
    blur_px = optics.blur_px * rng.uniform(0.8, 1.3) + (rng.uniform(1.2, 2.2) if hard else 0.0)
    light = transmitted(specimen, optics, blur_px, contrast=rng.uniform(0.35, 0.6) if hard else rng.uniform(0.8, 1.1))
    return photographed(light, optics, rng)


def litter(specimen: Specimen, rng: np.random.Generator) -> None:
    """What lies on any glass: specks, flakes, now and then a fibre."""
    unit, size = specimen.unit, specimen.size
    everywhere = np.array([size[1], size[0]])
    specks = [
        wobbly(rng.uniform(0, 1, 2) * everywhere, rng.uniform(0.5, 1.5) * unit, 0.3, rng, 10)
        for _ in range(rng.poisson(3))
    ]
    specimen.add(filled(size, specks), dye=0.5, phase=0.3)
    flakes = [
        wobbly(rng.uniform(0, 1, 2) * everywhere, rng.uniform(2.5, 6) * unit, 0.5, rng, 24)
        for _ in range(rng.poisson(0.6))
    ]
    specimen.add(filled(size, flakes), dye=0.15, phase=0.35)
    if rng.random() < 0.06:
        fibre = placed(
            centre_line(rng.uniform(60, 140) * unit, rng.normal(0, 1.2)),
            rng.uniform(0, 6),
            rng.uniform(0, 1, 2) * everywhere,
        )
        specimen.add(stroked(size, [fibre], rng.uniform(0.8, 1.8) * unit), dye=0.3, phase=0.5)


def save(picture: Picture, path: Path) -> None:
    """Write RGB in the format of the suffix: PNG, TIFF (deflate), or JPEG (quality 92, all colour kept)."""
    options: dict[str, dict[str, Any]] = {
        ".jpg": {"quality": 92, "subsampling": 0},
        ".tif": {"compression": "tiff_adobe_deflate"},
    }
    Image.fromarray(picture).save(path, **options.get(path.suffix, {}))
