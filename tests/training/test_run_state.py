"""What a run that begins anew leaves of the one before it, whatever stops it halfway."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from microscopy_cls.system.files import write_json
from microscopy_cls.training.parts import REFIT, Part
from microscopy_cls.training.run_state import RunState, begin, finish, load_state


def state_of(**identity: Any) -> RunState:
    return RunState(identity=identity, device="cpu", batch_size=4, precision="fp32", num_threads=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run with a trained fold that is tracked."""
    begin(tmp_path, state_of(epochs=1), restart=False)
    (tmp_path / "fold_0").mkdir()
    write_json(tmp_path / "mlflow.json", {"parent": "old"})
    return tmp_path


def test_a_run_that_goes_on_keeps_its_tracking_record(folder: Path) -> None:
    assert begin(folder, state_of(epochs=1), restart=False)[1] is False
    assert {path.name for path in folder.iterdir()} == {"run_state.json", "fold_0", "mlflow.json"}


@pytest.mark.parametrize(("epochs", "restart"), [(1, True), (2, False)])
def test_a_new_run_has_no_tracking_record_though_its_tracker_never_starts(
    folder: Path, epochs: int, restart: bool
) -> None:
    assert begin(folder, state_of(epochs=epochs), restart=restart)[1] is True
    assert [path.name for path in folder.iterdir()] == ["run_state.json"]


def test_a_folder_that_is_cleared_in_part_is_no_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            begin(folder, state_of(epochs=1), restart=True)
    assert load_state(folder) is None
    assert begin(folder, state_of(epochs=1), restart=False)[1] is True
    assert [path.name for path in folder.iterdir()] == ["run_state.json"]


def test_a_finished_run_tells_the_cost_of_each_part_whoever_trained_it(tmp_path: Path) -> None:
    snapshot = replace(state_of(), fold_seconds={"0": 1.5})  # of a run that an earlier version began
    chosen = {"values": {"finetune.epochs": 2}, "score": 0.1}
    write_json(Part(1).cost(tmp_path), {"seconds": 2.0, "search": chosen})
    write_json(Part(0, 1).cost(tmp_path), {"seconds": 4.0, "search": None})
    finish(tmp_path, snapshot, [Part(0), Part(1), Part(0, 1), REFIT])
    found = load_state(tmp_path)
    assert found is not None
    assert found.finished
    assert found.fold_seconds == {"0": 1.5, "1": 2.0, "repeat-1-fold-0": 4.0}
    assert found.searches == {"1": chosen}
