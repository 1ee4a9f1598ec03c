"""What the earlier stages wrote, read and checked once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from microscopy_cls.config import Paths
from microscopy_cls.dataset.manifest import manifest_digest
from microscopy_cls.errors import DataError
from microscopy_cls.system.files import read_json, sha256_of_file

Content = TypeVar("Content")

MANIFEST_COLUMNS = (
    "image_id", "path", "label", "group", "split_group", "split", "fold", "status", "error",
    "width_px", "height_px", "channels", "bit_depth", "format",
)  # fmt: skip
CURVE_COLUMNS = ("fold", "epoch", "train_loss", "val_loss", "val_f1_macro", "chosen")


@dataclass(frozen=True)
class Inputs:
    """Everything that the page shows.

    Attributes:
        manifest: a row per file; `pixel_row` is its row in `pixels`.
        manifest_sha256: of the manifest's file.
        pixels: uint8 (n, side, side, 3), RGB, memory-mapped.
        oof: a row per predicted image with `fold` and `prob_<class>`, joined with `pixel_row`, `width_px`, `height_px`
            of its manifest row; `prob` is the probability of the predicted class.
        curves: a row per fold and epoch.
        metrics: the metrics file.
        run_state: circumstances of the training.
        cams: `rows` (of the manifest), `cam` uint8 (n, h, w), `kind` (0 confident error, 1 doubtful, 2 random right
            answer), as `evaluate` wrote them; None where it wrote none.
    """

    manifest: pd.DataFrame
    manifest_sha256: str
    pixels: NDArray[np.uint8]
    oof: pd.DataFrame
    curves: pd.DataFrame
    metrics: dict[str, Any]
    run_state: dict[str, Any]
    cams: dict[str, NDArray[Any]] | None = None

    @property
    def usable(self) -> pd.DataFrame:
        """Rows of the manifest whose pixels were used."""
        return self.manifest[self.manifest["status"] == "ok"]

    @property
    def num_images(self) -> int:
        """Images that the figures are made of."""
        return len(self.oof)

    @property
    def grouped(self) -> bool:
        """Whether groups were declared; otherwise each image is its own."""
        return bool((self.usable["group"] != self.usable["image_id"]).any())

    @property
    def classes(self) -> list[str]:
        """Class names in index order."""
        return list(self.metrics["classes"])


def read_inputs(paths: Paths) -> Inputs:
    """Read what `prepare`, `train` and `evaluate` wrote, in that order.

    Raises:
        DataError: a file is missing, cannot be read, lacks a column, or belongs to another state of the data.
    """
    pixels_file = paths.prepared / "pixels.npy"
    manifest = _read(paths.manifest, "prepare", pd.read_parquet, MANIFEST_COLUMNS)
    pixels = _read(pixels_file, "prepare", lambda path: np.load(path, mmap_mode="r"))
    oof = _read(paths.oof, "train", pd.read_parquet, ("image_id", "fold", "label", "predicted"))
    curves = _read(paths.curves, "train", pd.read_csv, CURVE_COLUMNS)
    run_state = _read(paths.runs / "run_state.json", "train", read_json)
    metrics: dict[str, Any] = _read(paths.metrics, "evaluate", read_json, ("classes", "confusion_matrix", "per_class"))
    manifest = _with_pixel_rows(manifest, len(pixels), pixels_file)
    _check_training(metrics, run_state, paths)
    _check_fit(oof, manifest, metrics, paths)
    if run_state["identity"].get("manifest") != manifest_digest(manifest):
        raise DataError(f"{paths.runs}: was trained on other images than {paths.manifest} names. Run train again.")
    oof = _joined(oof, manifest, metrics["classes"])
    cams = _read_cams(paths.reports / "cams.safetensors", len(manifest))
    return Inputs(manifest, sha256_of_file(paths.manifest), pixels, oof, curves, metrics, run_state, cams)


def _read(path: Path, command: str, reader: Callable[[Path], Content], needed: tuple[str, ...] = ()) -> Content:
    """Read one file that `command` writes; `needed` are columns of a table or keys of a mapping."""
    again = f"Run `microscopy-cls {command}` with the same config first."
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. {again}")
    try:
        content = reader(path)
    except (OSError, ValueError, EOFError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read ({error}). {again}") from None
    missing = [name for name in needed if name not in content]  # type: ignore[operator]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}. {again}")
    return content


def _read_cams(path: Path, num_files: int) -> dict[str, NDArray[Any]] | None:
    """The evidence maps, or None where `evaluate` wrote none."""
    if not path.exists():
        return None
    cams: dict[str, NDArray[Any]] = _read(path, "evaluate", load_file, ("rows", "cam", "kind"))
    if len({len(array) for array in cams.values()}) > 1 or np.any((cams["rows"] < 0) | (cams["rows"] >= num_files)):
        raise DataError(
            f"{path}: belongs to another state of the data than the manifest of {num_files} files. "
            "Run `microscopy-cls evaluate` again."
        )
    return cams


def _with_pixel_rows(manifest: pd.DataFrame, num_pixel_rows: int, pixels_file: Path) -> pd.DataFrame:
    """The cache holds a row per file, or one per usable file; the count tells which."""
    usable = (manifest["status"] == "ok").to_numpy()
    if num_pixel_rows == len(manifest):
        return manifest.assign(pixel_row=np.arange(len(manifest)))
    if num_pixel_rows == usable.sum():
        return manifest.assign(pixel_row=np.where(usable, usable.cumsum() - 1, -1))
    raise DataError(
        f"{pixels_file}: holds {num_pixel_rows} images, the manifest beside it {len(manifest)} files, {usable.sum()} "
        "of them usable. They belong to different states of the data: run `microscopy-cls prepare` again."
    )


def _check_training(metrics: dict[str, Any], run_state: dict[str, Any], paths: Paths) -> None:
    """The figures must be of this training; files of earlier versions do not say of which they are."""
    if metrics.get("fingerprint", run_state.get("fingerprint")) != run_state.get("fingerprint"):
        raise DataError(
            f"{paths.metrics}: holds the figures of another training than the one in {paths.runs}. "
            "Run `microscopy-cls evaluate` again."
        )


def _check_fit(oof: pd.DataFrame, manifest: pd.DataFrame, metrics: dict[str, Any], paths: Paths) -> None:
    """Figures, predictions and manifest must speak of the same images and classes."""
    classes, num_images = metrics["classes"], metrics.get("num_images")
    if not {f"prob_{name}" for name in classes} <= set(oof.columns) or not set(oof["predicted"]) <= set(classes):
        raise DataError(
            f"{paths.metrics}: speaks of other classes than {paths.oof}. Run `microscopy-cls evaluate` again."
        )
    if num_images not in (None, len(oof)):
        raise DataError(
            f"{paths.metrics}: speaks of {num_images} images, {paths.oof} holds {len(oof)}. "
            "Run `microscopy-cls evaluate` again."
        )
    if not set(oof["image_id"]) <= set(manifest["image_id"]):
        raise DataError(
            f"{paths.oof}: holds images that {paths.manifest} does not know, so the data changed after training. "
            "Run `microscopy-cls train` again."
        )


def _joined(oof: pd.DataFrame, manifest: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """The predictions with the probability of the predicted class and where each image's pixels lie."""
    picked = pd.Categorical(oof["predicted"], categories=classes).codes
    prob = oof[[f"prob_{name}" for name in classes]].to_numpy(np.float64)[np.arange(len(oof)), picked]
    facts = manifest.set_index("image_id")[["pixel_row", "width_px", "height_px"]]
    kept = oof[["image_id", "fold", "label", "predicted", *(f"prob_{name}" for name in classes)]]
    return kept.assign(prob=prob).join(facts, on="image_id")
