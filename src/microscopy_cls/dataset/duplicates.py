"""Exact duplicates and contradictory labels, found on decoded pixels, and the groups that they tie together."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


def mark_duplicates(files: pd.DataFrame) -> pd.DataFrame:
    """Set the status of all but one of the images with equal pixels.

    Equal pixels under one label: one stays `ok`, the others become `duplicate`. Under several labels: all become
    `conflict`, used by neither, for nobody knows which label is right. Where copies lie in both splits, the one
    that stays is in `test`: training on a picture of the test set would be a leak.

    Args:
        files: columns `image_id, label, split, status, error, pixel_digest`.

    Returns:
        A copy with `status` and `error` set.
    """
    files = files.copy()
    readable = files[files["status"] == "ok"]
    copied = readable[readable["pixel_digest"].duplicated(keep=False)]
    for _, copies in copied.groupby("pixel_digest", sort=False):
        if copies["label"].nunique() > 1:
            files.loc[copies.index, "status"] = "conflict"
            files.loc[copies.index, "error"] = "same pixels under the labels " + ", ".join(sorted(set(copies["label"])))
        else:
            kept, *others = copies.sort_values(["split", "image_id"]).index  # "test" sorts before "train"
            files.loc[others, "status"] = "duplicate"
            files.loc[others, "error"] = f"same pixels as {files.loc[kept, 'image_id']}"
    return files


def merge_groups(groups: pd.Series, clusters: pd.Series) -> pd.Series:
    """Join groups that share a cluster, so that folds divide neither.

    Args:
        groups: a declared group a row (str).
        clusters: a cluster id a row (str); "" belongs to none.

    Returns:
        A name a row: the alphabetically first of the joined groups, so that the result does not depend on row order.
    """
    linked = clusters != ""
    if not linked.any():
        return groups
    group_codes, group_names = pd.factorize(groups, sort=True)
    cluster_codes, cluster_names = pd.factorize(clusters[linked])
    size = len(group_names) + len(cluster_names)
    edges = coo_matrix(
        (np.ones(int(linked.sum())), (group_codes[linked.to_numpy()], len(group_names) + cluster_codes)), (size, size)
    )
    component = connected_components(edges, directed=False)[1][: len(group_names)]
    first = pd.Series(group_names).groupby(component).transform("min")
    return pd.Series(first.to_numpy()[group_codes], index=groups.index)
