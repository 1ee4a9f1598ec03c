"""Every branch that only a CUDA device takes, once, in seconds: run before anything is timed there.

usage: python -m benchmarks.gpu_smoke
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from microscopy_cls.config.schema import Finetune
from microscopy_cls.dataset.batches import Batches, CachedImages
from microscopy_cls.model import get_model
from microscopy_cls.model.preprocess import Normalise
from microscopy_cls.system.hardware import choose_hardware
from microscopy_cls.training.compute import largest_batch, make_accelerator, predict, to_device
from microscopy_cls.training.fold_data import FoldData
from microscopy_cls.training.member import MemberTrainer

SIZE_PX, NUM_IMAGES, NUM_CLASSES = 64, 96, 3


def main() -> None:
    """Exit with an assertion where a branch does not do what it should."""
    hardware = choose_hardware("cuda", "auto", 2)
    assert hardware.is_cuda
    assert hardware.precision == "bf16"
    assert choose_hardware("auto", "auto", "auto").device.startswith("cuda")
    assert choose_hardware("auto", "auto", "auto").num_workers > 0
    accelerator = make_accelerator(hardware)
    assert accelerator.device.type == "cuda"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        labels = np.arange(NUM_IMAGES) % NUM_CLASSES
        level = (60 + 60 * labels)[:, None, None, None]
        pixels = np.clip(rng.normal(level, 25, (NUM_IMAGES, SIZE_PX, SIZE_PX, 3)), 0, 255).astype(np.uint8)
        np.save(folder / "pixels.npy", pixels)
        cached = CachedImages(folder, [str(row) for row in range(NUM_IMAGES)], "brightfield", 0)
        batches = Batches(cached, hardware.num_workers, pin_memory=True)
        check_copies(batches)
        normalise = Normalise((0.5,) * 3, (0.5,) * 3).to(accelerator.device)
        check_largest_batch(normalise, accelerator)
        data = FoldData(0, np.arange(0, 64), np.arange(64, 80), np.arange(80, 96))
        for number, settings in enumerate(
            (
                Finetune(epochs=4, batch_size=16, learning_rate=2e-3),
                Finetune(epochs=4, batch_size=16, mixup=0.2, cutmix=0.5, ema_decay=0.9, class_weights="balanced"),
            )
        ):
            place = folder / str(number)
            whole = train(settings, data, labels, batches, normalise, accelerator, place / "whole", stop_after=None)
            train(settings, data, labels, batches, normalise, accelerator, place / "parts", stop_after=2)
            parts = train(settings, data, labels, batches, normalise, accelerator, place / "parts", stop_after=None)
            assert whole.logits.shape == parts.logits.shape == (16, NUM_CLASSES)
            assert np.isfinite(parts.logits).all()
            gap = np.abs(whole.logits - parts.logits).max()
            right = (parts.logits.argmax(1) == labels[80:]).mean()
            print(f"settings {number}: right {right:.2f}, resumed differs by {gap:.3g}")
    print("every CUDA branch ran")


class StoppedError(Exception):
    """Ends a training in the middle."""


def train(settings, data, labels, batches, normalise, accelerator, folder, stop_after):
    """Train, perhaps interrupted after some epochs, and predict the test rows."""
    torch.manual_seed(0)
    network = get_model("resnext26ts", NUM_CLASSES, "none").to(accelerator.device).to(memory_format=torch.channels_last)
    trainer = MemberTrainer(
        network, normalise, data, labels, NUM_CLASSES, batches, settings, 16, 0, folder, accelerator
    )
    seen = 0

    def on_epoch(_: dict[str, float]) -> None:
        nonlocal seen
        seen += 1
        if stop_after is not None and seen > stop_after:
            raise StoppedError

    trainer.restore()
    try:
        chosen = trainer.run(on_epoch, lambda _: None)
    except StoppedError:
        return None
    finally:
        accelerator.free_memory()
    return predict(chosen, normalise, batches.plain(data.test, 16), accelerator)


def check_copies(batches: Batches) -> None:
    """Batches arrive pinned, are copied asynchronously, in order, and the workers live on."""
    rows = np.arange(NUM_IMAGES)
    for batch in batches.plain(rows, 16):
        assert batch.pixels.is_pinned()
    moved = [batch.rows.cpu() for batch in to_device(batches.plain(rows, 16), torch.device("cuda"))]
    assert torch.cat(moved).tolist() == rows.tolist()


def check_largest_batch(normalise, accelerator) -> None:
    """A batch that does not fit is halved until it does."""
    network = get_model("resnext26ts", NUM_CLASSES, "none").to("cuda").to(memory_format=torch.channels_last)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 3e9 / total))
    found = largest_batch(network, normalise, 128, 4096, accelerator)
    torch.cuda.set_per_process_memory_fraction(1.0)
    assert 1 < found < 4096, found
    print(f"batch 4096 in 3 GB became {found}")


if __name__ == "__main__":
    main()
