"""The trials of a fold's search and what they found, kept in one file so that none is done twice."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from microscopy_cls.config.search import Values
from microscopy_cls.errors import TrainingError
from microscopy_cls.system.files import read_json, write_json

SEARCH_FILE = "search.json"

State = Literal["complete", "pruned", "diverged"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """A training with other values, judged on a part of the fold's own training images.

    Attributes:
        values: by dotted key.
        curve: the score after each epoch.
        state: `pruned` was stopped early, behind the median of the others; `diverged` lost its way.
        score: None unless complete.
        seconds: that it took.
    """

    values: Values
    curve: list[float]
    state: State
    score: float | None
    seconds: float


@dataclass(frozen=True)
class Found:
    """What a search chose: the values of the best trial, its score, and all trials in their order."""

    values: Values
    score: float
    trials: list[Trial]

    @property
    def seconds(self) -> float:
        """Of all trials."""
        return sum(trial.seconds for trial in self.trials)

    @property
    def summary(self) -> dict[str, Any]:
        """For `run_state.json`: the report shows it."""
        states = [trial.state for trial in self.trials]
        counts = {"trials": len(states), "pruned": states.count("pruned"), "diverged": states.count("diverged")}
        return {"values": self.values, "score": self.score, **counts}


def best_of(trials: list[Trial], *, highest: bool, name: str) -> Found:
    """The complete trial with the best score, the first of equals.

    Raises:
        TrainingError: none is complete.
    """
    complete = [(trial.score, trial) for trial in trials if trial.score is not None]
    if not complete:
        raise TrainingError(
            f"{name}: none of the {len(trials)} trials of its search kept a finite loss. Lower the ends of "
            "search.space, above all of finetune.learning_rate, and train again."
        )
    score, best = (max if highest else min)(complete, key=lambda pair: pair[0])
    return Found(best.values, score, trials)


def load_trials(folder: Path) -> list[Trial]:
    """The trials that an earlier command did."""
    path = folder / SEARCH_FILE
    try:
        return [Trial(**values) for values in read_json(path)["trials"]]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError):
        log.warning("%s: cannot be read, so this search starts over", path)
        return []


def save_trials(folder: Path, trials: list[Trial], found: Found | None = None) -> None:
    """Write `search.json`: the trials and, once they are all done, what is chosen."""
    chosen = {} if found is None else {"values": found.values, "score": found.score}
    write_json(folder / SEARCH_FILE, {"chosen": chosen, "trials": [asdict(trial) for trial in trials]})
