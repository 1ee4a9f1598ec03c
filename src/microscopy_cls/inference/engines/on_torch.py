"""Torch: on CUDA the fast way, on a CPU the reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from microscopy_cls.inference.engines.engine import Outputs
from microscopy_cls.model.bundle import BundleInfo, Member
from microscopy_cls.model.graph import load_graph
from microscopy_cls.model.pipeline import filled

AHEAD = 2  # batches queued on the device while the next one is read


class TorchEngine:
    """Members run one after the other on each batch, channels_last, in fp32 or under bf16 autocast.

    `compiled` members are fused by torch's compiler at the first batch, which takes it most of a minute.
    """

    name = "torch"

    def __init__(
        self,
        folder: Path,
        info: BundleInfo,
        members: Sequence[Member],
        device: str,
        precision: str,
        batch_size: int,
        *,
        compiled: bool = False,
    ) -> None:
        self.device, self.precision, self.batch_size = device, precision, batch_size
        graphs = [load_graph(folder, info, member) for member in members]
        moved = [graph.to(device).to(memory_format=torch.channels_last) for graph in graphs]
        self._graphs = [torch.compile(graph) if compiled else graph for graph in moved]

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Outputs]:
        """See `Engine.run`. Results come back from a CUDA device some batches later, so that it never waits."""
        waiting: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        ahead = AHEAD if self.device.startswith("cuda") else 0
        for pixels in batches:
            waiting.append((len(pixels), *self._compute(pixels)))
            if len(waiting) > ahead:
                yield _outputs(*waiting.pop(0))
        for left in waiting:
            yield _outputs(*left)

    @torch.inference_mode()
    def _compute(self, pixels: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        batch = torch.from_numpy(filled(pixels, self.batch_size)).to(self.device)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.precision == "bf16"):
            answers = [graph(batch) for graph in self._graphs]
        return torch.stack([logits for logits, _ in answers]), answers[0][1]


def _outputs(num: int, logits: torch.Tensor, features: torch.Tensor) -> Outputs:
    return Outputs(logits[:, :num].cpu().numpy(), features[:num].cpu().numpy())
