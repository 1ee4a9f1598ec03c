"""Which column of a table means what, guessed from names and values."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from microscopy_cls.errors import DataError
from microscopy_cls.images import IMAGE_SUFFIXES

NUM_PROBED = 50  # paths that are looked for
MIN_IMAGES = 0.9  # share of values that end like an image in a column of paths
MIN_FOUND = 0.5  # share of the probed paths that exist

PATH_WORDS = ("path", "filepath", "imagepath", "file", "filename", "image", "img", "name")
LABEL_WORDS = (
    "label", "class", "classname", "target", "category", "diagnosis", "species", "finding", "genus", "taxon",
    "organism", "type", "labels", "y",
)  # fmt: skip
# From coarse to fine: who keeps patients apart keeps their slides apart.
GROUP_WORDS = (
    "group", "patient", "subject", "person", "donor", "animal", "mouse", "case", "specimen", "biopsy", "culture",
    "colony", "strain", "batch", "session", "study", "day", "date", "plate", "well", "slide", "wsi", "sample", "series",
)  # fmt: skip
SPLIT_WORDS = ("split", "subset", "partition", "fold", "set")
METADATA_WORDS = (
    "site", "hospital", "centre", "center", "institution", "source", "scanner", "device", "camera", "microscope",
    "objective", "stain", "lab", "operator", "view", "sex", "gender", "age", "size", "width", "height", "bytes", "mode",
    "format", "compression", "exposure", "gain", "magnification", "date", "year", "vendor", "manufacturer", "protocol",
)  # fmt: skip
MAX_KINDS = 12  # different values of a column that is no measurement and no name


@dataclass(frozen=True)
class PathColumn:
    """The column of paths.

    Attributes:
        name: of the column.
        root: the folder that its values start from.
    """

    name: str
    root: Path


def find_paths(frame: pd.DataFrame, table: Path) -> PathColumn:
    """The column whose values are image files that exist, and where they lie.

    Args:
        frame: texts, "" where a value is missing.
        table: the file; its folder and the folders below are searched.

    Raises:
        DataError: no column names images, or none of the images named is there.
    """
    candidates = [name for name in _by_words(frame.columns, PATH_WORDS, loose=True) if _names_images(frame[name])]
    if not candidates:
        endings = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(
            f"{table}: has no column of image files. It has: {_listed(frame.columns)}. Give each row the path of its "
            f"image, relative to the table's folder and with its ending ({endings})."
        )
    for name in candidates:
        root = _root_of(frame[name], table.parent)
        if root is not None:
            return PathColumn(name, root)
    raise DataError(
        f"{table}: column {candidates[0]} names images that are not there, for example {frame[candidates[0]].iloc[0]}: "
        f"looked in {table.parent} and the folders below. Put the table beside the images, or correct the paths."
    )


def find_label(frame: pd.DataFrame, table: Path, taken: Sequence[str]) -> str:
    """The column of classes: two values or more, most of them often.

    Raises:
        DataError: no column looks like one.
    """
    for name in _by_words(frame.columns, LABEL_WORDS):
        if name not in taken and 2 <= frame[name].nunique() <= len(frame) / 2:
            return name
    raise DataError(
        f"{table}: has no column of classes that can be told by its name ({', '.join(LABEL_WORDS[:6])}, ...) and that "
        f"holds two classes or more, each several times. It has: {_listed(frame.columns)}. Rename the right one to "
        "label; classes that stand as columns of 0 and 1 must become one column of names."
    )


def group_candidates(frame: pd.DataFrame, taken: Sequence[str]) -> list[str]:
    """Columns named like a group whose values occur several times; the coarser first."""
    names = [name for name in _by_words(frame.columns, GROUP_WORDS) if name not in taken]
    filled = {name: frame.loc[frame[name] != "", name] for name in names}
    return [name for name, values in filled.items() if 2 <= values.nunique() < len(values)]


def split_candidates(frame: pd.DataFrame, taken: Sequence[str]) -> list[str]:
    """Columns named like a split that hold the word train or test."""
    names = [name for name in _by_words(frame.columns, SPLIT_WORDS) if name not in taken]
    return [name for name in names if {"train", "test"} & set(frame[name].str.lower())]


def metadata_columns(frame: pd.DataFrame, label: str, taken: Sequence[str]) -> dict[str, str]:
    """Columns that say how an image came about, and that therefore should not tell its class, each with the reason.

    By name, or because they hold few different values. A column that could be the label under another name is none.
    """
    meanings = (*PATH_WORDS, *LABEL_WORDS, *GROUP_WORDS, *SPLIT_WORDS)
    named = [name for name in _by_words(frame.columns, METADATA_WORDS) if frame[name].nunique() >= 2]
    others = [name for name in frame.columns if name not in _by_words(frame.columns, (*METADATA_WORDS, *meanings))]
    found = dict.fromkeys(named, "its name says how the image was taken or stored")
    for name in others:
        num_kinds = frame[name].nunique()
        if 2 <= num_kinds <= min(MAX_KINDS, len(frame) / 4) and not _renames(frame[name], frame[label]):
            found[name] = f"it has {num_kinds} different values, and is neither label, group nor split"
    return {name: why for name, why in found.items() if name not in taken}


def _renames(values: pd.Series, labels: pd.Series) -> bool:
    """Whether each value stands for one label and each label for one value."""
    return len(set(zip(values, labels, strict=True))) == values.nunique() == labels.nunique()


def _by_words(names: Iterable[str], words: Sequence[str], loose: bool = False) -> list[str]:
    """Column names that are or hold one of the words: whole names first, then in the order of the words.

    With `loose` the other names follow.
    """
    ranked = []
    for place, name in enumerate(names):
        parts = [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
        whole = "".join(parts)
        hits = [rank for rank, word in enumerate(words) if whole in {word, f"{word}id"} or word in parts]
        if hits or loose:
            exact = whole in {words[hits[0]], f"{words[hits[0]]}id"} if hits else False
            ranked.append((not exact, hits[0] if hits else len(words), place, name))
    return [name for *_, name in sorted(ranked)]


def _names_images(values: pd.Series) -> bool:
    filled = values[values != ""]
    endings = filled.str.lower().str.extract(r"((?:\.nii)?\.[a-z]+)$", expand=False)
    return len(filled) > 0 and bool(endings.isin(IMAGE_SUFFIXES).mean() >= MIN_IMAGES)


def _root_of(values: pd.Series, folder: Path) -> Path | None:
    """The folder from which most values are files: the table's, the working directory, or one below the table's."""
    paths = [value.replace("\\", "/") for value in values[values != ""]]
    probed = [paths[row] for row in np.linspace(0, len(paths) - 1, min(NUM_PROBED, len(paths)), dtype=int)]
    for root in chain((folder, Path()), _folders_with(probed[0], folder)):
        if sum((root / path).is_file() for path in probed) >= MIN_FOUND * len(probed):
            return root
    return None


def _folders_with(path: str, folder: Path) -> Iterator[Path]:
    """The folders below `folder` from which `path` is a file."""
    for parent, names, _ in os.walk(folder):
        names.sort()
        if Path(parent, path).is_file():
            yield Path(parent)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
