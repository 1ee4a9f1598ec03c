"""`doctor` says what works here, quickly and without the network, and fails only for what is essential."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections import namedtuple
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import Result
from huggingface_hub import constants
from PIL import features
from typer.testing import CliRunner

from microscopy_cls.cli import doctor as doctor_module
from microscopy_cls.cli.checks import Check, libraries, machine, tools
from microscopy_cls.cli.checks.row import find_library, load_library
from microscopy_cls.cli.main import app
from microscopy_cls.cli.text import WIDTH

SECTIONS = ["software", "compute", "engines", "readers", "pipeline", "places"]
ASKED = {
    "python", "torch", "timm", "albumentations", "cv2", "cpu", "device", "threads", "memory", "openvino",
    "onnxruntime", "pillow", "tifffile", "pydicom", "nibabel", "openslide", "mlflow", "dvc", "git", "folder", "disk",
    "hub cache",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *words])


def named(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def without(*modules: str) -> Callable[[str], object]:
    return lambda module: None if module in modules else find_spec(module)


# the command ----------------------------------------------------------------------------------------------------------


def test_everything_asked_for_is_a_row_and_the_exit_code_is_0() -> None:
    answer = run()
    assert answer.exit_code == 0, answer.output
    lines = answer.stdout.splitlines()
    assert [line for line in lines if line in SECTIONS] == SECTIONS
    starts = [line for line in lines if line.startswith(("  ok ", "  warn ", "  missing "))]
    assert {line[11:25].strip() for line in starts} >= ASKED
    assert len({len(line) - len(line[25:].lstrip()) for line in starts}) == 1  # the details are aligned
    assert max(map(len, lines)) <= WIDTH


def test_json_is_a_list_of_objects() -> None:
    answer = run("--json")
    rows = json.loads(answer.stdout)
    assert {row["name"] for row in rows} >= ASKED
    assert list(rows[0]) == ["section", "name", "status", "detail", "advice", "essential"]
    assert {row["status"] for row in rows} <= {"ok", "missing", "warn"}
    assert {row["name"] for row in rows if row["essential"]} == {"torch", "timm", "albumentations", "cv2", "folder"}
    assert all(row["advice"] for row in rows if row["status"] == "warn")


def test_something_essential_that_is_missing_is_exit_code_2_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microscopy_cls.cli.checks.row.find_spec", without("timm", "openvino"))
    answer = run()
    assert answer.exit_code == 2
    assert "something that all commands need is missing:\n  timm: not installed" in answer.stderr
    assert "pip install microscopy-cls" in answer.stderr
    assert "openvino" not in answer.stderr
    assert "missing  openvino" in answer.stdout
    assert run("--json").exit_code == 2


def test_something_optional_that_is_missing_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = ("openvino", "onnxruntime", "pydicom", "nibabel", "openslide", "mlflow", "dvc")
    monkeypatch.setattr("microscopy_cls.cli.checks.row.find_spec", without(*absent))
    answer = run()
    assert answer.exit_code == 0
    for extra in ("cpu", "medical", "slides", "mlops"):
        assert f"-> pip install 'microscopy-cls[{extra}]'" in answer.stdout
    assert f"To look at: {', '.join(absent[:5])}, mlflow, dvc" in answer.stdout
    assert "mlflow store" not in answer.stdout


def test_neither_the_network_nor_slow_libraries_are_touched() -> None:
    program = (
        "import socket, sys\n"
        "def refuse(*_): raise SystemExit('the network was asked')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from microscopy_cls.cli.checks import all_checks\n"
        "all_checks()\n"
        "print([name for name in ('timm', 'albumentations', 'mlflow', 'dvc', 'openvino') if name in sys.modules])\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert answer.stdout == "[]\n", answer.stderr


def test_nothing_is_left_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", None)
    run()
    assert not list(tmp_path.iterdir())


def test_the_table_says_so_when_nothing_needs_to_be_done() -> None:
    assert "Nothing needs to be done." in doctor_module._table({"x": [Check("y", "missing", "z")]})


# libraries ------------------------------------------------------------------------------------------------------------


def test_a_library_whose_own_library_is_missing_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "halfway.py").write_text("raise OSError('libhalf.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    found = find_library("halfway", "halfway", "a test", essential=True)
    assert (found.status, found.detail) == ("ok", "of unknown version: a test")
    loaded = load_library(found, str)
    assert loaded.status == "missing"
    assert loaded.essential
    assert loaded.detail == "installed, but does not load: libhalf.so.1: cannot open shared object file"
    assert loaded.advice.startswith("Install it anew")


def test_openslide_tells_the_version_of_its_native_library() -> None:
    assert named(libraries.readers(), "openslide").detail.startswith("library ")


@pytest.mark.parametrize(
    ("module", "name", "detail", "advice"),
    [
        ("imagecodecs", "tifffile", "no compressed TIFF: imagecodecs is missing", "pip install microscopy-cls"),
        ("openjpeg", "pydicom", "no compressed DICOM", "pip install 'microscopy-cls[medical]'"),
    ],
)
def test_missing_codecs_are_told(
    module: str, name: str, detail: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "find_spec", without(module))
    check = named(libraries.readers(), name)
    assert check.status == "warn"
    assert check.detail.startswith(detail)
    assert check.advice == advice


def test_formats_that_pillow_lacks_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda codec: codec != "webp")
    check = named(libraries.readers(), "pillow")
    assert check.status == "warn"
    assert check.detail.endswith("JPEG, PNG, TIFF, JPEG 2000, but not WebP")


# the machine ----------------------------------------------------------------------------------------------------------


def test_cuda_devices_are_listed_with_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimpleNamespace(name="NVIDIA X", total_memory=150_000_000_000)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: device)
    check = machine._accelerator()
    assert (check.status, check.detail) == ("ok", "cuda:0 NVIDIA X, 150 GB; cuda:1 NVIDIA X, 150 GB")


@pytest.mark.parametrize(
    ("built_for", "advice"), [(None, "This torch was built without CUDA"), ("13.2", "It was built for CUDA 13.2")]
)
def test_a_driver_without_a_usable_device_is_a_warning(
    built_for: str | None, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    check = machine._accelerator()
    assert (check.status, check.detail) == ("warn", "there is a driver, but torch sees no device")
    assert check.advice.startswith(advice)


def test_a_machine_without_a_device_computes_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    check = machine._accelerator()
    assert (check.status, check.advice) == ("missing", "")


def test_a_macs_graphics_cores_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert machine._accelerator().name == "mps"


def test_the_device_is_not_asked_for_where_torch_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert [check.name for check in machine.compute()] == ["cpu", "threads", "memory"]


@pytest.mark.parametrize(
    ("count", "policy", "status", "advice"),
    [
        (None, "PASSIVE", "ok", ""),
        ("1", "passive", "ok", ""),
        ("1", None, "warn", "export OMP_WAIT_POLICY=PASSIVE"),
        ("1", "ACTIVE", "warn", "export OMP_WAIT_POLICY=PASSIVE"),
        ("9999", "PASSIVE", "warn", "export OMP_NUM_THREADS="),
    ],
)
def test_threads_that_spin_or_crowd_are_told(
    count: str | None, policy: str | None, status: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("OMP_NUM_THREADS", count), ("OMP_WAIT_POLICY", policy)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    check = named(machine.compute(), "threads")
    assert check.status == status
    assert check.advice.startswith(advice)


@pytest.mark.parametrize(("num_bytes", "status"), [(None, "ok"), (3 * 10**9, "warn"), (16 * 10**9, "ok")])
def test_little_memory_is_told(num_bytes: int | None, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_memory_bytes", lambda: num_bytes)
    assert machine._memory().status == status


def test_a_little_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(4_900_000_000))
    check = named(machine.places(), "disk")
    assert (check.status, check.detail) == ("warn", "4.9 GB free")
    assert check.advice.startswith("Make room, at least 5 GB")


def test_a_folder_that_cannot_be_written_is_essential(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    answer = run()
    assert answer.exit_code == 2
    assert f"folder: {tmp_path} cannot be written: Permission denied. Go to a folder of your own" in answer.stderr


@pytest.mark.parametrize(
    ("kept", "offline", "status", "detail"),
    [
        (0, False, "ok", "others are fetched when first used"),
        (2, True, "ok", "2 timm models in"),
        (0, True, "warn", "HF_HUB_OFFLINE is set"),
    ],
)
def test_weights_that_cannot_be_fetched_are_told(
    kept: int, offline: bool, status: str, detail: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(kept):
        (tmp_path / f"hub/models--timm--{index}").mkdir(parents=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    check = named(machine.places(), "hub cache")
    assert check.status == status
    assert detail in check.detail


# the pipeline ---------------------------------------------------------------------------------------------------------


def test_a_store_that_is_not_there_is_not_created(tmp_path: Path) -> None:
    check = named(tools.pipeline(), "mlflow store")
    assert (check.status, check.detail.partition(":///")[2][:29]) == ("ok", "mlflow.db is not there yet: t")
    assert not (tmp_path / "mlflow.db").exists()


def test_a_store_that_can_be_written_is_told(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("CREATE TABLE runs (id)")
    assert named(tools.pipeline(), "mlflow store").detail == "sqlite:///mlflow.db can be written"


def test_a_store_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    check = named(tools.pipeline(), "mlflow store")
    assert check.status == "warn"
    assert "cannot be written" in check.detail
    assert "Training goes on without it" in check.advice


def test_dvc_needs_a_repository_and_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not inside a DVC repository" in named(tools.pipeline(), "dvc").detail
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name == "dvc" else None)
    check = named(tools.pipeline(), "dvc")
    assert (check.status, check.advice[:32]) == ("warn", "Activate the virtual environment")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name != "git" else None)
    check = named(tools.pipeline(), "dvc")
    assert (check.status, check.detail.partition("; ")[2]) == ("ok", f"repository {tmp_path}")


def test_git_is_told_with_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "git_commit", lambda folder: "0123456789abcdef-dirty")
    assert named(tools.pipeline(), "git").detail.endswith("; commit 0123456789-dirty")
    monkeypatch.setattr(tools, "git_commit", lambda folder: None)
    assert named(tools.pipeline(), "git").detail.endswith("; no commit here")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert named(tools.pipeline(), "git").status == "missing"
