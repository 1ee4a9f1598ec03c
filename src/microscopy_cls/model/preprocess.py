"""From uint8 pixels to the network's input: the one normalisation of training, evaluation, classification, export."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class Normalise(nn.Module):
    """uint8 (b, h, w, 3) in 0..255 to float (b, 3, h, w), channels_last, zero mean and unit spread per channel.

    Args:
        mean, std: per channel, of pixels in 0..1, as the pretrained weights saw them.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        means, stds = torch.tensor(mean), torch.tensor(std)
        self.register_buffer("scale", (1 / (255 * stds)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", (-means / stds).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalise on the device where the pixels lie; a permuted NHWC tensor is channels_last already."""
        return pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift
