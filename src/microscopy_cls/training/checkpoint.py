"""What a fold needs to go on from its last finished epoch, in one file, without pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from microscopy_cls.system.files import atomic_path

Tensors = dict[str, torch.Tensor]


def save_checkpoint(path: Path, parts: dict[str, Tensors], facts: dict[str, Any]) -> None:
    """Write named groups of tensors and JSON facts atomically.

    Not flushed to disk, which would cost as much as a small epoch: after a power cut the fold may have to start over.
    """
    flat = {f"{part}|{name}": _own(tensor) for part, tensors in parts.items() for name, tensor in tensors.items()}
    with atomic_path(path, durable=False) as temporary:
        save_file(flat, temporary, metadata={"facts": json.dumps(facts)})


def load_checkpoint(path: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Read what `save_checkpoint` wrote, on the CPU.

    Raises:
        SafetensorError: the file is torn.
    """
    parts: dict[str, Tensors] = {}
    with safe_open(path, framework="pt") as handle:
        for key in handle.keys():  # noqa: SIM118  not a mapping
            part, _, name = key.partition("|")
            parts.setdefault(part, {})[name] = handle.get_tensor(key)
        return parts, json.loads(handle.metadata()["facts"])


def model_tensors(model: nn.Module) -> Tensors:
    """A model's weights and buffers."""
    return dict(model.state_dict())


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """An optimiser's moments, as `<parameter number>.<moment>`. Rates come from the schedule and are not kept."""
    states = optimizer.state_dict()["state"]
    return {f"{number}.{name}": tensor for number, state in states.items() for name, tensor in state.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Give an optimiser of the same model the moments that `optimizer_tensors` returned.

    Moments take their weight's memory layout: the fused step walks through memory and would pair other elements.
    """
    weights: list[torch.Tensor] = [weight for group in optimizer.param_groups for weight in group["params"]]
    states: dict[int, Tensors] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        weight = weights[int(number)]
        alike = torch.empty_like(weight).copy_(tensor) if tensor.shape == weight.shape else tensor
        states.setdefault(int(number), {})[name] = alike
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous copy on the CPU: safetensors refuses other layouts and shared memory."""
    return tensor.detach().to("cpu", copy=True).contiguous()
