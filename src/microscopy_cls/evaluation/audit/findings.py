"""What the manifest says by itself: copies, contradictions, groups of several classes, bad pictures."""

from __future__ import annotations

from typing import Any

import pandas as pd

FLAGS = ("blurred", "dark", "bright", "saturated", "empty", "constant")

Json = dict[str, Any]


def clusters_of(manifest: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of each cluster of exact and near copies, clusters in alphabetical order."""
    copied = manifest[manifest["cluster"] != ""]
    return [rows for _, rows in copied.groupby("cluster", sort=True) if len(rows) > 1]


def find_copies(manifest: pd.DataFrame) -> Json:
    """Clusters, and what they divide.

    Returns:
        `duplicates`: the image ids of each cluster. `num_exact`: clusters whose images all have the same pixels;
        `num_near`: the others. `clusters_across_groups`: with several declared groups. `clusters_across_folds`: whose
        images are trained on in several folds. `clusters_across_splits`: in train and in test, where the test sets its
        own aside. `conflicts`: clusters with several labels.
    """
    clusters = clusters_of(manifest)
    num_exact = sum(rows["pixel_digest"].nunique() == 1 for rows in clusters)
    return {
        "duplicates": [list(rows["image_id"]) for rows in clusters],
        "num_exact": int(num_exact),
        "num_near": len(clusters) - int(num_exact),
        "clusters_across_groups": sum(rows["group"].nunique() > 1 for rows in clusters),
        "clusters_across_folds": sum(rows.loc[rows["fold"] >= 0, "fold"].nunique() > 1 for rows in clusters),
        "clusters_across_splits": sum(_used(rows)["split"].nunique() > 1 for rows in clusters),
        "conflicts": [
            {"image_ids": list(rows["image_id"]), "labels": sorted(set(rows["label"]))}
            for rows in clusters
            if rows["label"].nunique() > 1
        ],
    }


def find_groups(manifest: pd.DataFrame) -> Json:
    """Groups as they were declared.

    Returns:
        `grouped`: whether any were; `num_groups`: of the images in folds, copies joined; `mixed_groups`: groups of
        several classes, each with its counts; `groups_across_folds`: declared groups that folds or splits divide.
    """
    used = _used(manifest)
    places = _places(used).groupby(used["group"]).nunique()
    mixed = used[used.groupby("group")["label"].transform("nunique") > 1]  # few: counting all would take a minute
    return {
        "grouped": bool((manifest["group"] != manifest["image_id"]).any()),
        "num_groups": int(manifest.loc[manifest["fold"] >= 0, "split_group"].nunique()),
        "mixed_groups": [
            {"group": str(group), "labels": {str(label): int(count) for label, count in sorted(counts.items())}}
            for group, counts in ((name, labels.value_counts()) for name, labels in mixed.groupby("group")["label"])
        ],
        "groups_across_folds": int((places > 1).sum()),
    }


def find_bad_pictures(manifest: pd.DataFrame) -> Json:
    """`quality`: flagged image ids by flag; `quality_share`: of the used images, flagged for anything."""
    used = _used(manifest)
    flags = used["quality"].str.split(",")
    quality = {flag: list(used.loc[[flag in found for found in flags], "image_id"]) for flag in FLAGS}
    return {"quality": quality, "quality_share": float((used["quality"] != "").mean())}


def _used(manifest: pd.DataFrame) -> pd.DataFrame:
    """The images that are trained or tested on."""
    return manifest[manifest["status"] == "ok"]


def _places(rows: pd.DataFrame) -> pd.Series:
    """The fold, or `test`, in which each used row is tested."""
    used = _used(rows)
    return used["fold"].astype(str).where(used["split"] == "train", "test")
