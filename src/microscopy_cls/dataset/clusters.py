"""Which images show one picture: exact copies and near-duplicates, as clusters with a name."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.dataset.duplicates import merge_groups
from microscopy_cls.dataset.near_duplicates import near_duplicate_pairs

COMPARED = ("ok", "duplicate", "conflict")  # statuses of the images among which copies are looked for


def find_clusters(files: pd.DataFrame, pixels: NDArray[np.uint8]) -> pd.Series:
    """Name the cluster of copies and near-duplicates that each image belongs to.

    Args:
        files: columns `image_id, status, pixel_digest`, index 0 .. n - 1.
        pixels: the cache, uint8 (n, size_px, size_px, 3).

    Returns:
        The alphabetically first image id of the cluster, "" for images that have no copy.
    """
    compared = files[files["status"].isin(COMPARED)]
    one_of_each = compared.drop_duplicates("pixel_digest")
    pairs = near_duplicate_pairs(pixels, one_of_each.index.to_numpy(np.int64))
    copied = compared[compared["pixel_digest"].duplicated(keep=False)]
    # What two images share is what `merge_groups` calls a cluster: a digest, or the number of a pair.
    sharing = pd.DataFrame({
        "image_id": [*copied["image_id"], *files["image_id"].to_numpy()[pairs.ravel()]],
        "shared": [*copied["pixel_digest"], *np.repeat(np.arange(len(pairs)), 2).astype(str)],
    }, dtype=object)  # fmt: skip
    names = dict(zip(sharing["image_id"], merge_groups(sharing["image_id"], sharing["shared"]), strict=True))
    return files["image_id"].map(lambda image_id: names.get(image_id, ""))


def exact_copies(files: pd.DataFrame) -> pd.Series:
    """The digest of images whose pixels occur more than once among those compared, "" for the others."""
    digest = files["pixel_digest"].where(files["status"].isin(COMPARED), "")
    return digest.where(digest.duplicated(keep=False), "")


def near_clusters(files: pd.DataFrame) -> pd.DataFrame:
    """The rows of clusters that hold more than exact copies of one picture. Columns `cluster, pixel_digest`."""
    tied = files[files["cluster"] != ""]
    return tied[tied.groupby("cluster")["pixel_digest"].transform("nunique") > 1]
