"""OpenVINO: the fast way on CPUs. All members are one graph with one input, so they share threads and memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.inference.engines.engine import Outputs, filled
from microscopy_cls.model.bundle import BundleInfo, Member
from microscopy_cls.model.int8 import int8_graphs
from microscopy_cls.model.vino import import_openvino, member_graph, numeric_hint


class OpenVinoEngine:
    """Members as one compiled graph; several batches are under way at once."""

    name = "openvino"
    device = "cpu"

    def __init__(
        self, folder: Path, info: BundleInfo, members: Sequence[Member], precision: str, batch_size: int
    ) -> None:
        self.precision, self.batch_size = precision, batch_size
        openvino = import_openvino()
        core = openvino.Core()
        if precision == "int8":
            graphs = [core.read_model(path) for path in int8_graphs(folder, info, members)]
        else:
            graphs = [member_graph(folder, info, member) for member in members]
        graph = _joined(openvino, graphs)
        size_px = info.preprocessing.size_px
        graph.reshape([batch_size, size_px, size_px, 3])
        compiled = core.compile_model(graph, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", **numeric_hint(precision)})
        self._num_members = len(members)
        num_requests = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._idle: deque[Any] = deque(compiled.create_infer_request() for _ in range(num_requests))

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Outputs]:
        """See `Engine.run`."""
        running: deque[tuple[int, Any]] = deque()
        try:
            for pixels in batches:
                if not self._idle:
                    yield self._finish(*running.popleft())
                request = self._idle.popleft()
                request.start_async({0: filled(pixels, self.batch_size)})
                running.append((len(pixels), request))
            while running:
                yield self._finish(*running.popleft())
        finally:  # an interrupted command would end while requests still write, and crash now and then
            for _, request in running:
                request.wait()

    def _finish(self, num: int, request: Any) -> Outputs:
        request.wait()
        found = [request.get_output_tensor(place).data[:num].copy() for place in range(self._num_members + 1)]
        self._idle.append(request)
        return Outputs(np.stack(found[:-1]), found[-1])


def _joined(openvino: Any, graphs: list[Any]) -> Any:
    """One graph with the first one's input; results are each graph's logits, then the first one's features."""
    shared = graphs[0].get_parameters()[0]
    for graph in graphs[1:]:
        graph.get_parameters()[0].output(0).replace(shared.output(0))
    results = [graph.get_results()[0] for graph in graphs] + [graphs[0].get_results()[1]]
    return openvino.Model(results, [shared], "members")
