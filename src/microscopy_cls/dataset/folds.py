"""Grouped folds, stratified or one a group: seeded, and the same whatever the order of the rows."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from microscopy_cls.dataset.dealing import deal_groups
from microscopy_cls.errors import FoldError

MAX_GROUPS = 50  # one training each: what leaving every one out would cost beyond is seldom meant
NEAR = 0.025  # so far from the fraction that was asked for a validation part may be by design

Names = NDArray[np.object_]


def assign_folds(
    image_ids: Names, labels: Names, groups: Names, num_folds: int, seed: int, *, anew: bool = False
) -> NDArray[np.int64]:
    """Divide images into folds that keep class shares alike and never divide a group.

    Args:
        image_ids, labels, groups: a str a row, shape (n,).
        num_folds: at least 2.
        seed: another seed divides otherwise, but groups of unequal sizes often alike, since the largest come first.
        anew: groups of unequal sizes too are divided otherwise by another seed; see `deal_groups`.

    Returns:
        The fold of each row in which it is test, shape (n,), values 0 .. num_folds - 1.

    Raises:
        FoldError: a class has fewer groups than folds, or lies wholly in one fold; all such classes are named.
    """
    _check_groups_per_class(labels, groups, num_folds)
    order = np.argsort(image_ids)
    folds = np.empty(len(labels), np.int64)
    if anew and len(set(groups)) < len(groups):
        folds = deal_groups(labels, groups, num_folds, seed)
    else:
        for fold, (_, test) in enumerate(_splits(labels[order], groups[order], num_folds, seed)):
            folds[order[test]] = fold
    _check_learnable(
        labels, folds, "their groups are too unequal. Change folds.seed or folds.num, or declare smaller groups."
    )
    return folds


def leave_one_group_out(labels: Names, groups: Names, *, declared: bool) -> NDArray[np.int64]:
    """Make each group a fold, in the order of their names.

    Args:
        labels, groups: a str a row, shape (n,).
        declared: whether anybody said what the groups are; otherwise each image is its own.

    Returns:
        The fold of each row in which it is test, shape (n,).

    Raises:
        FoldError: no groups were declared, there are too few or too many, or a class lies in one of them alone.
    """
    names, folds = np.unique(groups.astype(str), return_inverse=True)
    if not declared:
        raise FoldError(
            "folds.scheme leave_one_group_out: no groups are declared. Name them in data.group_regex or "
            "data.columns.group, or set folds.scheme to stratified."
        )
    if len(names) < 2:
        raise FoldError(
            f"folds.scheme leave_one_group_out: all images are one group ({names[0]}), so nothing is left to train on. "
            "Check the groups (near-duplicates join them, see folds.group_near_duplicates), or add images of others."
        )
    if len(names) > MAX_GROUPS:
        raise FoldError(
            f"folds.scheme leave_one_group_out: there are {len(names)} groups, and each would be one training; at most "
            f"{MAX_GROUPS} are taken. Set folds.scheme to stratified, which keeps groups together as well, or declare "
            "larger groups, such as the site or the day."
        )
    _check_only_class(labels)
    _check_learnable(labels, folds, "add images of them from other groups, or merge or leave out these classes.")
    return folds.astype(np.int64)


def split_validation(labels: Names, groups: Names, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Choose about `fraction` of the images, whole groups, to choose the epoch by; every class stays in training.

    Args:
        labels, groups: a str a row, shape (n,), in an order that does not change (sorted by image id).
        fraction: in [0, 0.5]; 0 chooses none.
        seed: another seed chooses otherwise.

    Returns:
        True where the row is validation, shape (n,).

    Raises:
        FoldError: whatever part is taken, a class is lost to training.
    """
    part = np.zeros(len(labels), np.int64)
    if fraction == 0:
        return part > 0
    taken, num = _as_parts(fraction, max(_groups_per_class(labels, groups).values()))
    for number, (_, inside) in enumerate(_splits(labels, groups, num, seed) if num > 1 else ()):
        part[inside] = number
    for first in range(num if num > 1 else 0):
        chosen: NDArray[np.bool_] = (part - first) % num < taken
        if chosen.any() and set(labels[~chosen]) == set(labels):
            return chosen
    raise FoldError(
        "no validation part can be chosen that leaves every class in training: a class has too few groups. "
        "Set finetune.validation_fraction to 0 (a fixed schedule) or, of stratified folds, lower folds.num."
    )


def _as_parts(fraction: float, most: int) -> tuple[int, int]:
    """How many parts of how many are about a fraction: the fewest that come near it, one where no more than `most` do.

    A part holds at least one group of the class that has most of them, so small sets give more than was asked for.
    """
    for taken in range(1, 6):
        num = round(taken / fraction)
        if num <= most and abs(taken / num - fraction) <= NEAR:
            return taken, num
    return 1, min(round(1 / fraction), most)


def inner_folds(labels: Names, groups: Names, num: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Divide training images, whole groups, to choose a setting by.

    Args:
        labels, groups: a str a row, shape (n,), in an order that does not change (sorted by image id).
        num: of parts; fewer where classes have too few groups.
        seed: another seed divides otherwise.

    Returns:
        Rows to learn from, which hold every class, and rows to try on, a pair a part; none where no part can be spared.
    """
    num = min(num, max(_groups_per_class(labels, groups).values()))
    parts = _splits(labels, groups, num, seed) if num > 1 else []
    return [(train, held) for train, held in parts if len(held) and set(labels[train]) == set(labels)]


def _splits(labels: Names, groups: Names, num: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """scikit-learn's splitter on integer codes; where each image is its own group the plain one is exact."""
    _, codes = np.unique(labels.astype(str), return_inverse=True)
    names, group_codes = np.unique(groups.astype(str), return_inverse=True)
    kind = StratifiedKFold if len(names) == len(groups) else StratifiedGroupKFold
    with warnings.catch_warnings():
        # A rare class in a small validation part; `assign_folds` has refused what matters for test folds.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        splitter = kind(n_splits=num, shuffle=True, random_state=seed)
        return list(splitter.split(codes, codes, None if kind is StratifiedKFold else group_codes))


def _check_groups_per_class(labels: Names, groups: Names, num_folds: int) -> None:
    _check_only_class(labels)
    counts = _groups_per_class(labels, groups)
    few = {label: count for label, count in counts.items() if count < num_folds}
    if few:
        listed = ", ".join(f"{label} ({count})" for label, count in few.items())
        lower = f"Lower folds.num to {min(few.values())}, add" if min(few.values()) > 1 else "Add"
        raise FoldError(
            f"there are classes with fewer groups than the {num_folds} folds: {listed}. "
            f"{lower} images of other groups, or merge or leave out these classes."
        )


def _check_only_class(labels: Names) -> None:
    if len(set(labels)) < 2:
        raise FoldError(f"there is only one class ({labels[0]}): a classifier needs at least two")


def _check_learnable(labels: Names, folds: NDArray[np.int64], advice: str) -> None:
    lost = [str(label) for label in np.unique(labels) if len(set(folds[labels == label])) < 2]
    if lost:
        raise FoldError(
            f"all images of {', '.join(lost)} fall into one fold, so that no model could learn them when it is tested: "
            f"{advice}"
        )


def _groups_per_class(labels: Names, groups: Names) -> dict[str, int]:
    return {str(label): len(set(groups[labels == label])) for label in np.unique(labels)}
