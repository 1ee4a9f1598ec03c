"""The page of a classification: one HTML file that needs no network, whatever the inputs are called."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from microscopy_cls import __version__
from microscopy_cls.inference.batch.inputs import Input
from microscopy_cls.inference.batch.listing import Listing, link, listing
from microscopy_cls.inference.batch.results import FOLDERS, num_referred
from microscopy_cls.inference.batch.scoring import Score, labels_of
from microscopy_cls.inference.batch.thumbnails import least_confident
from microscopy_cls.inference.rows import printable
from microscopy_cls.system.files import write_text

PAGE = "index.html"
TEMPLATES = Path(__file__).parent / "templates"
NUM_WITHOUT_SCRIPT = 200  # rows that stand in the page itself
NUM_A_PAGE = 100  # rows that the script shows at once
MAX_SHOWN = 100  # slides, stacks and reasons


@dataclass(frozen=True)
class Picture:
    """One input in the gallery."""

    uri: str
    path: str
    name: str
    link: str
    predicted: str
    confidence: float
    truth: str


@dataclass(frozen=True)
class Part:
    """A slide or stack and the folder of its files, as an address seen from the page."""

    path: str
    folder: str
    predicted: str
    confidence: float


def write_page(
    out: Path,
    rows: pd.DataFrame,
    classes: Sequence[str],
    run: Mapping[str, Any],
    thumbnails: Mapping[int, bytes],
    *,
    inputs: Sequence[Input],
    folders: Mapping[int, Path] | None = None,
    score: Score | None = None,
) -> Path:
    """Write `index.html` atomically.

    Args:
        out: folder of the classification, with the folders of its slides and stacks.
        rows: of predictions.csv, numbered from 0; names in it may be any text.
        classes: in index order.
        run: what `run.json` holds.
        thumbnails: JPEGs by row number.
        inputs: of the rows.
        folders: of slides and stacks by row number.
        score: where inputs have labels.

    Returns:
        The page's path.
    """
    environment = Environment(
        loader=PackageLoader("microscopy_cls.inference.batch"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    entries = listing(out, rows, inputs, classes)
    joined = folders or {}
    text = environment.get_template(
        "page.html.j2"
    ).render(
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),  # noqa: S704  our own file
        script=Markup(script),  # noqa: S704  our own file
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=__version__,
        run=run,
        rate=_rate(run),
        num_failed=int((rows["status"] == "failed").sum()),
        num_referred=num_referred(rows),
        class_counts=_class_counts(rows, classes),
        reasons=_counts(rows.loc[rows["status"] == "failed", "error"]),
        score=score,
        classes=classes,
        max_shown=MAX_SHOWN,
        columns=entries.columns,
        num_rows=len(entries.rows),
        first_rows=entries.rows[:NUM_WITHOUT_SCRIPT],
        data=_data(entries, classes),
        slides=_parts(out, rows, joined, "slide"),
        stacks=_parts(out, rows, joined, "stack"),
        galleries=_galleries(out, rows, thumbnails, inputs, joined),
    )
    write_text(out / PAGE, text)
    return out / PAGE


def _rate(run: Mapping[str, Any]) -> float | None:
    """Inputs a second, of those that this run did."""
    num_now, seconds = run["num_inputs"] - run["num_done_before"], run["seconds"]
    return num_now / seconds if num_now and seconds else None


def _counts(values: pd.Series) -> list[tuple[str, int]]:
    return [(str(value), int(count)) for value, count in values.value_counts().items()]


def _class_counts(rows: pd.DataFrame, classes: Sequence[str]) -> list[tuple[str, int]]:
    """Answers a class, the most frequent first, those without any last."""
    counts = dict(_counts(rows.loc[rows["status"] == "ok", "predicted"]))
    return sorted(((name, counts.get(name, 0)) for name in classes), key=lambda pair: -pair[1])


def _data(entries: Listing, classes: Sequence[str]) -> Markup:
    """What the script reads, as JSON in which nothing can end the element that it stands in."""
    data = {
        "columns": [asdict(column) for column in entries.columns],
        "classes": list(classes),
        "perPage": NUM_A_PAGE,
        "rows": entries.rows,
    }
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704  without "<" there is no markup


def _parts(out: Path, rows: pd.DataFrame, folders: Mapping[int, Path], kind: str) -> list[Part]:
    """Those of the `slide` or `stack` kind."""
    of_kind = {number: folder for number, folder in folders.items() if folder.parent.name == FOLDERS[kind]}
    found = rows.loc[list(of_kind)]
    return [
        Part(path, link(out, folder), predicted, confidence)
        for path, folder, predicted, confidence in zip(
            found["path"], of_kind.values(), found["predicted"], found["confidence"], strict=True
        )
    ]


def _galleries(
    out: Path,
    rows: pd.DataFrame,
    thumbnails: Mapping[int, bytes],
    inputs: Sequence[Input],
    folders: Mapping[int, Path],
) -> list[tuple[str, list[Picture]]]:
    """The pictures under two headings; the second by class."""
    doubtful = set(least_confident(rows.drop(index=list(folders))))
    truths = labels_of(rows)
    pictures = {
        number: _picture(out, rows.iloc[number], truths.iloc[number], inputs[number].file, jpeg)
        for number, jpeg in thumbnails.items()
    }
    first = [picture for number, picture in pictures.items() if number in doubtful]
    others = [picture for number, picture in pictures.items() if number not in doubtful]
    others.sort(key=lambda picture: picture.predicted)
    return [(title, some) for title, some in (("Least confident", first), ("Some of each class", others)) if some]


def _picture(out: Path, row: pd.Series, truth: str, file: Path, jpeg: bytes) -> Picture:
    return Picture(
        uri="data:image/jpeg;base64," + base64.b64encode(jpeg).decode(),
        path=row["path"],
        name=printable(file.name),
        link=link(out, file),
        predicted=row["predicted"],
        confidence=row["confidence"],
        truth=truth,
    )
