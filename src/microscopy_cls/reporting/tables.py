"""Rows of the page's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.reporting.numbers import Estimate, Kind, count, counted, duration, finite
from microscopy_cls.reporting.repeats import range_of

NUM_SET_ASIDE = 200
NUM_REASON_CHARS = 300
NUM_CONFUSIONS = 12
NUM_KINDS = 5  # sizes, formats and bit depths named before "others"

# key in the metrics file, title, how it is written, what it says
MEASURES: tuple[tuple[str, str, Kind, str], ...] = (
    ("accuracy", "Accuracy", "percent", "share of images named correctly"),
    ("balanced_accuracy", "Balanced accuracy", "percent", "mean over classes of the share found"),
    ("f1_macro", "Macro F1", "decimal", "mean over classes of F1, each class counting the same"),
    ("f1_weighted", "Weighted F1", "decimal", "mean of F1, each class counting by its images"),
    ("precision_macro", "Macro precision", "percent", "mean over classes of the share right among those named so"),
    ("recall_macro", "Macro recall", "percent", "the same as balanced accuracy"),
    ("auroc_macro", "Macro AUROC", "decimal", "each class against the rest; guessing gives 0.5"),
    ("log_loss", "Log loss", "decimal", "surprise at the truth in nats, before calibration; lower is better"),
    (
        "ece",
        "Calibration error",
        "decimal",
        "mean gap between stated confidence and accuracy, before calibration; lower is better",
    ),
)
STATUSES = {
    "unreadable": "gave no pixels",
    "duplicate": "same picture as another file, which is used",
    "conflict": "same picture under two labels, so used under neither",
    "excluded": "left out on purpose (data.exclude)",
}


@dataclass(frozen=True)
class Measure:
    """One figure over all classes; `repeats` is the lowest and the highest one over divisions into folds."""

    title: str
    meaning: str
    estimate: Estimate
    repeats: str


@dataclass(frozen=True)
class SearchRow:
    """What the search of one fold chose; `ended` says how many of its trials did not come to their end."""

    name: str
    settings: str
    num_trials: int
    ended: str
    score: float | None


@dataclass(frozen=True)
class ClassRow:
    """The figures of one class."""

    name: str
    num_images: int
    num_groups: int
    precision: Estimate
    recall: Estimate
    f1: Estimate
    auroc: Estimate


@dataclass(frozen=True)
class Confusion:
    """Images of one class that were taken for another."""

    truth: str
    predicted: str
    num_images: int
    share: float


@dataclass(frozen=True)
class SetAside:
    """The files that were not used: the first ones, and how many there are."""

    rows: list[dict[Any, Any]]
    num_total: int


def measures(metrics: Mapping[str, Any]) -> list[Measure]:
    """The figures over all classes, in the order of `MEASURES`."""
    return [
        Measure(title, meaning, Estimate.read(metrics.get(key), kind), range_of(metrics, key, kind))
        for key, title, kind, meaning in MEASURES
    ]


def class_rows(metrics: Mapping[str, Any]) -> list[ClassRow]:
    """A row a class, in index order."""
    rows = []
    for name in metrics["classes"]:
        entry = metrics["per_class"].get(name) or {}
        rows.append(
            ClassRow(
                name,
                int(entry.get("num_images") or 0),
                int(entry.get("num_groups") or 0),
                Estimate.read(entry.get("precision"), "percent"),
                Estimate.read(entry.get("recall"), "percent"),
                Estimate.read(entry.get("f1"), "decimal"),
                Estimate.read(entry.get("auroc"), "decimal"),
            )
        )
    return rows


def confusions(counts: NDArray[np.int64], classes: list[str]) -> list[Confusion]:
    """The most frequent mistakes, with their share of the true class."""
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    order = np.argsort(-wrong, axis=None, kind="stable")[:NUM_CONFUSIONS]
    cells = [(int(row), int(column)) for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True)]
    return [
        Confusion(classes[row], classes[column], int(wrong[row, column]), wrong[row, column] / counts[row].sum())
        for row, column in cells
        if wrong[row, column] > 0
    ]


def file_counts(manifest: pd.DataFrame) -> list[tuple[str, int, str]]:
    """How many files were found, are usable, and were set aside: name, number, what it means."""
    by_status = manifest["status"].value_counts()
    usable = int(by_status.get("ok", 0))
    return [
        ("found", len(manifest), "files with an image’s ending, or named in the table"),
        ("usable", usable, "read, verified and used"),
        *((status, int(by_status.get(status, 0)), meaning) for status, meaning in STATUSES.items()),
    ]


def picture_facts(usable: pd.DataFrame) -> list[tuple[str, str]]:
    """What kind of pictures they are: sizes, formats, bit depths, channels, and grey values where known."""
    sizes = usable["width_px"].astype(str) + " × " + usable["height_px"].astype(str)
    facts = [
        ("Width", _extent(usable["width_px"], "px")),
        ("Height", _extent(usable["height_px"], "px")),
        ("Commonest sizes", _commonest(sizes)),
        ("Formats", _commonest(usable["format"])),
        ("Bits a channel", _commonest(usable["bit_depth"])),
        ("Channels", _commonest(usable["channels"])),
    ]
    titles = {"brightness": "Mean grey (0 to 255)", "contrast": "Spread of grey"}
    known = [key for key in titles if key in usable.columns and usable[key].notna().any()]
    return facts + [(titles[key], _middle(usable[key])) for key in known]


def _extent(values: pd.Series, unit: str) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{count(low)} {unit}" if low == high else f"{count(low)} to {count(high)} {unit}"


def _commonest(values: pd.Series) -> str:
    counts = values.astype(str).value_counts().sort_index().sort_values(ascending=False, kind="stable")
    named = [f"{kind} ({count(num)})" for kind, num in counts.head(NUM_KINDS).items()]
    others = int(counts.iloc[NUM_KINDS:].sum())
    return ", ".join([*named, f"others ({count(others)})"] if others else named)


def _middle(values: pd.Series) -> str:
    low, middle, high = values.quantile([0.05, 0.5, 0.95])
    return f"median {middle:.0f}, nine in ten images {low:.0f} to {high:.0f}"


def set_aside(manifest: pd.DataFrame) -> SetAside:
    """The files that were not used, worst first."""
    rows = manifest[manifest["status"] != "ok"]
    order = {status: rank for rank, status in enumerate(STATUSES)}
    rows = rows.assign(rank=rows["status"].map(order).fillna(len(order))).sort_values(["rank", "image_id"])
    first = rows.head(NUM_SET_ASIDE)[["status", "path", "error"]].fillna("").astype(str)
    first["error"] = first["error"].str.slice(0, NUM_REASON_CHARS)
    return SetAside(first.to_dict("records"), len(rows))


def circumstances(run_state: Mapping[str, Any], manifest_sha256: str) -> list[tuple[str, str]]:
    """Where and how the run was made: term and value."""
    batch, threads = run_state.get("batch_size"), run_state.get("num_threads")
    facts = {
        "Started": run_state.get("started"),
        "Training time": duration(finite(run_state.get("seconds"))),
        "Device": run_state.get("device"),
        "Precision": run_state.get("precision"),
        "Batch size": counted(batch, "image") if batch else None,
        "Threads": threads,
        "Code": run_state.get("git_commit"),
        "Fingerprint of the run": run_state.get("fingerprint"),
        "Manifest (SHA-256)": manifest_sha256,
    }
    weights = {f"Weights: {key}": value for key, value in _flat(run_state.get("weights") or {}).items()}
    return [(term, str(value)) for term, value in (facts | weights).items() if value not in (None, "")]


def searches(run_state: Mapping[str, Any]) -> list[SearchRow]:
    """What each fold's search chose, the folds first; none without a search."""
    found = sorted(
        (run_state.get("searches") or {}).items(), key=lambda item: (not item[0].isdigit(), len(item[0]), item[0])
    )
    return [
        SearchRow(fold.replace("-", " "), _settings(one["values"]), one["trials"], _ended(one), finite(one["score"]))
        for fold, one in found
    ]


def _settings(values: Mapping[str, Any]) -> str:
    texts = {key: f"{value:.3g}" if isinstance(value, float) else str(value) for key, value in values.items()}
    return ", ".join(f"{key} {text}" for key, text in texts.items())


def _ended(one: Mapping[str, Any]) -> str:
    told = {"given up early": one.get("pruned"), "diverged": one.get("diverged")}
    return ", ".join(f"{num} {how}" for how, num in told.items() if num)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
