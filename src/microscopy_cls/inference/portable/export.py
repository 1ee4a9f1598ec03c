"""`export`: write the graph, see that it answers as torch does, and say how it is used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from microscopy_cls.errors import ConfigError, ExportError
from microscopy_cls.inference.engines.on_onnx import require_onnx
from microscopy_cls.inference.portable.check import (
    TOLERANCE,
    Difference,
    checking_images,
    difference,
    open_portable,
    torch_answers,
)
from microscopy_cls.inference.portable.note import note
from microscopy_cls.inference.predictor import choose_members
from microscopy_cls.inference.views import mirrors_of
from microscopy_cls.model.bundle import BundleInfo, Member, read_bundle
from microscopy_cls.model.ensemble import part_folders
from microscopy_cls.model.export import Format, load_portable, write_portable
from microscopy_cls.model.vino import import_openvino
from microscopy_cls.system.files import atomic_folder, write_json, write_text

FORMATS: tuple[Format, ...] = get_args(Format)
CLASSES, NOTE, SETS = "classes.txt", "README.md", "prediction_sets.json"
_OURS = {"model.onnx", "model.onnx.data", "model.xml", "model.bin", CLASSES, NOTE, SETS}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        model: the file to open.
        note: how it is used.
        members: those in the graph.
        difference: from torch.
    """

    model: Path
    note: Path
    members: tuple[Member, ...]
    difference: Difference


def export_bundle(folder: Path, out: Path, kind: Format, members: str = "all") -> Exported:
    """Write members of a bundle as one graph with preprocessing and calibration inside.

    A bundle whose config sets `evaluate.tta` is averaged over its views in the graph, as in `classify`.

    Args:
        folder: of the bundle, which is left as it is.
        out: a new folder, or that of an earlier export, which is replaced once all is well.
        kind: onnx or openvino.
        members: `all`, a number (the first so many folds), or the name of one, such as `fold_2`.

    Raises:
        ConfigError: `out` holds other files, or there is no such member.
        BundleError: there is no bundle, or a damaged one.
        MissingDependencyError: the libraries for this format are not installed.
        ExportError: the bundle is an ensemble, or the graph's answers differ from torch's by more than the tolerance;
            nothing is left of it.
    """
    _check_free(out)
    _require(kind)
    info = read_bundle(folder)
    if info.parts:
        raise ExportError(
            f"{folder}: is an ensemble, and a portable model is one network with its members. Export a part: "
            f"{', '.join(str(part) for part in part_folders(folder, info))}."
        )
    chosen, mirrors, pixels = choose_members(info, members), mirrors_of(info.config), checking_images(folder)
    with atomic_folder(out.resolve()) as temporary:
        portable = load_portable(folder, info, chosen, mirrors)
        model = write_portable(portable, info.preprocessing.size_px, temporary, kind)
        expected = torch_answers(folder, info, chosen, mirrors, pixels)
        found = difference(open_portable(model), expected, pixels)
        if not found.is_tolerable:
            raise ExportError(_refusal(info, kind, found))
        _write_words(temporary, info, note(info, chosen, len(mirrors), kind, expected.features.shape[1], found))
    return Exported(out / model.name, out / NOTE, chosen, found)


def _check_free(out: Path) -> None:
    """The folder is replaced as a whole, so it may hold nothing but an earlier export."""
    if out.resolve() == Path.cwd():
        raise ConfigError(f"-o {out}: is the folder that you are in. Name one that does not exist yet")
    if not out.exists():
        return
    names = {entry.name for entry in out.iterdir()} if out.is_dir() else {out.name}
    if names and not {CLASSES, NOTE} <= names <= _OURS:
        raise ConfigError(f"-o {out}: holds other files than an export's. Name a folder that does not exist yet")


def _require(kind: Format) -> None:
    if kind == "onnx":
        require_onnx("The format onnx")
    else:
        import_openvino()


def _refusal(info: BundleInfo, kind: Format, found: Difference) -> str:
    other = next(name for name in FORMATS if name != kind)
    return (
        f"{info.name} as {kind}: on {found.num_images} images its probabilities differ from torch's by up to {found}; "
        f"at most {TOLERANCE:.0e} is let through, and nothing was written. Try --format {other}, or classify with the "
        f"bundle itself ({info.architecture})."
    )


def _write_words(folder: Path, info: BundleInfo, text: str) -> None:
    write_text(folder / NOTE, text)
    write_text(folder / CLASSES, "".join(f"{name}\n" for name in info.classes))
    if info.conformal is not None:
        thresholds = dict(zip(info.classes, info.conformal.thresholds, strict=True))
        write_json(folder / SETS, {"target_coverage": info.conformal.target_coverage, "thresholds": thresholds})
