"""What a run is, so that the same run is continued and another one starts anew."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from microscopy_cls.config import Config, Paths
from microscopy_cls.config.identity import changes, trained_settings
from microscopy_cls.errors import DataError, TrainingError
from microscopy_cls.system.files import read_json, sha256_of_json, write_json
from microscopy_cls.system.hardware import NumericType
from microscopy_cls.system.versions import git_commit, software_versions
from microscopy_cls.training.parts import REFIT, Part

STATE_FILE = "run_state.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunState:
    """Identity and circumstances of a run; `run_state.json` holds these fields.

    Attributes:
        identity: what decides the result: settings, manifest digest, weights digest.
        batch_size, precision, num_threads: in use since the run began; a continued run takes them over.
        num_processes: that a step's batches are divided among; a run is continued by as many.
        fold_seconds: spent on each part, by all the commands that worked on it; known once the run is finished.
        searches: of each part, what its search chose (`Found.summary`); likewise.
    """

    identity: dict[str, Any]
    device: str
    batch_size: int
    precision: NumericType
    num_threads: int
    num_processes: int = 1
    weights: dict[str, Any] = field(default_factory=dict)
    started: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    fold_seconds: dict[str, float] = field(default_factory=dict)
    searches: dict[str, dict[str, Any]] = field(default_factory=dict)
    finished: bool = False

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the identity."""
        return sha256_of_json(self.identity)


def identity_of(config: Config, manifest_digest: str, weights_digest: str) -> dict[str, Any]:
    """The settings that decide the result, and digests of the images and of the weights it starts from."""
    return {**trained_settings(config), "manifest": manifest_digest, "weights": weights_digest}


def load_state(folder: Path) -> RunState | None:
    """The state of the run in `folder`, or None when there is none that can be read."""
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    try:
        values = read_json(path)
        values.pop("fingerprint")
        values.pop("seconds")
        return RunState(**values)
    except (ValueError, TypeError, KeyError):
        log.warning("%s: cannot be read, so the run starts anew", path)
        return None


def save_state(folder: Path, state: RunState) -> None:
    """Write `run_state.json`."""
    facts = {"fingerprint": state.fingerprint, **asdict(state), "seconds": sum(state.fold_seconds.values())}
    write_json(folder / STATE_FILE, facts)


def begin(folder: Path, wanted: RunState, restart: bool) -> tuple[RunState, bool]:
    """Continue the run in `folder` when it is the same one, otherwise clear the folder.

    Returns:
        The state to go by, and whether the run is new.
    """
    earlier = load_state(folder)
    if earlier is not None and not restart and earlier.fingerprint == wanted.fingerprint:
        return replace(earlier, device=wanted.device), False
    if earlier is not None:
        why = (
            "asked for by --restart" if restart else "changed: " + "; ".join(changes(earlier.identity, wanted.identity))
        )
        log.warning("%s: starting anew (%s)", folder, why)
    fresh = replace(
        wanted, started=datetime.now(UTC).isoformat(timespec="seconds"), versions=software_versions(),
        git_commit=git_commit(Path.cwd()),
    )  # fmt: skip
    clear(folder)
    save_state(folder, fresh)
    return fresh, True


def check_processes(folder: Path, state: RunState, num_processes: int) -> None:
    """Refuse to go on with another number of processes: steps an epoch, and with them the rates, hang on it.

    Raises:
        TrainingError: the run in `folder` began with another number.
    """
    began = state.num_processes
    if began != num_processes:
        raise TrainingError(
            f"{folder}: began with num_processes {began}, but this command has {num_processes}, and its epochs would "
            f"have other steps. Go on with `torchrun --nproc_per_node {began}`, or begin anew with --restart."
        )


def clear(folder: Path) -> None:
    """Remove what an earlier run left, the record of its tracking too: nothing may be logged into that one again."""
    (folder / STATE_FILE).unlink(missing_ok=True)  # first: what a kill leaves of the rest must not pass for a run
    for path in folder.glob("*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def finish(folder: Path, state: RunState, parts: list[Part]) -> RunState:
    """Mark the run as finished, with what each part that is done says of its cost."""
    files = {str(part.run): part.cost(folder) for part in parts}
    found = {run: read_json(file) for run, file in files.items() if file.is_file()}
    seconds = {run: cost["seconds"] for run, cost in found.items()}
    searches = {run: cost["search"] for run, cost in found.items() if cost["search"]}
    done = replace(state, fold_seconds=state.fold_seconds | seconds, searches=state.searches | searches, finished=True)
    save_state(folder, done)
    return done


def require_finished(folder: Path, config: Config) -> RunState:
    """The state of a run of this config whose folds, repeats and, where it asks for one, refit are all there.

    Raises:
        DataError: there is none, a part is missing, or it was trained with other settings.
    """
    state = load_state(folder)
    tables = [folder / Paths(config.name).oof_of(repeat).name for repeat in range(config.folds.repeats)]
    if state is None or not state.finished or not all(table.is_file() for table in tables):
        raise DataError(f"{folder}: holds no finished run. Run `microscopy-cls train` with the same config first.")
    wanted = trained_settings(config)
    differing = changes({key: state.identity.get(key) for key in wanted}, wanted)
    if differing:
        raise DataError(
            f"{folder}: was trained with other settings ({'; '.join(differing)}). Give the same config and --set, or "
            "train again."
        )
    if config.evaluate.bundle == "refit" and not REFIT.answers(folder).is_file():
        raise DataError(
            f"{folder}: holds no refit on all images, as evaluate.bundle asks for. Run `microscopy-cls train` with the "
            "same config: the folds are there, so it trains this one alone."
        )
    return state
