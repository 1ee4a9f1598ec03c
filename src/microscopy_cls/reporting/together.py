"""What the page of an ensemble says of the runs that it averages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def run_names(metrics: Mapping[str, Any]) -> list[str]:
    """Of an ensemble's runs; none where the page is of a single one."""
    return [run["name"] for run in (metrics.get("ensemble") or {}).get("runs", [])]


def listed_runs(metrics: Mapping[str, Any]) -> str:
    """The runs with what tells them apart."""
    return "; ".join(
        f"{run['name']} ({run['model']}, {run['size_px']} × {run['size_px']} pixels, strategy {run['strategy']}, "
        f"seed {run['seed']})"
        for run in metrics["ensemble"]["runs"]
    )


def gain(metrics: Mapping[str, Any]) -> str:
    """What the average is worth beside the best run."""
    return f"Beside its best run: {metrics['ensemble']['compared']['verdict']}"
