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
from microscopy_cls.reporting import (
    abstain,
    audit_section,
    card,
    claims,
    external,
    figures,
    gallery,
    reliability,
    repeats,
    roc,
    tables,
)
from microscopy_cls.reporting.inputs import Inputs, read_inputs
from microscopy_cls.reporting.montage import MANY_CLASSES, Album, Thumbnail, choose_per_class
from microscopy_cls.reporting.numbers import Estimate, count, counted, finite, shown
from microscopy_cls.reporting.together import run_names
from microscopy_cls.reporting.verdict import verdict_box
from microscopy_cls.system.files import write_text

TEMPLATES = Path(__file__).parent / "templates"
HEADLINE = ("Accuracy", "Macro F1")
NUM_CURVES = 20  # folds whose learning curves are drawn


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
    album = Album(inputs.pixels, inputs.manifest, stretched=config.model.resize == "stretch")
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),  # noqa: S704  our own file
        script=Markup(script),  # noqa: S704  our own file
        script_digest=digest,
        version=__version__,
        **_result(config, inputs, album),
        **_trust(inputs, album),
        **_audit(inputs, album),
        **_records(config, inputs),
        browsed=gallery.browsed(inputs.oof, album),  # last: it takes what the other pictures leave
    )


def _result(config: Config, inputs: Inputs, album: Album) -> dict[str, Any]:
    """The verdict, the figures, and the data they come from."""
    metrics = inputs.metrics
    counts = np.asarray(metrics["confusion_matrix"], dtype=np.int64)
    classes, measures = tables.class_rows(metrics), tables.measures(metrics)
    box = verdict_box(inputs, classes, claims.compared(inputs, classes))
    return {
        "config": config,
        "box": box,
        "num_images": inputs.num_images,
        "headline": [(one, figures.fold_strip(one.estimate, one.title)) for one in measures if one.title in HEADLINE],
        "measured": claims.measured(config, inputs),
        "num_repeats": repeats.num_repeats(metrics),
        "dependence": repeats.dependence(metrics),
        "refitted": bool(metrics.get("refit")),
        "claims": claims.claims(config, inputs, classes),
        "file_counts": tables.file_counts(inputs.manifest),
        "picture_facts": tables.picture_facts(inputs.usable),
        "class_pictures": _class_pictures(inputs, album),
        "measures": measures,
        "classes": classes,
        "class_index": {name: index for index, name in enumerate(inputs.classes)},
        "many_classes": len(inputs.classes) > MANY_CLASSES,
        "unit": "groups" if inputs.grouped else "images",
        "confusion": figures.confusion_matrix(counts, inputs.classes),
        "confusions": tables.confusions(counts, inputs.classes) if len(classes) > figures.MAX_TOLD_CLASSES else [],
        "binary": _binary(metrics.get("binary"), inputs.oof["label"]),
        "roc": roc.class_curves(inputs.oof, classes),
        "method": card.method(config, inputs),
        "model_card": card.model_card(config, inputs, box),
    }


def _trust(inputs: Inputs, album: Album) -> dict[str, Any]:
    """What the model knows of its own mistakes, and these."""
    metrics, examples = inputs.metrics, gallery.examples(inputs, album)
    outside = external.outside_tests(metrics)
    return {
        "calibration": reliability.calibration(metrics),
        "referral": abstain.referral(metrics),
        "sets": abstain.sets(metrics),
        "novelty": abstain.novelty(metrics),
        "outside": outside,
        "outside_contents": [(test.anchor, test.title) for test in outside],
        **examples,
        "with_evidence": any(answer.evidence for answers in examples.values() for answer in answers),
        "num_errors": int((inputs.oof["label"] != inputs.oof["predicted"]).sum()),
        "suspects": gallery.suspects(metrics, album),
    }


def _audit(inputs: Inputs, album: Album) -> dict[str, Any]:
    """What is known of the data apart from the model."""
    audit = inputs.metrics.get("audit") or {}
    return {
        "shortcuts": audit_section.shortcuts(audit),
        "leakage": audit_section.leakage(audit),
        "duplicates": audit_section.duplicates(audit, album),
        "quality": audit_section.quality(audit, album),
        "flag_meanings": audit_section.FLAGS,
    }


def _records(config: Config, inputs: Inputs) -> dict[str, Any]:
    """How the run came about, and what it takes to repeat it."""
    return {
        "probes": _probes(inputs.curves) if config.finetune.strategy == "probe" else [],
        "searches": tables.searches(inputs.run_state),
        "curves": _curves(inputs.curves),
        "num_curves": inputs.curves["fold"].nunique(),
        "validated": bool(inputs.curves["val_loss"].notna().any()),
        "set_aside": tables.set_aside(inputs.manifest),
        "circumstances": tables.circumstances(inputs.run_state, inputs.manifest_sha256),
        "versions": inputs.run_state.get("versions") or {},
        "label_errors_csv": Paths(config.name).reports / "label_errors.csv",
        "yaml": to_yaml(config),
        "run_names": run_names(inputs.metrics),
    }


def _class_pictures(inputs: Inputs, album: Album) -> list[ClassPictures]:
    groups = {str(name): rows["split_group"] for name, rows in inputs.usable.groupby("label")}
    largest = max(len(of_class) for of_class in groups.values())
    chosen = choose_per_class(inputs.usable, inputs.classes)
    return [
        ClassPictures(
            name, len(groups[name]), groups[name].nunique(), len(groups[name]) / largest, album.thumbnails(rows)
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


def _probes(curves: pd.DataFrame) -> list[str]:
    """A sentence a fold: what chose the head's penalty."""
    columns = (curves[name] for name in ("fold", "penalty", "val_loss", "val_f1_macro"))
    return [
        f"Fold {fold}: penalty {penalty:g}; in inner folds loss {loss:.3f}, macro F1 {f1:.3f}."
        for fold, penalty, loss, f1 in zip(*columns, strict=True)
    ]


def _curves(curves: pd.DataFrame) -> list[Curve]:
    loss_range = figures.finite_range(curves[["train_loss", "val_loss"]])
    f1_range = figures.finite_range(curves[["val_f1_macro"]])
    drawn = []
    for fold, history in list(curves.sort_values("epoch").groupby("fold"))[:NUM_CURVES]:
        chosen = history.loc[history["chosen"] == 1, "epoch"]
        svg = figures.learning_curve(history, f"curve{fold}", loss_range, f1_range)
        drawn.append(Curve(int(str(fold)), int(chosen.iloc[0]) + 1 if len(chosen) else None, len(history), svg))
    return drawn
