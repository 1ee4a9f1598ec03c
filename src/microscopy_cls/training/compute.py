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
from torch import nn

from microscopy_cls.dataset.batches import Batch
from microscopy_cls.model.forward import features_and_logits
from microscopy_cls.system.hardware import Hardware

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
    if hardware.is_cuda and "LOCAL_RANK" not in os.environ:
        torch.cuda.set_device(torch.device(hardware.device).index or 0)
    torch.set_num_threads(hardware.num_threads)
    AcceleratorState._reset_state()  # a second experiment in one process may want another precision
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


def largest_batch(model: nn.Module, normalise: nn.Module, size_px: int, start: int, accelerator: Accelerator) -> int:
    """The largest of start, start/2, ... whose training step fits into the CUDA device's memory; `start` elsewhere."""
    batch_size = start
    while accelerator.device.type == "cuda" and batch_size > 1:
        try:
            pixels = torch.zeros(batch_size, size_px, size_px, 3, dtype=torch.uint8, device=accelerator.device)
            with accelerator.autocast():
                model(normalise(pixels)).float().sum().backward()
            break
        except torch.cuda.OutOfMemoryError:
            batch_size //= 2
        finally:
            model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
    return batch_size
