"""Images per second of one training step, and of the whole loop that feeds it.

The step alone in the ways people train: eager fp32, channels_last, channels_last with bf16 (what this project does
where the device gains from it). Then the project's own loop, reading and augmenting included, on images drawn for
the purpose; its ratio to the bare step says what reading costs.

usage: python -m benchmarks.train_speed [--device auto] [--model resnext50_32x4d] [--size 224] [--batch 32]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from microscopy_cls.config.schema import Finetune
from microscopy_cls.dataset.batches import Batches, CachedImages
from microscopy_cls.model import get_model
from microscopy_cls.model.preprocess import Normalise
from microscopy_cls.system.hardware import Hardware, choose_hardware
from microscopy_cls.training.compute import make_accelerator
from microscopy_cls.training.fold_data import FoldData
from microscopy_cls.training.member import MemberTrainer

NUM_CLASSES = 10
WARM_UP_STEPS = 3


def rate(step: Callable[[], object], batch: int, seconds: float) -> float:
    """Images per second of a step, after warming up."""
    for _ in range(WARM_UP_STEPS):
        step()
    synchronize()
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        step()
        synchronize()
        steps += 1
    return steps * batch / (time.perf_counter() - started)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def bare_step(
    model: str, size: int, batch: int, device: str, layout: torch.memory_format, bf16: bool
) -> Callable[[], object]:
    """Forward, backward and AdamW on tensors that lie ready."""
    network = get_model(model, NUM_CLASSES, "none").to(device).to(memory_format=layout).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    images = torch.randn(batch, 3, size, size, device=device).to(memory_format=layout)
    targets = torch.randint(0, NUM_CLASSES, (batch,), device=device)
    kind = torch.device(device).type

    def step() -> None:
        with torch.autocast(kind, torch.bfloat16, enabled=bf16):
            loss = torch.nn.functional.cross_entropy(network(images).float(), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def loop_rate(model: str, size: int, batch: int, hardware: Hardware, num_steps: int) -> float:
    """Images per second of the project's loop in its second epoch: reading, augmenting, copying, training."""
    num = batch * num_steps
    with tempfile.TemporaryDirectory() as folder:
        pixels = np.random.default_rng(0).integers(0, 256, (num, size, size, 3), np.uint8)
        np.save(Path(folder, "pixels.npy"), pixels)
        accelerator = make_accelerator(hardware)
        network = get_model(model, NUM_CLASSES, "none").to(accelerator.device).to(memory_format=torch.channels_last)
        normalise = Normalise((0.5,) * 3, (0.5,) * 3).to(accelerator.device)
        cached = CachedImages(Path(folder), [str(row) for row in range(num)], "brightfield", 0)
        batches = Batches(cached, hardware.num_workers, pin_memory=hardware.is_cuda)
        rows, none = np.arange(num), np.empty(0, np.int64)
        trainer = MemberTrainer(
            network, normalise, FoldData(0, rows, none, none), rows % NUM_CLASSES, NUM_CLASSES, batches,
            Finetune(epochs=3, validation_fraction=0), batch, 0, Path(folder), accelerator,
        )  # fmt: skip
        rates: list[float] = []
        trainer.run(lambda row: rates.append(row["images_per_second"]), lambda _: None)
        accelerator.free_memory()
    return max(rates[1:])


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", default="resnext50_32x4d")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--loop-steps", type=int, default=0, help="steps an epoch of the loop; 0 chooses")
    asked = parser.parse_args(arguments)
    hardware = choose_hardware(asked.device, "auto", "auto")
    print(f"{asked.model} at {asked.size} px, batch {asked.batch}, {hardware}")
    first = None
    for name, layout, bf16 in (
        ("eager fp32", torch.contiguous_format, False),
        ("channels_last fp32", torch.channels_last, False),
        ("channels_last bf16", torch.channels_last, True),
    ):
        found = rate(
            bare_step(asked.model, asked.size, asked.batch, hardware.device, layout, bf16), asked.batch, asked.seconds
        )
        first = first or found
        print(f"  step, {name:<20} {found:9.1f} images/s  {found / first:5.2f} x eager fp32")
    steps = asked.loop_steps or (100 if hardware.is_cuda else 6)
    whole = loop_rate(asked.model, asked.size, asked.batch, hardware, steps)
    print(f"  whole loop                {whole:9.1f} images/s  {whole / found:5.2f} x the last step")


if __name__ == "__main__":
    main()
