"""What a network costs: parameters and operations, counted on a network without numbers, in a tenth of a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import timm.layers  # noqa: TID251  the model room's library
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from microscopy_cls.model.variants import build

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
_ACTIVATIONS = (nn.GELU, nn.LeakyReLU, nn.ReLU, nn.Sigmoid, nn.SiLU, timm.layers.Sigmoid)
_POOLS = (nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.MaxPool2d)


@dataclass(frozen=True)
class Cost:
    """Of one network, for one image.

    Attributes:
        num_params: learnt numbers, the classifier's included.
        num_macs: multiply-adds of convolutions and matrix products. None: it does not take images of this size.
        num_flops: these, plus two for each output of a normalisation, one for each output of an activation and one for
            each input of a pooling: the count of mmpretrain's and mmcv's tables. It is not twice `num_macs`.
    """

    num_params: int
    num_macs: int | None
    num_flops: int | None


def cost_of(name: str, image_size_px: int, *, num_classes: int = 1000, **shape: Any) -> Cost:
    """Count a timm model's parameters and operations. Nothing is computed, downloaded or kept.

    Args:
        name: a timm model.
        image_size_px: side of the square RGB image.
        num_classes: number of logits.
        shape: of a ResNeXt of one's own, as `get_model` takes it: layers, cardinality, shortcut and so on.
    """
    with torch.device("meta"):
        model = build(name, num_classes=num_classes, **shape).eval()
        image = torch.zeros(1, 3, image_size_px, image_size_px)
    num_params = sum(tensor.numel() for tensor in model.parameters())
    counted = _Elementwise(model)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as products:
            model(image)
    except (AssertionError, RuntimeError):  # how timm and torch refuse a size
        return Cost(num_params, None, None)
    num_macs = products.get_total_flops() // 2  # torch counts a multiplication and an addition as two
    return Cost(num_params, num_macs, num_macs + counted.num_operations)


class _Elementwise:
    """Counts, while a network runs, the operations of its layers that are no product of matrices."""

    def __init__(self, model: nn.Module) -> None:
        self.num_operations = 0
        for module in model.modules():
            if isinstance(module, _NORMS + _ACTIVATIONS + _POOLS):
                module.register_forward_hook(self._count)

    def _count(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(module, _POOLS):
            self.num_operations += inputs[0].numel()
        else:
            self.num_operations += output.numel() * (2 if isinstance(module, _NORMS) else 1)
