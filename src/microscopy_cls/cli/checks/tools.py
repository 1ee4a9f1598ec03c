"""MLflow, DVC and git."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from dataclasses import replace
from pathlib import Path

from microscopy_cls.cli.checks.row import Check, find_library
from microscopy_cls.config.schema import Tracking
from microscopy_cls.system.versions import git_commit


def pipeline() -> list[Check]:
    """What records and repeats experiments."""
    mlflow = find_library("mlflow", "mlflow", "experiments and registry", extra="mlops")
    return [mlflow, *([_store()] if mlflow.status == "ok" else []), _dvc(), _git()]


def _store() -> Check:
    """Whether the default store can be written; it is not created."""
    from microscopy_cls.tracking.store import Store, knock

    uri = Tracking().uri
    if Store(uri).is_missing:
        return Check("mlflow store", "ok", f"{uri} is not there yet: the first run creates it in this folder")
    try:
        knock(uri)
    except (OSError, sqlite3.Error) as error:
        advice = "Stop the program that holds it, or choose another with tracking.uri. Training goes on without it."
        return Check("mlflow store", "warn", f"{uri} cannot be written: {error}", advice)
    return Check("mlflow store", "ok", f"{uri} can be written")


def _dvc() -> Check:
    found = find_library("dvc", "dvc", "runs the stages", extra="mlops")
    if found.status != "ok":
        return found
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), None)
    if root is None:
        advice = "For `dvc repro` go to the project's folder. The commands of microscopy-cls work without."
        return replace(found, status="warn", detail=f"{found.detail}; not inside a DVC repository", advice=advice)
    if shutil.which("dvc") is None or shutil.which("microscopy-cls") is None:
        advice = "Activate the virtual environment: stages call microscopy-cls by its name."
        detail = f"{found.detail}; dvc or microscopy-cls is not on the PATH"
        return replace(found, status="warn", detail=detail, advice=advice)
    return replace(found, detail=f"{found.detail}; repository {root}")


def _git() -> Check:
    git = shutil.which("git")
    if git is None:
        return Check("git", "missing", "not installed: runs name no commit", "Install git.")
    answer = subprocess.run([git, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    commit, dash, dirty = (git_commit(Path.cwd()) or "").partition("-")
    where = f"commit {commit[:10]}{dash}{dirty}" if commit else "no commit here"
    return Check("git", "ok", f"{answer.stdout.removeprefix('git version').strip()}; {where}")
