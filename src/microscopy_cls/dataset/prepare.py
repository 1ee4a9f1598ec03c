"""From files to a manifest with folds and a pixel cache."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.config import Config, Paths
from microscopy_cls.config.schema import Data, Folds
from microscopy_cls.dataset.cache import Reading, build_cache, open_pixels
from microscopy_cls.dataset.clusters import exact_copies, find_clusters, near_clusters
from microscopy_cls.dataset.duplicates import mark_duplicates, merge_groups
from microscopy_cls.dataset.exclusion import mark_excluded
from microscopy_cls.dataset.folds import Names, assign_folds, leave_one_group_out
from microscopy_cls.dataset.manifest import COLUMNS, METADATA_PREFIX, fold_column, num_folds
from microscopy_cls.dataset.quality import quality_flags
from microscopy_cls.dataset.share import part_prepared
from microscopy_cls.dataset.sources import Listing, list_files
from microscopy_cls.errors import DataError
from microscopy_cls.system.files import write_csv, write_parquet

NUM_LISTED = 50  # unreadable files in an error message; all stand in unreadable.csv

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """What `prepare` made: the manifest and the counts that a person wants to see."""

    manifest: pd.DataFrame
    num_ignored: int
    grouped: bool

    @property
    def counts(self) -> dict[str, int]:
        """Files by status."""
        return {str(status): int(count) for status, count in self.manifest["status"].value_counts().items()}


def prepare(config: Config, paths: Paths) -> Prepared:
    """List, read, verify, find duplicates and flaws, group, divide into folds, and write manifest and cache.

    Raises:
        DataError: nothing to read, too many unreadable files, or classes that cannot be divided.
    """
    listing = list_files(config.data)
    part_prepared(paths.prepared)
    paths.manifest.unlink(missing_ok=True)  # its rows would name other pixels from here on
    facts = build_cache(list(listing.files["path"]), reading_of(config), paths.prepared)
    files = mark_excluded(pd.concat([listing.files, facts], axis=1), config.data.exclude)
    _tell_of_exclusion(config.data.exclude, paths.label_errors)
    manifest = mark_duplicates(files)
    _check_unreadable(manifest, config.data, paths.prepared)
    pixels = open_pixels(paths.prepared)
    manifest["quality"] = _quality(manifest, pixels)
    manifest["cluster"] = find_clusters(manifest, pixels)
    tied = manifest["cluster"] if config.folds.group_near_duplicates else exact_copies(manifest)
    manifest["split_group"] = merge_groups(manifest["group"], tied)
    divisions = _divisions(manifest, config.folds, grouped=listing.grouped)
    manifest = manifest.assign(**divisions)
    after = COLUMNS.index("fold")
    metadata = (name for name in manifest.columns if name.startswith(METADATA_PREFIX))
    manifest = manifest[[*COLUMNS[:after], *divisions, *COLUMNS[after + 1 :], *metadata]]
    write_parquet(paths.manifest, manifest)
    _tell(listing, manifest, config)
    return Prepared(manifest, listing.num_ignored, listing.grouped)


def reading_of(config: Config) -> Reading:
    """The reading settings of a config."""
    data, model = config.data, config.model
    return Reading(model.image_size_px, model.resize, data.intensity, data.page, data.max_pixels, data.channels)


def _check_unreadable(manifest: pd.DataFrame, data: Data, folder: Path) -> None:
    bad = manifest.loc[manifest["status"] == "unreadable", ["path", "error"]]
    write_csv(folder / "unreadable.csv", bad)
    if bad.empty:
        return
    listed = "".join(f"\n  {row.path}: {row.error}" for row in bad.head(NUM_LISTED).itertuples())
    more = f"\n  and {len(bad) - NUM_LISTED} more, see {folder / 'unreadable.csv'}" if len(bad) > NUM_LISTED else ""
    counted = f"{len(bad)} of {len(manifest)} files are unreadable"
    if len(bad) / len(manifest) > data.max_unreadable:
        raise DataError(
            f"{counted}, more than data.max_unreadable = {data.max_unreadable:g} allows. "
            f"Repair or remove them, or raise that limit:{listed}{more}"
        )
    log.warning("%s and stay out (each is a row of the manifest):%s%s", counted, listed, more)


def _quality(manifest: pd.DataFrame, pixels: NDArray[np.uint8]) -> pd.Series:
    """The flags of every image that gave pixels, "" for the others."""
    readable = manifest[manifest["pixel_digest"] != ""]
    native_px = np.sqrt(readable["width_px"].to_numpy(float) * readable["height_px"].to_numpy(float))
    flags = quality_flags((pixels[row] for row in readable.index), native_px)
    return pd.Series(flags, index=readable.index).reindex(manifest.index, fill_value="")


def _divisions(manifest: pd.DataFrame, folds: Folds, *, grouped: bool) -> dict[str, NDArray[np.int64]]:
    """The fold columns: of each repeat one."""
    usable = manifest[(manifest["status"] == "ok") & (manifest["split"] == "train")]
    if usable.empty:
        counts = (manifest["split"] + " " + manifest["status"]).value_counts()
        listed = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        raise DataError(f"no usable training image is left ({listed}). Correct data.columns.split or the labels.")
    image_ids, labels, groups = usable[["image_id", "label", "split_group"]].to_numpy(dtype=object).T
    found = {}
    for repeat in range(folds.repeats):
        column = np.full(len(manifest), -1)
        column[usable.index] = _division(image_ids, labels, groups, folds, repeat, grouped=grouped)
        found[fold_column(repeat)] = column
    unknown = set(manifest.loc[manifest["split"] == "test", "label"]) - set(usable["label"])
    if unknown:
        raise DataError(f"the test split holds classes that training never sees: {', '.join(sorted(unknown))}")
    return found


def _division(
    image_ids: Names, labels: Names, groups: Names, folds: Folds, repeat: int, *, grouped: bool
) -> NDArray[np.int64]:
    if folds.scheme == "leave_one_group_out":
        return leave_one_group_out(labels, groups, declared=grouped)
    return assign_folds(image_ids, labels, groups, folds.num, folds.seed + repeat, anew=repeat > 0)


def _tell(listing: Listing, manifest: pd.DataFrame, config: Config) -> None:
    for status in ("duplicate", "conflict"):
        rows = manifest[manifest["status"] == status]
        if len(rows):
            example = f"{rows['image_id'].iloc[0]}: {rows['error'].iloc[0]}"
            log.warning("%d files set aside as %s, for example %s", len(rows), status, example)
    _tell_near_duplicates(manifest, config.folds.group_near_duplicates)
    if config.folds.scheme == "leave_one_group_out":
        log.info("each of the %d groups is a fold of its own; folds.num is not used", num_folds(manifest))
        _tell_joined_groups(manifest)
    lost = sorted(set(manifest["label"]) - set(manifest.loc[manifest["status"] == "ok", "label"]))
    if lost:
        log.warning("no file of these classes is usable, so the model will not know them: %s", ", ".join(lost))
    if not listing.grouped:
        log.warning(
            "no groups are declared: images of one patient, slide or day may end up on both sides of a fold and the "
            "numbers be too good. Say what must stay together in data.group_regex or data.columns.group."
        )
    shared = _in_test(manifest, "split_group") & _in_train(manifest, "split_group")
    if shared:
        log.warning(
            "%d groups lie in both train and test, for example %s: the test is not of new ones",
            len(shared),
            min(shared),
        )


def _tell_of_exclusion(exclude: Path | None, label_errors: Path) -> None:
    if exclude is not None and exclude.resolve() == label_errors.resolve():
        log.warning(
            "data.exclude %s: lists suspicions, and evaluate writes it anew. Copy it under another name, keep the rows "
            "that you looked at and found wrong, and name that file.",
            exclude,
        )


def _tell_joined_groups(manifest: pd.DataFrame) -> None:
    """Which declared groups share a fold, though each was to be one, because they share copies."""
    images = manifest[manifest["fold"] >= 0]
    joined = images.groupby("split_group")["group"].unique()
    joined = joined[joined.map(len) > 1]
    if len(joined):
        log.warning(
            "%d declared groups are joined into %d, for example %s: they share copies or near-copies. "
            "folds.group_near_duplicates: false keeps those apart that share near-copies only.",
            joined.map(len).sum(), len(joined), ", ".join(map(str, sorted(joined.iloc[0]))),
        )  # fmt: skip


def _tell_near_duplicates(manifest: pd.DataFrame, grouped: bool) -> None:
    near = near_clusters(manifest)
    if near.empty:
        return
    example = " and ".join(near.loc[near["cluster"] == near["cluster"].min(), "image_id"].head(2))
    done = "each is kept in one fold" if grouped else "folds may divide them (folds.group_near_duplicates is false)"
    counted = f"{len(near)} images are near-duplicates of others (clusters: {near['cluster'].nunique()})"
    log.log(logging.INFO if grouped else logging.WARNING, "%s, for example %s: %s", counted, example, done)
    shared = _in_test(near, "cluster") & _in_train(near, "cluster")
    if shared:
        log.warning("%d of these clusters lie in both train and test, for example that of %s", len(shared), min(shared))


def _in_test(manifest: pd.DataFrame, column: str) -> set[str]:
    return set(manifest.loc[manifest["split"] == "test", column])


def _in_train(manifest: pd.DataFrame, column: str) -> set[str]:
    return set(manifest.loc[manifest["fold"] >= 0, column])
