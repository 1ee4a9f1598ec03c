"""What is to be classified: files, folders, patterns, tables and lists, as one list in the order given."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from microscopy_cls.dataset.sources import is_hidden, read_table, walk
from microscopy_cls.errors import DataError
from microscopy_cls.images import IMAGE_SUFFIXES, ending
from microscopy_cls.images.slide import SLIDE_SUFFIXES

TABLE_SUFFIXES = (".csv", ".parquet")
STANDARD_INPUT = "-"
PATH, UM_PER_PX = "path", "mpp"
FOUND_SUFFIXES = IMAGE_SUFFIXES | SLIDE_SUFFIXES
_MAX_STEM_CHARS = 80  # file systems take 255 bytes a name, and a letter can be four


@dataclass(frozen=True)
class Input:
    """One file to classify.

    Attributes:
        path: as given; inside a folder, the folder as given and what follows.
        file: where it is.
        carried: the other columns of the table that named it.
    """

    path: str
    file: Path
    carried: dict[str, Any] = field(default_factory=dict)

    @property
    def um_per_px(self) -> float | None:
        """Microns per pixel, where the table has a column `mpp` with a number."""
        try:
            value = float(self.carried.get(UM_PER_PX, ""))
        except (TypeError, ValueError):
            return None
        return value if value > 0 else None

    def key(self) -> str:
        """Digest of the path as given and of the file's size and time: another key, another input."""
        try:
            status = self.file.stat()
            facts = f"{self.path}\0{status.st_size}\0{status.st_mtime_ns}\0{self.um_per_px}"
        except (OSError, ValueError):
            facts = f"{self.path}\0missing"
        return hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def find_inputs(arguments: Sequence[str], standard_input: Iterable[str] = ()) -> list[Input]:
    """The inputs, in the order of the arguments, a folder's in the order of their names.

    Args:
        arguments: files, folders (all images below), patterns (`*`, `?`, `[...]`, `**`), tables with a column `path`
            (relative to the table's folder), or `-` for one path a line of `standard_input`.

    Returns:
        A file that was named is an input even when it does not exist; of a folder, files with an image's ending.

    Raises:
        DataError: a table without the column, or no input at all.
    """
    found = [item for argument in arguments for item in _expand(argument, standard_input)]
    if not found:
        raise DataError(f"{', '.join(arguments)}: there is no image in it. Name files, folders, patterns or a table.")
    return found


def _expand(argument: str, standard_input: Iterable[str]) -> Iterator[Input]:
    path = Path(argument)
    if argument == STANDARD_INPUT:
        lines = (line.rstrip("\r\n") for line in standard_input)
        yield from (Input(line, Path(line)) for line in lines if line)
    elif path.is_dir():
        found = (file for file in walk(path) if ending(file) in FOUND_SUFFIXES)
        yield from (Input(os.fspath(file), file) for file in found if not is_hidden(file.relative_to(path)))
    elif path.suffix.lower() in TABLE_SUFFIXES and path.is_file():
        yield from _from_table(path)
    elif glob.has_magic(argument) and not os.path.lexists(path):
        for name in sorted(glob.glob(argument, recursive=True)):  # noqa: PTH207  takes any text, absolute or not:
            yield from _expand(name, ())
    else:
        yield Input(argument, path)


def own_folder(above: Path, path_as_given: str) -> Path:
    """The folder of one input's files: `<stem>-<8 hex digits>`; other paths of equal names get other digits."""
    digits = hashlib.sha256(path_as_given.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    stem = re.sub(r"[^\w.-]+", "_", Path(path_as_given).stem).strip("._")[:_MAX_STEM_CHARS]
    return above / f"{stem or 'slide'}-{digits}"


def _from_table(table: Path) -> Iterator[Input]:
    rows: pd.DataFrame = read_table(table)
    if PATH not in rows:
        raise DataError(f"{table}: has no column {PATH!r} but {', '.join(map(str, rows.columns)) or 'none'}.")
    for row in rows.to_dict("records"):
        name = str(row.pop(PATH))
        yield Input(name, table.parent / name, {str(column): value for column, value in row.items()})
