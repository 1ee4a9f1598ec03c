"""`evaluate` turns a finished run into metrics, tables for DVC, a bundle and a registered model, all of one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from microscopy_cls.config import Config, Paths
from microscopy_cls.dataset.cache import open_pixels
from microscopy_cls.dataset.manifest import manifest_digest, trainable
from microscopy_cls.dataset.prepare import prepare
from microscopy_cls.errors import ConfigError, DataError
from microscopy_cls.evaluation.assemble import headline
from microscopy_cls.evaluation.evaluate import _check_positive, evaluate
from microscopy_cls.evaluation.scores import METRICS
from microscopy_cls.inference.predictor import open_predictor
from microscopy_cls.model import get_model
from microscopy_cls.model.bundle import read_bundle
from microscopy_cls.model.doubt import softmax
from microscopy_cls.model.members import save_weights
from microscopy_cls.system.files import read_json, sha256_of_file, sha256_of_json
from microscopy_cls.tracking import NullTracker

PATHS = Paths("cells")
ARCHITECTURE = "test_resnet"
SLIDES = ("s1", "s2", "s3", "s4")


class Recorder(NullTracker):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.tags: dict[str, str] = {}
        self.calls: list[str] = []

    def resume(self) -> None:
        self.calls.append("resume")

    def log_metrics(self, metrics: Any) -> None:
        self.metrics |= metrics
        self.calls.append("log_metrics")

    def set_tags(self, tags: Any) -> None:
        self.tags = dict(tags)
        self.calls.append("set_tags")

    def log_artifact(self, path: Path, folder: str = "") -> None:
        assert path.is_file()
        self.calls.append(path.name)

    def log_artifacts(self, directory: Path, folder: str) -> None:
        assert directory.is_dir()
        self.calls.append(folder)

    def register(self, bundle_dir: Path, name: str) -> str | None:
        self.calls.append(f"register {read_bundle(bundle_dir).name} as {name}")
        return "1"

    def finish(self, status: Any) -> None:
        self.calls.append(str(status))


def config_of(**evaluate_section: Any) -> Config:
    return Config.model_validate(
        {
            "name": "cells",
            "data": {"root": "raw", "group_regex": "(s[0-9])", "max_unreadable": 0.5},
            "folds": {"num": 2},
            "model": {"name": ARCHITECTURE, "weights": "none", "image_size_px": 32},
            "evaluate": {"bootstrap_samples": 100} | evaluate_section,
        }
    )


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A finished run in the working directory: manifest, predictions, curves and members; returns its state."""
    monkeypatch.chdir(tmp_path)
    for module in ("graph", "answers"):  # converting takes seconds
        monkeypatch.setattr(f"microscopy_cls.model.{module}.has_openvino", lambda: False)
    rng = np.random.default_rng(0)
    for label in ("alga", "yeast"):
        for slide in SLIDES:
            for i in range(3):
                path = Path(f"raw/{label}/{slide}_{i}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    Path("raw/alga/s1_empty.png").touch()
    manifest = prepare(config_of(), PATHS).manifest
    rows = trainable(manifest)[["image_id", "fold", "label"]].reset_index(drop=True)
    PATHS.members.mkdir(parents=True)
    for fold in range(2):
        network = get_model(ARCHITECTURE, 2, "none")
        save_weights(PATHS.members / f"fold_{fold}.safetensors", network.state_dict())
    is_alga = (rows["label"] == "alga").to_numpy()
    logits = rng.normal(np.stack([is_alga, ~is_alga], 1), 1).astype(np.float32)
    features = rng.normal(size=(len(rows), network.num_features)).astype(np.float32)
    write_answers(rows, logits, features)
    pd.DataFrame({"fold": [0, 1], "epoch": [0, 0], "train_loss": [0.7, 0.6]}).to_csv(PATHS.curves, index=False)
    weights = {"source": "none", "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    return {"identity": {"manifest": manifest_digest(manifest)}, "weights": weights, "git_commit": "abc"}


def write_answers(rows: pd.DataFrame, logits: np.ndarray, features: np.ndarray) -> None:
    probs = softmax(logits.astype(np.float64))
    named = np.array(["alga", "yeast"], object)[probs.argmax(1)]
    rows.assign(predicted=named, prob_alga=probs[:, 0], prob_yeast=probs[:, 1]).to_parquet(PATHS.oof)
    save_file({"logits": np.ascontiguousarray(logits)}, PATHS.runs / "oof_logits.safetensors")
    save_file({"features": np.ascontiguousarray(features)}, PATHS.runs / "oof_features.safetensors")


def test_metrics_are_written_and_returned_and_of_all_usable_images(state: dict[str, Any]) -> None:
    metrics = evaluate(config_of(), PATHS, NullTracker(), state)
    assert read_json(PATHS.metrics) == json.loads(json.dumps(metrics))
    assert (metrics["name"], metrics["num_images"], metrics["num_groups"]) == ("cells", 24, 4)
    assert metrics["fingerprint"] == sha256_of_json(state["identity"])
    oof = pd.read_parquet(PATHS.oof)
    assert metrics["accuracy"]["value"] == pytest.approx((oof["label"] == oof["predicted"]).mean(), abs=1e-6)
    assert headline(metrics) == {name: metrics[name]["value"] for name in METRICS}


def test_groups_are_found_by_image_and_not_by_place(state: dict[str, Any]) -> None:
    metrics = evaluate(config_of(), PATHS, NullTracker(), state)
    order = np.random.default_rng(0).permutation(24)
    rows = pd.read_parquet(PATHS.oof)[["image_id", "fold", "label"]].iloc[order]
    logits = load_file(PATHS.runs / "oof_logits.safetensors")["logits"][order]
    features = load_file(PATHS.runs / "oof_features.safetensors")["features"][order]
    write_answers(rows.reset_index(drop=True), logits, features)
    again = evaluate(config_of(), PATHS, NullTracker(), state)
    assert {name: again[name] for name in METRICS} == {name: metrics[name] for name in METRICS}
    assert again["conformal"]["coverage"] == metrics["conformal"]["coverage"]


def test_answers_that_are_not_of_one_run_are_refused(state: dict[str, Any]) -> None:
    oof = pd.read_parquet(PATHS.oof)
    oof.iloc[::-1].to_parquet(PATHS.oof)
    with pytest.raises(DataError, match=r"oof_features.safetensors are not of one run. Train again with --restart."):
        evaluate(config_of(), PATHS, NullTracker(), state)
    assert not PATHS.bundle.exists()


def test_metrics_say_what_doubt_is_worth_and_the_bundle_carries_it(state: dict[str, Any]) -> None:
    metrics = evaluate(config_of(target_coverage=0.8), PATHS, NullTracker(), state)
    info = read_bundle(PATHS.bundle)
    assert info.conformal is not None
    assert info.novelty is not None
    assert info.conformal.target_coverage == metrics["conformal"]["target_coverage"] == 0.8
    assert list(info.conformal.thresholds) == list(metrics["conformal"]["thresholds"].values())
    assert info.calibration.method == metrics["calibration"]["method"]
    np.testing.assert_allclose(info.calibration.temperatures, metrics["calibration"]["temperatures"], atol=1e-6)
    assert metrics["ece"]["value"] == metrics["calibration"]["ece_before"]["value"]
    assert metrics["log_loss"]["value"] == metrics["calibration"]["log_loss_before"]["value"]
    assert set(metrics["novelty"]["auroc"]) == {"noise", "blank", "text"}
    assert sum(metrics["conformal"]["set_sizes"].values()) == 24
    predictor = open_predictor([PATHS.bundle], engine="torch", precision="fp32")
    answers = predictor.run_all(np.zeros((1, 32, 32, 3), np.uint8))
    assert predictor.judge.answer(answers.probs[0], answers.novelty[0])["refer"] in (True, False)


def test_the_tables_that_dvc_draws_have_the_columns_that_it_asks_for(state: dict[str, Any]) -> None:
    metrics = evaluate(config_of(), PATHS, NullTracker(), state)
    confusion = pd.read_csv(PATHS.plots / "confusion.csv")
    counts = pd.crosstab(confusion["actual"], confusion["predicted"])
    assert counts.to_numpy().tolist() == metrics["confusion_matrix"]
    assert {"epoch", "train_loss"} <= set(pd.read_csv(PATHS.plots / "curves.csv"))
    per_class = pd.read_csv(PATHS.plots / "per_class.csv").set_index("class")
    reliability = pd.read_csv(PATHS.plots / "reliability.csv")
    assert {"calibration", "confidence", "accuracy"} <= set(reliability)
    assert reliability.groupby("calibration")["num_images"].sum().to_dict() == {"before": 24, "after": 24}
    risk = pd.read_csv(PATHS.plots / "risk_coverage.csv")
    assert {"coverage", "accuracy"} <= set(risk)
    assert (risk["coverage"].iloc[-1], len(risk) <= 100) == (1, True)
    assert per_class["f1"].to_dict() == {name: row["f1"]["value"] for name, row in metrics["per_class"].items()}


def test_the_final_verdicts_are_founded_on_the_model(state: dict[str, Any]) -> None:
    metrics = evaluate(config_of(), PATHS, NullTracker(), state)
    questions = {"duplicates", "leakage", "shortcuts", "quality", "calibration"}
    assert set(metrics["verdicts"]) == set(metrics["reasons"]) == questions
    assert set(metrics["verdicts"].values()) <= {"pass", "warn", "fail"}
    shortcuts = metrics["audit"]["shortcuts"]
    assert shortcuts["model"]["name"] == "model"
    assert shortcuts["model"]["accuracy"]["value"] == pytest.approx(metrics["accuracy"]["value"], abs=1e-6)
    hidden = shortcuts["occlusion"]
    assert hidden["num_images"] == 24
    assert hidden["whole"]["value"] == pytest.approx(metrics["accuracy"]["value"], abs=1e-6)
    assert all(0 <= hidden[name]["value"] <= 1 for name in ("centre_hidden", "border_hidden"))
    assert read_json(PATHS.audit)["shortcuts"]["model"]["name"] == "pixels", "the audit itself stays as it was"


def test_an_audit_of_these_images_is_not_made_again(state: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(config_of(), PATHS, NullTracker(), state)
    monkeypatch.setattr("microscopy_cls.evaluation.audit.audit.examine", lambda *_: pytest.fail("made again"))
    evaluate(config_of(), PATHS, NullTracker(), state)
    with pytest.raises(pytest.fail.Exception, match="made again"):
        evaluate(config_of(bootstrap_samples=101), PATHS, NullTracker(), state)


def test_doubtful_labels_and_evidence_are_written_and_name_images_of_the_run(state: dict[str, Any]) -> None:
    metrics = evaluate(config_of(), PATHS, NullTracker(), state)
    errors, oof = pd.read_csv(PATHS.label_errors), pd.read_parquet(PATHS.oof)
    assert metrics["label_errors"]["num"] == len(errors) > 0
    assert set(errors["image_id"]) <= set(oof["image_id"])
    cams, manifest = load_file(PATHS.cams), pd.read_parquet(PATHS.manifest)
    assert len(cams["rows"]) == len(cams["cam"]) == len(cams["kind"]) > 0
    assert (manifest.loc[cams["rows"], "status"] == "ok").all()


def test_a_network_without_maps_leaves_an_empty_file(state: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microscopy_cls.evaluation.scrutiny.explain", lambda *_: None)
    evaluate(config_of(), PATHS, NullTracker(), state)
    assert {name: len(values) for name, values in load_file(PATHS.cams).items()} == {"rows": 0, "cam": 0, "kind": 0}


def test_an_external_test_is_answered_by_the_whole_bundle(state: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    for label in ("alga", "yeast"):
        Path(f"elsewhere/{label}").mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"elsewhere/{label}/s{9 + i}.png")
    config = config_of()
    config = config.model_copy(update={"data": config.data.model_copy(update={"test": Path("elsewhere")})})
    tracker = Recorder()
    found = evaluate(config, PATHS, tracker, state)["external_test"]
    assert (found["source"], found["num_images"], found["failed"]) == ("elsewhere", 8, 0)
    squares = np.stack([open_pixels(PATHS.external)[row] for row in range(8)])
    probs = open_predictor([PATHS.bundle], engine="torch", precision="fp32").run_all(squares).probs
    assert found["accuracy"]["value"] == pytest.approx((probs.argmax(1) == [0] * 4 + [1] * 4).mean())
    assert tracker.metrics["external_accuracy"] == found["accuracy"]["value"]
    without = evaluate(config_of(), PATHS, NullTracker(), state)
    assert without["external_test"] is without["test_split"] is None


def test_a_faulty_external_test_is_refused_before_anything_is_written(state: dict[str, Any]) -> None:
    config = config_of()
    config = config.model_copy(update={"data": config.data.model_copy(update={"test": Path("nowhere")})})
    with pytest.raises(DataError, match=r"^data\.test: nowhere: there is no such folder or table"):
        evaluate(config, PATHS, NullTracker(), state)
    assert not PATHS.bundle.exists()
    assert not PATHS.metrics.exists()


def test_the_bundle_is_enough_alone(state: dict[str, Any]) -> None:
    metrics = evaluate(config_of(), PATHS, NullTracker(), state)
    info = read_bundle(PATHS.bundle)
    assert info.classes == ("alga", "yeast")
    assert info.architecture == ARCHITECTURE
    assert info.preprocessing.model_dump() == {
        "size_px": 32, "resize": "stretch", "intensity": "percentile", "page": 0, "max_pixels": 300_000_000,
        "channels": None, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25),
    }  # fmt: skip
    assert [member.fold for member in info.members] == [0, 1]
    for member in info.members:
        assert sha256_of_file(PATHS.bundle / member.file) == member.sha256
        assert sha256_of_file(PATHS.members / f"fold_{member.fold}.safetensors") == member.sha256
    assert info.training_data == {
        "manifest_digest": state["identity"]["manifest"], "num_images": 24, "num_groups": 4,
    }  # fmt: skip
    assert info.metrics == headline(metrics)
    assert (info.git_commit, info.config["name"], info.weights) == ("abc", "cells", {"source": "none"})
    assert info.positive_class == metrics["binary"]["positive_class"]


def test_calibration_inputs_are_training_images_of_a_seeded_choice(
    state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microscopy_cls.evaluation.assemble.NUM_CALIBRATION_INPUTS", 10)
    chosen = []
    for _ in range(2):
        evaluate(config_of(), PATHS, NullTracker(), state)
        chosen.append(load_file(PATHS.bundle / "calibration_inputs.safetensors")["pixels"])
    assert chosen[0].shape == (10, 32, 32, 3)
    assert np.array_equal(chosen[0], chosen[1])
    rows = trainable(pd.read_parquet(PATHS.manifest)).index
    cached = {image.tobytes() for image in open_pixels(PATHS.prepared)[rows]}
    assert {image.tobytes() for image in chosen[0]} <= cached
    assert len({image.tobytes() for image in chosen[0]}) == 10


def test_a_positive_class_needs_two_classes() -> None:
    with pytest.raises(ConfigError, match="has a meaning for two classes only, and there are 3"):
        _check_positive("rod", ["rod", "yeast", "amoeba"])


def test_a_second_evaluation_replaces_the_first_and_leaves_nothing_else(state: dict[str, Any]) -> None:
    evaluate(config_of(), PATHS, NullTracker(), state)
    before = sorted(path.relative_to(".") for folder in ("reports", "data") for path in Path(folder).rglob("*"))
    metrics = evaluate(config_of(positive_class="yeast"), PATHS, NullTracker(), state)
    assert metrics["binary"]["positive_class"] == read_bundle(PATHS.bundle).positive_class == "yeast"
    after = sorted(path.relative_to(".") for folder in ("reports", "data") for path in Path(folder).rglob("*"))
    assert after == before
    assert not any(path.name.startswith(".") for path in after)


def test_the_tracker_is_told_everything_and_the_state_is_left_as_it_was(state: dict[str, Any]) -> None:
    tracker, before = Recorder(), json.dumps(state)
    metrics = evaluate(config_of(), PATHS, tracker, state)
    assert tracker.calls == [
        "resume", "log_metrics", "set_tags", "metrics.json", "audit.json", "label_errors.csv", "plots",
        "register cells as cells", "FINISHED",
    ]  # fmt: skip
    for name in METRICS:
        figure = metrics[name]
        assert tracker.metrics[name] == figure["value"]
        assert tracker.metrics[f"{name}_ci_low"] == figure["ci_low"]
        assert tracker.metrics[f"{name}_ci_high"] == figure["ci_high"]
        assert tracker.metrics[f"{name}_std"] == pytest.approx(np.std(figure["fold_values"], ddof=1))
    assert tracker.metrics["ece_after"] == metrics["calibration"]["ece_after"]["value"]
    assert tracker.metrics["conformal_coverage"] == metrics["conformal"]["coverage"]["value"]
    assert tracker.metrics["referred_share"] == metrics["risk_coverage"]["referred"]["share"]["value"]
    assert tracker.metrics["f1_class_alga"] == metrics["per_class"]["alga"]["f1"]["value"]
    assert tracker.tags == metrics["verdicts"]
    assert all(isinstance(value, float) for value in tracker.metrics.values())
    assert json.dumps(state) == before


def test_a_run_on_other_images_is_refused_before_anything_is_written(state: dict[str, Any]) -> None:
    state["identity"]["manifest"] = "0" * 64
    with pytest.raises(DataError) as raised:
        evaluate(config_of(), PATHS, NullTracker(), state)
    assert (
        str(raised.value) == f"{PATHS.runs}: was trained on other images than {PATHS.manifest} names. Run train again."
    )
    assert not PATHS.metrics.exists()
    assert not PATHS.bundle.exists()


def test_a_positive_class_that_is_none_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as raised:
        evaluate(config_of(positive_class="algae"), PATHS, NullTracker(), state)
    assert str(raised.value) == "evaluate.positive_class algae: is none of the classes alga, yeast"


def test_without_a_manifest_the_message_says_what_to_run(state: dict[str, Any]) -> None:
    PATHS.manifest.unlink()
    with pytest.raises(DataError, match="Run `microscopy-cls prepare`"):
        evaluate(config_of(), PATHS, NullTracker(), state)


# Repeats and the refit


def refitted(state: dict[str, Any]) -> None:
    """What the training on all images leaves."""
    torch.manual_seed(9)
    network = get_model(ARCHITECTURE, 2, "none")
    save_weights(PATHS.members / "refit.safetensors", network.state_dict())
    features = np.random.default_rng(2).normal(size=(24, network.num_features)).astype(np.float32)
    rows = trainable(pd.read_parquet(PATHS.manifest)).index.to_numpy(np.int64)
    PATHS.refit_answers.parent.mkdir(parents=True)
    save_file({"rows": rows, "features": features}, PATHS.refit_answers)
    pd.DataFrame({"fold": -1, "epoch": [0, 1]}).to_csv(PATHS.refit_answers.with_name("curves.csv"))


def test_the_refit_is_the_one_member_that_is_kept_and_the_tested_ones_lie_beside_the_run(state: dict[str, Any]) -> None:
    plain = evaluate(config_of(), PATHS, NullTracker(), state)
    refitted(state)
    metrics = evaluate(config_of(bundle="refit"), PATHS, NullTracker(), state)
    assert {name: metrics[name] for name in plain} == plain, "every figure is that of the folds' members"
    assert metrics["refit"] == {"num_epochs": 2, "tested": "data/runs/cells/tested"}
    kept, tested = read_bundle(PATHS.bundle), read_bundle(PATHS.tested)
    assert [(member.name, member.file) for member in kept.members] == [("refit", "member_refit.safetensors")]
    assert kept.members[0].sha256 == sha256_of_file(PATHS.members / "refit.safetensors")
    assert [member.name for member in tested.members] == ["fold 0", "fold 1"]
    assert kept.conformal == tested.conformal
    assert len(kept.calibration.temperatures) == 1
    assert set(load_file(PATHS.bundle / "calibration_inputs.safetensors")["folds"]) == {-1}


def test_a_refit_classifies_alone(state: dict[str, Any]) -> None:
    refitted(state)
    evaluate(config_of(bundle="refit"), PATHS, NullTracker(), state)
    for members in ("all", "1", "refit"):
        predictor = open_predictor([PATHS.bundle], engine="torch", precision="fp32", members=members)
        answers = predictor.run_all(np.zeros((1, 32, 32, 3), np.uint8))
        assert answers.probs.sum() == pytest.approx(1)
        assert np.isfinite(answers.novelty).all()
    with pytest.raises(ConfigError, match=r"--members fold_0: cells has 1: choose all, 1 to 1, or refit"):
        open_predictor([PATHS.bundle], engine="torch", precision="fp32", members="fold_0")


def test_a_refit_on_other_images_is_refused(state: dict[str, Any]) -> None:
    refitted(state)
    seen = load_file(PATHS.refit_answers)
    save_file(seen | {"rows": seen["rows"] + 1}, PATHS.refit_answers)
    with pytest.raises(DataError, match=r"seen\.safetensors: the refit was trained on other images\. Train again with"):
        evaluate(config_of(bundle="refit"), PATHS, NullTracker(), state)


def test_the_spread_over_repeats_is_written_and_tracked(state: dict[str, Any]) -> None:
    config = config_of()
    repeated = config.model_copy(update={"folds": config.folds.model_copy(update={"repeats": 2})})
    manifest = pd.read_parquet(PATHS.manifest)
    manifest["fold_1"] = manifest["fold"].map({-1: -1, 0: 1, 1: 0})
    manifest.to_parquet(PATHS.manifest)
    oof = pd.read_parquet(PATHS.oof)
    swapped = oof.assign(fold=1 - oof["fold"], prob_alga=oof["prob_yeast"], prob_yeast=oof["prob_alga"])
    swapped.to_parquet(PATHS.oof_of(1))
    tracker = Recorder()
    metrics = evaluate(repeated, PATHS, tracker, state)
    accuracy = metrics["accuracy"]["value"]
    assert metrics["repeats"]["accuracy"]["values"] == pytest.approx([accuracy, 1 - accuracy], abs=1e-6)
    assert tracker.metrics["accuracy_repeat_mean"] == pytest.approx(0.5)
    assert tracker.metrics["accuracy_repeat_std"] == metrics["repeats"]["accuracy"]["std"]
    assert "repeats" not in evaluate(config, PATHS, NullTracker(), state)
