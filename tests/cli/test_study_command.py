"""A study from its file to its page, on tiny pictures: every variant once, in one set of folds, and resumable."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from tests.reporting.experiment import Page
from tests.training.tiny import draw_tiny
from typer.testing import CliRunner, Result

from microscopy_cls.cli import compare, study  # noqa: F401  registers them
from microscopy_cls.cli.main import app
from microscopy_cls.training import cross_validation

CONFIG = {
    "name": "tiny",
    "data": {"root": "raw", "group_regex": r"(g\d)"},
    "folds": {"num": 5},
    "model": {"weights": "imagenet", "image_size_px": 64},
    "finetune": {"batch_size": 16, "validation_fraction": 0},
    "evaluate": {"bootstrap_samples": 100},
    "tracking": {"mlflow": False},
    "runtime": {"device": "cpu", "precision": "fp32", "workers": 0},
}
STUDY = {
    "name": "width",
    "question": "Is <b>wide</b> better?",
    "source": "Somebody & others",
    "claim": {"sentence": "Wide is better than slim.", "better": "wide", "than": ["slim"]},
    "set": {
        "model.name": "resnext50_32x4d", "model.weights": "none", "model.layers": [1, 1, 1, 1],
        "model.image_size_px": 32, "folds.num": 2, "finetune.epochs": 1,
    },
    "variants": [
        {"name": "slim", "set": {"model.cardinality": 1, "model.base_width": 4}},
        {"name": "wide", "set": {"model.cardinality": 2, "model.base_width": 4}},
    ],
}  # fmt: skip
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two classes of three groups, a config and a study that has been run."""
    folder = tmp_path_factory.mktemp("study")
    before = Path.cwd()
    os.chdir(folder)
    draw_tiny(12, 2, width_px=40)
    Path("tiny.yaml").write_text(yaml.safe_dump(CONFIG))
    Path("width.yaml").write_text(yaml.safe_dump(STUDY))
    result = CliRunner().invoke(app, ["study", "width.yaml", "-c", "tiny.yaml"])
    os.chdir(before)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(folder)
    return lambda *words: CliRunner().invoke(app, list(words))


def results() -> Any:
    return json.loads(Path("reports/tiny-width/study.json").read_text())


def test_every_variant_is_trained_on_the_same_images_in_the_same_folds(run: Run) -> None:
    slim, wide = (pd.read_parquet(f"data/runs/tiny-width-{name}/oof.parquet") for name in ("slim", "wide"))
    assert slim[["image_id", "fold", "label"]].equals(wide[["image_id", "fold", "label"]])
    assert (len(slim), slim["fold"].nunique()) == (24, 2)
    assert Path("data/prepared/tiny-width-slim").samefile("data/prepared/tiny-width")
    assert not Path("data/models").exists(), "a study makes no models to classify with"


def test_the_results_are_those_of_the_runs_and_compare_agrees(run: Run) -> None:
    found = results()
    slim, wide = found["variants"]
    for row in (slim, wide):
        oof = pd.read_parquet(f"data/runs/{row['run']}/oof.parquet")
        assert row["accuracy"]["value"] == pytest.approx((oof["label"] == oof["predicted"]).mean(), abs=1e-6)
        assert row["accuracy"]["ci_low"] <= row["accuracy"]["value"] <= row["accuracy"]["ci_high"]
        assert row["core_minutes"] > 0
    assert slim["difference"] is None
    compared = json.loads(run("compare", slim["run"], wide["run"], "--json").stdout)
    assert wide["difference"]["accuracy"] == compared["metrics"]["accuracy"]["difference"]
    assert slim["params"] < wide["params"]
    assert slim["gflops"] < wide["gflops"]
    assert (found["config"], found["num_images"], found["num_folds"], found["image_size_px"]) == ("tiny", 24, 2, 32)


def test_the_page_says_what_the_results_say_and_escapes_what_people_wrote(run: Run) -> None:
    text = Path("reports/tiny-width/index.html").read_text()
    page, found = Page(text), results()
    assert "<b>wide</b>" not in text
    assert "Is <b>wide</b> better?" in page.shown
    assert "Somebody & others" in page.shown
    assert found["claim"]["headline"] in page.shown
    for sentence in (*found["claim"]["sentences"], *found["cautions"]):
        assert sentence in page.shown
    assert [svg["aria-label"].split(".")[0] for svg in page.all("svg") if "Accuracy" in svg["aria-label"]] == [
        "Accuracy over parameters, millions", "Accuracy over GFLOPs an image"
    ]  # fmt: skip
    assert not [link for tag in ("script", "link", "img") for link in page.all(tag)]


def test_a_finished_study_trains_nothing_again_and_writes_the_same(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(cross_validation.CrossValidation, "_train_fold", fails)
    before = [Path("reports/tiny-width", name).read_bytes() for name in ("study.json", "index.html")]
    result = run("study", "width.yaml", "-c", "tiny.yaml")
    assert result.exit_code == 0, result.output
    assert results()["claim"]["headline"] in result.stdout
    assert [Path("reports/tiny-width", name).read_bytes() for name in ("study.json", "index.html")] == before


def test_minutes_are_of_the_folds_that_the_figures_are_of_and_by_threads_on_a_cpu_alone(run: Run) -> None:
    from microscopy_cls.config.study import load_study, variant_configs
    from microscopy_cls.evaluation.study import study_results

    asked = load_study(Path("width.yaml"))
    configs = variant_configs(asked, Path("tiny.yaml"))
    file = Path("data/runs/tiny-width-slim/run_state.json")
    text = file.read_text()
    state = json.loads(text)
    seconds = {"0": 90.0, "1": 30.0, "repeat-1-fold-0": 500.0, "refit": 700.0}
    file.write_text(json.dumps(state | {"fold_seconds": seconds, "num_threads": 2}))
    found = study_results(asked, "tiny", configs)
    file.write_text(json.dumps(state | {"fold_seconds": seconds, "num_threads": 2, "device": "cuda"}))
    elsewhere = study_results(asked, "tiny", configs)["variants"][0]
    file.write_text(text)
    assert (found["variants"][0]["core_minutes"], found["num_repeats"]) == (4.0, 1)
    assert found["variants"][0]["device_minutes"] is None
    assert (elsewhere["core_minutes"], elsewhere["device_minutes"]) == (None, 2.0)


def test_a_variant_that_cannot_be_built_is_told_before_anything_is_read(run: Run) -> None:
    result = run("study", "width.yaml", "-c", "tiny.yaml", "--set", "name=other", "--set", "model.shortcut=gated")
    assert result.exit_code == 2
    assert "model.shortcut: gated: changes all blocks but the first of a stage" in result.stderr
    assert not Path("data/prepared/other-width").exists()


def test_a_run_that_does_not_say_what_a_fold_took_is_named(run: Run) -> None:
    from microscopy_cls.config.study import load_study, variant_configs
    from microscopy_cls.errors import DataError
    from microscopy_cls.evaluation.study import study_results

    configs = variant_configs(asked := load_study(Path("width.yaml")), Path("tiny.yaml"))
    file = Path("data/runs/tiny-width-slim/run_state.json")
    text = file.read_text()
    file.write_text(json.dumps(json.loads(text) | {"fold_seconds": {"0": 1.0}}))
    with pytest.raises(DataError) as raised:
        study_results(asked, "tiny", configs)
    file.write_text(text)
    assert str(raised.value) == (
        f"{file}: does not say how long the folds 1 took. Remove data/runs/tiny-width-slim and run the study again."
    )


def test_a_folder_prepared_under_a_variants_name_is_not_replaced(run: Run) -> None:
    Path("data/prepared/mine-width-slim").mkdir()
    result = run("study", "width.yaml", "-c", "tiny.yaml", "--set", "name=mine")
    assert result.exit_code == 2
    assert "data/prepared/mine-width-slim: holds images that were prepared under this name. Remove it" in result.stderr
