"""A bundle's networks in torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from microscopy_cls.model.bundle import BundleInfo, Member, checked
from microscopy_cls.model.create import get_model


def save_weights(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write weights as safetensors (not atomically: the caller renames)."""
    save_file({name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}, path)


def load_member(folder: Path, info: BundleInfo, member: Member) -> nn.Module:
    """One member's network in evaluation mode, on the CPU.

    Raises:
        BundleError: the weights file is missing or differs from the one that was written.
    """
    network = get_model(info.architecture, len(info.classes), "none", **info.architecture_options)
    network.load_state_dict(member_weights(folder, member))
    return network.eval()


def member_weights(folder: Path, member: Member) -> dict[str, torch.Tensor]:
    """Its tensors by name, on the CPU.

    Raises:
        BundleError: the weights file is missing or differs from the one that was written.
    """
    tensors: dict[str, torch.Tensor] = load_file(checked(folder, member.file, member.sha256))
    return tensors
