"""One trial of a search: a member's training, judged and perhaps given up."""

from __future__ import annotations

import time
from collections.abc import Callable

from microscopy_cls.config.search import Values
from microscopy_cls.errors import TrainingError
from microscopy_cls.training.member import MemberTrainer, Progress
from microscopy_cls.training.search import IsHopeless
from microscopy_cls.training.trials import State, Trial


class _HopelessError(Exception):
    """Ends a training from within; never leaves this module."""


def attempt(
    trainer: MemberTrainer,
    values: Values,
    column: str,
    is_hopeless: IsHopeless,
    on_images: Callable[[int], None],
    *,
    chooses_epoch: bool,
) -> Trial:
    """Train to the end, unless hopeless, from the trial's last checkpoint if it has one.

    Args:
        trainer: with the values, its validation part the one that judges.
        column: of the epochs' rows, the score.
        chooses_epoch: the member will take its best epoch, so the trial is judged by that; else by the last one.
    """
    started = time.perf_counter()
    trainer.restore()
    started -= trainer.progress.seconds

    def judge(_: object) -> None:
        if is_hopeless(_curve(trainer.progress, column)):
            raise _HopelessError

    state: State = "complete"
    try:
        trainer.run(judge, on_images)
    except _HopelessError:
        state = "pruned"
    except TrainingError:
        state = "diverged"
    curve = _curve(trainer.progress, column)
    score = curve[trainer.progress.chosen if chooses_epoch else -1] if state == "complete" else None
    return Trial(values, curve, state, score, round(time.perf_counter() - started, 1))


def _curve(progress: Progress, column: str) -> list[float]:
    return [row[column] for row in progress.history]
