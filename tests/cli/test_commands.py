"""The stages as a user calls them: what they print, what they write, how they end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tests.training.tiny import draw_tiny
from typer.testing import CliRunner, Result

from microscopy_cls import __version__
from microscopy_cls.cli import commands  # noqa: F401  registers them
from microscopy_cls.cli.main import app
from microscopy_cls.errors import MicroscopyError

Run = Callable[..., Result]
CONFIG = {
    "name": "tiny",
    "data": {"root": "raw", "group_regex": r"(g\d)", "max_unreadable": 0.05},
    "folds": {"num": 2},
    "model": {"name": "test_resnet", "weights": "none", "image_size_px": 32},
    "finetune": {"epochs": 1, "batch_size": 8, "validation_fraction": 0},
    "evaluate": {"bootstrap_samples": 100},
    "tracking": {"mlflow": False},
    "runtime": {"device": "cpu", "precision": "fp32"},
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call the command line in a folder with two classes of six groups and `tiny.yaml`."""
    monkeypatch.chdir(tmp_path)
    draw_tiny(18, 3, width_px=40)
    Path("tiny.yaml").write_text(yaml.safe_dump(CONFIG))
    runner = CliRunner()
    return lambda *words: runner.invoke(app, list(words))


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_run_does_not_overwrite_an_ensemble_of_its_name(run: Run, command: str) -> None:
    state = Path("data/runs/tiny/run_state.json")
    state.parent.mkdir(parents=True)
    state.write_text('{"identity": {"ensemble": {}}}')
    result = run(command, "-c", "tiny.yaml")
    assert result.exit_code == 2
    assert "name tiny: is the name of an ensemble, which would be overwritten" in result.stderr
    assert state.is_file()


def test_the_stages_run_one_after_another_and_write_what_the_contract_names(run: Run) -> None:
    for stage in ("prepare", "train", "evaluate", "report"):
        result = run(stage, "-c", "tiny.yaml")
        assert result.exit_code == 0, result.output
    for file in (
        "data/prepared/tiny/manifest.parquet", "data/runs/tiny/oof.parquet", "data/runs/tiny/run_state.json",
        "data/runs/tiny/oof_logits.safetensors", "data/runs/tiny/oof_features.safetensors",
        "reports/tiny/metrics.json", "reports/tiny/plots/confusion.csv", "reports/tiny/index.html",
        "data/models/tiny/bundle.json", "data/models/tiny/member_1.safetensors",
    ):  # fmt: skip
        assert Path(file).is_file(), file
    metrics = json.loads(Path("reports/tiny/metrics.json").read_text())
    oof = pd.read_parquet("data/runs/tiny/oof.parquet")
    assert metrics["accuracy"]["value"] == pytest.approx((oof["label"] == oof["predicted"]).mean(), abs=1e-6)
    assert not list(Path("data").rglob("*.pkl")), "nothing is pickled"


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("audit", "there is no manifest yet. Run `microscopy-cls prepare`"),
        ("train", "there is no manifest yet. Run `microscopy-cls prepare`"),
        ("evaluate", "holds no finished run. Run `microscopy-cls train`"),
        ("report", "holds no finished run. Run `microscopy-cls train`"),
    ],
)
def test_a_stage_without_the_one_before_names_the_command_to_run_first(run: Run, stage: str, message: str) -> None:
    result = run(stage, "-c", "tiny.yaml")
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_evaluate_refuses_a_run_that_was_trained_on_other_images(run: Run) -> None:
    run("prepare", "-c", "tiny.yaml")
    run("train", "-c", "tiny.yaml")
    Path("raw/dark/g0_0.png").unlink()
    run("prepare", "-c", "tiny.yaml")
    result = run("evaluate", "-c", "tiny.yaml")
    assert result.exit_code == 2
    assert "was trained on other images" in result.stderr


def test_few_unreadable_files_are_counted_and_too_many_end_with_the_list(run: Run) -> None:
    Path("raw/dark/g0_90.png").write_text("not an image")
    few = run("prepare", "-c", "tiny.yaml")
    assert few.exit_code == 0
    assert "36 usable images in 6 groups, 2 folds; 1 unreadable" in few.stdout
    many = run("prepare", "-c", "tiny.yaml", "--set", "data.max_unreadable=0.01")
    assert many.exit_code == 2
    assert "raw/dark/g0_90.png" in many.stderr
    assert "data.max_unreadable = 0.01" in many.stderr


def test_an_unknown_key_is_an_error_that_suggests_the_nearest(run: Run) -> None:
    result = run("prepare", "-c", "tiny.yaml", "--set", "finetune.epoch=3")
    assert result.exit_code == 2
    assert "unknown key finetune.epoch (did you mean finetune.epochs?)" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "-c", "tiny.yaml", "--fold", "2"), "folds are 0 to 1"),
        (("sample", "--out", "x", "--faults", "some"), "choose all or none"),
        (("--log-level", "loud", "prepare", "-c", "tiny.yaml"), "choose debug, info, warning or error"),
        (("prepare",), "Missing option"),
        (("prepare", "-c", "absent.yaml"), "there is no such file. `microscopy-cls init DIR` writes a config"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_known(run: Run, words: tuple[str, ...], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_one_fold_can_be_trained_alone(run: Run) -> None:
    run("prepare", "-c", "tiny.yaml")
    result = run("train", "-c", "tiny.yaml", "--fold", "1")
    assert result.exit_code == 0
    assert "fold 1 is done; others are not yet" in result.stdout


def test_an_interruption_says_how_to_go_on_and_exits_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from microscopy_cls.training.cross_validation import CrossValidation

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    run("prepare", "-c", "tiny.yaml")
    monkeypatch.setattr(CrossValidation, "run", interrupted)
    monkeypatch.setattr(sys, "argv", ["microscopy-cls", "train", "-c", "tiny.yaml"])
    result = run("train", "-c", "tiny.yaml")
    assert result.exit_code == 130
    assert "Go on with: microscopy-cls train -c tiny.yaml" in result.stderr


def test_an_unexpected_fault_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from microscopy_cls.dataset import prepare

    def broken(*_: object) -> None:
        raise RuntimeError("our own bug")

    monkeypatch.setattr(prepare, "prepare", broken)
    result = run("prepare", "-c", "tiny.yaml")
    assert result.exit_code == 1
    assert isinstance(result.exception, RuntimeError)
    assert not isinstance(result.exception, MicroscopyError)


def test_version_and_help_answer_without_loading_torch() -> None:
    code = (
        "import sys; from microscopy_cls.cli.main import main; sys.argv = ['microscopy-cls', '{}']\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "assert not {{'torch', 'timm', 'mlflow', 'sklearn'}} & set(sys.modules)"
    )
    shown = [
        subprocess.run([sys.executable, "-c", code.format(word)], check=True, capture_output=True, text=True).stdout
        for word in ("--version", "--help")
    ]
    assert shown[0].strip() == f"microscopy-cls {__version__}"
    words = "init, sample, prepare, audit, train, find-lr, evaluate, report, classify, compare, promote, doctor"
    for command in words.split(", "):
        assert command in shown[1]
