"""All demo sets at once: drawn aside, then put in place whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from microscopy_cls.errors import DataError
from microscopy_cls.samples.faults import Fault, as_table, plant_in_organisms, tag_scans
from microscopy_cls.samples.organisms import Shot, draw_organisms, plan_shots
from microscopy_cls.samples.scans import Patient, draw_scans, plan_patients
from microscopy_cls.samples.slide import draw_slide
from microscopy_cls.system.files import read_json, write_csv, write_json
from microscopy_cls.system.progress import progress

SETS = ("organisms", "covid", "slides")
RECORD = "sample.json"
VERSION = 1  # of the drawings: raise it whenever a pixel changes


@dataclass(frozen=True)
class Extent:
    """How much is drawn. Tests draw less."""

    images_per_class: int = 40
    num_slides: int = 10
    patients_per_class: int = 20
    slide_side_px: int = 4096


def draw_samples(out: Path, *, seed: int = 0, faults: bool = True) -> dict[str, int]:
    """Draw the demo sets `organisms`, `covid` and `slides` into `out`, as folders of these names.

    The same seed gives the same pixels. `sample.json` records what was drawn: the same call again draws only sets that
    are missing. With `faults`, `faults.csv` lists every planted fault.

    Args:
        out: a folder, made if it does not exist.
        seed: 0 or more.
        faults: plant broken, copied, contradictory and odd files among the organisms, and a tag that gives one class
            of the scans away.

    Returns:
        The number of files of each set.

    Raises:
        DataError: `out` holds one of the sets already, drawn otherwise or by somebody else; or a bad seed.
    """
    return draw_extent(out, seed, faults, Extent())


def draw_extent(out: Path, seed: int, faults: bool, extent: Extent) -> dict[str, int]:
    """`draw_samples` of any size."""
    if seed < 0:
        raise DataError(f"seed {seed}: is negative. Choose 0 or a larger number.")
    parameters = {"version": VERSION, "seed": seed, "faults": faults, **asdict(extent)}
    missing = _missing_sets(out, parameters)
    if not missing:
        return dict(read_json(out / RECORD)["num_files"])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".drawing-", dir=out) as aside:
        planted = _draw_all(Path(aside), seed, faults, extent)
        num_files = {name: sum(path.is_file() for path in Path(aside, name).rglob("*")) for name in SETS}
        if faults:
            write_csv(out / "faults.csv", as_table(planted))
        # Before the sets move: a set in place without a record would look like somebody else's.
        write_json(out / RECORD, {**parameters, "num_files": num_files})
        for name in missing:
            shutil.rmtree(out / name, ignore_errors=True)  # an empty folder at most
            Path(aside, name).rename(out / name)
    return num_files


def _missing_sets(out: Path, parameters: dict[str, Any]) -> list[str]:
    """The sets still to be drawn; refuses where that would mix with or overwrite other files."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file. Name a folder for the samples.")
    present = [name for name in SETS if _is_occupied(out / name)]
    record = _read_record(out)
    if present and any(record.get(key) != value for key, value in parameters.items()):
        raise DataError(
            f"{out}: holds {', '.join(present)} already, not drawn with seed {parameters['seed']} and "
            f"faults {'all' if parameters['faults'] else 'none'} by this version. "
            "Name another folder, or remove these first."
        )
    return [name for name in SETS if name not in present]


def _is_occupied(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def _read_record(out: Path) -> dict[str, Any]:
    try:
        return dict(read_json(out / RECORD))
    except (FileNotFoundError, ValueError, TypeError):  # none, or not one of ours
        return {}


def _draw_all(folder: Path, seed: int, faults: bool, extent: Extent) -> list[Fault]:
    shots = plan_shots(extent.images_per_class, extent.num_slides, seed)
    patients = plan_patients(extent.patients_per_class, seed)
    total = len(shots) + sum(patient.num_scans for patient in patients) + 3  # the tables and the slide
    for _ in progress(_files(folder, shots, patients, seed, extent), "drawing", total):
        pass
    if not faults:
        return []
    return [
        *plant_in_organisms(folder / "organisms", shots, extent.num_slides, seed),
        *tag_scans(folder / "covid", seed),
    ]


def _files(folder: Path, shots: list[Shot], patients: list[Patient], seed: int, extent: Extent) -> Iterator[Path]:
    yield from draw_organisms(folder / "organisms", shots, seed)
    yield from draw_scans(folder / "covid", patients, seed)
    yield from draw_slide(folder / "slides", extent.slide_side_px, seed)
