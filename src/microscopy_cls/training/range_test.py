"""The learning-rate range test (Smith 2017, doi:10.1109/WACV.2017.58): where do rates begin to be too fast?

The rate grows by the same factor at each step of one short training, which nothing is kept of. The suggestion is a
tenth of the rate beyond which the smoothed loss never came near its lowest value again. The lowest value itself, or the
steepest fall, which others take, are single points of a noisy curve: where a fitted head begins near its minimum they
lie anywhere on the plain. The end of the plain does not.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from microscopy_cls.config import Config, Paths
from microscopy_cls.dataset.augment import item_seed
from microscopy_cls.dataset.batches import Batch
from microscopy_cls.errors import ConfigError, TrainingError
from microscopy_cls.system.progress import progress
from microscopy_cls.tracking import NullTracker
from microscopy_cls.training.cross_validation import CrossValidation
from microscopy_cls.training.member import MemberTrainer
from microscopy_cls.training.parts import Part

LOWEST, HIGHEST = 1e-6, 1.0  # AdamW learns nothing below and nothing above, whatever the network
REACH = 4  # steps to either side that a smoothed loss is the median of
NOISE_NATS = 0.1  # so much the median of a few batches wavers where nothing changes
NEAR = 0.2  # of the whole fall; what is as near as that to the lowest loss counts as low
DIVERGED = 4  # times the lowest loss
FEWEST_STEPS = 20
FEWEST_BEFORE_TURN = 5  # at rates that change nothing yet

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class RangeTest:
    """What one range test found.

    Attributes:
        table: `step, learning_rate, loss, smoothed_loss`, a row a step that was done.
        turn: the rate beyond which the loss rose for good.
        suggestion: for `finetune.learning_rate`: a tenth of that at the peak of the schedule, at the head.
        rose: whether it did rise; otherwise `turn` is only the fastest rate that was tried.
        fold: whose training images it saw.
    """

    table: pd.DataFrame
    turn: float
    suggestion: float
    rose: bool
    fold: int

    @property
    def peak(self) -> float:
        """The head's rate at the top of the schedule with the suggestion: less than that where the head is fitted."""
        return self.turn / 10


@dataclass(frozen=True)
class _Aside(Paths):
    """The same prepared images, with the run in another folder."""

    folder: Path

    @property
    def runs(self) -> Path:
        """In place of the experiment's own, which is left as it is."""
        return self.folder


def find_learning_rate(config: Config, fold: int = 0, num_steps: int = 100) -> RangeTest:
    """Range test on the training images of one fold; its test images take no part, and no run is touched.

    Network, head, layer decay, batches, augmentation and loss are those of `train`; a gradual training is tested with
    the stages of its last epoch.

    Raises:
        ConfigError: the strategy has no learning rate, or there are too few steps.
        TrainingError: the loss is too high from the first steps on.
    """
    if config.finetune.strategy == "probe":
        raise ConfigError(
            "finetune.strategy probe fits its head without a learning rate, so there is none to find. Choose full, "
            "head_then_full or gradual."
        )
    if num_steps < FEWEST_STEPS:
        raise ConfigError(f"--steps {num_steps}: a curve needs {FEWEST_STEPS} steps or more; 100 are usual")
    with tempfile.TemporaryDirectory(prefix="find-lr-") as folder:
        cross = CrossValidation(config, _Aside(config.name, Path(folder)), NullTracker())
        data = cross.images.part(Part(fold), config.finetune.validation_fraction, config.folds.seed)
        trainer = cross.trainer(data, config, Path(folder))
        num_classes = len(cross.images.classes)
        losses = _losses(trainer, rates := np.geomspace(LOWEST, HIGHEST, num_steps), guessing=math.log(num_classes))
    found = judged(rates[: len(losses)], losses, fold)
    return replace(found, suggestion=found.suggestion * config.finetune.learning_rate / config.finetune.peak_rate)


def judged(rates: Curve, losses: Curve, fold: int) -> RangeTest:
    """The curve with its suggestion.

    Args:
        rates: ascending, (n,).
        losses: of each step, finite, (n,).

    Raises:
        TrainingError: the curve has no part that is low.
    """
    smoothed = smooth(losses)
    turn = turning_point(smoothed) if len(smoothed) else 0
    if turn < FEWEST_BEFORE_TURN:
        raise TrainingError(
            f"fold {fold}: the loss only rose, from the first of {len(losses)} steps on. Look at the labels and at "
            "finetune.clip_grad_norm, or set runtime.precision to fp32."
        )
    table = pd.DataFrame(
        {"step": range(len(losses)), "learning_rate": rates, "loss": losses, "smoothed_loss": smoothed}
    )
    return RangeTest(table, float(rates[turn]), float(rates[turn] / 10), turn < len(smoothed) - 1, fold)


def smooth(losses: Curve) -> Curve:
    """Running median, (n,). A running mean of the steps before, as is usual, lags by half a decade of rates, and one of
    both sides is pulled up by where the loss explodes.
    """
    windows = (losses[max(0, step - REACH) : step + REACH + 1] for step in range(len(losses)))
    return np.array([np.median(window) for window in windows])


def turning_point(smoothed: Curve) -> int:
    """The last step whose smoothed loss is low: near the lowest, by the fall before it or by what is noise."""
    lowest = smoothed.min()
    fall = smoothed[: smoothed.argmin() + 1].max() - lowest
    return int(np.flatnonzero(smoothed <= lowest + max(NOISE_NATS, NEAR * fall))[-1])


def _losses(trainer: MemberTrainer, rates: Curve, guessing: float) -> Curve:
    """The loss at each rate, until it is not finite any more or lost: far above its lowest and above guessing."""
    seed = item_seed(trainer.seed, 0, "find-lr")
    torch.manual_seed(seed)
    np.random.seed(seed)  # timm's mixup draws from it
    trainer.prepare_layers(trainer.settings.epochs - 1)
    losses: list[float] = []
    shown = progress(rates, f"{trainer.data.part.name}, learning rate", unit="step")
    for rate, batch in zip(shown, _endless(trainer), strict=False):
        trainer.schedule.update_groups(float(rate))  # each layer's own part of it
        loss = float(trainer.backward(batch))
        if not math.isfinite(loss):
            break
        trainer.optimizer.step()
        trainer.optimizer.zero_grad(set_to_none=True)
        losses.append(loss)
        smoothed = smooth(np.array(losses))
        if np.median(losses[-2 * REACH :]) > max(DIVERGED * smoothed.min(), guessing):
            break
    return np.array(losses)


def _endless(trainer: MemberTrainer) -> Iterator[Batch]:
    """Epoch after epoch, each in another order."""
    return itertools.chain.from_iterable(map(trainer.epoch_batches, itertools.count()))
