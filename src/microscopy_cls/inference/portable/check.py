"""Whether a written graph answers as the bundle does in torch, on real images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from microscopy_cls.errors import BundleError
from microscopy_cls.inference.engines.on_onnx import open_session
from microscopy_cls.inference.engines.on_torch import TorchEngine
from microscopy_cls.inference.predictor import Answers, Model, Predictor
from microscopy_cls.inference.views import Axes, views_of
from microscopy_cls.model.bundle import CALIBRATION_INPUTS, BundleInfo, Member, scaling_of
from microscopy_cls.model.export import INPUT, OUTPUTS
from microscopy_cls.model.vino import numeric_hint, openvino_core

BATCH_SIZE = 16
TOLERANCE = 1e-4  # sums in another order make 1e-6; products in bf16, the next thing that goes wrong, make 1e-2

Floats = NDArray[np.float32]
Run = Callable[[NDArray[np.uint8]], tuple[Floats, Floats]]


@dataclass(frozen=True)
class Difference:
    """The largest differences on some images.

    Attributes:
        probs: of a probability.
        features: of a feature, in units of the largest one.
        num_images: that were compared.
    """

    probs: float
    features: float
    num_images: int

    @property
    def is_tolerable(self) -> bool:
        """Whether the graph may be handed out; not where a difference is no number."""
        return self.probs <= TOLERANCE and self.features <= TOLERANCE

    def __str__(self) -> str:
        return f"{self.probs:.1e} (features: {self.features:.1e} of the largest)"


def checking_images(folder: Path) -> NDArray[np.uint8]:
    """The bundle's calibration inputs: training images as the network sees them, uint8 (n, size_px, size_px, 3).

    Raises:
        BundleError: there are none.
    """
    path = folder / CALIBRATION_INPUTS
    try:
        pixels: NDArray[np.uint8] = load_file(path)["pixels"]
    except (OSError, SafetensorError, KeyError):
        pixels = np.empty(0, np.uint8)
    if not len(pixels):
        raise BundleError(
            f"{path}: holds no images, and an export is checked on them. Copy the bundle again, or write it anew "
            "with evaluate."
        )
    return pixels


def torch_answers(
    folder: Path, info: BundleInfo, members: Sequence[Member], mirrors: tuple[Axes, ...], pixels: NDArray[np.uint8]
) -> Answers:
    """What `classify` says in fp32 on a CPU, novelty apart: the way that shares no calibration with the graph."""
    engine = TorchEngine(folder, info, members, "cpu", "fp32", BATCH_SIZE)
    scalings = tuple(scaling_of(info, member) for member in members)
    model = Model(info, tuple(members), engine, views_of(mirrors), scalings, None)
    return Predictor([model]).run_all(list(pixels))


def open_portable(path: Path) -> Run:
    """A written graph, ONNX or OpenVINO, in fp32 on the CPU."""
    if path.suffix == ".onnx":
        session = open_session(path)
        return lambda pixels: tuple(session.run(list(OUTPUTS), {INPUT: pixels}))
    compiled = openvino_core().compile_model(path, "CPU", numeric_hint("fp32"))

    def run(pixels: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        found = compiled({INPUT: pixels})
        return found[OUTPUTS[0]], found[OUTPUTS[1]]

    return run


def difference(run: Run, expected: Answers, pixels: NDArray[np.uint8]) -> Difference:
    """Compare on all images: the first alone, then in batches, so that batches of other sizes are tried."""
    starts = [0, *range(1, len(pixels), BATCH_SIZE)]
    answers = [run(pixels[start:end]) for start, end in zip(starts, [*starts[1:], len(pixels)], strict=True)]
    probs, features = (np.concatenate(parts) for parts in zip(*answers, strict=True))
    largest = float(np.abs(expected.features).max())
    return Difference(
        float(np.abs(probs - expected.probs).max()),
        float(np.abs(features - expected.features).max()) / (largest or 1.0),
        len(pixels),
    )
