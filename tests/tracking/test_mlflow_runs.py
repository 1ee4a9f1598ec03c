"""Laws of the tracker on a real SQLite store, made once: making one takes MLflow seconds."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")

from microscopy_cls.errors import TrackingError
from microscopy_cls.tracking import bundle_dir_of, open_tracker, promote
from microscopy_cls.tracking import outbox as outbox_module
from microscopy_cls.tracking.store import Store


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A database with MLflow's tables."""
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with Store("sqlite:///mlflow.db").session():
            pass
    return folder / "mlflow.db"


class Workplace:
    """A working directory with its own store elsewhere, as MLflow itself sees it."""

    def __init__(self, folder: Path, template: Path) -> None:
        (folder / "store").mkdir()
        shutil.copy(template, folder / "store" / "mlflow.db")
        self.uri = f"sqlite:///{folder / 'store' / 'mlflow.db'}"
        self.run_dir = folder / "work" / "data" / "runs" / "demo"
        self.bundle = folder / "work" / "data" / "models" / "demo"
        self.write_bundle("first")

    def tracker(self, **changes: Any):
        return open_tracker(
            **{"enabled": True, "uri": self.uri, "experiment": "demo", "run_dir": self.run_dir} | changes
        )

    def write_bundle(self, content: str) -> None:
        self.bundle.mkdir(parents=True, exist_ok=True)
        (self.bundle / "bundle.json").write_text(json.dumps({"classes": ["a", "b"], "content": content}))
        (self.bundle / "member_0.safetensors").write_bytes(content.encode())

    @property
    def record(self):
        return json.loads((self.run_dir / "mlflow.json").read_text())

    def run(self, run_id):
        with Store(self.uri).session() as client:
            return client.get_run(run_id)

    def parent(self):
        return self.run(self.record["parent"])

    def fold(self, k):
        return self.run(self.record["folds"][str(k)])

    def history(self, run_id, name):
        with Store(self.uri).session() as client:
            return [(point.step, point.value) for point in client.get_metric_history(run_id, name)]


@pytest.fixture
def place(tmp_path, template, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield Workplace(tmp_path, template)
    assert not (tmp_path / "work" / "mlflow.db").exists(), "the store that was named is the only one touched"


def test_a_training_is_one_parent_run_with_a_nested_run_a_fold(place):
    with place.tracker() as tracker:
        tracker.start({"model": {"name": "resnet"}, "epochs": 2}, {"git_commit": "abc"}, fresh=False)
        for k in range(2):
            with tracker.fold(k) as fold:
                for epoch in range(3):
                    fold.log({"train_loss": 1.0 / (epoch + 1), "val_f1_macro": 0.5}, epoch)
    assert set(place.record) == {"uri", "experiment", "parent", "folds"}
    assert set(place.record["folds"]) == {"0", "1"}
    parent = place.parent()
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {"model.name": "resnet", "epochs": "2"}
    assert parent.data.tags["git_commit"] == parent.data.tags["mlflow.source.git.commit"] == "abc"
    for k in range(2):
        fold = place.fold(k)
        assert fold.info.status == "FINISHED"
        assert fold.info.run_name == f"fold-{k}"
        assert fold.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert place.history(fold.info.run_id, "train_loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]


def test_trials_of_a_search_are_runs_nested_within_their_fold(place):
    params = {"finetune.learning_rate": 0.01}
    with place.tracker() as tracker:
        tracker.start({}, {}, fresh=False)
        with tracker.fold(0) as fold:
            fold.trial(0, params, {"score": 0.5, "epochs": 3.0}, {"state": "complete"}, 12.0)
            fold.trial(1, params, {"epochs": 1.0}, {"state": "pruned"}, 4.0)
            for _ in range(2):  # once more by a command that goes on
                fold.params(params)
    parent = place.record["folds"]["0"]
    assert place.fold(0).data.params == {"finetune.learning_rate": "0.01"}
    with Store(place.uri).session() as client:
        runs = client.search_runs([place.fold(0).info.experiment_id], f"tags.mlflow.parentRunId = '{parent}'")
    found = {run.info.run_name: run for run in runs}
    assert set(found) == {"trial-0", "trial-1"}
    first, second = found["trial-0"], found["trial-1"]
    assert first.data.params == {"finetune.learning_rate": "0.01"}
    assert first.data.metrics == {"score": 0.5, "epochs": 3.0}
    assert (first.data.tags["state"], second.data.tags["state"]) == ("complete", "pruned")
    assert first.info.status == second.info.status == "FINISHED"
    assert first.info.end_time - first.info.start_time == 12_000


def test_folds_of_repeats_and_the_refit_have_runs_of_their_own_names(place):
    with place.tracker() as tracker:
        tracker.start({}, {}, fresh=False)
        for name in (0, "repeat-1-fold-0", "refit"):
            with tracker.fold(name) as fold:
                fold.log({"train_loss": 1.0}, 0)
    assert set(place.record["folds"]) == {"0", "repeat-1-fold-0", "refit"}
    names = [place.fold(name).info.run_name for name in (0, "repeat-1-fold-0", "refit")]
    assert names == ["fold-0", "repeat-1-fold-0", "refit"]
    assert {place.fold(name).data.tags["mlflow.parentRunId"] for name in (0, "refit")} == {place.parent().info.run_id}


def train_until(place, error):
    with place.tracker() as tracker:
        tracker.start({"epochs": 3}, {}, fresh=True)
        with tracker.fold(0) as fold:
            fold.log({"loss": 3.0}, 0)
            fold.log({"loss": 2.0}, 1)
            raise error


def test_a_training_that_is_interrupted_continues_its_runs_and_logs_each_point_once(place):
    with pytest.raises(KeyboardInterrupt):
        train_until(place, KeyboardInterrupt)
    before = place.record
    assert place.parent().info.status == place.fold(0).info.status == "KILLED"
    with place.tracker() as tracker:
        tracker.start({"epochs": 99}, {"second": "yes"}, fresh=False)
        with tracker.fold(0) as fold:
            assert place.parent().info.status == place.fold(0).info.status == "RUNNING"
            fold.log({"loss": 2.0}, 1)
            fold.log({"loss": 1.0}, 2)
    assert place.record == before
    assert place.history(before["folds"]["0"], "loss") == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert place.parent().data.params == {"epochs": "3"}, "the params of a run never change"
    assert place.parent().data.tags["second"] == "yes"
    assert place.parent().info.status == place.fold(0).info.status == "FINISHED"


def test_a_training_that_fails_leaves_failed_runs(place):
    with pytest.raises(ZeroDivisionError):
        train_until(place, ZeroDivisionError)
    assert place.parent().info.status == place.fold(0).info.status == "FAILED"


def test_a_fresh_training_has_new_runs(place):
    seen = set()
    for _ in range(2):
        with place.tracker() as tracker:
            tracker.start({"epochs": 1}, {}, fresh=True)
            with tracker.fold(0) as fold:
                fold.log({"loss": 1.0}, 0)
        seen |= {place.record["parent"], place.record["folds"]["0"]}
    assert len(seen) == 4


@pytest.mark.parametrize("how", ["deleted", "unknown", "other store", "damaged", "experiment deleted"])
def test_a_run_that_the_store_does_not_know_begins_anew(place, how):
    with place.tracker() as tracker:
        tracker.start({"epochs": 1}, {}, fresh=True)
    old = place.record
    with Store(place.uri).session() as client:
        if how == "deleted":
            client.delete_run(old["parent"])
        if how == "experiment deleted":
            client.delete_experiment(client.get_run(old["parent"]).info.experiment_id)
    changes = {"unknown": {"parent": "0" * 32}, "other store": {"uri": "http://elsewhere"}, "damaged": {"foo": 1}}
    if how in changes:
        (place.run_dir / "mlflow.json").write_text(json.dumps(old | changes[how]))
    with place.tracker() as tracker:
        tracker.start({"epochs": 2}, {}, fresh=False)
    assert place.record["parent"] not in {old["parent"], "0" * 32}
    assert place.parent().info.status == "FINISHED"
    assert place.parent().data.params == {"epochs": "2"}


def test_later_stages_add_to_the_run_and_leave_its_duration(place):
    with place.tracker() as tracker:
        tracker.start({"epochs": 1}, {}, fresh=True)
    trained = place.parent()
    for accuracy in (0.9, 0.9, 0.8):
        with place.tracker() as tracker:
            tracker.resume()
            tracker.log_metrics({"accuracy": accuracy, "f1 (a)": 0.5})
            tracker.set_tags({"report": "done"})
    evaluated = place.parent()
    assert evaluated.info.run_id == trained.info.run_id
    assert evaluated.info.end_time == trained.info.end_time
    assert evaluated.data.metrics == {"accuracy": 0.8, "f1 _a_": 0.5}
    assert evaluated.data.tags["report"] == "done"
    assert len(place.history(evaluated.info.run_id, "accuracy")) == 2, "what the store has is not sent again"


def test_a_later_stage_without_a_known_run_begins_one(place):
    with place.tracker() as tracker:
        tracker.resume()
        tracker.log_metrics({"accuracy": 0.9})
    assert place.parent().data.metrics == {"accuracy": 0.9}
    assert place.parent().info.status == "FINISHED"


def test_long_values_are_cut_and_many_are_sent_in_parts(place):
    many = {f"key_{number}": number for number in range(250)}
    with place.tracker() as tracker:
        tracker.start({"long": "x" * 7000, "many": many}, {"long": "y" * 9000}, fresh=True)
        tracker.log_metrics({f"metric_{number}": number for number in range(1100)})
    parent = place.parent()
    assert len(parent.data.params) == 251
    assert len(parent.data.params["long"]) == 6000
    assert parent.data.params["long"].endswith("x…")
    assert parent.data.tags["long"].endswith("y…")
    assert len(parent.data.metrics) == 1100


def test_not_a_number_is_logged_like_any_value(place):
    with place.tracker() as tracker:
        tracker.start({}, {}, fresh=True)
        with tracker.fold(0) as fold:
            fold.log({"loss": float("nan"), "other": float("inf")}, 0)
            fold.log({"loss": 1.0}, 1)
    assert place.fold(0).data.metrics["loss"] == 1.0


def test_files_are_copied_beside_the_run(place, caplog):
    (place.run_dir / "plots").mkdir(parents=True)
    (place.run_dir / "plots" / "roc.csv").write_text("x,y")
    with place.tracker() as tracker:
        tracker.start({}, {}, fresh=True)
        tracker.log_artifact(place.run_dir / "plots" / "roc.csv")
        tracker.log_artifacts(place.run_dir / "plots", "plots")
        tracker.log_artifact(place.run_dir / "gone.csv", "tables")
    copies = Path(place.parent().info.artifact_uri)
    assert (copies / "roc.csv").read_text() == (copies / "plots" / "roc.csv").read_text() == "x,y"
    assert [record.getMessage() for record in caplog.records] == [
        f"{place.run_dir / 'gone.csv'}: is not there, so MLflow gets no copy of it."
    ]


def test_files_that_cannot_be_copied_hold_up_nothing_else(place, caplog):
    with place.tracker() as tracker:
        tracker.start({}, {}, fresh=True)
        copies = Path(place.parent().info.artifact_uri)
        copies.parent.mkdir(parents=True)
        copies.write_text("a file where the folder should be")
        tracker.log_artifact(place.bundle / "bundle.json")
        tracker.log_artifacts(place.bundle, "bundle")
        tracker.log_metrics({"accuracy": 0.9})
    assert place.parent().data.metrics == {"accuracy": 0.9}
    assert place.parent().info.status == "FINISHED"
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 2
    assert "refused" in told[0]
    assert str(place.bundle / "bundle.json") in told[0]
    assert "never took 2 records" in told[1]


def registered(place, content):
    place.write_bundle(content)
    with place.tracker() as tracker:
        tracker.resume()
        tracker.log_metrics({"accuracy": 0.9})
        return tracker.register(place.bundle, "demo")


def test_a_bundle_is_registered_once_as_candidate_and_comes_back_as_a_directory(place):
    assert registered(place, "first") == "1"
    assert registered(place, "first") == "1"
    assert registered(place, "second") == "2"
    parent = place.record["parent"]
    contents = {
        address: (bundle_dir_of(address, place.uri) / "member_0.safetensors").read_text()
        for address in ("models:/demo@candidate", "models:/demo/1", "models:/demo/2", f"runs:/{parent}/model")
    }
    assert list(contents.values()) == ["second", "first", "second", "second"]
    assert registered(place, "first") == "1"
    assert bundle_dir_of("models:/demo@candidate", place.uri) == bundle_dir_of("models:/demo/1", place.uri)


def test_a_registered_model_is_a_pyfunc_without_pickle_or_inferred_requirements(place):
    registered(place, "first")
    folder = bundle_dir_of("models:/demo/1", place.uri).parents[1]
    description = (folder / "MLmodel").read_text()
    assert "loader_module: microscopy_cls.inference.pyfunc" in description
    assert "prob_a" in description
    assert not list(folder.rglob("*.pkl"))
    assert (folder / "requirements.txt").read_text().splitlines()[-1].startswith("microscopy-cls==")
    assert (folder / "input_example.json").is_file()
    with Store(place.uri).session() as client:
        assert client.get_model_version("demo", "1").run_id == place.record["parent"]
        model = client.get_logged_model(place.parent().outputs.model_outputs[0].model_id)
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "demo", "version": "1"}]
    assert [(metric.key, metric.value) for metric in model.metrics] == [("accuracy", 0.9)]
    assert not list(place.run_dir.glob(".mlflow-*")), "nothing temporary is left"


def test_promotion_moves_the_champion_to_the_candidate_or_the_version_named(place):
    registered(place, "first")
    registered(place, "second")
    assert promote(place.uri, "demo") == 2
    assert promote(place.uri, "demo", 1) == 1
    assert bundle_dir_of("models:/demo@champion", place.uri) == bundle_dir_of("models:/demo/1", place.uri)


def test_what_the_registry_does_not_know_is_answered_with_what_it_knows(place, tmp_path):
    version = registered(place, "first")
    parent = place.record["parent"]

    def message(call, *values):
        with pytest.raises(TrackingError) as error:
            call(*values)
        return str(error.value)

    assert message(promote, place.uri, "dmo") == ("dmo: there is no registered model of this name. There are: demo.")
    assert message(promote, place.uri, "demo", 7) == "demo: has no version 7. There are: 1."
    assert message(bundle_dir_of, "models:/demo@best", place.uri) == (
        "models:/demo@best: there is no such alias. There are: candidate."
    )
    assert message(bundle_dir_of, "models:/demo/7", place.uri) == (
        "models:/demo/7: there is no such version. There are: 1."
    )
    assert message(bundle_dir_of, "models:/x'y/7", place.uri) == (
        "x'y: there is no registered model of this name. There are: demo."
    )
    assert message(bundle_dir_of, "runs:/0123/model", place.uri) == "runs:/0123: there is no such run in this store."
    assert message(bundle_dir_of, f"runs:/{parent}/plots", place.uri) == (
        f"runs:/{parent}/plots: the run has no such model. It has: model."
    )
    assert message(bundle_dir_of, "demo", place.uri) == (
        "demo: is no address of a model. Write models:/NAME@champion, models:/NAME/3 or runs:/ID/model."
    )
    nowhere = f"sqlite:///{tmp_path / 'nowhere.db'}"
    assert message(promote, nowhere, "demo") == (
        f"{nowhere}: there is no such MLflow store here. Check tracking.uri and the directory."
    )
    assert not (tmp_path / "nowhere.db").exists(), "asking creates nothing"
    with Store(place.uri).session() as client:
        client.delete_registered_model_alias("demo", "candidate")
    assert message(promote, place.uri, "demo") == (
        "demo: has no candidate. Name a version with --version; there are: 1."
    )
    folder = bundle_dir_of(f"models:/demo/{version}", place.uri)
    (folder / "bundle.json").unlink()
    assert message(bundle_dir_of, "models:/demo/1", place.uri).startswith(
        "models:/demo/1: holds no bundle of microscopy-cls. There is no bundle.json in "
    )


def test_a_database_that_is_locked_for_a_while_costs_no_record(place, caplog, monkeypatch):
    monkeypatch.setattr("microscopy_cls.tracking.store.KNOCK_TIMEOUT_S", 0.05)
    monkeypatch.setattr(outbox_module, "RECENT_S", 0.0)
    with place.tracker() as tracker:
        tracker.start({}, {}, fresh=True)
        with tracker.fold(0) as fold:
            with closing(sqlite3.connect(place.uri.removeprefix("sqlite:///"), isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                for epoch in range(3):
                    fold.log({"loss": float(epoch)}, epoch)
                assert tracker.register(place.bundle, "demo") is None
            fold.log({"loss": 3.0}, 3)
    assert place.history(place.record["folds"]["0"], "loss") == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]
    assert place.parent().info.status == place.fold(0).info.status == "FINISHED"
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "database is locked" in told[0]
    assert told[1].startswith(f"Registering {place.bundle} was left out")
    assert len(told) == 2


def test_a_database_of_another_mlflow_is_left_alone_with_the_command_to_convert_it(place, caplog):
    path = place.uri.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE alembic_version SET version_num = 'of another version'")
    with place.tracker() as tracker:
        tracker.start({}, {}, fresh=True)
        with tracker.fold(0) as fold:
            fold.log({"loss": 1.0}, 0)
    told = [record.getMessage() for record in caplog.records]
    assert "mlflow db upgrade" in told[0]
    assert len(told) == 2
    with pytest.raises(TrackingError, match="mlflow db upgrade"):
        promote(place.uri, "demo")


def test_a_run_deleted_in_mid_training_is_told_once(place, caplog):
    with place.tracker() as tracker:
        tracker.start({}, {}, fresh=True)
        with tracker.fold(0) as fold:
            with Store(place.uri).session() as client:
                client.delete_run(place.record["folds"]["0"])
            for epoch in range(5):
                fold.log({"loss": 1.0}, epoch)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "refused metrics of fold 0" in told[0]
    assert len(told) == 2
    assert place.parent().info.status == "FINISHED"
