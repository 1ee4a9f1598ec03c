"""The table of all inputs on the page: its columns, and a list of plain values a row."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import pandas as pd

from microscopy_cls.inference.batch.inputs import Input
from microscopy_cls.inference.batch.scoring import labels_of
from microscopy_cls.inference.rows import SEPARATOR

Kind = Literal["input", "text", "answer", "share", "number", "size"]
DOUBT = {"prediction_set": "Prediction set", "refer": "Refer", "novelty": "Novelty"}


@dataclass(frozen=True)
class Column:
    """One column; `kind` says how its values are shown and sorted."""

    title: str
    kind: Kind


@dataclass(frozen=True)
class Listing:
    """All rows.

    Attributes:
        columns: in the order of the cells.
        rows: each `[link, state, *cells]`, JSON's types alone; `state` is `failed`, `right`, `wrong` (by its label),
            or `ok` without a label. The cell of a `size` is `[width_px, height_px]`; None is no value.
    """

    columns: list[Column]
    rows: list[list[Any]]


def listing(out: Path, rows: pd.DataFrame, inputs: Sequence[Input], classes: Sequence[str]) -> Listing:
    """The table's columns and rows; columns of doubt (prediction set, refer, novelty) only where any row has a value.

    Args:
        out: folder of the page; links are relative to it.
        rows: of predictions.csv.
        inputs: of the rows.
        classes: of the model: a label that is none of them is neither right nor wrong.
    """
    answers = rows["predicted"].where(rows["status"] == "ok", rows["error"])
    columns: list[tuple[Column, Sequence[Any]]] = [
        (Column("Input", "input"), _texts(rows["path"])),
        (Column("Status", "text"), _texts(rows["status"])),
        (Column("Predicted", "answer"), _texts(answers)),
        (Column("Confidence", "share"), [_plain(value) for value in rows["confidence"]]),
    ]
    if labels_of(rows).ne("").any():
        columns.append((Column("Label", "text"), _texts(labels_of(rows))))
    columns += [_doubt(title, rows[name]) for name, title in DOUBT.items() if rows[name].notna().any()]
    columns.append((Column("Size in px", "size"), _sizes(rows)))
    links, states = [link(out, item.file) for item in inputs], _states(rows, classes)
    cells = zip(links, states, *(values for _, values in columns), strict=True)
    return Listing([column for column, _ in columns], [list(row) for row in cells])


def link(out: Path, file: Path) -> str:
    """Address of a file as seen from the page in `out`: relative where there is such a way, quoted."""
    absolute = os.path.abspath(file)  # noqa: PTH100  without following links, as a browser goes up
    try:
        relative = os.path.relpath(absolute, os.path.abspath(out))  # noqa: PTH100
    except ValueError:  # on another drive
        return Path(absolute).as_uri()
    return quote(os.fsencode(Path(relative).as_posix()))


def _texts(values: pd.Series) -> list[str | None]:
    return [None if pd.isna(value) else str(value) for value in values]


def _doubt(title: str, column: pd.Series) -> tuple[Column, Sequence[Any]]:
    """A column of numbers, or of text where any value is no number."""
    values = [_plain(value) for value in column]
    if column.name == "prediction_set":
        return Column(title, "text"), [None if one is None else _set(str(one)) for one in values]
    if all(isinstance(value, float | None) for value in values):
        return Column(title, "number"), values
    return Column(title, "text"), [None if value is None else str(value) for value in values]


def _plain(value: Any) -> str | float | None:
    """A value of JSON's types."""
    if value is None or pd.isna(value):
        return None
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return float(value) if isinstance(value, Real) else str(value)


def _set(names: str) -> str:
    return names.replace(SEPARATOR, ", ") or "none"


def _sizes(rows: pd.DataFrame) -> list[list[int] | None]:
    pairs = zip(rows["width_px"], rows["height_px"], strict=True)
    return [None if pd.isna(width) or pd.isna(height) else [int(width), int(height)] for width, height in pairs]


def _states(rows: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    known = set(classes)
    states = []
    for status, predicted, label in zip(rows["status"], rows["predicted"], labels_of(rows), strict=True):
        if status != "ok":
            states.append("failed")
        elif label not in known:
            states.append("ok")
        else:
            states.append("right" if label == predicted else "wrong")
    return states
