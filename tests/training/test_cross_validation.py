"""Laws of a cross-validation, on eighteen tiny pictures and timm's test network."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors
from tests.training.tiny import draw_tiny, tiny_config

from microscopy_cls.config import Config, Paths
from microscopy_cls.dataset.prepare import prepare
from microscopy_cls.errors import ConfigError, DataError, TrainingError
from microscopy_cls.model import get_model
from microscopy_cls.model.members import save_weights
from microscopy_cls.tracking import NullTracker
from microscopy_cls.training import member as member_module
from microscopy_cls.training.compute import predict
from microscopy_cls.training.cross_validation import CrossValidation
from microscopy_cls.training.fold_data import FoldData, Images
from microscopy_cls.training.parts import Part
from microscopy_cls.training.run_state import load_state, require_finished, save_state


def config(**finetune: object) -> Config:
    return tiny_config({"epochs": 2, "validation_fraction": 0.34} | finetune)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A prepared set of two classes, six groups each, three images a group."""
    monkeypatch.chdir(tmp_path)
    draw_tiny(18, 3)
    found = Paths("tiny")
    prepare(config(), found)
    return found


def train(settings: Config, paths: Paths, **options: bool) -> pd.DataFrame:
    table = CrossValidation(settings, paths, NullTracker(), **options).run()
    assert table is not None
    return table


def test_every_usable_image_is_predicted_once_by_the_fold_that_tests_it(paths: Paths) -> None:
    table = train(config(), paths)
    manifest = Images.load(paths).manifest
    assert list(table["image_id"]) == list(manifest["image_id"])
    assert list(table["fold"]) == list(manifest["fold"])
    probs = table[["prob_dark", "prob_light"]].to_numpy()
    np.testing.assert_allclose(probs.sum(1), 1)
    assert list(table["predicted"]) == [("dark", "light")[k] for k in probs.argmax(1)]
    logits = load_file(paths.runs / "oof_logits.safetensors")["logits"]
    features = load_file(paths.runs / "oof_features.safetensors")["features"]
    assert logits.shape == (36, 2)
    assert len(features) == 36
    assert (logits.argmax(1) == probs.argmax(1)).all()


def test_training_validation_and_test_share_no_group(paths: Paths) -> None:
    images = Images.load(paths)
    groups = images.manifest["split_group"]
    for fold in range(2):
        data = images.part(Part(fold), 0.34, 0)
        parts = [set(groups[rows]) for rows in (data.train, data.validation, data.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 6
        assert len(data.train) + len(data.validation) + len(data.test) == 36


def test_the_same_seed_gives_the_same_answer(paths: Paths) -> None:
    first = train(config(), paths)
    pd.testing.assert_frame_equal(first, train(config(), paths, restart=True))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ema_decay": 0.9, "mixup": 0.2, "cutmix": 0.5},
        {"validation_fraction": 0},
        {"strategy": "head_then_full", "class_weights": "effective"},
        {"strategy": "gradual", "freeze_batch_norm": True, "sampling": "balanced"},
    ],
)
def test_an_interrupted_run_ends_with_the_same_table(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    settings = config(epochs=3, **options)
    whole = train(settings, paths)
    save = member_module.MemberTrainer._save
    for stop_after in (1, 2, 4):  # saved epochs before the power fails; the last one lies in the second fold
        saved = 0

        def failing(self: member_module.MemberTrainer, limit: int = stop_after) -> None:
            nonlocal saved
            save(self)
            saved += 1
            if saved == limit:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(member_module.MemberTrainer, "_save", failing)
            with pytest.raises(KeyboardInterrupt):
                train(settings, paths, restart=True)
        resumed = train(settings, paths)
        pd.testing.assert_frame_equal(whole, resumed, check_exact=True)


def test_a_finished_run_is_not_trained_again(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(config(), paths)
    monkeypatch.setattr(CrossValidation, "_train_fold", lambda *_: pytest.fail("trained again"))
    pd.testing.assert_frame_equal(first, train(config(), paths))


@pytest.mark.parametrize("change", ["config", "manifest"])
def test_another_config_or_manifest_starts_anew_and_says_what_changed(
    paths: Paths, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    train(config(), paths)
    before = load_state(paths.runs)
    if change == "manifest":
        next(Path("raw/dark").iterdir()).unlink()
        prepare(config(), paths)
    settings = config(epochs=1) if change == "config" else config()
    with caplog.at_level(logging.WARNING):
        train(settings, paths)
    after = load_state(paths.runs)
    assert before is not None
    assert after is not None
    assert before.fingerprint != after.fingerprint
    assert "starting anew" in caplog.text
    assert ("finetune.epochs 2 -> 1" if change == "config" else "manifest") in caplog.text


def test_another_weights_file_starts_anew(paths: Paths, caplog: pytest.LogCaptureFixture) -> None:
    for seed in (0, 1):
        torch.manual_seed(seed)
        save_weights(Path("start.safetensors"), get_model("test_resnet", 2, "none").state_dict())
        values = config(epochs=1).model_dump() | {"model": {"name": "test_resnet", "weights": "start.safetensors"}}
        values["model"]["image_size_px"] = 32
        train(Config.model_validate(values), paths)
    assert "starting anew (changed: weights" in caplog.text


def test_where_and_how_it_is_logged_does_not_change_what_a_run_is(paths: Paths) -> None:
    train(config(), paths)
    before = load_state(paths.runs)
    values = config().model_dump(mode="json")
    values["evaluate"]["target_coverage"] = 0.8
    values["tracking"]["uri"] = "elsewhere"
    values["runtime"]["workers"] = 1
    train(Config.model_validate(values), paths)
    assert load_state(paths.runs) == before


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    class Poisoned(torch.nn.CrossEntropyLoss):
        def forward(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return super().forward(scores, targets) * float("nan")

    monkeypatch.setattr(member_module, "make_loss", lambda *_: Poisoned())
    with pytest.raises(TrainingError, match=r"fold 0, epoch 0, step 0: the loss is nan\. Lower finetune.learning_rate"):
        train(config(), paths)


def test_training_stops_early_when_the_validation_loss_no_longer_falls(paths: Paths) -> None:
    train(config(epochs=30, patience=1, learning_rate=1e-9, min_learning_rate=0), paths)
    curves = pd.read_csv(paths.curves)
    assert (curves.groupby("fold").size() < 30).all()
    assert (curves.groupby("fold")["chosen"].sum() == 1).all()


def test_the_chosen_epoch_has_the_lowest_validation_loss_or_is_the_last_without_validation(paths: Paths) -> None:
    train(config(epochs=4), paths)
    for _, rows in pd.read_csv(paths.curves).groupby("fold"):
        assert rows.loc[rows["chosen"] == 1, "val_loss"].item() == rows["val_loss"].min()
    train(config(epochs=2, validation_fraction=0), paths)
    for _, rows in pd.read_csv(paths.curves).groupby("fold"):
        assert rows.loc[rows["chosen"] == 1, "epoch"].item() == 1


def test_a_run_of_other_settings_is_not_taken_for_this_ones(paths: Paths) -> None:
    train(config(), paths)
    require_finished(paths.runs, config())
    with pytest.raises(DataError, match=r"was trained with other settings \(finetune.epochs \d+ -> 77\)"):
        require_finished(paths.runs, config(epochs=77))


def test_images_prepared_with_other_settings_are_refused(paths: Paths) -> None:
    settings = config()
    other = settings.model_copy(update={"model": settings.model.model_copy(update={"resize": "pad"})})
    with pytest.raises(DataError, match=r"was prepared with other settings \(resize stretch\)"):
        CrossValidation(other, paths, NullTracker())


def test_folds_can_be_trained_one_at_a_time(paths: Paths) -> None:
    whole = train(config(), paths)
    assert CrossValidation(config(), paths, NullTracker(), restart=True).run(1) is None
    with pytest.raises(DataError, match="holds no finished run"):
        require_finished(paths.runs, config())
    table = CrossValidation(config(), paths, NullTracker()).run(0)
    assert table is not None
    pd.testing.assert_frame_equal(whole, table, check_exact=True)
    assert not list(paths.runs.rglob("ch*.safetensors")), "checkpoints of finished folds are dropped"


def test_what_folds_took_is_known_though_they_were_trained_side_by_side(paths: Paths) -> None:
    first, second = (CrossValidation(config(epochs=1), paths, NullTracker()) for _ in range(2))
    assert first.run(0) is None
    assert second.run(1) is not None
    state = load_state(paths.runs)
    assert state is not None
    assert set(state.fold_seconds) == {"0", "1"}


def test_folds_that_differ_from_the_prepared_ones_are_refused(paths: Paths) -> None:
    values = config().model_dump(mode="json")
    values["folds"]["num"] = 3
    with pytest.raises(DataError, match=r"is divided into 2 folds, but folds.num is 3. Run prepare again"):
        CrossValidation(Config.model_validate(values), paths, NullTracker())


def test_the_automatic_batch_leaves_enough_steps_in_an_epoch(paths: Paths) -> None:
    train(config(batch_size="auto", epochs=1), paths)
    state = json.loads((paths.runs / "run_state.json").read_text())
    assert state["batch_size"] == 4
    assert state["precision"] == "fp32"
    assert state["num_threads"] == torch.get_num_threads()


def test_a_network_that_cannot_be_evaluated_is_refused_before_it_is_trained(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_module.MemberTrainer, "run", lambda *_: pytest.fail("was trained"))
    values = config().model_dump()
    values["model"]["name"] = "levit_128s"
    with pytest.raises(ConfigError, match=r"model.image_size_px 32: levit_128s takes squares of 224 px only"):
        train(Config.model_validate(values), paths)


def test_a_run_goes_on_with_as_many_processes_as_it_began_with(paths: Paths) -> None:
    table = train(config(), paths)
    state = load_state(paths.runs)
    assert state is not None
    assert state.num_processes == 1
    save_state(paths.runs, replace(state, num_processes=4))
    pd.testing.assert_frame_equal(table, train(config(), paths))  # nothing is left to train
    Part(1).answers(paths.runs).unlink()
    message = r"began with num_processes 4, but this command has 1, .* `torchrun --nproc_per_node 4`, or .* --restart"
    with pytest.raises(TrainingError, match=message):
        train(config(), paths)
    train(config(), paths, restart=True)
    assert load_state(paths.runs).num_processes == 1  # type: ignore[union-attr]


@pytest.mark.slow
def test_after_kill_9_the_same_command_ends_with_the_same_table(paths: Paths) -> None:
    config_file = Path("tiny.yaml")
    config_file.write_text(json.dumps(config(epochs=6).model_dump(mode="json")))
    command = [sys.executable, "-m", "microscopy_cls", "train", "-c", str(config_file)]
    subprocess.run(command, check=True, capture_output=True)
    whole = pd.read_parquet(paths.oof)
    process = subprocess.Popen([*command, "--restart"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    checkpoint = paths.runs / "fold_0" / "checkpoint.safetensors"
    while not checkpoint.is_file() and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not paths.oof.is_file()
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "going on after epoch" in again.stderr
    pd.testing.assert_frame_equal(whole, pd.read_parquet(paths.oof), check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["full", "gradual"])
def test_two_processes_train_one_model_together(paths: Paths, strategy: str) -> None:
    settings = config(batch_size=2, ema_decay=0.9, strategy=strategy).model_dump(mode="json")
    Path("tiny.yaml").write_text(json.dumps(settings))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, "-m", "microscopy_cls", "train", "-c", "tiny.yaml"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200)
    assert shown.stdout.count("images predicted out of fold") == 1
    assert len(pd.read_parquet(paths.oof)) == 36


def test_a_torn_checkpoint_starts_its_fold_over(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train(config(), paths)
    save = member_module.MemberTrainer._save

    def torn(self: member_module.MemberTrainer) -> None:
        save(self)
        file = self.folder / "checkpoint.safetensors"
        file.write_bytes(file.read_bytes()[:1000])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(member_module.MemberTrainer, "_save", torn)
        with pytest.raises(KeyboardInterrupt):
            train(config(), paths, restart=True)
    with caplog.at_level(logging.WARNING):
        pd.testing.assert_frame_equal(whole, train(config(), paths), check_exact=True)
    assert "fold_0: its checkpoint is damaged, so this fold starts over" in caplog.text


# Strategies


@pytest.fixture
def start(paths: Paths) -> dict[str, torch.Tensor]:
    """Weights that a network starts from, kept in start.safetensors."""
    torch.manual_seed(0)
    weights = get_model("test_resnet", 2, "none").state_dict()
    save_weights(Path("start.safetensors"), weights)
    return {name: tensor for name, tensor in weights.items() if not name.startswith("fc.")}


def started(preset: str = "brightfield", **finetune: object) -> Config:
    values = config(**finetune).model_dump(mode="json")
    values["augment"]["preset"] = preset
    values["model"]["weights"] = "start.safetensors"
    return Config.model_validate(values)


def member_of(paths: Paths, fold: int) -> dict[str, torch.Tensor]:
    return load_tensors(paths.members / f"fold_{fold}.safetensors")


def differing(member: dict[str, torch.Tensor], start: dict[str, torch.Tensor]) -> set[str]:
    return {name.split(".")[0] for name, tensor in start.items() if not torch.equal(member[name], tensor)}


def test_a_probe_changes_nothing_but_the_head(paths: Paths, start: dict[str, torch.Tensor]) -> None:
    train(started(strategy="probe"), paths)
    first, second = member_of(paths, 0), member_of(paths, 1)
    assert not differing(first, start)
    assert not differing(second, start)
    assert not torch.equal(first["fc.weight"], second["fc.weight"])


def test_the_members_of_a_probe_answer_as_its_table_says(paths: Paths, start: dict[str, torch.Tensor]) -> None:
    table = train(started(strategy="probe"), paths)
    logits = load_file(paths.runs / "oof_logits.safetensors")["logits"]
    cross = CrossValidation(started(strategy="probe"), paths, NullTracker())
    for fold in range(2):
        rows = np.flatnonzero(table["fold"] == fold)
        network = get_model("test_resnet", 2, "none")
        network.load_state_dict(member_of(paths, fold))
        answers = predict(network, cross.normalise, cross.batches.plain(rows, 4), cross.accelerator)
        np.testing.assert_allclose(answers.logits, logits[rows], rtol=1e-3, atol=1e-4)


def test_a_probe_that_was_stopped_goes_on_with_the_features_that_it_had(
    paths: Paths, start: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = started(strategy="probe")
    whole = train(settings, paths)
    computed = []
    features, finish = CrossValidation._features, CrossValidation._finish_fold

    def counted(self: CrossValidation, rows: np.ndarray, num_views: int) -> np.ndarray:
        computed.append((len(rows), num_views))
        return features(self, rows, num_views)

    def failing(self: CrossValidation, data: FoldData, *rest: Any) -> None:
        if data.part.fold == 1:
            raise KeyboardInterrupt
        finish(self, data, *rest)

    monkeypatch.setattr(CrossValidation, "_features", counted)
    with monkeypatch.context() as patched:
        patched.setattr(CrossValidation, "_finish_fold", failing)
        with pytest.raises(KeyboardInterrupt):
            train(settings, paths, restart=True)
    pd.testing.assert_frame_equal(whole, train(settings, paths), check_exact=True)
    assert computed == [(36, 1)], "once, for the images of all folds"
    assert not (paths.runs / "features.safetensors").exists(), "they are not kept once all folds are done"


def test_torn_features_are_computed_again(paths: Paths, start: dict[str, torch.Tensor]) -> None:
    settings = started(strategy="probe")
    whole = train(settings, paths)
    cross = CrossValidation(settings, paths, NullTracker(), restart=True)
    cross.frozen.path.write_bytes(b"torn")
    pd.testing.assert_frame_equal(whole, cross.run(), check_exact=True)


def test_a_probe_tells_one_epoch_whose_validation_is_by_inner_folds(
    paths: Paths, start: dict[str, torch.Tensor]
) -> None:
    train(started(strategy="probe"), paths)
    curves = pd.read_csv(paths.curves)
    assert list(curves["epoch"]) == [0, 0]
    assert (curves["chosen"] == 1).all()
    assert curves[["train_loss", "val_loss", "val_f1_macro", "penalty"]].notna().all(axis=None)


def test_the_full_training_that_follows_a_head_starts_at_the_probe(
    paths: Paths, start: dict[str, torch.Tensor]
) -> None:
    probe = train(started(strategy="probe"), paths)
    still = {"epochs": 1, "validation_fraction": 0, "learning_rate": 1e-12, "min_learning_rate": 0}
    started_there = train(started("none", strategy="head_then_full", **still), paths)
    np.testing.assert_allclose(started_there["prob_dark"], probe["prob_dark"], atol=1e-3)


def test_the_head_that_a_full_training_starts_from_is_fitted_on_augmented_views_where_it_augments(
    paths: Paths, start: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    features = CrossValidation._features
    monkeypatch.setattr(
        CrossValidation, "_features", lambda self, rows, num: seen.append(num) or features(self, rows, num)
    )
    for preset, expected in (("none", [1]), ("brightfield", [2])):
        train(started(preset, strategy="head_then_full", epochs=1), paths)
        assert seen == expected
        seen.clear()


def test_gradual_training_reaches_a_stage_more_after_each_share_of_epochs(
    paths: Paths, start: dict[str, torch.Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {"strategy": "gradual", "validation_fraction": 0, "epochs": 4, "stage_epochs": 2}
    with caplog.at_level(logging.WARNING):
        train(started(**settings), paths)
    assert differing(member_of(paths, 0), start) == {"layer4"}
    assert "fold 0: 4 epochs reach 2 of the 6 stages; the others stay as they came" in caplog.text
    caplog.clear()
    train(started(**settings | {"epochs": 6, "stage_epochs": 1}), paths)
    assert differing(member_of(paths, 0), start) == {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}
    assert "stages" not in caplog.text


@pytest.mark.parametrize("strategy", ["probe", "head_then_full", "gradual"])
def test_building_on_random_weights_is_told(paths: Paths, caplog: pytest.LogCaptureFixture, strategy: str) -> None:
    with caplog.at_level(logging.WARNING):
        train(config(strategy=strategy, epochs=1), paths)
    assert f"finetune.strategy {strategy} builds on pretrained weights, but these are random ones" in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"sampling": "balanced"},
        {"class_weights": "effective"},
        {"loss": "focal", "label_smoothing": 0},
        {"logit_adjustment": 1, "mixup": 0.2},
    ],
)
def test_each_way_of_balancing_trains(paths: Paths, options: dict[str, object]) -> None:
    assert len(train(config(epochs=1, **options), paths)) == 36
