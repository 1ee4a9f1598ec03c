"""Moving batches to the device and networks over them, without waiting for the device at each batch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from numpy.typing import NDArray
from timm.utils import ModelEmaV3  # noqa: TID251  training uses timm's parts
from torch import nn

from microscopy_cls.config.schema import Finetune
from microscopy_cls.dataset.batches import Batch
from microscopy_cls.model.forward import features_and_logits
from microscopy_cls.system.hardware import Hardware
from microscopy_cls.training.optim import make_optimizer

MAX_BATCH = {"cpu": 32, "mps": 64, "cuda": 256}
MIN_STEPS_PER_EPOCH = 12  # an epoch of a small set needs some steps to move


@dataclass(frozen=True)
class Predictions:
    """Outputs for n images, in the order asked for: `logits` float32 (n, classes), `features` float32 (n, d)."""

    logits: NDArray[np.float32]
    features: NDArray[np.float32]


def make_accelerator(hardware: Hardware, *, layers_held: bool = False) -> Accelerator:
    """Accelerate's handle on device, mixed precision and, under torchrun, the other processes.

    Args:
        layers_held: some layers get no gradients for some steps, for which the other processes would wait.
    """
    alone = "LOCAL_RANK" not in os.environ
    if hardware.is_cuda and alone:
        torch.cuda.set_device(torch.device(hardware.device).index or 0)
    torch.set_num_threads(hardware.num_threads)
    # A second experiment in one process may want another precision and, where no others are tied to it, device.
    AcceleratorState._reset_state(reset_partial_state=alone)
    return Accelerator(
        mixed_precision="bf16" if hardware.precision == "bf16" else "no",
        cpu=hardware.device == "cpu",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=layers_held)],
    )


def to_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy each batch while the one before it is computed (pinned memory, no waiting)."""
    ahead: Batch | None = None
    for batch in batches:
        moved = Batch(*(part.to(device, non_blocking=True) for part in batch))
        if ahead is not None:
            yield ahead
        ahead = moved
    if ahead is not None:
        yield ahead


@torch.inference_mode()
def predict(model: nn.Module, normalise: nn.Module, batches: Iterable[Batch], accelerator: Accelerator) -> Predictions:
    """Run a network in evaluation mode; results come back from the device once, at the end."""
    model.eval()
    logits, features = [], []
    for batch in to_device(batches, accelerator.device):
        with accelerator.autocast():
            pooled, scores = features_and_logits(model, normalise(batch.pixels))
        logits.append(scores.float())
        features.append(pooled.float())
    return Predictions(torch.cat(logits).cpu().numpy(), torch.cat(features).cpu().numpy())


def automatic_batch(num_images: int, num_processes: int, device_type: str) -> int:
    """Images a step and process: a power of two, at least 4, that leaves enough steps in an epoch of all processes."""
    wanted = max(4, num_images / num_processes / MIN_STEPS_PER_EPOCH)
    return int(min(MAX_BATCH[device_type], 2 ** int(np.log2(wanted))))


def largest_batch(
    model: nn.Module, normalise: nn.Module, size_px: int, start: int, settings: Finetune, accelerator: Accelerator
) -> int:
    """The largest of start, start/2, ... whose training step fits into the CUDA device's memory; `start` elsewhere.

    Args:
        model: on the device; its weights are of no use afterwards.
        settings: section `finetune`.
    """
    batch_size = start
    while accelerator.device.type == "cuda" and batch_size > 1:
        try:
            try_steps(model, normalise, (batch_size, size_px, size_px, 3), settings, accelerator)
            break
        except torch.cuda.OutOfMemoryError:
            batch_size //= 2
        finally:
            model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
    return batch_size


def try_steps(
    model: nn.Module, normalise: nn.Module, shape: tuple[int, ...], settings: Finetune, accelerator: Accelerator
) -> None:
    """Two steps with all that a training holds: the optimiser's moments come with the first, beside the second.

    Args:
        shape: of the pixels, (b, size_px, size_px, 3).
    """
    pixels = torch.zeros(shape, dtype=torch.uint8, device=accelerator.device)
    optimizer = make_optimizer(model, settings)
    average = ModelEmaV3(model) if settings.ema_decay else None
    for _ in range(2):
        with accelerator.autocast():
            model(normalise(pixels)).float().sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if average is not None:
            average.update(model)
