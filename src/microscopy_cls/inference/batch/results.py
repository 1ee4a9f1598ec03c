"""What a classification writes once all inputs are answered, but for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from microscopy_cls.inference.batch.inputs import own_folder
from microscopy_cls.inference.batch.scoring import Score
from microscopy_cls.inference.predictor import Predictor
from microscopy_cls.system.files import write_csv, write_json, write_parquet
from microscopy_cls.system.versions import software_versions

FOLDERS = {"slide": "slides", "stack": "stacks"}
"""Where inputs of many squares have their files, by kind."""


def folder_of(out: Path, kind: str, path_as_given: str) -> Path:
    """The folder of one slide's or stack's files."""
    return own_folder(out / FOLDERS[kind], path_as_given)


def num_referred(rows: pd.DataFrame) -> int | None:
    """How many rows of predictions.csv a person should look at; None where the model has no prediction sets."""
    known = rows["refer"].dropna()
    return int(known.sum()) if len(known) else None


def write_results(
    out: Path,
    arguments: Mapping[str, Any],
    predictor: Predictor,
    rows: pd.DataFrame,
    score: Score | None,
    num_before: int,
    seconds: float,
) -> dict[str, Any]:
    """Write `predictions.csv`, `predictions.parquet` and `run.json`; returns what the last one holds."""
    write_csv(out / "predictions.csv", rows)
    write_parquet(out / "predictions.parquet", rows)
    engine = predictor.models[0].engine
    run = {
        "arguments": dict(arguments),
        "models": [
            {"name": model.info.name, "members": {member.file: member.sha256 for member in model.members}}
            for model in predictor.models
        ],
        "engine": engine.name, "precision": engine.precision, "device": engine.device,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": round(seconds, 1),
        "num_inputs": len(rows), "num_done_before": num_before,
        "num_ok": int((rows["status"] == "ok").sum()), "num_failed": int((rows["status"] == "failed").sum()),
        "num_referred": num_referred(rows),
        "versions": software_versions(),
    }  # fmt: skip
    if score is not None:
        run["score"] = asdict(score)
    write_json(out / "run.json", run)
    return run
