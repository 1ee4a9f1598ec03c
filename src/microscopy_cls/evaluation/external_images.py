"""Images outside the cross-validation: the test split of the data, and an external set read as the data were."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.config.schema import Columns, Data
from microscopy_cls.dataset.cache import Reading, build_cache, open_pixels
from microscopy_cls.dataset.duplicates import mark_duplicates
from microscopy_cls.dataset.manifest import trainable
from microscopy_cls.dataset.near_duplicates import near_duplicate_pairs
from microscopy_cls.dataset.sources import list_files
from microscopy_cls.errors import ConfigError, DataError
from microscopy_cls.evaluation.cached_squares import CachedSquares

USED = ["image_id", "label", "group", "split", "status", "error", "pixel_digest"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExternalImages:
    """What is tested on, and what is not.

    Attributes:
        source: in words.
        images: a row a usable image: `image_id, label, group` and `row` (of the pixel cache).
        squares: their pixels, in their order.
        counts: of all images by status: ok, unreadable, duplicate, conflict, copy (of an image of the data).
    """

    source: str
    images: pd.DataFrame
    squares: CachedSquares
    counts: dict[str, int]


def read_tests(
    data: Data, reading: Reading, manifest: pd.DataFrame, classes: list[str], prepared: Path, folder: Path
) -> dict[str, ExternalImages | None]:
    """What no member saw, by the section of `metrics.json` that its figures go to; as the two functions below."""
    return {
        "test_split": read_test_split(manifest, prepared),
        "external_test": read_external(data, reading, manifest, classes, prepared, folder),
    }


def read_test_split(manifest: pd.DataFrame, prepared: Path) -> ExternalImages | None:
    """The rows of the manifest whose split is test, kept apart but of the data's own source; None without any.

    Unreadable files, copies within the test and copies of training images are counted and set aside.

    Args:
        manifest: of the data.
        prepared: folder of its pixel cache.

    Raises:
        DataError: nothing is left.
    """
    held_out = manifest[manifest["split"] == "test"]
    if not len(held_out):
        return None
    files = held_out.assign(group=held_out["split_group"])[[*USED, "cluster"]].assign(row=held_out.index)
    return _usable("split test of the data", files, trainable(manifest), open_pixels(prepared))


def read_external(
    data: Data, reading: Reading, manifest: pd.DataFrame, classes: list[str], prepared: Path, folder: Path
) -> ExternalImages | None:
    """The images of `data.test`; None where it is not set.

    Unreadable files, copies within the test and copies of the data, its test split included, are counted and set
    aside: they are not from elsewhere.

    Args:
        data: section of the config; `data.test` is a folder per class, or a table with the columns that `data.columns`
            names (but for the split), whose paths start from its own folder. `data.group_regex` names the groups.
        reading: how the training images were read.
        manifest: of the data.
        classes: that the model knows.
        prepared: folder of the manifest's pixel cache.
        folder: of the pixel cache of `data.test`; written, and reused where the files have not changed.

    Raises:
        ConfigError: a column is not in the table, or two ways to group are given.
        DataError: nothing is there or nothing is left, the listing is faulty, or the model does not know a class.
    """
    if data.test is None:
        return None
    files = _read_files(data, data.test, reading, classes, folder)
    pixels, own = open_pixels(folder), manifest[manifest["status"] == "ok"]
    near = _near_own(files, pixels, own, open_pixels(prepared))
    return _usable(str(data.test), files[USED].assign(cluster=near, row=files.index), own, pixels)


def _usable(source: str, files: pd.DataFrame, own: pd.DataFrame, pixels: NDArray[np.uint8]) -> ExternalImages:
    """What of the files can be tested on; `own` are images that they may not be copies of."""
    found = _set_copies_aside(mark_duplicates(files.reset_index(drop=True)), own)
    counts = {str(status): int(count) for status, count in found["status"].value_counts().items()}
    _tell(source, found, counts)
    usable = found.loc[found["status"] == "ok", ["image_id", "label", "group", "row"]].reset_index(drop=True)
    if usable["group"].nunique() == 1:
        log.warning("%s: all images are one group, so the intervals of its figures have no width", source)
    return ExternalImages(source, usable, CachedSquares(pixels, usable["row"].to_numpy(np.int64)), counts)


def _read_files(data: Data, test: Path, reading: Reading, classes: list[str], folder: Path) -> pd.DataFrame:
    if not test.exists():
        raise DataError(f"data.test: {test}: there is no such folder or table")
    try:
        listing = list_files(_as_source(data, test))
    except (ConfigError, DataError) as error:  # they name keys of the training images
        raise type(error)(f"data.test: {error}") from None
    unknown = listing.files.loc[~listing.files["label"].isin(classes), "label"].value_counts(sort=False)
    if len(unknown):
        listed = ", ".join(f"{name} ({count} images)" for name, count in sorted(unknown.items()))
        raise DataError(
            f"data.test: {test}: holds classes that the model does not know: {listed}. It knows: {', '.join(classes)}. "
            "Name them alike, or leave the others out."
        )
    if not listing.grouped:
        log.warning("%s: no groups are declared, so each image counts as one: intervals may be too narrow", test)
    return pd.concat([listing.files, build_cache(list(listing.files["path"]), reading, folder)], axis=1)


def _as_source(data: Data, test: Path) -> Data:
    if test.is_dir():
        return data.model_copy(update={"root": test, "table": None, "columns": Columns(), "metadata": ()})
    columns = data.columns.model_copy(update={"split": None})
    return data.model_copy(update={"root": None, "table": test, "columns": columns, "metadata": ()})


def _near_own(
    files: pd.DataFrame, pixels: NDArray[np.uint8], own: pd.DataFrame, own_pixels: NDArray[np.uint8]
) -> pd.Series:
    """Id of the image of the data that a file shows, resized, turned, cropped or so; "" for the others."""
    rows = files.index[files["status"] == "ok"]
    squares = [*(own_pixels[row] for row in own.index), *(pixels[row] for row in rows)]  # views, not copies
    pairs = near_duplicate_pairs(squares, np.arange(len(squares)))
    crossing = pairs[(pairs[:, 0] < len(own)) & (pairs[:, 1] >= len(own))]
    near = pd.Series("", index=files.index)
    near[rows[crossing[:, 1] - len(own)]] = own["image_id"].iloc[crossing[:, 0]].to_numpy()
    return near


def _set_copies_aside(files: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """Status `copy` for usable images whose pixels, or whose near-duplicates, are among these."""
    clusters = {*own["cluster"], *own["image_id"]} - {""}
    copied = files["pixel_digest"].isin(own["pixel_digest"]) | files["cluster"].isin(clusters)
    return files.assign(status=files["status"].mask(copied & (files["status"] == "ok"), "copy"))


def _tell(source: str, files: pd.DataFrame, counts: dict[str, int]) -> None:
    if not counts.get("ok"):
        listed = ", ".join(f"{count} {status}" for status, count in counts.items())
        errors = files.loc[files["status"] == "unreadable", ["image_id", "error"]]
        example = "".join(f" {row.image_id}: {row.error}." for row in errors.head(1).itertuples())
        raise DataError(
            f"{source}: no image is left to test on ({listed}).{example} Correct the test set or remove it."
        )
    reasons = {
        "unreadable": "cannot be read",
        "duplicate": "show the pixels of another one",
        "conflict": "show the pixels of another one under another label",
        "copy": "are copies of images of the data, so they test nothing (not independent)",
    }
    for status, reason in reasons.items():
        if counts.get(status):
            example = files.loc[files["status"] == status, "image_id"].iloc[0]
            log.warning("%s: %d images set aside: they %s, for example %s", source, counts[status], reason, example)
