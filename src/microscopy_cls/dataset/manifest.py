"""The manifest: one row per file, the one table that every later stage starts from."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from microscopy_cls.errors import DataError
from microscopy_cls.system.files import sha256_of_json

COLUMNS = (
    "image_id", "path", "label", "group", "split_group", "split", "fold", "sha256", "status", "error",
    "width_px", "height_px", "channels", "bit_depth", "format", "num_bytes", "jpeg_quality",
    "brightness", "contrast", "sharpness", "quality", "pixel_digest", "cluster",
)  # fmt: skip
"""Of every manifest. Further divisions follow `fold` (see `fold_column`), and columns of `data.metadata` follow the
last one, each with `METADATA_PREFIX` before its name in the table."""

METADATA_PREFIX = "meta_"


def fold_column(repeat: int) -> str:
    """Which column tells the fold of each image in one division of them; 0 is the first."""
    return f"fold_{repeat}" if repeat else "fold"


def num_folds(manifest: pd.DataFrame) -> int:
    """How many folds the images are divided into, in every repeat."""
    return int(manifest["fold"].max()) + 1


def read_manifest(path: Path) -> pd.DataFrame:
    """Read a manifest, rows sorted by `image_id`; row i belongs to row i of the pixel cache.

    Raises:
        DataError: `prepare` has not been run.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no manifest yet. Run `microscopy-cls prepare` with the same config first.")
    return pd.read_parquet(path)


def trainable(manifest: pd.DataFrame) -> pd.DataFrame:
    """The rows that are in a fold, with their positions in the manifest as index."""
    return manifest[manifest["fold"] >= 0]


def class_names(manifest: pd.DataFrame) -> list[str]:
    """The classes of the trainable rows, in index order: sorted by name."""
    return sorted(set(trainable(manifest)["label"]))


def manifest_digest(manifest: pd.DataFrame) -> str:
    """SHA-256 of what training depends on: images, labels, groups, folds and pixels of the trainable rows.

    Where the files lie does not count.
    """
    rows = trainable(manifest)[["image_id", "label", "split_group", "fold", "pixel_digest"]]
    return sha256_of_json(rows.values.tolist())
