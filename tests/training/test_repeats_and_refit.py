"""Repeats, groups left out one by one, and the refit: laws of what a run consists of, on tiny pictures."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors
from tests.training.tiny import draw_tiny, tiny_config

from microscopy_cls.config import Config, Paths
from microscopy_cls.dataset.manifest import fold_column
from microscopy_cls.dataset.prepare import prepare
from microscopy_cls.errors import DataError
from microscopy_cls.tracking import NullTracker
from microscopy_cls.training import member as member_module
from microscopy_cls.training.cross_validation import CrossValidation
from microscopy_cls.training.fold_data import Images
from microscopy_cls.training.parts import REFIT, Part, epochs_of_refit, parts_of
from microscopy_cls.training.run_state import load_state, require_finished


def config(folds: dict[str, Any] | None = None, bundle: str = "folds", **finetune: Any) -> Config:
    return tiny_config(finetune, folds=folds or {}, evaluate={"bundle": bundle}, runtime={"workers": 0})


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Raw pictures of two classes in four groups, two a group."""
    monkeypatch.chdir(tmp_path)
    draw_tiny(8, 2)
    return Paths("tiny")


def train(settings: Config, paths: Paths, **options: bool) -> pd.DataFrame:
    prepare(settings, paths)
    table = CrossValidation(settings, paths, NullTracker(), **options).run()
    assert table is not None
    return table


def stopping_after(monkeypatch: pytest.MonkeyPatch, num: int) -> None:
    """The power fails after so many saved epochs."""
    save, saved = member_module.MemberTrainer._save, 0

    def failing(self: member_module.MemberTrainer) -> None:
        nonlocal saved
        save(self)
        saved += 1
        if saved == num:
            raise KeyboardInterrupt

    monkeypatch.setattr(member_module.MemberTrainer, "_save", failing)


# Repeats


def test_each_repeat_predicts_each_image_once_under_its_own_folds(paths: Paths) -> None:
    first = train(config({"repeats": 3}), paths)
    manifest = Images.load(paths).manifest
    assert first.equals(pd.read_parquet(paths.oof))
    for repeat in range(3):
        table = pd.read_parquet(paths.oof_of(repeat))
        assert list(table["image_id"]) == list(manifest["image_id"])
        assert list(table["fold"]) == list(manifest[fold_column(repeat)])
    assert sorted(path.name for path in paths.members.iterdir()) == ["fold_0.safetensors", "fold_1.safetensors"]


def test_the_first_repeat_is_what_it_is_without_others_and_more_repeats_go_on_from_it(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = train(config(), paths)
    before = load_state(paths.runs)
    trained: list[Part] = []
    whole = CrossValidation._train_fold
    monkeypatch.setattr(CrossValidation, "_train_fold", lambda *args: (trained.append(args[1]), whole(*args)))
    pd.testing.assert_frame_equal(train(config({"repeats": 2}), paths), alone, check_exact=True)
    assert trained == [Part(0, 1), Part(1, 1)], "the first ones are not trained again"
    after = load_state(paths.runs)
    assert before is not None
    assert after is not None
    assert before.fingerprint == after.fingerprint
    assert set(after.fold_seconds) == {"0", "1", "repeat-1-fold-0", "repeat-1-fold-1"}


def test_interrupted_repeats_end_with_the_same_tables(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config({"repeats": 2}, epochs=2)
    train(settings, paths)
    whole = pd.read_parquet(paths.oof_of(1))
    with monkeypatch.context() as patched:
        stopping_after(patched, 5)  # in the first fold of the second repeat
        with pytest.raises(KeyboardInterrupt):
            train(settings, paths, restart=True)
    with pytest.raises(DataError, match="holds no finished run"):
        require_finished(paths.runs, settings)
    train(settings, paths)
    pd.testing.assert_frame_equal(whole, pd.read_parquet(paths.oof_of(1)), check_exact=True)


def test_a_run_lacks_the_repeats_that_it_was_not_trained_for(paths: Paths) -> None:
    train(config(), paths)
    require_finished(paths.runs, config())
    with pytest.raises(DataError, match="holds no finished run"):
        require_finished(paths.runs, config({"repeats": 2}))


def test_one_fold_is_trained_in_every_repeat(paths: Paths) -> None:
    settings = config({"repeats": 2}, bundle="refit")
    assert parts_of(settings, 2, 1) == [Part(1), Part(1, 1)]
    assert parts_of(settings, 2, None) == [Part(0), Part(1), Part(0, 1), Part(1, 1), REFIT]


def test_a_manifest_with_too_few_divisions_is_refused(paths: Paths) -> None:
    prepare(config(), paths)
    with pytest.raises(DataError, match=r"is divided 1 times, but folds\.repeats is 3\. Run prepare again"):
        CrossValidation(config({"repeats": 3}), paths, NullTracker())


# One group a fold


def test_leaving_one_group_out_trains_a_member_a_group_that_never_saw_it(paths: Paths) -> None:
    table = train(config({"scheme": "leave_one_group_out"}), paths)
    assert (table["fold"] == table["image_id"].str.extract(r"g(\d)")[0].astype(int)).all()
    assert len(list(paths.members.iterdir())) == 4


def test_a_manifest_of_another_scheme_is_refused(paths: Paths) -> None:
    prepare(config(), paths)
    message = "is divided into 2 folds, but folds.scheme is leave_one_group_out and the number of groups is 4"
    with pytest.raises(DataError, match=message):
        CrossValidation(config({"scheme": "leave_one_group_out"}), paths, NullTracker())


# The refit


def test_the_refit_learns_from_every_image_after_the_folds_and_leaves_these_alone(paths: Paths) -> None:
    alone = train(config(), paths)
    pd.testing.assert_frame_equal(train(config(bundle="refit"), paths), alone, check_exact=True)
    seen = load_file(paths.refit_answers)
    assert seen["rows"].tolist() == list(range(16))
    data = Images.load(paths).part(REFIT, 0, 0)
    assert data.train.tolist() == list(range(16))
    assert len(data.validation) == 0
    assert (paths.members / "refit.safetensors").is_file()


@pytest.mark.parametrize("strategy", ["full", "probe", "head_then_full", "gradual"])
def test_the_refit_is_the_same_each_time_with_every_strategy(paths: Paths, strategy: str) -> None:
    members = []
    for _ in range(2):
        train(config(bundle="refit", strategy=strategy), paths, restart=True)
        members.append(load_tensors(paths.members / "refit.safetensors"))
    assert all(torch.equal(tensor, members[1][name]) for name, tensor in members[0].items())


def test_an_interrupted_refit_goes_on_to_the_same_end(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(bundle="refit", epochs=3)
    train(settings, paths)
    whole = load_tensors(paths.members / "refit.safetensors")
    with monkeypatch.context() as patched:
        stopping_after(patched, 7)  # one of its three epochs
        with pytest.raises(KeyboardInterrupt):
            train(settings, paths, restart=True)
    train(settings, paths)
    again = load_tensors(paths.members / "refit.safetensors")
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())


def test_a_finished_run_is_refitted_without_its_folds_and_evaluation_asks_for_it(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config(), paths)
    with pytest.raises(
        DataError, match=r"holds no refit on all images, as evaluate\.bundle asks for\. Run `microscopy"
    ):
        require_finished(paths.runs, config(bundle="refit"))
    trained: list[Part] = []
    whole = CrossValidation._train_fold
    monkeypatch.setattr(CrossValidation, "_train_fold", lambda *args: (trained.append(args[1]), whole(*args)))
    train(config(bundle="refit"), paths)
    require_finished(paths.runs, config(bundle="refit"))
    assert trained == [REFIT]


def test_the_refit_stops_at_the_median_of_the_epochs_that_the_folds_kept(
    paths: Paths, caplog: pytest.LogCaptureFixture
) -> None:
    settings = config(bundle="refit", epochs=3, validation_fraction=0.5)
    prepare(settings, paths)
    folds = CrossValidation(settings, paths, NullTracker())
    for fold in range(2):
        folds.run(fold)
        curves = Part(fold).curves(paths.runs)
        pd.read_csv(curves).assign(chosen=lambda rows, kept=fold: (rows["epoch"] == kept) * 1).to_csv(curves)
    assert epochs_of_refit(paths.runs, 2) == 2
    with caplog.at_level(logging.INFO):
        CrossValidation(settings, paths, NullTracker()).run()
    history = pd.read_csv(REFIT.curves(paths.runs))
    assert list(history["epoch"]) == [0, 1]
    assert list(history["chosen"]) == [0, 1], "the last one is kept: there is no validation part"
    assert history["learning_rate"].iloc[-1] > 1e-4, "the schedule is that of all epochs"
    assert "refit (3 of 3), epoch 2/3" in caplog.text
