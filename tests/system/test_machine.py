"""What is computed on, in which precision, which software it was, and when a bar is shown."""

from __future__ import annotations

import io
import logging
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from microscopy_cls.errors import ConfigError
from microscopy_cls.system import hardware
from microscopy_cls.system.hardware import (
    Hardware,
    answering_device,
    choose_hardware,
    cpu_features,
    gains_from_bf16,
    num_cores,
)
from microscopy_cls.system.progress import bar, progress
from microscopy_cls.system.versions import git_commit, library_version, software_versions

# Hardware


@pytest.fixture
def without_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def with_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0) if device.index != 1 else (7, 5))


@pytest.mark.usefixtures("without_accelerator")
def test_a_machine_without_accelerator_computes_on_its_cores_and_reads_in_the_same_process() -> None:
    found = choose_hardware("auto", "fp32", "auto")
    assert found == Hardware("cpu", "fp32", torch.get_num_threads(), 0)
    assert not found.is_cuda


@pytest.mark.usefixtures("with_gpus")
def test_a_gpu_is_taken_where_there_is_one_with_a_reader_a_core() -> None:
    found = choose_hardware("auto", "auto", "auto")
    assert (found.device, found.precision, found.is_cuda) == ("cuda", "bf16", True)
    assert found.num_workers == min(num_cores(), hardware.MAX_WORKERS)
    assert choose_hardware("cuda:1", "auto", 0).is_cuda


@pytest.mark.usefixtures("with_gpus")
def test_bf16_is_chosen_only_where_it_is_faster_or_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_hardware("cuda:0", "auto", 0).precision == "bf16"
    assert choose_hardware("cuda:1", "auto", 0).precision == "fp32"  # older than Ampere
    assert choose_hardware("cuda:1", "bf16", 0).precision == "bf16"
    assert choose_hardware("cuda:0", "fp32", 0).precision == "fp32"
    for features, gains in (({"avx2", "avx512f"}, False), ({"avx512_bf16"}, True), ({"amx_bf16"}, True)):
        monkeypatch.setattr(hardware, "cpu_features", lambda features=features: features)
        assert gains_from_bf16(torch.device("cpu")) is gains


@pytest.mark.usefixtures("with_gpus")
@pytest.mark.parametrize(
    ("wanted", "device"),
    [("auto", "cuda"), ("cpu", "cpu"), ("mps", "cpu"), ("cuda", "cuda"), ("cuda:1", "cuda:1"), ("cuda:7", "cuda")],
)
def test_a_finished_network_answers_on_the_device_that_its_bundle_names_as_far_as_it_is_here(
    wanted: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "has_cuda", lambda: True)
    assert answering_device(wanted) == device
    monkeypatch.setattr(hardware, "has_cuda", lambda: False)
    assert answering_device(wanted) == "cpu"


def test_a_number_of_workers_is_taken_as_it_is() -> None:
    assert choose_hardware("cpu", "fp32", 3).num_workers == 3


@pytest.mark.usefixtures("without_accelerator")
@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", "runtime.device cuda: this machine shows 0 CUDA devices. Use auto or cpu; `microscopy-cls doctor`"),
        ("cuda:7", "runtime.device cuda:7: this machine shows 0 CUDA devices"),
        ("mps", "runtime.device mps: there is no such device here. Use auto or cpu."),
    ],
)
def test_a_device_that_is_not_there_is_refused(device: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_hardware(device, "fp32", 0)


@pytest.mark.usefixtures("with_gpus")
def test_a_gpu_beyond_the_last_is_refused() -> None:
    assert choose_hardware("cuda:1", "fp32", 0).device == "cuda:1"
    with pytest.raises(ConfigError, match=r"runtime.device cuda:2: this machine shows 2 CUDA devices"):
        choose_hardware("cuda:2", "fp32", 0)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"runtime.precision fp16: only auto, fp32 and bf16 are known"):
        choose_hardware("cpu", "fp16", 0)


def test_the_machine_has_a_core_and_features_by_their_linux_names() -> None:
    assert num_cores() >= 1
    assert all(name == name.lower() for name in cpu_features())


# Versions


def test_versions_name_python_and_what_is_installed_only() -> None:
    versions = software_versions()
    assert versions["python"] == platform.python_version()
    assert {"torch", "numpy", "pandas", "scikit-learn"} <= set(versions)
    assert all(versions.values())
    assert library_version("no-such-distribution-anywhere") is None


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "tests")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_is_told_and_whether_tracked_files_differ_from_it(repository: Path) -> None:
    assert git_commit(repository) is None  # no repository
    git(repository, "init", "-q")
    assert git_commit(repository) is None  # no commit
    tracked = repository / "a.txt"
    tracked.write_text("1", encoding="utf-8")
    git(repository, "add", "a.txt")
    git(repository, "commit", "-q", "-m", "first")
    git(repository, "tag", "v1")
    commit = git(repository, "rev-parse", "HEAD")
    assert git_commit(repository) == commit
    (repository / "untracked.txt").touch()
    assert git_commit(repository) == commit
    tracked.write_text("2", encoding="utf-8")
    assert git_commit(repository) == f"{commit}-dirty"


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert git_commit(tmp_path) is None


# Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_yields_all_items_in_order_and_is_silent_away_from_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(progress(iter("abc"), "reading")) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_the_bar_shows_what_how_many_and_how_fast_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress(["a", "b"], "reading", unit="file")) == ["a", "b"]
    with bar("training", 4) as shown:
        shown.update(4)
    assert "reading: 100%" in terminal.getvalue()
    assert "2/2" in terminal.getvalue()
    assert "file/s" in terminal.getvalue()
    assert "training: 100%" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_log_lines_pass_a_shown_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    handler = logging.StreamHandler(terminal)
    logging.getLogger().addHandler(handler)
    try:
        with bar("training", 2):
            logging.getLogger("microscopy_cls.test").warning("told meanwhile")
    finally:
        logging.getLogger().removeHandler(handler)
    assert "told meanwhile\n" in terminal.getvalue()
