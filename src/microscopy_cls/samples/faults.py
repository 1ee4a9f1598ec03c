"""Planted faults: what real folders hold, and what the pipeline should make of each."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from PIL import Image

from microscopy_cls.samples.microscope import Picture
from microscopy_cls.samples.organisms import ORGANISMS, Shot, draw_shot
from microscopy_cls.samples.scans import SIDE_PX, Scan

TAGGED_CLASS = "covid19"
TAGGED_SHARE = 0.85  # of the scans of that class
COLUMNS = ("set", "path", "fault", "expected_status")


@dataclass(frozen=True)
class Fault:
    """One file: its set, its path below the set's folder, what is wrong, and the status the manifest should give.

    `ignored` stands for no row at all.
    """

    set: str
    path: str
    fault: str
    expected_status: str


def as_table(faults: list[Fault]) -> pd.DataFrame:
    """A row per file: `set, path, fault, expected_status`."""
    return pd.DataFrame([[getattr(fault, column) for column in COLUMNS] for fault in faults], columns=list(COLUMNS))


def plant_in_organisms(folder: Path, shots: list[Shot], num_slides: int, seed: int) -> Iterator[Fault]:
    """Add files with faults beside the good pictures, which stay as they are."""
    first, middle, last = num_slides // 4, num_slides // 2, 3 * num_slides // 4
    yield from _plant_unreadable(folder, _place("amoeba", first), _place("hydra", middle), _place("yeast", last), seed)
    yield from _plant_odd(folder, _place("paramecium", middle), _place("euglena", last), seed)
    # One pair of slides for both, because copies tie the slides they lie on into one group.
    original, other = _two_classes(shots, first)
    yield _plant_duplicate(folder, original, last)
    yield _plant_near_duplicate(folder, other, last)
    yield from _plant_conflict(folder, _two_classes(shots, middle)[0])
    (folder / "yeast" / "notes.txt").write_text("Slides 1 to 10, stains as in the notebook.\n", encoding="utf-8")
    yield Fault("organisms", "yeast/notes.txt", "not an image", "ignored")


def tag_scans(folder: Path, seed: int) -> Iterator[Fault]:
    """Stamp a bright tag into one corner of most scans of one class: a shortcut past the disease."""
    labels = pd.read_csv(folder / "labels.csv")
    paths = labels.loc[labels["label"] == TAGGED_CLASS, "path"].to_numpy(object)
    rng = np.random.default_rng([seed, 7])
    for path in sorted(rng.permutation(paths)[: int(TAGGED_SHARE * len(paths))]):
        with Image.open(folder / path) as scan:
            tagged = with_tag(np.array(scan))
        Image.fromarray(tagged).save(folder / path)
        yield Fault("covid", path, "corner tag", "ok")


def with_tag(scan: Scan) -> Scan:
    """A copy with a white label of 20 x 9 px, dark strokes on it, in the lower right corner."""
    tagged = scan.copy()
    label = tagged[SIDE_PX - 11 : SIDE_PX - 2, SIDE_PX - 23 : SIDE_PX - 3]
    label[:] = 252
    label[3:6, 3:-3:3] = 40
    return tagged


def _plant_unreadable(folder: Path, cut: str, text: str, empty: str, seed: int) -> Iterator[Fault]:
    whole = io.BytesIO()
    Image.fromarray(_fresh(cut, seed, 0)).save(whole, "JPEG", quality=92)
    data = whole.getvalue()
    (folder / f"{cut}_901.jpg").write_bytes(data[: len(data) * 6 // 10])
    yield Fault("organisms", f"{cut}_901.jpg", "truncated", "unreadable")
    (folder / f"{text}_902.png").write_text("The picture was moved to the archive.\n", encoding="utf-8")
    yield Fault("organisms", f"{text}_902.png", "text under an image's ending", "unreadable")
    (folder / f"{empty}_903.png").touch()
    yield Fault("organisms", f"{empty}_903.png", "empty file", "unreadable")


def _plant_odd(folder: Path, misnamed: str, deep: str, seed: int) -> Iterator[Fault]:
    """Files that are unusual but readable."""
    Image.fromarray(_fresh(misnamed, seed, 1)).save(folder / f"{misnamed}_904.jpg", "PNG")
    yield Fault("organisms", f"{misnamed}_904.jpg", "PNG named .jpg", "ok")
    grey = _fresh(deep, seed, 2).mean(axis=2)
    counts = np.rint(grey / 255 * 4095).astype(np.uint16)
    tifffile.imwrite(
        folder / f"{deep}_905.tif", counts, photometric="minisblack", metadata=None, software="microscopy_cls"
    )
    yield Fault("organisms", f"{deep}_905.tif", "12-bit values in 16 bits", "ok")


def _plant_duplicate(folder: Path, original: Shot, slide: int) -> Fault:
    """Equal pixels in another format, on another slide; the original sorts before it."""
    path = f"{_place(original.label, slide)}_906.tif"
    with Image.open(folder / original.path) as picture:
        picture.save(folder / path, compression="tiff_adobe_deflate")
    return Fault("organisms", path, f"same pixels as {original.path}", "duplicate")


def _plant_near_duplicate(folder: Path, original: Shot, slide: int) -> Fault:
    path = f"{_place(original.label, slide)}_907.jpg"
    with Image.open(folder / original.path) as picture:
        smaller = picture.resize((picture.width * 9 // 10, picture.height * 9 // 10), Image.Resampling.BICUBIC)
    smaller.save(folder / path, quality=80)
    return Fault("organisms", path, f"smaller, re-encoded copy of {original.path}", "ok")


def _plant_conflict(folder: Path, original: Shot) -> Iterator[Fault]:
    """The same file under two labels, on one slide."""
    classes = list(ORGANISMS)
    wrong = classes[(classes.index(original.label) + 1) % len(classes)]
    path = f"{_place(wrong, original.slide)}_908.png"
    shutil.copyfile(folder / original.path, folder / path)
    yield Fault("organisms", original.path, f"same pixels as {path}", "conflict")
    yield Fault("organisms", path, f"same pixels as {original.path}", "conflict")


def _two_classes(shots: list[Shot], slide: int) -> tuple[Shot, Shot]:
    """The first PNG of a slide, and its first one of another class."""
    images = [shot for shot in shots if shot.slide == slide and shot.path.endswith(".png")]
    return images[0], next(shot for shot in images if shot.label != images[0].label)


def _place(label: str, slide: int) -> str:
    return f"{label}/slide{slide + 1:02d}"


def _fresh(place: str, seed: int, index: int) -> Picture:
    """A picture of its own for a place such as `yeast/slide03`."""
    label, slide = place.split("/slide")
    return draw_shot(Shot(label, int(slide) - 1, "", (seed, 6, index)), seed)
