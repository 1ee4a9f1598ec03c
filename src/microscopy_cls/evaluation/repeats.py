"""How much the figures depend on how the folds were drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from microscopy_cls.config import Paths
from microscopy_cls.dataset.manifest import fold_column, trainable
from microscopy_cls.errors import DataError
from microscopy_cls.evaluation.figures import number
from microscopy_cls.evaluation.scores import METRICS, Predicted, all_scores

Json = dict[str, Any]


def read_repeats(paths: Paths, manifest: pd.DataFrame, repeats: int) -> list[pd.DataFrame]:
    """The out-of-fold table of each division of the images, the first one first.

    Raises:
        DataError: one is missing, or not of the manifest's images and folds.
    """
    return [read_repeat(paths, manifest, repeat) for repeat in range(repeats)]


def read_repeat(paths: Paths, manifest: pd.DataFrame, repeat: int) -> pd.DataFrame:
    """The out-of-fold table of one division; see `read_repeats`."""
    column, file = fold_column(repeat), paths.oof_of(repeat)
    if column not in manifest or not file.is_file():
        raise DataError(f"{file}: repeat {repeat} is not there. Run prepare and train again with the same config.")
    table = pd.read_parquet(file)
    expected = trainable(manifest).set_index("image_id")[column].sort_index()
    found = table.set_index("image_id")["fold"].sort_index()
    if not found.index.equals(expected.index) or not np.array_equal(found, expected):
        raise DataError(f"{file}: is of other images or folds than {paths.manifest} names. Run train again.")
    return table


def repeats_report(tables: Sequence[pd.DataFrame], classes: list[str]) -> Json:
    """The section `repeats` of `metrics.json`.

    Args:
        tables: `label, prob_<class>...`, each of all images, at least two.
        classes: in index order.

    Returns:
        `num`, and for each metric `values` (of each repeat, from all its predictions at once), `mean`, `std` (of the
        sample), `min`, `max`; None where a repeat has no value.
    """
    found = [_scores(table, classes) for table in tables]
    return {"num": len(tables)} | {name: _spread(np.array([one[name] for one in found])) for name in METRICS}


def _scores(table: pd.DataFrame, classes: list[str]) -> dict[str, float]:
    overall, _ = all_scores(Predicted.of(table, classes), np.ones((1, len(table))))
    return {name: float(values[0]) for name, values in overall.items()}


def _spread(values: np.ndarray) -> Json:
    return {
        "values": [number(one) for one in values], "mean": number(values.mean()), "std": number(values.std(ddof=1)),
        "min": number(values.min()), "max": number(values.max()),
    }  # fmt: skip
