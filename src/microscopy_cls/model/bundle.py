"""The bundle: a folder that is enough alone to classify. `bundle.json`, weights as safetensors, nothing pickled.

This module knows files only, no torch: a machine that classifies by another engine need not load it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import safe_open
from safetensors.numpy import save_file

from microscopy_cls.config.schema import Intensity, Resize, SlideRule
from microscopy_cls.errors import BundleError
from microscopy_cls.model.doubt import Known, Scaling
from microscopy_cls.system.files import atomic_folder, sha256_of_file, write_text

FORMAT_VERSION = 1
CALIBRATION_INPUTS = "calibration_inputs.safetensors"
NOVELTY = "novelty.safetensors"
WITHOUT_FOLD = -1  # of a member that was trained on all images


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


def key_of(fold: int) -> str:
    """A member's part of the names of files: its fold, or `refit`."""
    return "refit" if fold == WITHOUT_FOLD else str(fold)


class Member(_Part):
    """One fold's network, or one that was trained on all images.

    Attributes:
        fold: that was kept from it, and that it was tested on; -1 for none.
        file, sha256: its weights in the bundle, and their digest.
        graph, graph_sha256: the same network for OpenVINO, preprocessing inside, and the digest of the graph's weights;
            None where OpenVINO was not installed when the bundle was written.
    """

    fold: int
    file: str
    sha256: str
    graph: str | None = None
    graph_sha256: str | None = None

    @property
    def key(self) -> str:
        """Its part of the names of files."""
        return key_of(self.fold)

    @property
    def name(self) -> str:
        """As texts and, with `_` for the space, options call it."""
        return "refit" if self.fold == WITHOUT_FOLD else f"fold {self.fold}"


class Calibration(_Part):
    """How logits are scaled before the softmax, in the order of the members; `none` leaves them as they are.

    Attributes:
        temperatures: that logits are divided by.
        scales, biases: of each class, that they are then multiplied by and raised by; empty but for `vector`.
    """

    method: Literal["none", "temperature", "vector"] = "none"
    temperatures: tuple[float, ...] = ()
    scales: tuple[tuple[float, ...], ...] = ()
    biases: tuple[tuple[float, ...], ...] = ()


class Conformal(_Part):
    """The smallest calibrated probability that puts each class into the set, in the order of the classes."""

    target_coverage: float
    thresholds: tuple[float, ...]


class Novelty(_Part):
    """From which distance on features are unlike all that a member was tried on; `axes_<member's key>` in the file."""

    file: str
    sha256: str
    lengths: tuple[float, ...]
    thresholds: tuple[float, ...]


class BundleInfo(_Part):
    """The content of `bundle.json`.

    Attributes:
        architecture_options: layers, cardinality and base_width of a ResNeXt of one's own, those that were given.
        conformal, novelty: None in bundles that were written before there were any.
        field_px: side of the training images, the median in pixels as stored.
        field_um: the same in microns, where the config says how many a pixel has.
        slide_rule: how the answers of a slide's tiles become one.
    """

    format_version: Literal[1] = 1
    name: str
    classes: tuple[str, ...]
    architecture: str
    architecture_options: dict[str, Any] = {}
    weights: dict[str, Any]
    preprocessing: Preprocessing
    members: tuple[Member, ...]
    calibration: Calibration = Calibration()
    conformal: Conformal | None = None
    novelty: Novelty | None = None
    field_px: int | None = None
    field_um: float | None = None
    slide_rule: SlideRule = "mean"
    decision_threshold: float | None = None
    positive_class: str | None = None
    training_data: dict[str, Any]
    metrics: dict[str, Any]
    config: dict[str, Any]
    versions: dict[str, str]
    git_commit: str | None = None


def write_bundle(
    folder: Path,
    info: Mapping[str, Any],
    member_files: Mapping[int, Path],
    calibration_inputs: Mapping[str, NDArray[Any]],
    add_graphs: Callable[[Path, BundleInfo], BundleInfo] = lambda _, written: written,
    known: Mapping[int, Known] | None = None,
) -> BundleInfo:
    """Assemble a bundle; an earlier one in `folder` is replaced as a whole.

    Args:
        folder: of the bundle.
        info: the fields of `BundleInfo` but for `members` and `novelty`.
        member_files: weights file by fold; that of a network trained on all images under -1.
        calibration_inputs: for quantisation: `pixels`, uint8 (n, size_px, size_px, 3), and `folds`, int64 (n,), the
            fold of each, whose member never saw it; -1 where none is such.
        add_graphs: puts other forms of the members into the folder and into its description.
        known: what each member knows, by fold; None leaves the bundle without a sense of novelty.
    """
    with atomic_folder(folder) as temporary:
        members = []
        for fold, source in sorted(member_files.items()):
            target = temporary / f"member_{key_of(fold)}.safetensors"
            target.write_bytes(source.read_bytes())
            members.append(Member(fold=fold, file=target.name, sha256=sha256_of_file(target)))
        save_file(dict(calibration_inputs), temporary / CALIBRATION_INPUTS)
        novelty = None if known is None else _write_known(temporary, known)
        written = add_graphs(temporary, BundleInfo(**info, members=tuple(members), novelty=novelty))
        write_text(temporary / "bundle.json", written.model_dump_json(indent=2) + "\n")
    return written


def _write_known(folder: Path, known: Mapping[int, Known]) -> Novelty:
    axes = {f"axes_{key_of(fold)}": np.ascontiguousarray(one.axes) for fold, one in known.items()}  # others are torn
    save_file(axes, folder / NOVELTY)
    lengths = tuple(known[fold].length for fold in sorted(known))
    thresholds = tuple(known[fold].threshold for fold in sorted(known))
    return Novelty(file=NOVELTY, sha256=sha256_of_file(folder / NOVELTY), lengths=lengths, thresholds=thresholds)


def scaling_of(info: BundleInfo, member: Member) -> Scaling:
    """How a member's logits are scaled."""
    place, found = info.members.index(member), info.calibration
    temperature = found.temperatures[place] if found.method != "none" else 1.0
    if found.method != "vector":
        return Scaling.none(len(info.classes), temperature)
    return Scaling(temperature, np.array(found.scales[place]), np.array(found.biases[place]))


def known_of(folder: Path, info: BundleInfo, member: Member) -> Known | None:
    """What a member knows; None in bundles that do not say.

    Raises:
        BundleError: the file is missing or damaged.
    """
    if info.novelty is None:
        return None
    path = checked(folder, info.novelty.file, info.novelty.sha256)
    with safe_open(path, "numpy") as tensors:
        axes = tensors.get_tensor(f"axes_{member.key}")
    place = info.members.index(member)
    return Known(axes, info.novelty.lengths[place], info.novelty.thresholds[place])


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


def checked(folder: Path, file: str | None, sha256: str | None) -> Path:
    """The path of a file of the bundle that is as it was written.

    Raises:
        BundleError: it is missing, or its digest is another.
    """
    path = folder / str(file)
    if file is None or not path.is_file() or sha256_of_file(path) != sha256:
        raise BundleError(f"{path}: is missing or damaged. Copy the bundle again, or write it anew with evaluate.")
    return path
