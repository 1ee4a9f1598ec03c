"""One network whose weights are the mean of a run's members': Wortsman et al. 2022, arXiv:2203.05482.

It costs a k-th of the members' average and can come close to it where all started from the same weights; between
members that began elsewhere lie weights that answer nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from microscopy_cls.model.answers import Squares
from microscopy_cls.model.graph import Graph
from microscopy_cls.system.hardware import answering_device

Tensors = Mapping[str, torch.Tensor]
BATCH_SIZE = 64
STATISTICS = ("running_mean", "running_var")


def mean_weights(members: Sequence[Tensors]) -> dict[str, torch.Tensor]:
    """The mean of each tensor, summed in double precision; of counters the first member's.

    Args:
        members: weights of one architecture, one or more.
    """
    first = members[0]
    return {
        name: torch.stack([one[name].double() for one in members]).mean(0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor.clone()
        for name, tensor in first.items()
    }


def share_statistics(members: Sequence[Tensors]) -> bool:
    """Whether the members' batch norms have the same statistics, as where they were frozen; or there are none."""
    names = [name for name in members[0] if name.endswith(STATISTICS)]
    return all(torch.equal(members[0][name], one[name]) for one in members for name in names)


def measure_statistics(graph: Graph, squares: Squares, device: str = "auto") -> None:
    """Set the batch norms' statistics to those of images: averaged weights do not have the averaged statistics.

    Args:
        graph: the network, changed in place.
        squares: uint8 (n, size_px, size_px, 3), mixed: batches of one class would hide how classes differ. They are
            read a batch at a time.
        device: `runtime.device`, see `answering_device`.
    """
    device = answering_device(device)
    graph.to(device)
    norms = [module for module in graph.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    graph.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a mean over all batches, each counting the same
        norm.train()
    num = max(1, len(squares) // BATCH_SIZE)  # batches of nearly equal size, none of a single image
    edges = [len(squares) * place // num for place in range(num + 1)]
    with torch.no_grad():
        for start, end in pairwise(edges):
            graph(torch.from_numpy(np.ascontiguousarray(squares[start:end])).to(device))
    graph.eval()
