"""A member as a graph that other engines run: uint8 pixels in, logits and features out, preprocessing inside."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from microscopy_cls.model.bundle import BundleInfo, Member
from microscopy_cls.model.forward import features_and_logits
from microscopy_cls.model.members import load_member, member_weights
from microscopy_cls.model.preprocess import Normalise
from microscopy_cls.model.vino import decoded, has_openvino, import_openvino
from microscopy_cls.system.files import sha256_of_file

EXAMPLE_BATCH = 2  # an exported graph with one example would be specialised to one
MAX_BATCH = 4096


class Graph(nn.Module):
    """A classifier with its normalisation: uint8 (b, size_px, size_px, 3) to logits (b, classes), features (b, d)."""

    def __init__(self, network: nn.Module, normalise: Normalise) -> None:
        super().__init__()
        self.network, self.normalise = network, normalise

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalise and classify."""
        features, logits = features_and_logits(self.network, self.normalise(pixels))
        return logits.float(), features.float()


def load_graph(folder: Path, info: BundleInfo, member: Member) -> Graph:
    """A bundle's member with its preprocessing, in evaluation mode, on the CPU."""
    settings = info.preprocessing
    return Graph(load_member(folder, info, member), Normalise(settings.mean, settings.std)).eval()


def exported(graph: nn.Module, size_px: int) -> torch.export.ExportedProgram:
    """A graph of uint8 `pixels` (b, size_px, size_px, 3) without Python, for batches of any size."""
    example = torch.zeros(EXAMPLE_BATCH, size_px, size_px, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own modules, about each other
        # Not strict, as torch does by default from 2.7 on; 2.6 would analyse timm's Python code instead of running it.
        return torch.export.export(graph, (example,), dynamic_shapes={"pixels": {0: batch}}, strict=False)


def to_openvino(graph: Any, size_px: int) -> Any:
    """An exported graph, decoded or not, as an `openvino.Model` with fp32 weights; input (?, size_px, size_px, 3)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # conversion warns of torch's deprecations
        model = import_openvino().convert_model(graph)
    model.reshape([-1, size_px, size_px, 3])
    return model


def write_onnx(
    graph: nn.Module, size_px: int, path: Path, names: tuple[str, ...] = ("pixels", "logits", "features")
) -> None:
    """Write a graph as ONNX for batches of any size; `names` are those of its input and its two outputs.

    Weights of more than 1.5 GB go into a second file beside it: ONNX's format ends at 2 GB.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            exported(graph, size_px), (), path, dynamo=True, verbose=False, external_data=False,
            input_names=names[:1], output_names=names[1:], dynamic_shapes={"pixels": {0: "batch"}},
        )  # fmt: skip


def add_openvino(folder: Path, info: BundleInfo) -> BundleInfo:
    """Put every member's graph into a bundle's folder; nothing where OpenVINO is not installed.

    Converting takes seconds a member. Done once here, classifying starts in less than one and does without torch.
    """
    if not has_openvino():
        return info
    members, size_px = [], info.preprocessing.size_px
    graph = load_graph(folder, info, info.members[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # decoding warns of torch's deprecations
        program = decoded(exported(graph, size_px))  # once: it shares its weights with the graph, which takes each's
    for member in info.members:
        path = folder / f"openvino_{member.key}.xml"
        graph.network.load_state_dict(member_weights(folder, member))
        model = to_openvino(program, size_px)
        import_openvino().save_model(model, path, compress_to_fp16=False)  # the graph is the member, to the last bit
        digest = sha256_of_file(path.with_suffix(".bin"))
        members.append(member.model_copy(update={"graph": path.name, "graph_sha256": digest}))
    return info.model_copy(update={"members": tuple(members)})
