"""What is told of one fold while it trains: to the log, to the progress bar, to the tracker."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from tqdm import tqdm

from microscopy_cls.config.search import Values
from microscopy_cls.tracking.tracker import FoldLog
from microscopy_cls.training.scores import EpochRow
from microscopy_cls.training.trials import Found, Trial

NOT_CURVES = {"fold", "epoch"}
JUDGED_BY = {"loss": "validation loss", "f1_macro": "validation F1"}

log = logging.getLogger(__name__)


class Telling:
    """Of one fold.

    Args:
        name: of the training; `place` says how far that is, from 1, of `total`, and `num_epochs` an epoch.
        tracked: the tracker's log of it.
        shown: the bar of all folds, in images.
        aloud: only the main process of several speaks.
    """

    def __init__(
        self, name: str, place: int, total: int, num_epochs: int, tracked: FoldLog, shown: tqdm[Any], *, aloud: bool
    ) -> None:
        self.name = f"{name} ({place} of {total})"  # its number, as files and tables have it
        self._num_epochs, self._tracked, self._shown, self._aloud = num_epochs, tracked, shown, aloud

    def images(self, num: int) -> None:
        """So many images more are done."""
        self._shown.set_description(self.name, refresh=False)
        self._shown.update(num)

    def going_on(self, history: list[EpochRow], num_images: int) -> None:
        """Epochs that an earlier command did: the tracker's store may have missed them."""
        for row in history:
            self._track(row)
        if history:
            log.info("%s: going on after epoch %d", self.name, len(history))
            self.images(num_images)

    def epoch(self, row: EpochRow) -> None:
        """A finished epoch."""
        self._track(row)
        validated = "" if np.isnan(row["val_loss"]) else f", validation F1 {row['val_f1_macro']:.3f}"
        if self._aloud:
            log.info(
                "%s, epoch %d/%d: loss %.3f%s, %.0f images/s", self.name, int(row["epoch"]) + 1, self._num_epochs,
                row["train_loss"], validated, row["images_per_second"],
            )  # fmt: skip

    def probe(self, row: EpochRow) -> None:
        """A fitted head."""
        self._track(row)
        if self._aloud:
            tried = "not tried" if np.isnan(row["val_f1_macro"]) else f"F1 in inner folds {row['val_f1_macro']:.3f}"
            log.info("%s: penalty %g, %s", self.name, row["penalty"], tried)

    def trial(self, number: int, num_trials: int, trial: Trial, judged_by: str) -> None:
        """A finished trial of the search before the training; `judged_by` is a key of `JUDGED_BY`."""
        if self._aloud:
            ended = f"{JUDGED_BY[judged_by]} {trial.score:.4f}" if trial.score is not None else trial.state
            log.info("%s, trial %d/%d: %s: %s", self.name, number + 1, num_trials, _in_words(trial.values), ended)
        metrics = {} if trial.score is None else {"score": trial.score}
        epochs = {"epochs": float(len(trial.curve))}
        self._tracked.trial(number, trial.values, metrics | epochs, {"state": trial.state}, trial.seconds)

    def chosen(self, found: Found, judged_by: str) -> None:
        """What the search ended with."""
        self._tracked.params(found.values)
        if self._aloud:
            num = len(found.trials)
            score = f"{JUDGED_BY[judged_by]} {found.score:.4f}"
            log.info("%s: chose %s (%s, %d trials)", self.name, _in_words(found.values), score, num)

    def _track(self, row: EpochRow) -> None:
        curves = {name: value for name, value in row.items() if name not in NOT_CURVES and np.isfinite(value)}
        self._tracked.log(curves, int(row["epoch"]))


def _in_words(values: Values) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()
    )
