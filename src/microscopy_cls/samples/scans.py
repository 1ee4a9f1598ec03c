"""The scan set: frontal chest phantoms in three classes, several pictures of each patient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from microscopy_cls.samples.chest import RASTER_PX, draw_chest
from microscopy_cls.samples.lesions import draw_lesion
from microscopy_cls.samples.microscope import to_bytes
from microscopy_cls.samples.shapes import Plane, smoothed, stroked
from microscopy_cls.system.files import write_csv

Scan = NDArray[np.uint8]  # (h, w) grey

CLASSES = ("covid19", "normal", "pneumonia")
SIDE_PX = 192
OPACITY = 0.46  # attenuation of a full lesion; air takes away about 0.5
EARLY_SHARE = 0.04  # scans of patients on which little is to be seen yet
WHITE = 0.97  # attenuation of the brightest tissue
NUM_SCANS = (1, 2, 2, 3, 3, 3, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 6, 6)  # of the patients of a class, 4 on average


@dataclass(frozen=True)
class Patient:
    """One patient: number, class, how the pictures are taken, and how many there are."""

    number: int
    label: str
    view: str
    sex: str
    num_scans: int


def plan_patients(patients_per_class: int, seed: int) -> list[Patient]:
    """Patients in random order; classes have equal numbers of patients and scans, views and sexes tell nothing."""
    rng = np.random.default_rng([seed, 3])
    people = []
    for label in CLASSES:
        counts = rng.permutation(np.resize(NUM_SCANS, patients_per_class))
        views = rng.permutation(np.resize(["PA", "PA", "AP"], patients_per_class))
        sexes = rng.permutation(np.resize(["F", "M"], patients_per_class))
        people += [(label, *row) for row in zip(views, sexes, counts, strict=True)]
    order = rng.permutation(len(people))
    return [
        Patient(number + 1, people[i][0], str(people[i][1]), str(people[i][2]), int(people[i][3]))
        for number, i in enumerate(order)
    ]


def draw_scans(folder: Path, patients: list[Patient], seed: int) -> Iterator[Path]:
    """Draw every scan and at last `labels.csv`, yielding each file when it is written."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for patient in patients:
        name = f"patient{patient.number:03d}"
        for index, scan in enumerate(draw_patient(patient, np.random.default_rng([seed, 4, patient.number]))):
            path = f"images/{name}_{index + 1}.png"
            rows.append((path, patient.label, name, patient.view, patient.sex))
            Image.fromarray(scan).save(folder / path)
            yield folder / path
    write_csv(folder / "labels.csv", pd.DataFrame(rows, columns=["path", "label", "patient", "view", "sex"]))
    yield folder / "labels.csv"


def draw_patient(patient: Patient, rng: np.random.Generator) -> Iterator[Scan]:
    """The scans of one patient: the same chest and lesion, the latter waxing and waning, never posed twice alike."""
    chest = draw_chest(patient.view, rng)
    lesion = draw_lesion(patient.label, chest, rng) * chest.air
    for _ in range(patient.num_scans):
        strength = rng.uniform(0.3, 0.5) if rng.random() < EARLY_SHARE else rng.uniform(0.8, 1.1)
        yield exposed(chest.attenuation + np.float32(OPACITY * strength) * lesion, rng)


def exposed(attenuation: Plane, rng: np.random.Generator) -> Scan:
    """One film of a chest: pose, exposure, blur, noise and the side's marker, (SIDE_PX, SIDE_PX) uint8."""
    blurred = smoothed(posed(attenuation, rng), rng.uniform(0.2, 0.8))
    level = np.clip(blurred / WHITE, 0, None) ** np.float32(rng.uniform(0.75, 1.2))
    grey = rng.uniform(0.01, 0.10) + rng.uniform(0.78, 0.98) * np.tanh(1.15 * level) / np.tanh(1.15)
    grain = rng.standard_normal(grey.shape, np.float32) * np.float32(rng.uniform(0.006, 0.022))
    return to_bytes(with_marker(grey + smoothed(grain, 0.5), rng))


def posed(attenuation: Plane, rng: np.random.Generator) -> Plane:
    """The patient stands a little turned, shifted, nearer or farther; at the picture's resolution."""
    middle = RASTER_PX / 2
    turn = cv2.getRotationMatrix2D((middle, middle), rng.normal(0, 2.0), rng.uniform(0.94, 1.05))
    turn[:, 2] += rng.normal(0, 0.015, 2) * RASTER_PX
    to_picture = turn * (SIDE_PX / RASTER_PX)
    sharp_enough = smoothed(attenuation, 0.7)  # half of the finer raster's detail cannot be kept
    shown: Plane = cv2.warpAffine(sharp_enough, to_picture, (SIDE_PX, SIDE_PX), borderMode=cv2.BORDER_REPLICATE)
    return shown


def with_marker(grey: Plane, rng: np.random.Generator) -> Plane:
    """A bright L near a random corner, in every class alike."""
    height = rng.uniform(8, 12)
    corner = np.array([rng.choice([14, SIDE_PX - 22]), rng.choice([14, SIDE_PX - 26])]) + rng.uniform(-5, 5, 2)
    letter = corner + np.array([[0, 0], [0, height], [0.6 * height, height]])
    mark = stroked((SIDE_PX, SIDE_PX), [letter], 2)
    return grey * (1 - mark) + np.float32(rng.uniform(0.9, 1.0)) * mark
