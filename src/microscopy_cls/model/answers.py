"""What one member of a bundle says of squares, outside of a classification."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.model.bundle import BundleInfo, Member
from microscopy_cls.model.pipeline import Answers, Pipeline, filled
from microscopy_cls.model.vino import has_openvino, member_graph, usual_precision
from microscopy_cls.system.hardware import answering_device
from microscopy_cls.system.progress import bar

if TYPE_CHECKING:
    from microscopy_cls.model.graph import Graph

BATCH_SIZE = 16
LONG = 512  # squares from which on a bar is worth its line

Logits = NDArray[np.float32]
Features = NDArray[np.float32]
Run = Callable[[Iterable[NDArray[np.uint8]]], Generator[Answers]]


class Squares(Protocol):
    """What is asked of the squares: an array is one, and so is what reads them only when asked."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, size_px, size_px, 3)."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> NDArray[np.uint8]: ...


def member_answers(folder: Path, info: BundleInfo, member: Member, squares: Squares) -> tuple[Logits, Features]:
    """Answers of one member, by its OpenVINO graph where that is installed, by torch in fp32 elsewhere and on CUDA.

    The device is the one that the bundle's config names, see `answering_device`.
    OpenVINO computes as the run did, in bf16 where that was chosen: four times as fast, and comparable with the run's
    own answers and features. Bundles whose config does not say are answered in fp32.

    Args:
        folder, info: the bundle.
        member: of the bundle.
        squares: uint8 (n, size_px, size_px, 3), read a batch at a time: a memory map will do.

    Returns:
        logits float32 (n, classes), not calibrated, and features float32 (n, d).

    Raises:
        BundleError: a file of the bundle is missing or damaged.
    """
    return member_runner(folder, info, member)(squares)


def member_runner(folder: Path, info: BundleInfo, member: Member) -> Callable[[Squares], tuple[Logits, Features]]:
    """`member_answers` for more than one set of squares: the network is read and compiled once."""
    runtime = info.config.get("runtime", {})
    device = answering_device(runtime.get("device", "auto"))
    if has_openvino() and device == "cpu":
        precision = usual_precision(runtime.get("precision", "fp32"))
        run: Run = Pipeline(member_graph(folder, info, member), precision, BATCH_SIZE).run
    else:
        from microscopy_cls.model.graph import load_graph

        run = _in_torch(load_graph(folder, info, member), device)
    return lambda squares: _collected(run, _sliced(squares), len(squares), member.name)


def torch_answers(graph: Graph, squares: Squares, device: str = "auto") -> tuple[Logits, Features]:
    """Answers of a network in fp32, on the `answering_device`; as `member_answers`."""
    return _collected(_in_torch(graph, answering_device(device)), _sliced(squares), len(squares), "images")


def graph_answers(graph: Any, squares: Squares, precision: str = "fp32") -> tuple[Logits, Features]:
    """Answers of an `openvino.Model` with pixels in, logits and features out; as `member_answers`."""
    return graph_runner(graph, precision)(_sliced(squares), len(squares))


def graph_runner(graph: Any, precision: str) -> Callable[[Iterable[NDArray[np.uint8]], int], tuple[Logits, Features]]:
    """`graph_answers` for more than one pass, of squares that come in parts.

    The function that is returned takes parts of at most `BATCH_SIZE` squares, at least one part, and the number of all
    squares.
    """
    pipeline = Pipeline(graph, precision, BATCH_SIZE)
    return lambda parts, num: _collected(pipeline.run, parts, num, "images")


def _in_torch(graph: Graph, device: str) -> Run:
    import torch

    graph = graph.to(device).to(memory_format=torch.channels_last)

    def run(parts: Iterable[NDArray[np.uint8]]) -> Generator[Answers]:
        for part in parts:
            with torch.inference_mode():
                found = graph(torch.from_numpy(filled(part, BATCH_SIZE)).to(device))
            yield [answer[: len(part)].cpu().numpy() for answer in found]

    return run


def _sliced(squares: Squares) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, max(1, len(squares)), BATCH_SIZE):  # also without a square: the shapes are the graph's
        yield squares[start : start + BATCH_SIZE]


def _collected(run: Run, parts: Iterable[NDArray[np.uint8]], num: int, what: str) -> tuple[Logits, Features]:
    answers: list[Answers] = []
    with bar(what, num, shown=num >= LONG) as shown, closing(run(parts)) as found:
        for answer in found:
            answers.append(answer)
            shown.update(len(answer[0]))
    logits, features = (np.concatenate(found).astype(np.float32, copy=False) for found in zip(*answers, strict=True))
    return logits, features
