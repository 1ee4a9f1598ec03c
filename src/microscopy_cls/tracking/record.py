"""Which runs of the store belong to a training: `mlflow.json` beside its checkpoints."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from microscopy_cls.system.files import read_json, write_json

FILE_NAME = "mlflow.json"


@dataclass
class RunRecord:
    """Ids of the parent run (empty before there is one) and of each fold's run, by fold as text."""

    uri: str
    experiment: str
    parent: str = ""
    folds: dict[str, str] = field(default_factory=dict)

    def save(self, run_dir: Path) -> None:
        """Write it atomically."""
        write_json(run_dir / FILE_NAME, asdict(self))


def load_record(run_dir: Path, uri: str, experiment: str) -> RunRecord:
    """The record in `run_dir`; an empty one when there is none, or one of another store or experiment."""
    try:
        found = RunRecord(**read_json(run_dir / FILE_NAME))
    except (FileNotFoundError, ValueError, TypeError):  # none, no JSON, or written by something else
        return RunRecord(uri, experiment)
    return found if (found.uri, found.experiment) == (uri, experiment) else RunRecord(uri, experiment)


def forget_record(run_dir: Path) -> None:
    """Begin anew: no later stage may add to the runs of an earlier training."""
    (run_dir / FILE_NAME).unlink(missing_ok=True)
