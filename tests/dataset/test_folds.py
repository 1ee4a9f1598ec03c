"""Folds keep class shares alike, divide no group, and depend on nothing but names, labels, groups and the seed."""

from __future__ import annotations

import re

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from microscopy_cls.dataset.folds import Names, assign_folds, leave_one_group_out, split_validation
from microscopy_cls.errors import FoldError


def names(*values: object) -> Names:
    return np.array([str(value) for value in values], dtype=object)


def ungrouped(num_per_class: dict[str, int]) -> tuple[Names, Names]:
    """Image ids and labels."""
    labels = names(*(label for label, num in num_per_class.items() for _ in range(num)))
    return names(*(f"{label}/{i:04}" for i, label in enumerate(labels))), labels


def grouped(seed: int, num_groups: int = 24, num_classes: int = 3) -> tuple[Names, Names, Names]:
    """Image ids, labels and groups of unequal size; a group holds one class or several."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, num_groups)
    main = np.arange(num_groups) % num_classes
    groups = np.repeat(np.arange(num_groups), sizes)
    strays = rng.integers(num_classes, size=len(groups))
    labels = np.where(rng.random(len(groups)) < 0.2, strays, main[groups])
    ids = rng.permutation(len(groups))
    return names(*(f"i{i:04}" for i in ids)), names(*(f"c{i}" for i in labels)), names(*(f"g{i:02}" for i in groups))


# Test folds


def test_class_counts_of_two_folds_differ_by_one_image_at_most_without_groups() -> None:
    ids, labels = ungrouped({"a": 31, "b": 17, "c": 5})
    folds = assign_folds(ids, labels, ids, num_folds=5, seed=0)
    for label in set(labels):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_folds", [2, 3, 5])
def test_no_group_is_divided_and_each_image_is_in_one_fold(seed: int, num_folds: int) -> None:
    ids, labels, groups = grouped(seed)
    folds = assign_folds(ids, labels, groups, num_folds, seed)
    assert folds.shape == ids.shape
    assert set(folds) == set(range(num_folds))
    for group in set(groups):
        assert len(set(folds[groups == group])) == 1


@pytest.mark.parametrize("seed", range(5))
def test_grouped_folds_keep_class_shares_roughly_alike(seed: int) -> None:
    ids, labels, groups = grouped(seed, num_groups=90)
    folds = assign_folds(ids, labels, groups, 3, seed)
    for label in set(labels):
        shares = [np.mean(labels[folds == fold] == label) for fold in range(3)]
        assert max(shares) - min(shares) < 0.08


def test_the_seed_alone_decides() -> None:
    ids, labels, groups = grouped(0)
    first = assign_folds(ids, labels, groups, 3, seed=0)
    assert np.array_equal(first, assign_folds(ids, labels, groups, 3, seed=0))
    assert any(not np.array_equal(first, assign_folds(ids, labels, groups, 3, seed)) for seed in (1, 2))


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_rows_changes_nothing(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(grouped(seed)[0]))
    ids, labels, groups = grouped(seed)
    folds = assign_folds(ids, labels, groups, 3, seed=7)
    shuffled = assign_folds(ids[order], labels[order], groups[order], 3, seed=7)
    assert np.array_equal(folds[order], shuffled)
    plain = assign_folds(ids, labels, ids, 3, seed=7)
    assert np.array_equal(plain[order], assign_folds(ids[order], labels[order], ids[order], 3, seed=7))


def test_every_class_is_outside_each_fold_so_that_it_can_be_learnt() -> None:
    for seed in range(20):
        ids, labels, groups = grouped(seed, num_groups=9)
        folds = assign_folds(ids, labels, groups, 3, seed)
        for fold in range(3):
            assert set(labels[folds != fold]) == set(labels)


def test_fewer_groups_of_a_class_than_folds_are_refused_and_all_such_classes_named() -> None:
    ids, labels = ungrouped({"a": 9, "b": 9, "rare": 2, "rarer": 1})
    with pytest.raises(FoldError) as raised:
        assign_folds(ids, labels, ids, 3, seed=0)
    assert str(raised.value) == (
        "there are classes with fewer groups than the 3 folds: rare (2), rarer (1). Add images of other groups, "
        "or merge or leave out these classes."
    )


def test_groups_are_counted_and_not_images() -> None:
    ids, labels = ungrouped({"a": 9, "b": 9})
    groups = names(*(f"{label}{i % 3 if label == 'a' else i % 2}" for i, label in enumerate(labels)))
    with pytest.raises(FoldError, match=r"than the 3 folds: b \(2\). Lower folds.num to 2, add images of other groups"):
        assign_folds(ids, labels, groups, 3, seed=0)
    assert set(assign_folds(ids, labels, groups, 2, seed=0)) == {0, 1}


def test_one_class_alone_is_refused() -> None:
    ids, labels = ungrouped({"a": 9})
    with pytest.raises(FoldError, match=r"there is only one class \(a\): a classifier needs at least two"):
        assign_folds(ids, labels, ids, 3, seed=0)


def test_a_class_that_falls_wholly_into_one_fold_is_refused() -> None:
    """Three slides with two classes each, every class on two slides: two of them must lie in one fold."""
    groups = names(*["slide1"] * 4, *["slide2"] * 4, *["slide3"] * 4)
    labels = names(*"aabb", *"bbcc", *"ccaa")
    ids = names(*(f"i{i:02}" for i in range(12)))
    with pytest.raises(FoldError) as raised:
        assign_folds(ids, labels, groups, 2, seed=0)
    assert re.fullmatch(
        r"all images of [abc] fall into one fold, so that no model could learn them when it is tested: their groups "
        r"are too unequal\. Change folds\.seed or folds\.num, or declare smaller groups\.",
        str(raised.value),
    )


# The validation part


@pytest.mark.parametrize("fraction", [0.1, 0.15, 0.25, 0.5])
def test_the_validation_part_is_about_as_large_as_asked_for(fraction: float) -> None:
    ids, labels = ungrouped({"a": 120, "b": 60})
    assert split_validation(labels, ids, fraction, seed=0).mean() == pytest.approx(fraction, abs=0.02)
    _, labels, groups = grouped(0, num_groups=200)
    assert split_validation(labels, groups, fraction, seed=0).mean() == pytest.approx(fraction, abs=0.04)


@pytest.mark.parametrize("fraction", [0.28, 0.3, 0.36, 0.38, 0.4, 0.42, 0.45, 0.47])
def test_a_fraction_that_is_no_part_of_a_whole_is_nearly_met_and_leaves_groups_whole(fraction: float) -> None:
    labels, groups = np.array(["a", "b"] * 300), np.array([f"g{row // 5}" for row in range(600)])
    chosen = split_validation(labels, groups, fraction, seed=0)
    assert chosen.mean() == pytest.approx(fraction, abs=0.03)
    assert not set(groups[chosen]) & set(groups[~chosen])


@pytest.mark.parametrize(("fraction", "num"), [(0.1, 10), (0.15, 7), (0.2, 5), (0.25, 4), (0.34, 3), (0.5, 2)])
def test_a_fraction_that_is_one_part_is_the_first_of_them(fraction: float, num: int) -> None:
    labels, groups = np.array(["a", "b"] * 60), np.array([f"g{row // 3}" for row in range(120)])
    first = next(StratifiedGroupKFold(num, shuffle=True, random_state=1).split(labels, labels, groups))[1]
    assert np.array_equal(np.flatnonzero(split_validation(labels, groups, fraction, seed=1)), first)


@pytest.mark.parametrize("seed", range(5))
def test_the_validation_part_takes_whole_groups_and_leaves_every_class_in_training(seed: int) -> None:
    _, labels, groups = grouped(seed, num_groups=12)
    chosen = split_validation(labels, groups, 0.15, seed)
    assert chosen.any()
    assert not set(groups[chosen]) & set(groups[~chosen])
    assert set(labels[~chosen]) == set(labels)


def test_no_validation_part_is_asked_for_by_zero() -> None:
    _, labels = ungrouped({"a": 5, "b": 5})
    assert not split_validation(labels, labels, 0, seed=0).any()


def test_the_seed_of_the_validation_part_alone_decides() -> None:
    _, labels, groups = grouped(0)
    first = split_validation(labels, groups, 0.2, seed=0)
    assert np.array_equal(first, split_validation(labels, groups, 0.2, seed=0))
    assert any(not np.array_equal(first, split_validation(labels, groups, 0.2, seed)) for seed in (1, 2))


@pytest.mark.parametrize("fraction", [0.001, 0.05, 0.15, 0.5])
@pytest.mark.parametrize("seed", range(10))
def test_few_groups_give_a_larger_part_than_asked_for_and_never_none(seed: int, fraction: float) -> None:
    rng = np.random.default_rng(seed)
    groups = names(*range(5), *rng.integers(5, size=9))
    labels = names(*"abaab", *rng.choice(["a", "b"], size=9))
    chosen = split_validation(labels, groups, fraction, seed)
    assert chosen.any()
    assert set(labels[~chosen]) == {"a", "b"}


@pytest.mark.parametrize("each_its_own", [True, False])
def test_a_class_with_one_group_cannot_spare_it(each_its_own: bool) -> None:
    labels = names("a", "b") if each_its_own else names(*"aaabbb")
    groups = names(*range(2)) if each_its_own else labels
    with pytest.raises(FoldError, match="no validation part can be chosen that leaves every class in training"):
        split_validation(labels, groups, 0.2, seed=0)


def test_one_rare_class_does_not_keep_the_others_from_a_validation_part() -> None:
    labels = names(*["a"] * 20, *["b"] * 20, "rare")
    chosen = split_validation(labels, names(*range(41)), 0.2, seed=0)
    assert chosen.any()
    assert not chosen[40]


# Further divisions


@pytest.mark.parametrize("seed", range(3))
def test_groups_dealt_anew_are_not_divided_and_every_image_is_in_one_fold(seed: int) -> None:
    ids, labels, groups = grouped(seed)
    folds = assign_folds(ids, labels, groups, 3, seed, anew=True)
    assert set(folds) == {0, 1, 2}
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))


def unequal(num_groups: int = 24) -> tuple[Names, Names, Names]:
    """Groups of 1, 2, 3, ... images, all of different sizes."""
    group = np.repeat(np.arange(num_groups), np.arange(1, num_groups + 1))
    ids = names(*(f"i{i:04}" for i in range(len(group))))
    return ids, names(*(f"c{one % 2}" for one in group)), names(*(f"g{one:02}" for one in group))


def test_groups_of_unequal_sizes_too_are_dealt_otherwise_by_another_seed_and_alike_by_the_same() -> None:
    ids, labels, groups = unequal()
    once = [assign_folds(ids, labels, groups, 3, seed, anew=True) for seed in range(4)]
    again = [assign_folds(ids, labels, groups, 3, seed, anew=True) for seed in range(4)]
    assert np.array_equal(once, again)
    divisions = {tuple(sorted(tuple(np.flatnonzero(folds == fold)) for fold in range(3))) for folds in once}
    assert len(divisions) == 4


@pytest.mark.parametrize("seed", range(5))
def test_dealt_groups_keep_class_shares_roughly_alike(seed: int) -> None:
    ids, labels, groups = grouped(seed, num_groups=90)
    folds = assign_folds(ids, labels, groups, 3, seed, anew=True)
    for label in set(labels):
        shares = [np.mean(labels[folds == fold] == label) for fold in range(3)]
        assert max(shares) - min(shares) < 0.08


def test_the_order_of_rows_changes_nothing_in_what_is_dealt() -> None:
    ids, labels, groups = grouped(1)
    order = np.random.default_rng(0).permutation(len(ids))
    folds = assign_folds(ids, labels, groups, 3, 5, anew=True)
    assert np.array_equal(folds[order], assign_folds(ids[order], labels[order], groups[order], 3, 5, anew=True))


def test_without_groups_another_division_is_as_even_as_the_first() -> None:
    ids, labels = ungrouped({"a": 31, "b": 17})
    folds = assign_folds(ids, labels, ids, 5, 1, anew=True)
    for label in set(labels):
        assert np.ptp(np.bincount(folds[labels == label], minlength=5)) <= 1
    assert not np.array_equal(folds, assign_folds(ids, labels, ids, 5, 0))


# One group a fold


def test_leaving_one_group_out_makes_each_group_a_fold() -> None:
    _, labels, groups = grouped(0, num_groups=9)
    folds = leave_one_group_out(labels, groups, declared=True)
    assert set(folds) == set(range(9))
    assert all(set(groups[folds == fold]) == {f"g{fold:02}"} for fold in range(9))


@pytest.mark.parametrize(
    ("groups", "declared", "message"),
    [
        (names(*"0123"), False, "leave_one_group_out: no groups are declared. Name them in data.group_regex or"),
        (names(*"0000"), True, r"all images are one group \(0\), so nothing is left to train on"),
        (names(*range(51)), True, "there are 51 groups, and each would be one training; at most 50 are taken. Set"),
    ],
)
def test_groups_that_cannot_be_left_out_one_by_one_are_refused(groups: Names, declared: bool, message: str) -> None:
    labels = names(*("ab"[i % 2] for i in range(len(groups))))
    with pytest.raises(FoldError, match=message):
        leave_one_group_out(labels, groups, declared=declared)


def test_a_class_in_one_group_alone_cannot_be_left_out() -> None:
    with pytest.raises(FoldError) as raised:
        leave_one_group_out(names(*"aabbc"), names(*"12123"), declared=True)
    assert str(raised.value) == (
        "all images of c fall into one fold, so that no model could learn them when it is tested: add images of them "
        "from other groups, or merge or leave out these classes."
    )


def test_one_class_alone_is_refused_by_leaving_out_too() -> None:
    with pytest.raises(FoldError, match=r"there is only one class \(a\)"):
        leave_one_group_out(names(*"aaa"), names(*"123"), declared=True)
