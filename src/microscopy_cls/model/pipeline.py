"""Batches of one size through an OpenVINO graph, several under way at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.model.vino import numeric_hint, openvino_core

Answers = Sequence[NDArray[Any]]


def filled(pixels: NDArray[np.uint8], batch_size: int) -> NDArray[np.uint8]:
    """Pixels, contiguous, with zeros added up to the batch size.

    With batches of one size an image's answer does not depend, to the last bit, on its neighbours or its place.
    """
    if len(pixels) == batch_size:
        return np.ascontiguousarray(pixels)
    whole = np.zeros((batch_size, *pixels.shape[1:]), np.uint8)
    whole[: len(pixels)] = pixels
    return whole


class Pipeline:
    """A compiled graph on all cores, each with a batch of its own, while the next ones are read.

    Args:
        graph: an `openvino.Model` with pixels in, uint8 (b, size_px, size_px, 3).
        precision: fp32, bf16 or int8.
        batch_size: b.
    """

    def __init__(self, graph: Any, precision: str, batch_size: int) -> None:
        graph = graph.clone()  # shares the weights; the caller's own keeps its shape
        graph.reshape([batch_size, *(side.get_length() for side in list(graph.input(0).partial_shape)[1:])])
        hints = {"PERFORMANCE_HINT": "THROUGHPUT", **numeric_hint(precision)}
        compiled = openvino_core().compile_model(graph, "CPU", hints)
        num_requests = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._idle: deque[Any] = deque(compiled.create_infer_request() for _ in range(num_requests))
        self._batch_size, self._num_outputs = batch_size, len(compiled.outputs)

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Generator[Answers]:
        """What the graph's outputs say of each batch of up to b images, in order; takes some batches ahead.

        One pass at a time; each ends, or is closed, before the next one begins.
        """
        running: deque[tuple[int, Any]] = deque()
        try:
            for pixels in batches:
                if not self._idle:
                    yield self._finish(running)
                whole = filled(pixels, self._batch_size)
                self._idle[0].start_async({0: whole})
                running.append((len(pixels), self._idle.popleft()))
            while running:
                yield self._finish(running)
        finally:  # an interrupted command would end while requests still write, and crash now and then
            for _, request in running:
                request.wait()
                self._idle.append(request)

    def _finish(self, running: deque[tuple[int, Any]]) -> Answers:
        """The outputs of the batch that was begun first, which only then counts as done."""
        num, request = running[0]
        request.wait()
        found = [request.get_output_tensor(place).data[:num].copy() for place in range(self._num_outputs)]
        self._idle.append(running.popleft()[1])
        return found
