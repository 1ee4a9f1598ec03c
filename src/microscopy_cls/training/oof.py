"""Out-of-fold predictions: each usable image once, by the member that never saw its group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from microscopy_cls.config import Paths
from microscopy_cls.dataset.manifest import fold_column
from microscopy_cls.errors import DataError
from microscopy_cls.model.doubt import softmax
from microscopy_cls.system.files import atomic_path, write_parquet
from microscopy_cls.training.compute import Predictions


def save_fold(path: Path, rows: NDArray[np.int64], predictions: Predictions) -> None:
    """Write one fold's predictions; that this file exists is what makes the fold done."""
    tensors = {"rows": rows, "logits": predictions.logits, "features": predictions.features}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


def assemble(
    fold_files: list[Path], manifest: pd.DataFrame, classes: list[str], paths: Paths, repeat: int = 0
) -> pd.DataFrame:
    """Join the folds' predictions into a table, of the first repeat also the logits and features in the same order.

    Args:
        fold_files: one a fold, as `save_fold` wrote them.
        manifest: index = row of the pixel cache.
        classes: in index order.
        paths: of the run.
        repeat: which division of the images the folds are of.

    Returns:
        `image_id, fold, label, predicted, prob_<class>...`, sorted by image id.

    Raises:
        DataError: an image is missing or predicted twice, so the folds do not belong to this manifest.
    """
    parts = [load_file(path) for path in fold_files]
    rows = np.concatenate([part["rows"] for part in parts])
    order = np.argsort(rows)
    rows = rows[order]
    expected = manifest.index[manifest["fold"] >= 0].to_numpy()
    if not np.array_equal(rows, expected):
        raise DataError(f"{paths.runs}: the folds' predictions do not match the manifest. Train again with --restart.")
    logits = np.concatenate([part["logits"] for part in parts])[order]
    features = np.concatenate([part["features"] for part in parts])[order]
    for name, array in ({"logits": logits, "features": features} if repeat == 0 else {}).items():
        with atomic_path(paths.runs / f"oof_{name}.safetensors") as temporary:
            save_file({name: array}, temporary)
    images = manifest.loc[rows].assign(fold=manifest.loc[rows, fold_column(repeat)])
    table = oof_table(images, logits, classes)
    write_parquet(paths.oof_of(repeat), table)
    return table


def oof_table(images: pd.DataFrame, logits: NDArray[np.float32], classes: list[str]) -> pd.DataFrame:
    """Probabilities (softmax in double precision) and the likeliest class, a row an image."""
    probs = softmax(logits.astype(np.float64))
    table = images[["image_id", "fold", "label"]].reset_index(drop=True)
    table["predicted"] = np.array(classes, dtype=object)[probs.argmax(1)]
    return table.join(pd.DataFrame(probs, columns=[f"prob_{name}" for name in classes]))
