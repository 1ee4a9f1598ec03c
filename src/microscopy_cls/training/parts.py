"""What a run consists of: a training for each fold of each repeat, and one on all images where that is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from microscopy_cls.config import Config
from microscopy_cls.model.bundle import WITHOUT_FOLD, weights_file


@dataclass(frozen=True)
class Part:
    """One training.

    Attributes:
        fold: that it is tested on; of the refit -1.
        repeat: which division of the images; 0 is the first, whose members make the bundle.
    """

    fold: int
    repeat: int = 0

    @property
    def is_refit(self) -> bool:
        """Trained on all images, tested on none."""
        return self.fold == WITHOUT_FOLD

    @property
    def name(self) -> str:
        """As the log and errors call it."""
        if self.is_refit:
            return "refit"
        return f"repeat {self.repeat}, fold {self.fold}" if self.repeat else f"fold {self.fold}"

    @property
    def folder(self) -> str:
        """Below the run's folder."""
        if self.is_refit:
            return "refit"
        return f"repeat_{self.repeat}/fold_{self.fold}" if self.repeat else f"fold_{self.fold}"

    @property
    def run(self) -> int | str:
        """As the tracker calls it."""
        return self.folder.replace("_", "-").replace("/", "-") if self.repeat or self.is_refit else self.fold

    @property
    def member(self) -> str | None:
        """File of its weights; None for further repeats, which are there for their figures alone."""
        return None if self.repeat else weights_file(self.fold)

    def answers(self, runs: Path) -> Path:
        """What it said at its end; that this file exists makes it done."""
        return runs / self.folder / ("seen.safetensors" if self.is_refit else "oof.safetensors")

    def curves(self, runs: Path) -> Path:
        """A row an epoch."""
        return runs / self.folder / "curves.csv"

    def cost(self, runs: Path) -> Path:
        """Seconds that it took and what its search chose; a file a part, as several may be trained at once."""
        return runs / self.folder / "cost.json"


REFIT = Part(WITHOUT_FOLD)


def fold_parts(num_folds: int, repeat: int) -> list[Part]:
    """The folds of one repeat."""
    return [Part(fold, repeat) for fold in range(num_folds)]


def parts_of(config: Config, num_folds: int, only: int | None) -> list[Part]:
    """All parts in their order, or those of one fold; the refit, which the folds decide on, comes last."""
    folds = [part for repeat in range(config.folds.repeats) for part in fold_parts(num_folds, repeat)]
    if only is not None:
        return [part for part in folds if part.fold == only]
    return [*folds, REFIT] if config.evaluate.bundle == "refit" else folds


def epochs_of_refit(runs: Path, num_folds: int) -> int:
    """How many epochs the folds of the first repeat made of their schedule: the median of those that were kept.

    Of an even number of folds the higher of the middle two: the refit has more images, not fewer. Without a validation
    part these are all epochs.
    """
    curves = [pd.read_csv(part.curves(runs)) for part in fold_parts(num_folds, 0)]
    chosen = sorted(int(rows.loc[rows["chosen"] == 1, "epoch"].iloc[0]) for rows in curves)
    return chosen[len(chosen) // 2] + 1
