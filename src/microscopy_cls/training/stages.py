"""Which layers train: all, or the stages from the classifier down to some depth."""

from __future__ import annotations

from typing import Any, cast

from timm.models import group_parameters  # noqa: TID251  training uses timm's parts
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from microscopy_cls.errors import ConfigError


def stage_names(network: nn.Module) -> list[list[str]]:
    """Names of a timm network's parameters, a list a stage, the classifier's first and the stem's last.

    Raises:
        ConfigError: timm does not tell the network's stages.
    """
    matcher = getattr(network, "group_matcher", None)
    if matcher is None:
        raise ConfigError(
            f"finetune.strategy gradual: timm does not tell the stages of {type(network).__name__}. Choose full or "
            "head_then_full."
        )
    stages = group_parameters(cast(Any, network), matcher(coarse=True))
    return [stages[depth] for depth in sorted(stages, reverse=True)]


def train_top(network: nn.Module, stages: list[list[str]], num: int) -> None:
    """Let the first `num` stages learn, at least one, and hold the others."""
    learning = {name for stage in stages[: max(1, num)] for name in stage}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in learning)


def hold_statistics(network: nn.Module, *, everywhere: bool) -> None:
    """Keep batch norms from following the batches: those whose weights are held, or all of them.

    A norm without weights goes by those of the block around it. Call after each `network.train()`, which lets them
    follow again. Their scales and shifts learn all the same where they are not held.
    """
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and (everywhere or not _learns(network, name)):
            module.eval()


def _learns(network: nn.Module, name: str) -> bool:
    """Whether a weight of this module learns or, where it has none, of the innermost one around it that has some."""
    parameters = list(network.get_submodule(name).parameters())
    if not parameters and name:
        return _learns(network, name.rpartition(".")[0])
    return any(parameter.requires_grad for parameter in parameters)
