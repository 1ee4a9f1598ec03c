"""OpenVINO's one entrance, imported late and without its telemetry, and the graphs that it runs."""

from __future__ import annotations

import importlib.util
import logging
import sys
from functools import cache
from pathlib import Path
from typing import Any

from microscopy_cls.errors import MissingDependencyError
from microscopy_cls.model.bundle import BundleInfo, Member, checked
from microscopy_cls.system.hardware import cpu_has_bf16


def has_openvino() -> bool:
    """Whether it is installed."""
    return importlib.util.find_spec("openvino") is not None


def import_openvino() -> Any:
    """The module. It reports each import to a server; without the package that sends, it stays silent.

    Raises:
        MissingDependencyError: it is not installed.
    """
    if not has_openvino():
        raise MissingDependencyError("openvino", "cpu", "The engine openvino")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: importing it fails
    import openvino  # noqa: TID251  the one entrance

    return openvino


@cache
def openvino_core() -> Any:
    """OpenVINO's core, one a process, which keeps its CPU plugin until the end.

    The plugin gives the thread that loads it a stack for signals and frees that where it is dropped. Dropped by another
    thread, the first one's next signal (a data loader's worker that ends) would run on freed memory.
    """
    return import_openvino().Core()


def member_graph(folder: Path, info: BundleInfo, member: Member) -> Any:
    """A member's `openvino.Model` from the bundle, or converted now where the bundle has none.

    Raises:
        BundleError: a file is missing or damaged.
    """
    if member.graph is not None:
        checked(folder, str(Path(member.graph).with_suffix(".bin")), member.graph_sha256)
        return openvino_core().read_model(folder / member.graph)
    from microscopy_cls.model.graph import exported, load_graph, to_openvino

    size_px = info.preprocessing.size_px
    return to_openvino(exported(load_graph(folder, info, member), size_px), size_px)


def decoded(program: Any) -> Any:
    """A `torch.export.ExportedProgram` as `convert_model` reads it: nine tenths of a conversion, here done once.

    It shares its weights with the program, so it converts anew to whatever they have become.
    """
    import_openvino()
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder  # noqa: TID251  the one entrance

    logging.root.addFilter(_is_news)
    try:
        return TorchFXPythonDecoder.from_exported_program(program)
    finally:
        logging.root.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """OpenVINO tells, with a traceback, of operations that this torch decomposes by itself."""
    return "not found in decomp table" not in record.getMessage()


def usual_precision(asked: str) -> str:
    """`fp32` or `bf16`, as a run computes on a CPU whose `runtime.precision` is `asked`."""
    return "bf16" if asked == "bf16" or (asked == "auto" and cpu_has_bf16()) else "fp32"


def numeric_hint(precision: str) -> dict[str, str]:
    """What to compile a graph with. What int8 graphs keep in floating point runs in bf16 where the CPU has it."""
    hints = {"fp32": "f32", "bf16": "bf16", "int8": "bf16" if cpu_has_bf16() else "f32"}
    return {"INFERENCE_PRECISION_HINT": hints[precision]}
