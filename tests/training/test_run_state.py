"""What a run that begins anew leaves of the one before it, whatever stops it halfway."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from microscopy_cls.system.files import write_json
from microscopy_cls.training.run_state import RunState, begin, load_state


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
