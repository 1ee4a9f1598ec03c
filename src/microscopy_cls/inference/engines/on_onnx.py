"""ONNX Runtime on the CPU: for those who compare, or have no OpenVINO. Converts at the start (seconds a member)."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.errors import MissingDependencyError
from microscopy_cls.inference.engines.engine import Outputs
from microscopy_cls.model.bundle import BundleInfo, Member
from microscopy_cls.model.graph import load_graph, write_onnx
from microscopy_cls.model.pipeline import filled
from microscopy_cls.system.hardware import num_cores


class OnnxEngine:
    """Members run one after the other on each batch, in fp32."""

    name, device, precision = "onnx", "cpu", "fp32"

    def __init__(self, folder: Path, info: BundleInfo, members: Sequence[Member], batch_size: int) -> None:
        require_onnx("The engine onnx")
        self.batch_size = batch_size
        self._sessions = [_session(folder, info, member) for member in members]

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Outputs]:
        """See `Engine.run`."""
        for pixels in batches:
            inputs = {"pixels": filled(pixels, self.batch_size)}
            answers = [session.run(["logits", "features"], inputs) for session in self._sessions]
            num = len(pixels)
            yield Outputs(np.stack([logits[:num] for logits, _ in answers]), answers[0][1][:num])


def require_onnx(purpose: str) -> None:
    """See to it that ONNX can be written and run.

    Raises:
        MissingDependencyError: a library for it is not installed; `purpose` begins the sentence.
    """
    for library in ("onnxruntime", "onnx", "onnxscript"):
        if importlib.util.find_spec(library) is None:
            raise MissingDependencyError(library, "cpu", purpose)


def open_session(path: Path) -> Any:
    """An ONNX file as an `InferenceSession` on the CPU."""
    import onnxruntime  # noqa: TID251  an engine

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_cores()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _session(folder: Path, info: BundleInfo, member: Member) -> Any:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "member.onnx")
        write_onnx(load_graph(folder, info, member), info.preprocessing.size_px, path)
        return open_session(path)
