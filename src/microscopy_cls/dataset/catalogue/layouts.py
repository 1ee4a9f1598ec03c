"""How each set comes to lie: from the paths of its repository to a row an image. Pure; nothing is read but tables."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files

from microscopy_cls.dataset.catalogue.cells import bccd_cells, chula_cells
from microscopy_cls.dataset.catalogue.item import Item
from microscopy_cls.errors import DataError

Texts = Mapping[str, bytes]
NUM_SHOWN = 5  # examples in a message
PLANKTON_DAY = re.compile(r"^SPC-PWSSC-(\d+)-")


@dataclass(frozen=True)
class Layout:
    """A set's plan.

    Attributes:
        items: a row an image, from all paths of the tree and the contents of its annotations by path.
        annotations: which of the paths are annotations, needed before `items`.
    """

    items: Callable[[Sequence[str], Texts], list[Item]]
    annotations: Callable[[Sequence[str]], list[str]] = lambda _: []


def covid_xray3(paths: Sequence[str], patients: Mapping[str, str]) -> list[Item]:
    """Radiographs; the NIH's name their patient (`00001280_004.png`), Cohen's are looked up in `patients`."""
    items = []
    for item in class_folders(paths, "X-Ray Image DataSet/"):
        nih = re.match(r"(\d{8})_\d+\.", item.name)
        items.append(item.with_group(f"nih_{nih[1]}" if nih else patients.get(item.name, "")))
    return _all_grouped(items, "patient")


def covid_ct(paths: Sequence[str], patients: Mapping[str, str]) -> list[Item]:
    """CT slices, whose patients are looked up in `patients`."""
    items = class_folders(paths, "Data/master-data/", {"COVID": "CT_COVID", "NonCOVID": "CT_NonCOVID"})
    return _all_grouped([item.with_group(patients.get(item.name, "")) for item in items], "patient")


def pollen23e(paths: Sequence[str]) -> list[Item]:
    """Pollen grains, a folder per type; no groups are known."""
    return class_folders(paths, "Data/Raw/pollen23e/")


def plankton(paths: Sequence[str], chosen: Sequence[str]) -> list[Item]:
    """Of all regions of interest the `chosen` (`Calanus/SPC-...png`), grouped by the UTC day in their name."""
    found = {item.file: item for item in class_folders(paths, "data/")}
    lacking = [file for file in chosen if file not in found]
    if lacking:
        raise DataError(f"the tree lacks {len(lacking)} files of the set, such as {', '.join(lacking[:NUM_SHOWN])}")
    return [found[file].with_group(plankton_day(found[file].name)) for file in sorted(chosen)]


def plankton_day(name: str) -> str:
    """The day of a profile, from the seconds since 1970 in the file name; those without a time share one group."""
    match = PLANKTON_DAY.match(name)
    if match is None:
        raise DataError(f"{name}: does not begin with SPC-PWSSC-<time>, so its day is not known")
    seconds = int(match[1])
    return f"day_{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}" if seconds else "epoch0"


def class_folders(paths: Sequence[str], root: str, labels: Mapping[str, str] | None = None) -> list[Item]:
    """Images at `root<folder>/<name>`, labelled by their folder or by what `labels` makes of it (others left out)."""
    items = []
    for path in sorted(paths):
        folder, slash, name = path.removeprefix(root).partition("/")
        is_image = name.lower().endswith((".png", ".jpg", ".jpeg")) and not name.startswith(".") and "/" not in name
        if not (path.startswith(root) and slash and is_image):
            continue
        label = folder if labels is None else labels.get(folder)
        if label is not None:
            items.append(Item(path, label, name))
    return items


def _all_grouped(items: list[Item], kind: str) -> list[Item]:
    unknown = [item.path for item in items if not item.group]
    if unknown:
        raise DataError(f"the {kind} of {len(unknown)} images is not known, such as {', '.join(unknown[:NUM_SHOWN])}")
    return items


@cache
def shipped_table(name: str) -> dict[str, str]:
    """A shipped table: file to group, or to "" where it has no such column."""
    text = files(__package__).joinpath("tables", f"{name}.csv").read_text(encoding="utf-8")
    return {row["file"]: row.get("group", "") for row in csv.DictReader(text.splitlines())}


def _below(*folders: str) -> Callable[[Sequence[str]], list[str]]:
    return lambda paths: [path for path in paths if path.startswith(folders)]


LAYOUTS = {
    "covid-xray3": Layout(lambda paths, _: covid_xray3(paths, shipped_table("covid-xray3"))),
    "covid-ct": Layout(lambda paths, _: covid_ct(paths, shipped_table("covid-ct"))),
    "pollen23e": Layout(lambda paths, _: pollen23e(paths)),
    "plankton12": Layout(lambda paths, _: plankton(paths, list(shipped_table("plankton12")))),
    "bccd": Layout(bccd_cells, _below("BCCD/Annotations/")),
    "chula": Layout(chula_cells, _below("Label/")),
}
