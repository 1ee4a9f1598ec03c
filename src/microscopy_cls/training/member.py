"""One member of the cross-validation: the training loop of one fold."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray
from safetensors import SafetensorError
from timm.utils import ModelEmaV3  # noqa: TID251  training uses timm's parts
from torch import nn

from microscopy_cls.config.schema import Finetune
from microscopy_cls.dataset.augment import item_seed
from microscopy_cls.dataset.batches import Batch, Batches
from microscopy_cls.errors import TrainingError
from microscopy_cls.training.checkpoint import (
    load_checkpoint,
    model_tensors,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from microscopy_cls.training.compute import predict, to_device
from microscopy_cls.training.fold_data import FoldData, Rows
from microscopy_cls.training.loss import make_loss
from microscopy_cls.training.optim import make_mixup, make_optimizer, make_schedule, mix
from microscopy_cls.training.sampling import balanced
from microscopy_cls.training.scores import EpochRow, validation_scores
from microscopy_cls.training.stages import hold_statistics, stage_names, train_top

STEPS_BETWEEN_CHECKS = 50  # reading the loss makes a GPU wait; so many steps at most are wasted after it went wrong

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """What a fold has reached: the next epoch, a row a finished epoch, the epoch chosen so far, seconds spent."""

    epoch: int = 0
    history: list[EpochRow] = field(default_factory=list)
    chosen: int = -1
    best_loss: float = math.inf
    seconds: float = 0.0

    @property
    def epochs_without_gain(self) -> int:
        """Epochs since the chosen one."""
        return self.epoch - 1 - self.chosen


class MemberTrainer:
    """Trains one fold's network, leaves a checkpoint an epoch, and goes on from the last one.

    Args:
        network: classifier, on the accelerator's device.
        normalise: uint8 pixels to its input.
        data: the fold's rows.
        labels: class index of each cache row (rows outside the folds: any), int64 (n,).
        num_classes: of the whole set.
        batches: the loader.
        settings: section `finetune`.
        batch_size: images a step and process.
        seed: of this fold.
        folder: where its checkpoints are.
    """

    def __init__(
        self,
        network: nn.Module,
        normalise: nn.Module,
        data: FoldData,
        labels: NDArray[np.int64],
        num_classes: int,
        batches: Batches,
        settings: Finetune,
        batch_size: int,
        seed: int,
        folder: Path,
        accelerator: Accelerator,
    ) -> None:
        self.network, self.normalise, self.data, self.batches = network, normalise, data, batches
        self.settings, self.batch_size, self.seed, self.folder = settings, batch_size, seed, folder
        self.accelerator = accelerator
        self.labels = labels
        self.device_labels = torch.from_numpy(labels).to(accelerator.device)
        self.loss = make_loss(labels[data.train], num_classes, settings).to(accelerator.device)
        self.stages = self._stages() if settings.strategy == "gradual" else None
        self.mixup = make_mixup(settings, num_classes)
        self.average = ModelEmaV3(network, decay=settings.ema_decay, use_warmup=True) if settings.ema_decay else None
        self.wrapped, self.optimizer = accelerator.prepare(network, make_optimizer(network, settings))
        self.steps_per_epoch = max(1, len(data.train) // (batch_size * accelerator.num_processes))
        self.schedule = make_schedule(self.optimizer, settings, self.steps_per_epoch)
        self.progress = Progress()

    @property
    def candidate(self) -> nn.Module:
        """The network that is validated and kept: the averaged one where averaging is on."""
        return self.average.module if self.average is not None else self.network

    def run(
        self, on_epoch: Callable[[EpochRow], None], on_images: Callable[[int], None], num_epochs: int | None = None
    ) -> nn.Module:
        """Train from where `restore` left it to the end; return the chosen network.

        Args:
            on_epoch: called with each finished epoch's row.
            on_images: called with the number of images after each step.
            num_epochs: after which to stop, though the schedule goes on; None goes through all of it.

        Raises:
            TrainingError: the loss is no longer finite; names fold, epoch and step.
        """
        while self.progress.epoch < (num_epochs or self.settings.epochs) and not self._exhausted():
            started = time.perf_counter()
            on_epoch(self._one_epoch(self.progress.epoch, on_images))
            self.progress.seconds += time.perf_counter() - started
            self._save()
        return self._chosen_network()

    def _exhausted(self) -> bool:
        return 0 < self.settings.patience <= self.progress.epochs_without_gain and len(self.data.validation) > 0

    def _one_epoch(self, epoch: int, on_images: Callable[[int], None]) -> EpochRow:
        started = time.perf_counter()
        # Dropout, stochastic depth and mixup draw from here, so an epoch is the same whether or not it was resumed.
        torch.manual_seed(item_seed(self.seed, epoch, "torch"))
        np.random.seed(item_seed(self.seed, epoch, "mixup"))  # timm's mixup draws from it
        train_loss = self._train(epoch, on_images)
        elapsed = time.perf_counter() - started
        row: EpochRow = {
            "fold": float(self.data.part.fold),
            "epoch": float(epoch),
            "train_loss": train_loss,
            **self._validate(),
            "learning_rate": max(group["lr"] for group in self.optimizer.param_groups),
            "images_per_second": self.steps_per_epoch * self.batch_size * self.accelerator.num_processes / elapsed,
        }
        # Norm statistics differ between processes: all must choose, and stop, by the main one's figures.
        shared = [row]
        broadcast_object_list(shared)
        row = shared[0]
        self.progress.epoch += 1
        self.progress.history.append(row)
        if not row["val_loss"] >= self.progress.best_loss:  # without a validation part, NaN: the last epoch is chosen
            self.progress.chosen, self.progress.best_loss = epoch, row["val_loss"]
        return row

    def _train(self, epoch: int, on_images: Callable[[int], None]) -> float:
        """One pass over the training images; returns the mean loss of its steps."""
        self.prepare_layers(epoch)
        losses: list[torch.Tensor] = []
        for step, batch in enumerate(self.epoch_batches(epoch)):
            loss = self.backward(batch)
            global_step = epoch * self.steps_per_epoch + step
            self.schedule.step_update(global_step)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            if self.average is not None:
                self.average.update(self.network, step=global_step)
            losses.append(loss)
            if (step + 1) % STEPS_BETWEEN_CHECKS == 0:
                self._check_finite(losses, epoch)
            on_images(len(batch.rows) * self.accelerator.num_processes)
        return self._check_finite(losses, epoch)

    def backward(self, batch: Batch) -> torch.Tensor:
        """Leave the gradients of one batch (on the device) at the weights, clipped; return its loss, a scalar."""
        images, targets = self.normalise(batch.pixels), self.device_labels[batch.rows]
        if self.mixup is not None:
            images, targets = mix(self.mixup, images, targets)
        with self.accelerator.autocast():
            loss: torch.Tensor = self.loss(self.wrapped(images).float(), targets)
        self.accelerator.backward(loss)
        if self.settings.clip_grad_norm:
            self.accelerator.clip_grad_norm_(self.network.parameters(), self.settings.clip_grad_norm)
        return loss.detach()

    def epoch_batches(self, epoch: int) -> Iterator[Batch]:
        """This process's batches of an epoch, augmented, on the device."""
        share = self.accelerator.process_index, self.accelerator.num_processes
        batches = self.batches.training(self._rows(epoch), epoch, self.batch_size, self.seed, share)
        return to_device(batches, self.accelerator.device)

    def _stages(self) -> list[list[str]]:
        stages, epochs = stage_names(self.network), self.settings.epochs
        reached = 1 + (epochs - 1) // self.settings.stage_epochs
        if reached < len(stages):
            log.warning(
                "%s: %d epochs reach %d of the %d stages; the others stay as they came", self.data.part.name, epochs,
                reached, len(stages),
            )  # fmt: skip
        return stages

    def prepare_layers(self, epoch: int) -> None:
        """Set which layers train in this epoch: it follows from the epoch alone, so there is nothing to save."""
        if self.stages is not None:
            train_top(self.network, self.stages, 1 + epoch // self.settings.stage_epochs)
        self.wrapped.train()
        # A probe's head was fitted under the statistics that came. Under a batch's own ones it knows nothing (a loss of
        # 8.8 instead of 0.05 on pollen23e), and would be unlearned before the layers below are any better.
        everywhere = self.settings.freeze_batch_norm or self.settings.strategy == "head_then_full"
        hold_statistics(self.network, everywhere=everywhere)

    def _rows(self, epoch: int) -> Rows:
        train = self.data.train
        return balanced(train, self.labels[train], self.seed, epoch) if self.settings.sampling == "balanced" else train

    def _check_finite(self, losses: list[torch.Tensor], epoch: int) -> float:
        """The mean loss, over all processes: one that stopped alone would leave the others waiting for it."""
        values = self.accelerator.gather(torch.stack(losses)).reshape(-1, len(losses)).mean(0).cpu()
        bad = (~torch.isfinite(values)).nonzero()
        if len(bad):
            raise self._diverged(f"epoch {epoch}, step {int(bad[0])}: the loss is {float(values[bad[0]])}")
        return float(values.mean())

    def _diverged(self, what: str) -> TrainingError:
        return TrainingError(
            f"{self.data.part.name}, {what}. Lower finetune.learning_rate, set finetune.clip_grad_norm to 1, or set "
            "runtime.precision to fp32."
        )

    def _validate(self) -> EpochRow:
        rows = self.data.validation
        if len(rows) == 0:
            return validation_scores(np.empty((0, 0), np.float32), rows)
        batches = self.batches.plain(rows, self.batch_size)
        logits = predict(self.candidate, self.normalise, batches, self.accelerator).logits
        if not np.isfinite(logits).all():  # the last step of an epoch can do it, after its loss was seen
            raise self._diverged(f"epoch {self.progress.epoch}: the network's answers are no longer finite")
        return validation_scores(logits, self.labels[rows])

    def _save(self) -> None:
        """Write the chosen weights if they are new, then the checkpoint that names them, then drop older ones."""
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        parts = {"network": model_tensors(self.network), "optimizer": optimizer_tensors(self._bare_optimizer())}
        if self.average is not None:
            parts["average"] = model_tensors(self.average.module)
        chosen = self._chosen_file()
        if len(self.data.validation) and not chosen.is_file():
            save_checkpoint(chosen, {"network": model_tensors(self.candidate)}, {})
        save_checkpoint(self.folder / "checkpoint.safetensors", parts, vars(self.progress))
        for old in self.folder.glob("chosen-*.safetensors"):
            if old != chosen:
                old.unlink()

    def restore(self) -> None:
        """Take over the last checkpoint in `folder`, if there is one that can be read; `progress` tells what came."""
        try:
            parts, facts = load_checkpoint(self.folder / "checkpoint.safetensors")
            self.progress = Progress(**facts)
            if len(self.data.validation):
                load_checkpoint(self._chosen_file())
        except FileNotFoundError:
            self.progress = Progress()
        except SafetensorError:
            self.progress = Progress()
            log.warning("%s: its checkpoint is damaged, so this fold starts over", self.folder)
        for stale in self.folder.glob("chosen-*.safetensors"):
            if stale != self._chosen_file():
                stale.unlink()
        if self.progress.epoch == 0:
            return
        self.network.load_state_dict(parts["network"])
        restore_optimizer(self._bare_optimizer(), parts["optimizer"])
        if self.average is not None:
            self.average.module.load_state_dict(parts["average"])

    def _chosen_network(self) -> nn.Module:
        self.accelerator.wait_for_everyone()
        if len(self.data.validation) and self.accelerator.is_main_process:
            self.candidate.load_state_dict(load_checkpoint(self._chosen_file())[0]["network"])
        return self.candidate

    def _chosen_file(self) -> Path:
        return self.folder / f"chosen-{self.progress.chosen}.safetensors"

    def _bare_optimizer(self) -> torch.optim.Optimizer:
        bare: torch.optim.Optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        return bare
