"""From the stages' files to one HTML page that needs no other file and no network."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from microscopy_cls import __version__
from microscopy_cls.config import Config, Paths, to_yaml
from microscopy_cls.reporting import claims, figures, tables
from microscopy_cls.reporting.inputs import Inputs, read_inputs
from microscopy_cls.reporting.montage import MANY_CLASSES, Cache, Thumbnail, choose_per_class
from microscopy_cls.reporting.numbers import Estimate, count, counted, finite, shown
from microscopy_cls.system.files import write_text

TEMPLATES = Path(__file__).parent / "templates"
HEADLINE = ("Accuracy", "Macro F1")
NUM_GALLERY = 12  # pictures in each of the two galleries
NUM_CURVES = 20  # folds whose learning curves are drawn


@dataclass(frozen=True)
class Answer:
    """One prediction with its picture."""

    picture: Thumbnail
    truth: str
    predicted: str
    prob: float


@dataclass(frozen=True)
class ClassPictures:
    """Some pictures of one class, with the number of its usable images and groups."""

    name: str
    num_images: int
    num_groups: int
    share: float
    pictures: list[Thumbnail]


@dataclass(frozen=True)
class Curve:
    """The learning curve of one fold; `chosen` is the epoch whose weights were kept, from 1."""

    fold: int
    chosen: int | None
    num_epochs: int
    svg: Markup


def write_report(config: Config, paths: Paths) -> Path:
    """Write the report of one cross-validation; the same inputs give the same bytes.

    Returns:
        The page's path.

    Raises:
        DataError: an input is missing or does not fit the others; the message names the command to run.
    """
    write_text(paths.page, render(config, read_inputs(paths)))
    return paths.page


def render(config: Config, inputs: Inputs) -> str:
    """The page as HTML text."""
    environment = Environment(
        loader=PackageLoader("microscopy_cls.reporting"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(count=count, counted=counted, shown=shown)
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),  # noqa: S704  our own file
        script=Markup(script),  # noqa: S704  our own file
        script_digest=digest,
        version=__version__,
        **_content(config, inputs),
    )


def _content(config: Config, inputs: Inputs) -> dict[str, Any]:
    metrics, cache = inputs.metrics, Cache(inputs.pixels, config.model.resize == "stretch")
    counts = np.asarray(metrics["confusion_matrix"], dtype=np.int64)
    classes, measures = tables.class_rows(metrics), tables.measures(metrics)
    return {
        "config": config,
        "num_images": inputs.num_images,
        "headline": [(one, figures.fold_strip(one.estimate, one.title)) for one in measures if one.title in HEADLINE],
        "measured": claims.measured(inputs),
        "compared": claims.compared(inputs, classes),
        "claims": claims.claims(config, inputs, classes),
        "file_counts": tables.file_counts(inputs.manifest),
        "picture_facts": tables.picture_facts(inputs.usable),
        "class_pictures": _class_pictures(inputs, cache),
        "measures": measures,
        "classes": classes,
        "many_classes": len(inputs.classes) > MANY_CLASSES,
        "unit": "groups" if inputs.grouped else "images",
        "confusion": figures.confusion_matrix(counts, inputs.classes),
        "confusions": tables.confusions(counts, inputs.classes) if len(classes) > figures.MAX_TOLD_CLASSES else [],
        "binary": _binary(metrics.get("binary"), inputs.oof["label"]),
        "curves": _curves(inputs.curves),
        "num_curves": inputs.curves["fold"].nunique(),
        "validated": bool(inputs.curves["val_loss"].notna().any()),
        "errors": _answers(inputs.oof, cache, right=False),
        "doubtful": _answers(inputs.oof, cache, right=True),
        "num_errors": int((inputs.oof["label"] != inputs.oof["predicted"]).sum()),
        "set_aside": tables.set_aside(inputs.manifest),
        "circumstances": tables.circumstances(inputs.run_state, inputs.manifest_sha256),
        "versions": inputs.run_state.get("versions") or {},
        "yaml": to_yaml(config),
    }


def _class_pictures(inputs: Inputs, cache: Cache) -> list[ClassPictures]:
    groups = {str(name): rows["split_group"] for name, rows in inputs.usable.groupby("label")}
    largest = max(len(of_class) for of_class in groups.values())
    chosen = choose_per_class(inputs.usable, inputs.classes)
    return [
        ClassPictures(
            name, len(groups[name]), groups[name].nunique(), len(groups[name]) / largest, cache.thumbnails(rows)
        )
        for name, rows in chosen.items()
    ]


def _binary(found: dict[str, Any] | None, labels: pd.Series) -> dict[str, Any] | None:
    """The figures that only two classes have, or None."""
    if not found:
        return None
    return {
        "positive_class": found["positive_class"],
        "threshold": finite(found.get("threshold")),
        "prevalence": float((labels == found["positive_class"]).mean()),
        "sensitivity": Estimate.read(found.get("sensitivity"), "percent"),
        "specificity": Estimate.read(found.get("specificity"), "percent"),
        "average_precision": Estimate.read(found.get("average_precision"), "decimal"),
    }


def _curves(curves: pd.DataFrame) -> list[Curve]:
    loss_range = figures.finite_range(curves[["train_loss", "val_loss"]])
    f1_range = figures.finite_range(curves[["val_f1_macro"]])
    drawn = []
    for fold, history in list(curves.sort_values("epoch").groupby("fold"))[:NUM_CURVES]:
        chosen = history.loc[history["chosen"] == 1, "epoch"]
        svg = figures.learning_curve(history, f"curve{fold}", loss_range, f1_range)
        drawn.append(Curve(int(str(fold)), int(chosen.iloc[0]) + 1 if len(chosen) else None, len(history), svg))
    return drawn


def _answers(oof: pd.DataFrame, cache: Cache, *, right: bool) -> list[Answer]:
    """The least confident right answers, or the most confident wrong ones."""
    rows = oof[(oof["label"] == oof["predicted"]) == right]
    rows = rows.sort_values(["prob", "image_id"], ascending=[right, True]).head(NUM_GALLERY)
    return [
        Answer(picture, row["label"], row["predicted"], row["prob"])
        for picture, row in zip(cache.thumbnails(rows), rows.to_dict("records"), strict=True)
    ]
