"""Which software made a result."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = (
    "microscopy-cls", "torch", "timm", "albumentations", "opencv-python-headless", "pillow", "numpy", "pandas",
    "scikit-learn", "mlflow", "dvc",
)  # fmt: skip


def library_version(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def software_versions() -> dict[str, str]:
    """Python and the libraries that decide a result, by distribution name; those not installed are left out."""
    found = {name: library_version(name) for name in LIBRARIES}
    return {"python": platform.python_version()} | {name: text for name, text in found.items() if text}


def git_commit(folder: Path) -> str | None:
    """The commit checked out in `folder`, with `-dirty` when tracked files differ from it; None outside git."""
    git = shutil.which("git")
    if git is None:
        return None
    answer = subprocess.run(  # noqa: S603  a fixed command
        [git, "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return answer.stdout.strip() or None
