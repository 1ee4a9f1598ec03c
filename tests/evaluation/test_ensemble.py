"""An ensemble is the mean of runs' answers, by members that never saw the image, and classifies as one bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.runs import config_of, draw, finish, hide_behind_a_refit
from typer.testing import CliRunner

import microscopy_cls as mc
from microscopy_cls.cli import ensemble as _  # noqa: F401  registers it
from microscopy_cls.cli.main import app
from microscopy_cls.config import Paths
from microscopy_cls.dataset.cache import open_pixels
from microscopy_cls.dataset.manifest import manifest_digest
from microscopy_cls.errors import BundleError, ConfigError, DataError, ExportError
from microscopy_cls.evaluation.compare import compare
from microscopy_cls.evaluation.ensemble import Ensembled, ensemble
from microscopy_cls.evaluation.ensemble_parts import read_part
from microscopy_cls.inference.portable import export_bundle
from microscopy_cls.inference.predictor import open_predictor
from microscopy_cls.model.bundle import read_bundle, scaling_at
from microscopy_cls.model.doubt import Scaling, softmax
from microscopy_cls.model.ensemble import averaged, mean_logits, member_probs
from microscopy_cls.system.files import read_json, write_json

PROBS = ["prob_alga", "prob_yeast"]
DONE: list[Ensembled] = []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three runs: `a` and `b` of other networks, `again` the same as `a`; and `both`, the ensemble of the first two."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for module in ("graph", "answers"):  # converting takes seconds
            patch.setattr(f"microscopy_cls.model.{module}.has_openvino", lambda: False)
        draw()
        finish(config_of("a"), 1, 2)
        finish(config_of("b"), 3, 4)
        copy("a", "again")
        patch.setattr("microscopy_cls.evaluation.compare.RESAMPLES", 100)
        DONE.append(ensemble(["a", "b"], "both"))
        yield folder


@pytest.fixture(autouse=True)
def _copy(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has the runs for itself."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("microscopy_cls.evaluation.compare.RESAMPLES", 100)


def copy(name: str, new: str) -> None:
    """The same run under another name."""
    for folder in ("data/prepared", "data/runs", "data/models", "reports"):
        shutil.copytree(Path(folder, name), Path(folder, new))


def change(name: str, changed: Any) -> None:
    """Change the tables of images alike, as if the run had been trained on them."""
    paths, state = Paths(name), Paths(name).runs / "run_state.json"
    for path in (paths.manifest, paths.oof):
        changed(pd.read_parquet(path)).to_parquet(path)
    content = read_json(state)
    content["identity"]["manifest"] = manifest_digest(pd.read_parquet(paths.manifest))
    write_json(state, content)


def oof_of(name: str) -> np.ndarray:
    return pd.read_parquet(Paths(name).oof).sort_values("image_id")[PROBS].to_numpy()


def test_an_ensemble_of_a_run_with_itself_equals_it() -> None:
    calibrated = read_part("a").run.predicted.probs
    found = ensemble(["a", "again"], "twice").metrics
    np.testing.assert_allclose(oof_of("twice"), calibrated, atol=1e-9)
    assert found["ensemble"]["compared"]["metrics"]["accuracy"]["difference"]["value"] == 0
    squares = np.asarray(open_pixels(Paths("a").prepared)[:9])
    alone, both = (member_probs(Paths(one).bundle, read_bundle(Paths(one).bundle), squares) for one in ("a", "twice"))
    scalings = [scaling_at(read_bundle(Paths("twice").bundle), place) for place in range(2)]
    expected = [softmax(one.scaled(np.log(probs))) for one, probs in zip(scalings, alone, strict=True)]
    np.testing.assert_allclose(both, expected, atol=1e-9)


def test_each_image_has_the_mean_of_what_the_runs_say_of_it_out_of_fold() -> None:
    parts = [read_part(name) for name in ("a", "b")]
    np.testing.assert_allclose(oof_of("both"), np.mean([part.run.predicted.probs for part in parts], axis=0), atol=1e-9)
    oof = pd.read_parquet(Paths("both").oof)
    assert list(oof["fold"]) == list(parts[0].run.folds)


def test_the_order_of_the_runs_does_not_matter() -> None:
    bundle, page = read_bundle(Paths("both").bundle), DONE[0].config
    other = ensemble(["b", "a"], "both")
    assert (other.metrics, other.config) == (DONE[0].metrics, page)
    assert read_bundle(Paths("both").bundle) == bundle


def test_nothing_is_scaled_where_the_scaling_is_none_and_a_mean_of_equals_is_the_one() -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(4), (3, 5))
    np.testing.assert_allclose(averaged([probs, probs], [Scaling.none(4)] * 3), probs)
    assert np.isfinite(mean_logits([np.eye(3)])).all()


def test_the_bundle_alone_answers_by_the_mean_of_its_parts_fold_by_fold(tmp_path: Path) -> None:
    squares = np.asarray(open_pixels(Paths("a").prepared)[:9])
    parts = [member_probs(Paths(one).bundle, read_bundle(Paths(one).bundle), squares) for one in ("a", "b")]
    novelty = open_predictor([Paths("a").bundle], engine="torch", precision="fp32").run_all(list(squares)).novelty
    shutil.move(Paths("both").bundle, tmp_path / "moved")
    shutil.rmtree("data")
    info = read_bundle(tmp_path / "moved")
    scalings = [scaling_at(info, place) for place in range(2)]
    predictor = open_predictor([tmp_path / "moved"], engine="torch", precision="fp32")
    answers = predictor.run_all(list(squares))
    np.testing.assert_allclose(answers.probs, averaged(parts, scalings).mean(0), atol=1e-6)
    np.testing.assert_array_equal(answers.novelty, novelty)
    assert predictor.judge.thresholds is not None
    assert info.conformal is not None
    np.testing.assert_array_equal(predictor.judge.thresholds, info.conformal.thresholds)
    only = open_predictor([tmp_path / "moved"], engine="torch", precision="fp32", members="fold_1").run_all(squares)
    np.testing.assert_allclose(only.probs, averaged(parts, scalings)[1], atol=1e-6)


def test_a_classifier_gives_rows_with_doubt_and_can_be_averaged_with_other_bundles() -> None:
    bundle = Paths("both").bundle
    classifier = mc.load(bundle, engine="torch")
    table = classifier.predict(["raw/alga_0_0.png", "raw/yeast_0_0.png"])
    assert list(table["status"]) == ["ok", "ok"]
    assert table["refer"].notna().all()
    assert table["novelty"].gt(0).all()
    assert "both" in repr(classifier)
    squares = np.asarray(open_pixels(Paths("a").prepared)[:2])
    models = [[bundle], [Paths("a").bundle], [bundle, Paths("a").bundle]]
    first, second, mean = (open_predictor(one, engine="torch").run_all(squares).probs for one in models)
    np.testing.assert_allclose(mean, (first + second) / 2)


def test_members_of_all_parts_are_named_from_the_ensembles_folder() -> None:
    model = open_predictor([Paths("both").bundle], engine="torch").models[0]
    assert [member.file for member in model.members] == [
        f"parts/{name}/member_{fold}.safetensors" for name in ("a", "b") for fold in (0, 1)
    ]
    assert all((Paths("both").bundle / member.file).is_file() for member in model.members)
    with pytest.raises(ConfigError, match="choose all, 1 to 2, or fold_0, fold_1"):
        open_predictor([Paths("both").bundle], members="fold_7")


def test_figures_say_what_the_ensemble_gains_over_its_best_run_all_calibrated() -> None:
    found = DONE[0].metrics
    assert read_json(Paths("both").metrics) == json.loads(json.dumps(found))
    assert found["fingerprint"] == read_json(Paths("both").runs / "run_state.json")["fingerprint"]
    runs = {run["name"]: run for run in found["ensemble"]["runs"]}
    assert found["ensemble"]["best"] == max(runs, key=lambda name: runs[name]["accuracy"])
    rows = found["ensemble"]["compared"]["metrics"]
    assert rows["log_loss"]["a"] == runs[found["ensemble"]["best"]]["log_loss"]
    assert rows["log_loss"]["b"] == found["calibration"]["log_loss_after"]["value"]
    assert found["ensemble"]["compared"]["cautions"][-1].startswith("The best run was chosen by its accuracy")
    assert {"shortcuts", "calibration", "leakage"} <= set(found["verdicts"])
    assert compare("a", "both")["metrics"]["accuracy"]["b"] == pytest.approx(found["accuracy"]["value"], abs=1e-6)


def test_images_apart_are_answered_by_the_whole_ensemble() -> None:
    found = DONE[0].metrics["test_split"]
    assert found["num_images"] == 18
    manifest = pd.read_parquet(Paths("a").manifest)
    rows = manifest.index[manifest["split"] == "test"]
    squares = np.asarray(open_pixels(Paths("a").prepared)[rows])
    probs = open_predictor([Paths("both").bundle], engine="torch", precision="fp32").run_all(list(squares)).probs
    right = np.array(["alga", "yeast"])[probs.argmax(1)] == manifest.loc[rows, "label"]
    assert found["accuracy"]["value"] == pytest.approx(right.mean(), abs=1e-6)


# the command and the page ---------------------------------------------------------------------------------------------


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["ensemble", *words])


def test_the_command_prints_each_run_and_the_comparison_and_writes_a_page_that_says_what_it_is_of() -> None:
    answer = run("b", "a", "--name", "both")
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.splitlines()[1].startswith("  a  accuracy 0.")
    assert "each predicted out of fold by both" in answer.stdout
    assert "B is an ensemble of a, b" in answer.stdout
    assert "A -> B" not in answer.stdout
    assert "report: reports/both/index.html" in answer.stdout
    page = Paths("both").page.read_text(encoding="utf-8")
    assert "An ensemble: the mean of the calibrated answers of a, b" in page
    assert "Calibrated probabilities of several models were averaged, fold by fold: a (test_resnet" in page
    assert "microscopy-cls ensemble a b --name both" in page
    assert "microscopy-cls train" not in page
    assert "fine-tuned from" not in page


def test_the_command_gives_the_metrics_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microscopy_cls.evaluation.ensemble.ensemble", lambda *given: DONE[0])
    assert json.loads(run("a", "b", "--name", "both", "--json").stdout) == read_json(Paths("both").metrics)


def test_what_cannot_be_averaged_is_exit_code_2_with_one_message() -> None:
    answer = run("a", "--name", "both")
    assert answer.exit_code == 2
    assert answer.stderr == "error: a: an ensemble needs two runs or more. Name another on the same folds.\n"


# what is refused ------------------------------------------------------------------------------------------------------


def test_a_run_named_twice_is_refused() -> None:
    with pytest.raises(DataError, match=r"^a: named twice, and an ensemble of a run with itself is that run"):
        ensemble(["a", "a"], "both")


@pytest.mark.parametrize("name", ["a", "again"])
def test_the_name_of_a_run_is_refused_and_that_of_an_earlier_ensemble_is_not(name: str) -> None:
    with pytest.raises(DataError, match=f"^--name {name}: is the name of a run, which would be overwritten"):
        ensemble(["a", "b"], name)


def test_a_name_that_names_no_folder_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^--name \.\./x: names folders: letters, digits, dots, dashes"):
        ensemble(["a", "b"], "../x")


def test_other_folds_are_refused_with_what_differs() -> None:
    change("b", lambda rows: rows.assign(fold=rows["fold"].where(rows["fold"] < 0, 1 - rows["fold"])))
    with pytest.raises(DataError) as raised:
        ensemble(["a", "b"], "both")
    assert str(raised.value).startswith(
        "a and b are not of the same folds: 36 of 36 images are in another one (alga_0_"
    )
    assert "; another image size finds other near-duplicates, which changes the folds). Each" in str(raised.value)
    assert str(raised.value).endswith("prepare both with the same folds and the same image size, and train again.")
    state = Paths("b").runs / "run_state.json"
    content = read_json(state)
    content["identity"]["folds"]["seed"] = 5
    write_json(state, content)
    with pytest.raises(DataError, match=r"; folds\.seed 0 -> 5\)"):
        ensemble(["a", "b"], "both")


def test_other_images_are_refused() -> None:
    change("b", lambda rows: rows.assign(image_id="x" + rows["image_id"]))
    with pytest.raises(DataError, match="a and b are not of the same images: 0 names in common, 36 only in a"):
        ensemble(["a", "b"], "both")


def test_another_reading_is_refused_with_what_differs() -> None:
    path = Paths("b").bundle / "bundle.json"
    content = read_json(path)
    content["preprocessing"]["size_px"] = 64
    write_json(path, content)
    with pytest.raises(BundleError, match=r"^a and b read images differently \(size_px 32 -> 64\), and an ensemble"):
        ensemble(["a", "b"], "both")


def test_a_run_that_was_not_evaluated_or_trained_again_since_is_refused() -> None:
    (Paths("b").members / "fold_0.safetensors").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"^data/models/b: is not of the run in data/runs/b\. Run `microscopy-cls e"):
        ensemble(["a", "b"], "both")
    shutil.rmtree(Paths("b").bundle)
    with pytest.raises(BundleError, match=r"^data/models/b: holds no bundle\.json"):
        ensemble(["a", "b"], "both")


def test_of_a_run_with_a_refit_the_tested_members_are_averaged() -> None:
    hide_behind_a_refit("a")
    assert read_part("a").bundle.folder == Paths("a").tested
    found = ensemble(["a", "b"], "both")
    assert found.metrics == DONE[0].metrics
    kept = read_bundle(Paths("both").bundle / "parts/a")
    assert [member.fold for member in kept.members] == [0, 1]


def test_a_bundle_of_the_refit_left_from_an_earlier_config_is_not_taken() -> None:
    shutil.copytree(Paths("b").bundle, Paths("a").tested)
    assert read_part("a").bundle.folder == Paths("a").bundle


def test_the_name_of_a_soup_is_refused() -> None:
    path = Paths("b").bundle / "bundle.json"
    content = read_json(path)
    write_json(Paths("soup").bundle / "bundle.json", content | {"training_data": {"soup_of": "b"}})
    with pytest.raises(DataError, match=r"^--name soup: is the name of a soup, which would be overwritten"):
        ensemble(["a", "b"], "soup")


def test_a_bundle_of_an_earlier_version_is_refused() -> None:
    path = Paths("b").bundle / "bundle.json"
    write_json(path, read_json(path) | {"conformal": None})
    with pytest.raises(BundleError, match=r"^data/models/b: was written by an earlier version\. Run"):
        ensemble(["a", "b"], "both")


def test_an_ensemble_of_ensembles_is_refused_with_its_runs() -> None:
    with pytest.raises(BundleError, match=r"^data/models/both: is an ensemble itself\. Name its runs: a, b\."):
        ensemble(["both", "again"], "more")


def test_an_export_is_refused_with_the_parts_that_can_be(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"both: is an ensemble, .* Export a part: .*parts/a, .*parts/b\.$"):
        export_bundle(Paths("both").bundle, tmp_path / "out", "onnx")
