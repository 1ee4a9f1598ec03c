"""The bundle: a folder that is enough alone to classify. `bundle.json`, weights as safetensors, nothing pickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import nn

from microscopy_cls.config.schema import Intensity, Resize
from microscopy_cls.errors import BundleError
from microscopy_cls.model.create import get_model
from microscopy_cls.system.files import atomic_folder, sha256_of_file, write_text

FORMAT_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Preprocessing(_Part):
    """From a file to the network's input."""

    size_px: int
    resize: Resize
    intensity: Intensity
    page: int
    max_pixels: int
    channels: tuple[int, ...] | None = None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Member(_Part):
    """One fold's network: its weights file in the bundle and the file's SHA-256."""

    fold: int
    file: str
    sha256: str


class Calibration(_Part):
    """What logits are divided by before the softmax; `none` leaves them as they are."""

    method: Literal["none", "temperature"] = "none"
    temperatures: tuple[float, ...] = ()


class BundleInfo(_Part):
    """The content of `bundle.json`."""

    format_version: Literal[1] = 1
    name: str
    classes: tuple[str, ...]
    architecture: str
    weights: dict[str, Any]
    preprocessing: Preprocessing
    members: tuple[Member, ...]
    calibration: Calibration = Calibration()
    decision_threshold: float | None = None
    positive_class: str | None = None
    training_data: dict[str, Any]
    metrics: dict[str, Any]
    config: dict[str, Any]
    versions: dict[str, str]
    git_commit: str | None = None


def save_weights(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write weights as safetensors (not atomically: the caller renames)."""
    save_file({name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}, path)


def write_bundle(
    folder: Path, info: Mapping[str, Any], member_files: Mapping[int, Path], calibration_inputs: NDArray[np.uint8]
) -> BundleInfo:
    """Assemble a bundle; an earlier one in `folder` is replaced as a whole.

    Args:
        folder: of the bundle.
        info: the fields of `BundleInfo` but for `members`.
        member_files: weights file by fold.
        calibration_inputs: uint8 (n, size_px, size_px, 3), for quantisation.
    """
    with atomic_folder(folder) as temporary:
        members = []
        for fold, source in sorted(member_files.items()):
            target = temporary / f"member_{fold}.safetensors"
            target.write_bytes(source.read_bytes())
            members.append(Member(fold=fold, file=target.name, sha256=sha256_of_file(target)))
        save_arrays({"pixels": calibration_inputs}, temporary / "calibration_inputs.safetensors")
        written = BundleInfo(**info, members=tuple(members))
        write_text(temporary / "bundle.json", written.model_dump_json(indent=2) + "\n")
    return written


def read_bundle(folder: Path) -> BundleInfo:
    """Read `bundle.json`.

    Raises:
        BundleError: there is no bundle, or one that this version cannot read.
    """
    path = folder / "bundle.json"
    if not path.is_file():
        raise BundleError(f"{folder}: holds no bundle.json. Name the folder that `microscopy-cls evaluate` wrote.")
    try:
        return BundleInfo.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        fields = ", ".join(sorted({".".join(map(str, problem["loc"])) or "json" for problem in error.errors()}))
        raise BundleError(f"{path}: cannot be read by this version ({fields}). Write it anew with evaluate.") from None


def load_member(folder: Path, info: BundleInfo, member: Member) -> nn.Module:
    """One member's network in evaluation mode, on the CPU.

    Raises:
        BundleError: the weights file is missing or differs from the one that was written.
    """
    path = folder / member.file
    if not path.is_file() or sha256_of_file(path) != member.sha256:
        raise BundleError(f"{path}: is missing or damaged. Copy the bundle again, or write it anew with evaluate.")
    network = get_model(info.architecture, len(info.classes), "none")
    network.load_state_dict(load_file(path))
    return network.eval()
