"""The search of one fold: trials among its own training images, before its member is trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from accelerate import Accelerator

from microscopy_cls.config import Config
from microscopy_cls.config.search import Values, configured
from microscopy_cls.errors import FoldError
from microscopy_cls.training.attempt import attempt
from microscopy_cls.training.fold_data import FoldData, Images
from microscopy_cls.training.member import MemberTrainer
from microscopy_cls.training.parts import Part
from microscopy_cls.training.search import IsHopeless, next_trial, require_optuna
from microscopy_cls.training.telling import Telling
from microscopy_cls.training.trials import Found, Trial, best_of, load_trials, save_trials

OTHER_PART = 1000  # added to the seed: the trials are judged on other images than the member's epoch is chosen by
COLUMNS = {"loss": "val_loss", "f1_macro": "val_f1_macro"}


def inner_part(images: Images, config: Config, part: Part) -> FoldData:
    """The rows of a training whose validation part judges the trials, whole groups of its training images.

    Raises:
        FoldError: no part can be spared.
    """
    try:
        return images.part(part, config.search.validation_fraction, config.folds.seed + OTHER_PART)
    except FoldError:
        raise FoldError(
            f"{part.name}: none of its training images can be spared to judge the trials of a search by: a class has "
            "too few groups. Set search.trials to 0 or lower folds.num."
        ) from None


class FoldSearch:
    """Tries values one after another, and keeps each finished trial in `search.json`.

    Args:
        data: as `inner_part` gave it; its test rows take no part.
        make: a trainer on such rows, with the values of a config, and a folder for checkpoints.
        folder: of the fold.
        seed: of its choices.
    """

    def __init__(
        self,
        config: Config,
        data: FoldData,
        make: Callable[[FoldData, Config, Path], MemberTrainer],
        folder: Path,
        accelerator: Accelerator,
        telling: Telling,
        seed: int,
    ) -> None:
        self.config, self.data, self.folder, self.seed = config, data, folder, seed
        self._make, self._accelerator, self._telling = make, accelerator, telling

    def run(self) -> Found:
        """Do the trials that are not done yet.

        Raises:
            MissingDependencyError: Optuna is not installed.
            TrainingError: no trial kept a finite loss.
        """
        require_optuna()
        search = self.config.search
        start = configured(search.space, self.config.trained)
        self._accelerator.wait_for_everyone()
        trials = load_trials(self.folder)
        self._telling.images(len(trials) * self._num_images)
        while len(trials) < search.trials:
            trial = next_trial(search, start, self.config.finetune.epochs, self.seed, trials, self._attempt)
            trials.append(trial)
            self._keep(trials)
            self._telling.trial(len(trials) - 1, search.trials, trial, search.score)
        found = best_of(trials, highest=search.score == "f1_macro", name=self.data.part.name)
        self._keep(trials, found)
        self._telling.chosen(found, search.score)
        return found

    @property
    def _num_images(self) -> int:
        return len(self.data.train) * self.config.finetune.epochs

    def _attempt(self, number: int, values: Values, is_hopeless: IsHopeless) -> Trial:
        config, folder = self._trained_as(values), self.folder / f"trial_{number}"
        seen = 0

        def count(num: int) -> None:
            nonlocal seen
            seen += num
            self._telling.images(num)

        column, chooses = COLUMNS[config.search.score], config.finetune.validation_fraction > 0
        trainer = self._make(self.data, config, folder)
        trial = attempt(trainer, values, column, is_hopeless, count, chooses_epoch=chooses)
        self._telling.images(self._num_images - seen)  # those that it was spared
        self._accelerator.wait_for_everyone()
        self._accelerator.free_memory()
        return trial

    def _trained_as(self, values: Values) -> Config:
        """The config of a trial. Where the member has no images to stop early by, a trial does not stop either."""
        config = self.config.with_values(values)
        return config if config.finetune.validation_fraction else config.with_values({"finetune.patience": 0})

    def _keep(self, trials: list[Trial], found: Found | None = None) -> None:
        """Save the results before the checkpoints go: a kill in between must not cost the trial."""
        if self._accelerator.is_main_process:
            save_trials(self.folder, trials, found)
            for checkpoints in self.folder.glob("trial_*"):
                shutil.rmtree(checkpoints, ignore_errors=True)
