"""OpenVINO: the fast way on CPUs. All members are one graph with one input, so they share threads and memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.inference.engines.engine import Outputs
from microscopy_cls.model.bundle import BundleInfo, Member
from microscopy_cls.model.int8 import int8_graphs
from microscopy_cls.model.pipeline import Pipeline
from microscopy_cls.model.vino import import_openvino, member_graph, openvino_core


class OpenVinoEngine:
    """Members as one compiled graph; several batches are under way at once."""

    name = "openvino"
    device = "cpu"

    def __init__(
        self, folder: Path, info: BundleInfo, members: Sequence[Member], precision: str, batch_size: int
    ) -> None:
        self.precision, self.batch_size = precision, batch_size
        openvino = import_openvino()
        if precision == "int8":
            graphs = [openvino_core().read_model(path) for path in int8_graphs(folder, info, members)]
        else:
            graphs = [member_graph(folder, info, member) for member in members]
        self._pipeline = Pipeline(_joined(openvino, graphs), precision, batch_size)

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Outputs]:
        """See `Engine.run`."""
        with closing(self._pipeline.run(batches)) as answers:
            for *logits, features in answers:
                yield Outputs(np.stack(logits), features)


def _joined(openvino: Any, graphs: list[Any]) -> Any:
    """One graph with the first one's input; results are each graph's logits, then the first one's features."""
    shared = graphs[0].get_parameters()[0]
    for graph in graphs[1:]:
        graph.get_parameters()[0].output(0).replace(shared.output(0))
    results = [graph.get_results()[0] for graph in graphs] + [graphs[0].get_results()[1]]
    return openvino.Model(results, [shared], "members")
