"""The bundle: a folder that is enough alone to classify. `bundle.json`, weights as safetensors, nothing pickled.

This module knows files only, no torch: a machine that classifies by another engine need not load it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from safetensors import safe_open
from safetensors.numpy import save_file

from microscopy_cls.config.schema import Intensity, Resize, SlideRule
from microscopy_cls.errors import BundleError
from microscopy_cls.model.doubt import Experience, Known, Scaling, Usual
from microscopy_cls.system.files import atomic_folder, sha256_of_file, write_text

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


def weights_file(fold: int) -> str:
    """Name of a member's weights among a run's members."""
    return "refit.safetensors" if fold == WITHOUT_FOLD else f"fold_{fold}.safetensors"


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
    """From which distance on images are unlike all that the members were tried on.

    Attributes:
        file, sha256: with `axes_<member's key>` of each member's features, `mean` and `whitening` of the images' looks.
        lengths, thresholds: of the features, in the order of the members.
        look_threshold: of the looks.
    """

    file: str
    sha256: str
    lengths: tuple[float, ...]
    thresholds: tuple[float, ...]
    look_threshold: float


class BundleInfo(_Part):
    """The content of `bundle.json`.

    Attributes:
        architecture_options: layers, cardinality, shortcut and so on of a ResNeXt of one's own, those that were given.
        members: none in an ensemble.
        parts: of an ensemble, the runs whose bundles lie in `parts/<name>` and answer as one (`model.ensemble`);
            calibration, thresholds and figures are then those of their mean, fold by fold, and novelty is the first
            part's.
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
    parts: tuple[str, ...] = ()
    calibration: Calibration = Calibration()
    conformal: Conformal | None = None
    novelty: Novelty | None = None
    field_px: int | None = None
    field_um: float | None = None
    slide_rule: SlideRule = "mean"
    positive_class: str | None = None
    training_data: dict[str, Any]
    metrics: dict[str, Any]
    config: dict[str, Any]
    versions: dict[str, str]
    git_commit: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_threshold(cls, found: Any) -> Any:
        """Older bundles hold a threshold of probabilities before calibration, which nothing ever followed."""
        return {key: found[key] for key in found if key != "decision_threshold"} if isinstance(found, dict) else found


def write_bundle(
    folder: Path,
    info: Mapping[str, Any],
    member_files: Mapping[int, Path],
    calibration_inputs: Mapping[str, NDArray[Any]],
    add_graphs: Callable[[Path, BundleInfo], BundleInfo] = lambda _, written: written,
    experience: Mapping[int, Experience] | None = None,
) -> BundleInfo:
    """Assemble a bundle; an earlier one in `folder` is replaced as a whole.

    Args:
        folder: of the bundle.
        info: the fields of `BundleInfo` but for `members` and `novelty`.
        member_files: weights file by fold; that of a network trained on all images under -1.
        calibration_inputs: for quantisation: `pixels`, uint8 (n, size_px, size_px, 3), and `folds`, int64 (n,), the
            fold of each, whose member never saw it; -1 where none is such.
        add_graphs: puts other forms of the members into the folder and into its description.
        experience: of each member, by fold, all with the same usual look; None leaves the bundle without a sense of
            novelty.
    """
    with atomic_folder(folder) as temporary:
        members = []
        for fold, source in sorted(member_files.items()):
            target = temporary / f"member_{key_of(fold)}.safetensors"
            target.write_bytes(source.read_bytes())
            members.append(Member(fold=fold, file=target.name, sha256=sha256_of_file(target)))
        save_file(dict(calibration_inputs), temporary / CALIBRATION_INPUTS)
        novelty = None if experience is None else _write_experience(temporary, experience)
        written = add_graphs(temporary, BundleInfo(**info, members=tuple(members), novelty=novelty))
        write_text(temporary / "bundle.json", written.model_dump_json(indent=2) + "\n")
    return written


def _write_experience(folder: Path, experience: Mapping[int, Experience]) -> Novelty:
    known = [experience[fold].known for fold in sorted(experience)]
    usual = next(iter(experience.values())).usual
    # Contiguous, or safetensors would write them torn.
    tensors = {f"axes_{key_of(fold)}": np.ascontiguousarray(one.known.axes) for fold, one in experience.items()}
    save_file(tensors | {"mean": usual.mean, "whitening": np.ascontiguousarray(usual.whitening)}, folder / NOVELTY)
    return Novelty(
        file=NOVELTY,
        sha256=sha256_of_file(folder / NOVELTY),
        lengths=tuple(one.length for one in known),
        thresholds=tuple(one.threshold for one in known),
        look_threshold=usual.threshold,
    )


def scaling_of(info: BundleInfo, member: Member) -> Scaling:
    """How a member's logits are scaled."""
    return scaling_at(info, info.members.index(member))


def scaling_at(info: BundleInfo, place: int) -> Scaling:
    """The scaling at a place of the bundle's calibration."""
    found = info.calibration
    temperature = found.temperatures[place] if found.method != "none" else 1.0
    if found.method != "vector":
        return Scaling.none(len(info.classes), temperature)
    return Scaling(temperature, np.array(found.scales[place]), np.array(found.biases[place]))


def experience_of(folder: Path, info: BundleInfo, member: Member) -> Experience | None:
    """What a member has seen; None in bundles that do not say.

    Raises:
        BundleError: the file is missing or damaged.
    """
    if info.novelty is None:
        return None
    path = checked(folder, info.novelty.file, info.novelty.sha256)
    with safe_open(path, "numpy") as tensors:
        axes, mean, whitening = (tensors.get_tensor(name) for name in (f"axes_{member.key}", "mean", "whitening"))
    place = info.members.index(member)
    known = Known(axes, info.novelty.lengths[place], info.novelty.thresholds[place])
    return Experience(known, Usual(mean, whitening, info.novelty.look_threshold))


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
