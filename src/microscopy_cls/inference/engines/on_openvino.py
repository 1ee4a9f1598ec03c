"""OpenVINO: the fast way on CPUs. All members are one graph with one input, so they share threads and memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.inference.engines.engine import Outputs, filled
from microscopy_cls.model.bundle import BundleInfo, Member, checked
from microscopy_cls.model.vino import import_openvino

HINTS = {"fp32": "f32", "bf16": "bf16"}


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
        graph = _joined(openvino, [_graph(core, folder, info, member) for member in members])
        size_px = info.preprocessing.size_px
        graph.reshape([batch_size, size_px, size_px, 3])
        settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": HINTS[precision]}
        compiled = core.compile_model(graph, "CPU", settings)
        self._num_members = len(members)
        num_requests = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._idle: deque[Any] = deque(compiled.create_infer_request() for _ in range(num_requests))

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Outputs]:
        """See `Engine.run`."""
        running: deque[tuple[int, Any]] = deque()
        for pixels in batches:
            if not self._idle:
                yield self._finish(*running.popleft())
            request = self._idle.popleft()
            request.start_async({0: filled(pixels, self.batch_size)})
            running.append((len(pixels), request))
        while running:
            yield self._finish(*running.popleft())

    def _finish(self, num: int, request: Any) -> Outputs:
        request.wait()
        found = [request.get_output_tensor(place).data[:num].copy() for place in range(self._num_members + 1)]
        self._idle.append(request)
        return Outputs(np.stack(found[:-1]), found[-1])


def _graph(core: Any, folder: Path, info: BundleInfo, member: Member) -> Any:
    """The member's graph from the bundle, or converted now where the bundle has none."""
    if member.graph is not None:
        checked(folder, str(Path(member.graph).with_suffix(".bin")), member.graph_sha256)
        return core.read_model(folder / member.graph)
    from microscopy_cls.model.graph import exported, load_graph, to_openvino

    size_px = info.preprocessing.size_px
    return to_openvino(exported(load_graph(folder, info, member), size_px), size_px)


def _joined(openvino: Any, graphs: list[Any]) -> Any:
    """One graph with the first one's input; results are each graph's logits, then the first one's features."""
    shared = graphs[0].get_parameters()[0]
    for graph in graphs[1:]:
        graph.get_parameters()[0].output(0).replace(shared.output(0))
    results = [graph.get_results()[0] for graph in graphs] + [graphs[0].get_results()[1]]
    return openvino.Model(results, [shared], "members")
