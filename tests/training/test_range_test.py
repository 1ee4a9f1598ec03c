"""Laws of the learning-rate range test: of its rule on made-up curves, and of a tiny one as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from tests.training.tiny import draw_tiny, tiny_config
from typer.testing import CliRunner

from microscopy_cls.cli.find_lr import told
from microscopy_cls.cli.main import app
from microscopy_cls.config import Config, Paths, to_yaml
from microscopy_cls.dataset.prepare import prepare
from microscopy_cls.errors import ConfigError, TrainingError
from microscopy_cls.reporting.learning_rate import _drawn
from microscopy_cls.training.member import MemberTrainer
from microscopy_cls.training.range_test import RangeTest, find_learning_rate, judged, smooth, turning_point

RATES = np.geomspace(1e-6, 1, 100)


def curve(low_at: float, high_at: float, start: float = 3.0, low: float = 1.0, noise: float = 0.0) -> Any:
    """A loss that falls until `low_at` and rises without end from `high_at` on."""
    where = np.log10(RATES)
    fall = (start - low) / (1 + np.exp(-4 * (np.log10(low_at) - 0.5 - where)))
    rise = np.maximum(0, where - np.log10(high_at)) * 6
    return low + fall + rise + np.random.default_rng(0).normal(0, noise, len(RATES))


# The rule


@pytest.mark.parametrize("high_at", [1e-4, 1e-3, 1e-2, 1e-1])
def test_the_suggestion_is_a_tenth_of_where_the_loss_begins_to_rise(high_at: float) -> None:
    found = judged(RATES, curve(high_at / 10, high_at), 0)
    assert found.rose
    assert high_at <= found.turn < 3 * high_at
    assert found.suggestion == pytest.approx(found.turn / 10)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_scale_of_the_loss_does_not_matter(scale: float) -> None:
    losses = curve(1e-3, 1e-2)
    assert judged(RATES, losses * scale, 0).turn == judged(RATES, losses, 0).turn


def test_noise_and_single_batches_that_are_lost_hardly_matter() -> None:
    losses = curve(1e-3, 1e-2, noise=0.15)
    losses[[20, 45, 55]] = 9.0
    assert judged(RATES, losses, 0).turn == pytest.approx(judged(RATES, curve(1e-3, 1e-2), 0).turn, rel=0.6)


def test_a_loss_that_is_low_from_the_start_is_judged_by_where_its_plain_ends() -> None:
    losses = np.abs(curve(1e-9, 1e-2, start=0.05, low=0.05, noise=0.02))
    found = judged(RATES, losses, 0)
    assert 1e-2 <= found.turn < 2e-2


def test_a_loss_that_never_rises_is_told_from_one_that_does() -> None:
    found = judged(RATES, curve(1e-3, 1e9), 0)
    assert not found.rose
    assert found.turn == RATES[-1]


def test_smoothing_keeps_a_constant_and_does_not_lag() -> None:
    np.testing.assert_array_equal(smooth(np.full(30, 2.0)), 2.0)
    losses = np.abs(np.arange(41) - 20.0)
    np.testing.assert_array_equal(smooth(losses), smooth(losses)[::-1])
    assert turning_point(np.array([3.0, 1.0, 3.0, 1.05, 3.0])) == 3, "the last low step, not the lowest"


@pytest.mark.parametrize("losses", [np.array([]), np.linspace(1, 20, 30)])
def test_a_loss_that_only_rises_gives_no_suggestion(losses: Any) -> None:
    with pytest.raises(TrainingError, match=rf"fold 2: the loss only rose, from the first of {len(losses)} steps on"):
        judged(RATES[: len(losses)], losses, 2)


# The test as a whole


def config(**finetune: Any) -> Config:
    return tiny_config({"epochs": 2} | finetune, data={"group_regex": None})


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A prepared set of two classes, twelve images each."""
    monkeypatch.chdir(tmp_path)
    draw_tiny(12, 1)
    found = Paths("tiny")
    prepare(config(), found)
    return found


def test_the_same_seed_gives_the_same_curve_and_no_run_is_touched(paths: Paths) -> None:
    first, second = (find_learning_rate(config(mixup=0.2), num_steps=20).table for _ in range(2))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert list(first) == ["step", "learning_rate", "loss", "smoothed_loss"]
    assert first["learning_rate"].is_monotonic_increasing
    assert first["learning_rate"].iloc[0] == pytest.approx(1e-6)
    assert not paths.runs.exists()


def test_neither_labels_nor_images_of_the_test_fold_change_the_curve(paths: Paths) -> None:
    before = find_learning_rate(config(), num_steps=20).table
    manifest = pd.read_parquet(paths.manifest)
    tested = manifest["fold"] == 0
    manifest.loc[tested, "label"] = manifest.loc[tested, "label"].map({"dark": "light", "light": "dark"})
    manifest.to_parquet(paths.manifest, index=False)
    pixels = np.load(paths.prepared / "pixels.npy")
    pixels[tested.to_numpy()] = 0
    np.save(paths.prepared / "pixels.npy", pixels)
    pd.testing.assert_frame_equal(before, find_learning_rate(config(), num_steps=20).table, check_exact=True)
    assert not before.equals(find_learning_rate(config(), fold=1, num_steps=20).table)


@pytest.mark.parametrize("options", [{"strategy": "head_then_full"}, {"strategy": "gradual"}, {"layer_decay": 0.5}])
def test_every_strategy_with_a_rate_has_a_curve_of_its_own(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    rates = []
    backward = MemberTrainer.backward

    def watched(self: MemberTrainer, batch: Any) -> torch.Tensor:
        rates.append(sorted({group["lr"] for group in self.optimizer.param_groups}))
        return backward(self, batch)

    monkeypatch.setattr(MemberTrainer, "backward", watched)
    found = find_learning_rate(config(**options), num_steps=20)
    decay = config(**options).finetune.layer_decay
    assert [one[-1] for one in rates[: len(found.table)]] == pytest.approx(list(found.table["learning_rate"]))
    assert all(one[-2] == pytest.approx(one[-1] * decay) for one in rates)


def test_a_loss_that_is_no_number_ends_the_curve(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    backward, steps = MemberTrainer.backward, []

    def breaking(self: MemberTrainer, batch: Any) -> torch.Tensor:
        steps.append(len(steps))
        return backward(self, batch) * (float("nan") if len(steps) > 15 else 1)

    monkeypatch.setattr(MemberTrainer, "backward", breaking)
    found = find_learning_rate(config(), num_steps=20)
    assert len(found.table) == 15
    assert np.isfinite(found.table["loss"]).all()


@pytest.mark.parametrize(
    ("finetune", "steps", "message"),
    [
        ({"strategy": "probe"}, 100, r"strategy probe fits its head without a learning rate, .* Choose full"),
        ({}, 19, r"--steps 19: a curve needs 20 steps or more; 100 are usual"),
    ],
)
def test_what_has_no_curve_is_refused(finetune: dict[str, Any], steps: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_learning_rate(config(**finetune), num_steps=steps)


def test_the_command_writes_table_and_picture_and_says_how_to_use_the_rate(paths: Paths) -> None:
    Path("tiny.yaml").write_text(to_yaml(config()))
    result = CliRunner().invoke(app, ["find-lr", "-c", "tiny.yaml", "--steps", "20"])
    assert result.exit_code == 0, result.output
    table = pd.read_csv("reports/tiny/learning_rate.csv")
    rate = f"{judged(table['learning_rate'].to_numpy(), table['loss'].to_numpy(), 0).suggestion:.2g}"
    assert f"learning rate {rate}: a tenth of" in result.stdout
    assert f"use it: microscopy-cls train -c tiny.yaml --set finetune.learning_rate={rate}" in result.stdout
    picture = cv2.imread("reports/tiny/learning_rate.png")
    assert picture is not None
    assert picture.std() > 0
    assert sorted(path.name for path in Path("reports/tiny").iterdir()) == ["learning_rate.csv", "learning_rate.png"]


@pytest.mark.parametrize(
    ("suggestion", "sentence", "label"),
    [
        (1e-3, "learning rate 0.001: a tenth of 0.01, beyond that the loss rose for good", "suggested: 0.001"),
        (
            5e-3,
            "learning rate 0.005: the fitted head begins with 0.2 of it, 0.001, which is a tenth of 0.01, beyond that "
            "the loss rose for good",
            "suggested: 0.001, by finetune.learning_rate 0.005",
        ),
    ],
)
def test_sentence_and_figure_tell_the_heads_rate_from_the_setting(suggestion: float, sentence: str, label: str) -> None:
    table = judged(RATES, curve(1e-3, 1e-2), 0).table
    found = RangeTest(table, 1e-2, suggestion, rose=True, fold=0)
    assert told(found) == sentence
    lines = {str(line.get_label()): line.get_xdata() for line in _drawn(found).axes[0].lines}
    assert {name: list(lines[name]) for name in list(lines)[-2:]} == {
        "rises for good beyond 0.01": [1e-2, 1e-2], label: [1e-3, 1e-3]
    }  # fmt: skip


def test_a_fold_that_is_not_there_is_a_usage_error(paths: Paths) -> None:
    Path("tiny.yaml").write_text(to_yaml(config()))
    result = CliRunner().invoke(app, ["find-lr", "-c", "tiny.yaml", "--fold", "2"])
    assert result.exit_code == 2
    assert "folds are 0 to 1" in result.stderr
