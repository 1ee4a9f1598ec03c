"""Shortcuts and orders of a ResNeXt's blocks that He et al. 2016 compare: arXiv:1603.05027, "Identity mappings".

A variant is built from timm's network, whose convolutions and their names it keeps, so weights files fit as far as they
go, and stages, layer groups, features and exports are found where timm has them.
"""

from __future__ import annotations

from typing import Any, cast

import timm  # noqa: TID251  the model room's library
import torch
from timm.models.resnet import Bottleneck  # noqa: TID251
from torch import nn

from microscopy_cls.config.schema import Activation, Shortcut
from microscopy_cls.model.resnext import NUM_STAGES

GATE_BIAS = -6.0  # the paper's best start of the gate (its table 1): shortcuts begin as good as open


class Identity(nn.Module):
    """x + F(x): the shortcut of the original network."""

    def forward(self, x: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        """Join the block's input and what its convolutions made of it, both (b, c, h, w)."""
        return x + branch


class Scaled(Identity):
    """x / 2 + F(x) / 2: constant scaling of both, the one form of it that the paper could train."""

    def forward(self, x: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        """Join."""
        return 0.5 * x + 0.5 * branch


class Gated(Identity):
    """(1 - g(x)) x + F(x), g a 1 x 1 convolution and a sigmoid: shortcut-only gating, the best gate of the paper.

    Each channel at each position has a gate of its own. The paper's exclusive gating also multiplies F by g.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(num_channels, num_channels, 1)
        self.sigmoid = nn.Sigmoid()
        nn.init.kaiming_normal_(self.gate.weight, mode="fan_out", nonlinearity="sigmoid")
        nn.init.constant_(cast(torch.Tensor, self.gate.bias), GATE_BIAS)

    def forward(self, x: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        """Join."""
        joined: torch.Tensor = (1 - self.sigmoid(self.gate(x))) * x + branch
        return joined


class Projected(Identity):
    """P(x) + F(x), P a 1 x 1 convolution and a batch norm, as where a stage begins."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_channels, num_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(num_channels)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")  # as timm's own projections

    def forward(self, x: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        """Join."""
        joined: torch.Tensor = self.bn(self.conv(x)) + branch
        return joined


class Residual(nn.Module):
    """A bottleneck with another shortcut: normalise and rectify after each convolution, and rectify the sum.

    Where a stage begins, input and output differ in shape: there the shortcut stays the projection that it is.

    Args:
        block: timm's, whose layers are taken over under their names.
        join: makes one of both paths.
    """

    def __init__(self, block: Bottleneck, join: Identity) -> None:
        super().__init__()
        self.conv1, self.bn1, self.act1 = block.conv1, block.bn1, block.act1
        self.conv2, self.bn2, self.drop_block = block.conv2, block.bn2, block.drop_block
        self.act2, self.aa = block.act2, block.aa
        self.conv3, self.bn3, self.act3 = block.conv3, block.bn3, block.act3
        self.se, self.drop_path = block.se or nn.Identity(), block.drop_path or nn.Identity()
        self.downsample = block.downsample
        self.join = join if block.downsample is None else Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (b, c_in, h, w) to (b, c_out, h_out, w_out)."""
        branch = self.act1(self.bn1(self.conv1(x)))
        branch = self.aa(self.act2(self.drop_block(self.bn2(self.conv2(branch)))))
        branch = self.drop_path(self.se(self.bn3(self.conv3(branch))))
        shortcut = x if self.downsample is None else self.downsample(x)
        joined: torch.Tensor = self.act3(self.join(shortcut, branch))
        return joined


class PreResidual(Residual):
    """The same, but normalising and rectifying before each convolution, and nothing after the sum (figure 4 (e)).

    The projection where a stage begins sees the rectified input too and has no norm of its own. The network's last
    block normalises and rectifies its sum.

    Args:
        last: whether this is the network's last block.
    """

    def __init__(self, block: Bottleneck, join: Identity, *, last: bool) -> None:
        super().__init__(block, join)
        inputs, widths = block.conv1.in_channels, (block.conv1.out_channels, block.conv2.out_channels)
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(num) for num in (inputs, *widths))
        nn.init.zeros_(block.conv3.weight)  # blocks begin as their shortcuts, which timm's post form does by bn3
        if block.downsample is not None:
            self.downsample = nn.Sequential(*list(block.downsample)[:-1])
        outputs = block.conv3.out_channels
        self.bn4 = nn.BatchNorm2d(outputs) if last else nn.Identity()
        self.act4 = nn.ReLU(inplace=True) if last else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (b, c_in, h, w) to (b, c_out, h_out, w_out)."""
        ready = self.act1(self.bn1(x))
        branch = self.act2(self.drop_block(self.bn2(self.conv1(ready))))
        branch = self.act3(self.bn3(self.aa(self.conv2(branch))))
        branch = self.drop_path(self.se(self.conv3(branch)))
        shortcut = x if self.downsample is None else self.downsample(ready)
        joined: torch.Tensor = self.act4(self.bn4(self.join(shortcut, branch)))
        return joined


def build(
    name: str, *, shortcut: Shortcut = "identity", activation: Activation = "post", **arguments: Any
) -> nn.Module:
    """`timm.create_model`, and the variant of it that is asked for; `check_shape` refuses what has none."""
    network = cast(nn.Module, timm.create_model(name, **arguments))
    if (shortcut, activation) != ("identity", "post"):
        _vary(network, shortcut, activation)
    return network


def _vary(network: nn.Module, shortcut: Shortcut, activation: Activation) -> None:
    stages = [cast(nn.Sequential, network.get_submodule(f"layer{number}")) for number in range(1, NUM_STAGES + 1)]
    for stage in stages:
        for place, block in enumerate(stage):
            join = _join(shortcut, cast(Any, block).conv3.out_channels)
            last = stage is stages[-1] and place == len(stage) - 1
            stage[place] = PreResidual(block, join, last=last) if activation == "pre" else Residual(block, join)
    if activation == "pre":  # the first block's own norm comes next: the paper's, "before splitting into two paths"
        network.add_module("bn1", nn.Identity())
        network.add_module("act1", nn.Identity())


def _join(shortcut: Shortcut, num_channels: int) -> Identity:
    if shortcut == "gated":
        return Gated(num_channels)
    if shortcut == "projected":
        return Projected(num_channels)
    return Scaled() if shortcut == "scaled" else Identity()
