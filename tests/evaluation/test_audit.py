"""`audit` writes what the schema names, the same each time, and only of images prepared for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.prepared import SIDE, manifest_of, squares_of
from typer.testing import CliRunner, Result

from microscopy_cls.cli import commands  # noqa: F401  registers them
from microscopy_cls.cli.main import app
from microscopy_cls.config import Config, Paths
from microscopy_cls.dataset.cache import read_back
from microscopy_cls.dataset.prepare import reading_of
from microscopy_cls.errors import DataError
from microscopy_cls.evaluation.audit import held_out
from microscopy_cls.evaluation.audit.audit import audit
from microscopy_cls.system.files import read_json, write_json, write_parquet

PATHS = Paths("cells")
KEYS = {
    "of",
    "name", "num_images", "num_groups", "grouped", "verdicts", "reasons", "duplicates", "num_exact", "num_near",
    "clusters_across_groups", "clusters_across_folds", "clusters_across_splits", "groups_across_folds",
    "conflicts", "mixed_groups", "leakage",
    "shortcuts", "quality", "quality_share",
}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "name": "cells",
    "data": {"root": "raw"},
    "folds": {"num": 3},
    "model": {"image_size_px": SIDE},
    "evaluate": {"bootstrap_samples": 100},
}
CONFIG = Config.model_validate(SETTINGS)


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Prepare a set in the working directory; returns its manifest. Few trees, for speed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(held_out, "NUM_TREES", 20)
    monkeypatch.setattr(held_out, "NUM_SHUFFLES", 1)
    rows = manifest_of()
    unreadable = rows.iloc[[0]].assign(image_id="alga/broken.png", status="unreadable", fold=-1, format="")
    rows = pd.concat([unreadable, rows], ignore_index=True)
    PATHS.prepared.mkdir(parents=True)
    np.save(PATHS.prepared / "pixels.npy", squares_of(rows))
    reading = reading_of(CONFIG)
    write_json(PATHS.prepared / "pixels.json", {"key": reading.key, "reading": read_back(reading)})
    write_parquet(PATHS.manifest, rows)
    return rows


def test_the_file_holds_what_is_returned_and_all_that_the_schema_names(manifest: pd.DataFrame) -> None:
    found = audit(CONFIG, PATHS)
    assert read_json(PATHS.audit) == json.loads(json.dumps(found))
    assert set(found) == KEYS
    assert found["verdicts"] == dict.fromkeys(("duplicates", "leakage", "shortcuts", "quality"), "pass")
    assert set(found["reasons"]) == set(found["verdicts"])
    assert (found["num_images"], found["num_groups"], found["grouped"]) == (72, 24, True)


def test_the_seed_decides_and_the_same_gives_the_same(manifest: pd.DataFrame) -> None:
    first = audit(CONFIG, PATHS)
    assert audit(CONFIG, PATHS) == first
    other = Config.model_validate(SETTINGS | {"runtime": {"seed": 1}})
    assert audit(other, PATHS)["shortcuts"]["accuracy"] != first["shortcuts"]["accuracy"]


@pytest.mark.parametrize("column", ["cluster", "quality", "jpeg_quality", "meta_site"])
def test_a_manifest_of_an_earlier_version_is_refused(manifest: pd.DataFrame, column: str) -> None:
    write_parquet(PATHS.manifest, manifest.assign(meta_site="a").drop(columns=column))
    with pytest.raises(DataError) as raised:
        audit(Config.model_validate(SETTINGS | {"data": {"table": "t.csv", "metadata": ["site"]}}), PATHS)
    assert str(raised.value) == (
        f"{PATHS.manifest}: was prepared by an earlier version or without some of data.metadata (it has no column "
        f"{column}). Run `microscopy-cls prepare` again."
    )
    assert not PATHS.audit.exists()


def test_pixels_of_other_settings_are_refused(manifest: pd.DataFrame) -> None:
    other = Config.model_validate(SETTINGS | {"model": {"image_size_px": SIDE * 2}})
    with pytest.raises(DataError, match="was prepared with other settings"):
        audit(other, PATHS)


def test_the_command_prints_each_verdict_with_its_reason_and_the_path(manifest: pd.DataFrame) -> None:
    Path("cells.yaml").write_text(json.dumps(SETTINGS))
    result: Result = CliRunner().invoke(app, ["audit", "-c", "cells.yaml"])
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    for question, reason in read_json(PATHS.audit)["reasons"].items():
        assert f"{question} pass {reason}" in said
    assert result.stdout.splitlines()[-1] == f"audit: {PATHS.audit}"
