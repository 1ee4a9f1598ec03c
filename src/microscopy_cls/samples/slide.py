"""One whole slide: a pyramidal tiled TIFF with organisms scattered on it, and a table of where they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import tifffile

from microscopy_cls.samples.microscope import (
    Optics,
    Picture,
    empty_specimen,
    slide_optics,
    to_bytes,
    transmitted,
)
from microscopy_cls.samples.organisms import LARGE, ORGANISMS
from microscopy_cls.samples.shapes import Plane, clouds
from microscopy_cls.system.files import write_csv

UM_PER_PX = 0.5
TILE_PX = 256
PATCH_PX = 320  # drawn around each place; individuals are centred in its inner part and do not reach its border
PITCH_PX = 176  # distance of neighbouring places
MIN_LEVEL_PX = 512  # no level is smaller
STAIN = 3  # haematoxylin: the grey-blue of most slides
PREVAILING = "paramecium"  # the class that a slide-level answer should give


def draw_slide(folder: Path, side_px: int, seed: int) -> Iterator[Path]:
    """Draw `demo-slide.tiff` and `demo-slide.csv` (class, x_px, y_px: the middle of each group, at full resolution)."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, 5])
    optics = slide_optics(STAIN, rng)
    picture = empty_slide(side_px, optics, rng)
    places = plan_places(side_px, rng)
    for label, x_px, y_px in places.itertuples(index=False, name=None):
        _print(picture, label, x_px, y_px, optics, rng)
    write_pyramid(folder / "demo-slide.tiff", picture)
    yield folder / "demo-slide.tiff"
    write_csv(folder / "demo-slide.csv", places.rename(columns={"label": "class"}))
    yield folder / "demo-slide.csv"


def plan_places(side_px: int, rng: np.random.Generator) -> pd.DataFrame:
    """Where which class lies: a jittered grid inside a round drop, in neighbourhoods of one class each.

    Returns:
        Columns `label, x_px, y_px`, sorted by row and column.
    """
    grid = np.arange(PATCH_PX, side_px - PATCH_PX + 1, PITCH_PX)
    y, x = (axis.ravel() for axis in np.meshgrid(grid, grid, indexing="ij"))
    inside = np.hypot(x - side_px / 2, y - side_px / 2) < 0.42 * side_px
    kept = inside & (rng.random(len(x)) < 0.5)
    places = np.stack([x, y], 1)[kept] + rng.integers(-24, 25, (int(kept.sum()), 2))
    labels = np.array([*ORGANISMS, *[PREVAILING] * 6])
    seeds = rng.uniform(0, side_px, (len(labels), 2))
    nearest = np.linalg.norm(places[:, None] - seeds[None], axis=2).argmin(axis=1)
    return pd.DataFrame({"label": labels[nearest], "x_px": places[:, 0], "y_px": places[:, 1]})


def empty_slide(side_px: int, optics: Optics, rng: np.random.Generator) -> Picture:
    """Glass under an even lamp, with the camera's noise repeated tile by tile, (side, side, 3) uint8."""
    noise = rng.standard_normal((512, 512, 3), np.float32) * np.float32(optics.noise)
    rows = -(-side_px // 512)
    lamp = np.array(optics.lamp, np.float32) * np.float32(0.97)
    haze = 1 + 0.006 * clouds((side_px, side_px), side_px / 8, rng)
    picture = np.empty((side_px, side_px, 3), np.uint8)
    for top in range(0, side_px, 512):
        strip = lamp * haze[top : top + 512, :, None]
        picture[top : top + 512] = to_bytes(strip + np.tile(noise, (1, rows, 1))[: len(strip), :side_px])
    return picture


def _print(picture: Picture, label: str, x_px: int, y_px: int, optics: Optics, rng: np.random.Generator) -> None:
    """Let the light of one part of the slide pass a fresh specimen as well."""
    specimen = empty_specimen(PATCH_PX, optics.scale, margin=0.4 if label in LARGE else 0.2)
    ORGANISMS[label](specimen, rng)
    light = 1 + (transmitted(specimen, optics, optics.blur_px) - 1) * _faded(PATCH_PX)[..., None]
    top, left = y_px - PATCH_PX // 2, x_px - PATCH_PX // 2
    part = picture[top : top + PATCH_PX, left : left + PATCH_PX]
    part[:] = to_bytes(np.asarray(part * light / 255, np.float32))


def _faded(side_px: int, rim_px: int = 16) -> Plane:
    """1 inside, falling to 0 at the rim: an arm that reaches out of the patch ends softly."""
    ramp = np.clip(np.minimum(np.arange(side_px), np.arange(side_px)[::-1]) / rim_px, 0, 1).astype(np.float32)
    return np.minimum(ramp[:, None], ramp[None, :])


def write_pyramid(path: Path, picture: Picture) -> None:
    """Write a tiled TIFF, each level half of the one before, JPEG inside, with the resolution for OpenSlide."""
    levels = [picture]
    while min(levels[-1].shape[:2]) // 2 >= MIN_LEVEL_PX and len(levels) < 4:
        height, width = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    with tifffile.TiffWriter(path) as writer:
        for level, pixels in enumerate(levels):
            px_per_cm = 10_000 / (UM_PER_PX * 2**level)
            writer.write(
                pixels,
                tile=(TILE_PX, TILE_PX),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 90},
                subfiletype=int(level > 0),
                resolution=(px_per_cm, px_per_cm),
                resolutionunit="CENTIMETER",
                metadata=None,
                software="microscopy_cls",
            )
