"""Which tracker a configuration asks for."""

from __future__ import annotations

from pathlib import Path

from microscopy_cls.tracking.mlflow_tracker import MlflowTracker
from microscopy_cls.tracking.store import Store, require_mlflow
from microscopy_cls.tracking.tracker import NullTracker, Tracker


def open_tracker(*, enabled: bool, uri: str, experiment: str, run_dir: Path) -> Tracker:
    """A tracker that writes to MLflow, or to nothing. The store is first asked by `start` or `resume`.

    Args:
        enabled: `tracking.mlflow`.
        uri: the store, such as `sqlite:///mlflow.db` or `http://host:5000`.
        experiment: its experiment, named after the configuration.
        run_dir: where `mlflow.json` keeps the ids of the runs.

    Raises:
        MissingDependencyError: MLflow is asked for and not installed.
    """
    if not enabled:
        return NullTracker()
    require_mlflow("Logging to MLflow (switched off with tracking.mlflow: false)")
    return MlflowTracker(Store(uri), experiment, run_dir)
