"""timm's optimiser, schedule, mixup and averaging, set up from plain numbers."""

from __future__ import annotations

import torch
from timm.data import Mixup  # noqa: TID251  training uses timm's parts
from timm.optim import create_optimizer_v2  # noqa: TID251
from timm.scheduler import CosineLRScheduler  # noqa: TID251
from torch import nn
from torch.nn import functional

from microscopy_cls.config.schema import Finetune


def make_optimizer(model: nn.Module, settings: Finetune) -> torch.optim.Optimizer:
    """AdamW, without decay of biases and norms; each layer's rate is `layer_decay` times that of the one above."""
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        model,
        opt="adamw",
        lr=settings.peak_rate,
        weight_decay=settings.weight_decay,
        fused=True,  # one pass over the weights: a fifth of a small step otherwise goes to their update
        layer_decay=settings.layer_decay if settings.layer_decay < 1 else None,
    )
    return optimizer


def make_schedule(optimizer: torch.optim.Optimizer, settings: Finetune, steps_per_epoch: int) -> CosineLRScheduler:
    """Linear warm-up, then a half cosine, set a step: a function of the step number alone, so nothing to save."""
    num_steps = settings.epochs * steps_per_epoch
    warmup = min(round(settings.warmup_epochs * steps_per_epoch), num_steps - 1)
    return CosineLRScheduler(
        optimizer,
        t_initial=max(1, num_steps - warmup),
        lr_min=settings.min_learning_rate,
        warmup_t=warmup,
        warmup_lr_init=settings.peak_rate / 100,
        warmup_prefix=True,
        t_in_epochs=False,
    )


def make_mixup(settings: Finetune, num_classes: int) -> Mixup | None:
    """Mixup (arXiv:1710.09412) and CutMix (arXiv:1905.04899) by halves where both are on; None where neither is."""
    if settings.mixup == 0 and settings.cutmix == 0:
        return None
    return Mixup(settings.mixup, settings.cutmix, label_smoothing=0.0, num_classes=num_classes)


def mix(mixup: Mixup, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch mixed in pairs. The last image of an odd one, as a small set makes, has no partner and stays as it is.

    Args:
        images: (b, 3, h, w), which may be changed in place.
        targets: class indices, int64 (b,).

    Returns:
        Images and float targets (b, classes).
    """
    num = len(images) // 2 * 2
    pairs: tuple[torch.Tensor, torch.Tensor] = mixup(images[:num], targets[:num])
    if num == len(images):
        return pairs
    alone = functional.one_hot(targets[num:], mixup.num_classes)
    return torch.cat([pairs[0], images[num:]]), torch.cat([pairs[1], alone.to(pairs[1])])
