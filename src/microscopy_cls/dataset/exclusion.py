"""Images that a person has looked at and does not want: listed in a file, kept as rows, used nowhere."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from microscopy_cls.dataset.sources import read_table
from microscopy_cls.errors import DataError

log = logging.getLogger(__name__)


def mark_excluded(files: pd.DataFrame, exclude: Path | None) -> pd.DataFrame:
    """Set status `excluded` for the images listed in a CSV with a column image_id; other columns are ignored.

    Args:
        files: columns `image_id, status, error`.
        exclude: `data.exclude`; None excludes nothing.

    Returns:
        A copy with `status` and `error` set.

    Raises:
        DataError: there is no such file, it is no table, or it has no column image_id.
    """
    if exclude is None:
        return files
    listed = _listed_ids(exclude)
    unknown = sorted(listed - set(files["image_id"]))
    if unknown:
        log.warning("%s lists %d images that are not there, for example %s", exclude, len(unknown), unknown[0])
    files = files.copy()
    excluded = files["image_id"].isin(listed)
    files.loc[excluded, "status"] = "excluded"
    files.loc[excluded, "error"] = f"listed in {exclude.as_posix()}"
    return files


def _listed_ids(exclude: Path) -> set[str]:
    if not exclude.is_file():
        raise DataError(
            f"{exclude}: there is no such file. Set data.exclude to a CSV with a column image_id, or remove that key."
        )
    table = read_table(exclude)
    if "image_id" not in table.columns:
        raise DataError(
            f"{exclude}: has no column image_id. It has: {', '.join(map(str, table.columns))}. "
            "Name the images to leave out (data.exclude) by their image_id, as in the manifest."
        )
    ids = table["image_id"].astype("string").fillna("").astype(str).str.strip().str.replace("\\", "/")
    return set(ids) - {""}
