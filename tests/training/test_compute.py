"""Laws of what a training computes on: device, memory, mixed batches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import PartialState
from torch import nn

from microscopy_cls.config.schema import Finetune
from microscopy_cls.model import get_model
from microscopy_cls.model.preprocess import Normalise
from microscopy_cls.system.hardware import Hardware
from microscopy_cls.training import compute
from microscopy_cls.training.compute import automatic_batch, largest_batch, make_accelerator, try_steps
from microscopy_cls.training.optim import make_mixup, mix

CPU = Hardware("cpu", "fp32", 1, 0)
NORMALISE = Normalise((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_an_experiment_does_not_take_over_the_device_of_the_one_before() -> None:
    make_accelerator(CPU)
    PartialState._shared_state["device"] = torch.device("meta")
    assert make_accelerator(CPU).device == torch.device("cpu")


@pytest.mark.parametrize(
    ("num_images", "num_processes", "device", "expected"),
    [(1000, 1, "cuda", 64), (1000, 8, "cuda", 8), (1000, 1, "cpu", 32), (10**6, 8, "cuda", 256), (20, 8, "cuda", 4)],
)
def test_processes_share_the_images_of_an_automatic_step(
    num_images: int, num_processes: int, device: str, expected: int
) -> None:
    assert automatic_batch(num_images, num_processes, device) == expected


def test_the_batch_is_halved_until_a_step_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def steps(model: nn.Module, normalise: nn.Module, shape: tuple[int, ...], *_: object) -> None:
        tried.append(shape)
        if shape[0] > 16:
            raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(compute, "try_steps", steps)
    gpu = cast("Accelerator", SimpleNamespace(device=torch.device("cuda")))
    assert largest_batch(nn.Linear(1, 1), NORMALISE, 32, 64, Finetune(), gpu) == 16
    assert tried == [(64, 32, 32, 3), (32, 32, 32, 3), (16, 32, 32, 3)]


def test_a_tried_step_holds_the_moments_and_the_average_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}
    for name in ("make_optimizer", "ModelEmaV3"):
        monkeypatch.setattr(compute, name, _kept(made, name, getattr(compute, name)))
    network = get_model("test_resnet", 3, "none")
    try_steps(network, NORMALISE, (2, 32, 32, 3), Finetune(ema_decay=0.9), make_accelerator(CPU))
    moments = made["make_optimizer"].state
    assert all({"exp_avg", "exp_avg_sq"} <= set(moments[parameter]) for parameter in network.parameters())
    assert made["ModelEmaV3"].module is not network


def _kept(made: dict[str, Any], name: str, make: Any) -> Any:
    def kept(*arguments: Any) -> Any:
        made[name] = make(*arguments)
        return made[name]

    return kept


@pytest.mark.parametrize("num", [1, 5, 6])
@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_all_images_but_the_last_of_an_odd_batch_are_mixed(num: int, options: dict[str, float]) -> None:
    np.random.seed(0)
    mixup = make_mixup(Finetune(**options), 6)  # type: ignore[arg-type]
    assert mixup is not None
    before, classes = torch.randn(num, 3, 16, 16), torch.arange(num)
    images, targets = mix(mixup, before.clone(), classes)
    assert images.shape == before.shape
    torch.testing.assert_close(targets.sum(1), torch.ones(num))
    is_mixed = [not torch.equal(one, other) for one, other in zip(images, before, strict=True)]
    assert is_mixed == [place < num // 2 * 2 for place in range(num)]
    assert [int((row > 0).sum()) for row in targets] == [1 + mixed for mixed in is_mixed]
