"""A bundle's members as one graph for other programs: squares in, calibrated probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from microscopy_cls.model.bundle import BundleInfo, Member, scaling_of
from microscopy_cls.model.doubt import Scaling
from microscopy_cls.model.graph import Graph, exported, load_graph, to_openvino, write_onnx
from microscopy_cls.model.vino import import_openvino

Format = Literal["onnx", "openvino"]
INPUT, OUTPUTS = "image", ("probabilities", "features")
MODEL_FILE: dict[Format, str] = {"onnx": "model.onnx", "openvino": "model.xml"}


class Portable(nn.Module):
    """The arithmetic of a classification: uint8 (n, size_px, size_px, 3) to two float32 tensors.

    These are probabilities (n, classes), the mean over the members' calibrated ones and over the views, and the first
    member's features (n, d) of the first view.

    Args:
        graphs: of the members.
        scalings: of their logits.
        mirrors: axes that each view runs through backwards; `((),)` for the image alone.
    """

    factors: torch.Tensor
    biases: torch.Tensor

    def __init__(
        self, graphs: Sequence[Graph], scalings: Sequence[Scaling], mirrors: Sequence[tuple[int, ...]]
    ) -> None:
        super().__init__()
        self.graphs, self.mirrors = nn.ModuleList(graphs), tuple(mirrors)
        factors = np.stack([scaling.scale / scaling.temperature for scaling in scalings])
        biases = np.stack([scaling.bias for scaling in scalings])
        self.register_buffer("factors", torch.from_numpy(factors[:, None]).float())  # (members, 1, classes)
        self.register_buffer("biases", torch.from_numpy(biases[:, None]).float())

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Probabilities and features."""
        views = torch.cat([pixels.flip(axes) if axes else pixels for axes in self.mirrors])
        answers = [graph(views) for graph in self.graphs]
        logits = torch.stack([logits for logits, _ in answers])
        probs = (logits * self.factors + self.biases).softmax(-1).mean(0)
        return probs.reshape(len(self.mirrors), -1, probs.shape[-1]).mean(0), answers[0][1][: pixels.shape[0]]


def load_portable(
    folder: Path, info: BundleInfo, members: Sequence[Member], mirrors: Sequence[tuple[int, ...]]
) -> Portable:
    """Members of a bundle as one module, in evaluation mode, on the CPU.

    Raises:
        BundleError: a weights file is missing or damaged.
    """
    graphs = [load_graph(folder, info, member) for member in members]
    return Portable(graphs, [scaling_of(info, member) for member in members], mirrors).eval()


def write_portable(portable: Portable, size_px: int, folder: Path, kind: Format) -> Path:
    """Write the graph for batches of any size, weights in fp32; gives the file to open."""
    path = folder / MODEL_FILE[kind]
    if kind == "onnx":
        write_onnx(portable, size_px, path, (INPUT, *OUTPUTS))
        return path
    model = to_openvino(exported(portable, size_px), size_px)
    for port, name in zip((*model.inputs, *model.outputs), (INPUT, *OUTPUTS), strict=True):
        port.get_tensor().set_names({name})
    import_openvino().save_model(model, path, compress_to_fp16=False)
    return path
