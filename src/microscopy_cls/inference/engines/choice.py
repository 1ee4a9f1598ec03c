"""Which engine, and in which precision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from microscopy_cls.errors import ConfigError
from microscopy_cls.inference.engines.engine import Engine
from microscopy_cls.model.bundle import BundleInfo, Member
from microscopy_cls.model.vino import has_openvino
from microscopy_cls.system.hardware import cpu_has_bf16, has_cuda

ENGINES = ("auto", "torch", "openvino", "onnx")
PRECISIONS = ("auto", "fp32", "bf16", "int8")
_KNOWN = {"torch": ("fp32", "bf16"), "openvino": ("fp32", "bf16", "int8"), "onnx": ("fp32",)}
BATCH_SIZE = {"cpu": 16, "cuda": 128}
# On CUDA, from so many images on: a minute of compiling against a fifth of some 3,000 images/s. An estimate: no CUDA
# machine has measured it yet. The number of images decides, so that a resumed classification computes alike.
COMPILE_FROM = 1_000_000


def choose_engine(engine: str, precision: str) -> tuple[str, str]:
    """Resolve `auto`: torch in bf16 on CUDA; on a CPU OpenVINO where it is installed, in the best that the CPU has.

    `auto` never means int8, which changes some answers and has to be asked for.

    Raises:
        ConfigError: no such engine or precision, or the two do not go together.
    """
    if engine not in ENGINES:
        raise ConfigError(f"--engine {engine}: choose {', '.join(ENGINES)}")
    if precision not in PRECISIONS:
        raise ConfigError(f"--precision {precision}: choose {', '.join(PRECISIONS)}")
    on_cuda = engine in ("auto", "torch") and has_cuda()
    name = engine if engine != "auto" else "torch" if on_cuda or not has_openvino() else "openvino"
    if precision == "auto":
        gains = "bf16" in _KNOWN[name] and (on_cuda or cpu_has_bf16())
        precision = "bf16" if gains else "fp32"
    if precision not in _KNOWN[name]:
        raise ConfigError(f"--precision {precision}: the engine {name} computes in {', '.join(_KNOWN[name])} only")
    return name, precision


def open_engine(
    folder: Path, info: BundleInfo, members: Sequence[Member], engine: str, precision: str, num_images: int = 0
) -> Engine:
    """A bundle's members ready to answer `num_images` (0: unknown), on the engine that `choose_engine` gives.

    Raises:
        BundleError: a file of the bundle is missing or damaged.
        MissingDependencyError: the engine is not installed.
    """
    name, precision = choose_engine(engine, precision)
    if name == "openvino":
        from microscopy_cls.inference.engines.on_openvino import OpenVinoEngine

        return OpenVinoEngine(folder, info, members, precision, BATCH_SIZE["cpu"])
    if name == "onnx":
        from microscopy_cls.inference.engines.on_onnx import OnnxEngine

        return OnnxEngine(folder, info, members, BATCH_SIZE["cpu"])
    from microscopy_cls.inference.engines.on_torch import TorchEngine

    device = "cuda" if has_cuda() else "cpu"
    compiled = device == "cuda" and num_images >= COMPILE_FROM
    return TorchEngine(folder, info, members, device, precision, BATCH_SIZE[device], compiled=compiled)
