"""Stratified, grouped folds: seeded, and the same whatever the order of the rows."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from microscopy_cls.errors import FoldError

Names = NDArray[np.object_]


def assign_folds(image_ids: Names, labels: Names, groups: Names, num_folds: int, seed: int) -> NDArray[np.int64]:
    """Divide images into folds that keep class shares alike and never divide a group.

    Args:
        image_ids, labels, groups: a str a row, shape (n,).
        num_folds: at least 2.
        seed: another seed divides otherwise.

    Returns:
        The fold of each row in which it is test, shape (n,), values 0 .. num_folds - 1.

    Raises:
        FoldError: a class has fewer groups than folds, or lies wholly in one fold; all such classes are named.
    """
    _check_groups_per_class(labels, groups, num_folds)
    order = np.argsort(image_ids)
    folds = np.empty(len(labels), np.int64)
    for fold, (_, test) in enumerate(_splits(labels[order], groups[order], num_folds, seed)):
        folds[order[test]] = fold
    lost = [str(label) for label in np.unique(labels) if len(set(folds[labels == label])) < 2]
    if lost:
        raise FoldError(
            f"all images of {', '.join(lost)} fall into one fold, so that no model could learn them when it is tested: "
            "their groups are too unequal. Change folds.seed or folds.num, or declare smaller groups."
        )
    return folds


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
    chosen = np.zeros(len(labels), bool)
    if fraction == 0:
        return chosen
    classes = set(labels)
    # A part holds at least one group of the class that has most of them: small sets give a larger part than asked for.
    num = min(round(1 / fraction), max(_groups_per_class(labels, groups).values()))
    for train, validation in _splits(labels, groups, num, seed) if num > 1 else ():
        if len(validation) and set(labels[train]) == classes:
            chosen[validation] = True
            return chosen
    raise FoldError(
        "no validation part can be chosen that leaves every class in training: a class has too few groups. "
        "Set finetune.validation_fraction to 0 (a fixed schedule) or lower folds.num."
    )


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
    counts = _groups_per_class(labels, groups)
    if len(counts) < 2:
        raise FoldError(f"there is only one class ({', '.join(counts)}): a classifier needs at least two")
    few = {label: count for label, count in counts.items() if count < num_folds}
    if few:
        listed = ", ".join(f"{label} ({count})" for label, count in few.items())
        lower = f"Lower folds.num to {min(few.values())}, add" if min(few.values()) > 1 else "Add"
        raise FoldError(
            f"there are classes with fewer groups than the {num_folds} folds: {listed}. "
            f"{lower} images of other groups, or merge or leave out these classes."
        )


def _groups_per_class(labels: Names, groups: Names) -> dict[str, int]:
    return {str(label): len(set(groups[labels == label])) for label in np.unique(labels)}
