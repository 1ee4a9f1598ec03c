"""Of copies one is used, of contradictions none, and what is tied together stays together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from microscopy_cls.dataset.duplicates import mark_duplicates, merge_groups


def table(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    """Rows of image id, label, split, pixel digest; "" stands for an unreadable file."""
    files = pd.DataFrame(rows, columns=["image_id", "label", "split", "pixel_digest"])
    files["status"] = np.where(files["pixel_digest"] == "", "unreadable", "ok")
    return files.assign(error="")


def statuses(files: pd.DataFrame) -> dict[str, str]:
    marked = mark_duplicates(files)
    return dict(zip(marked["image_id"], marked["status"], strict=True))


def test_different_pixels_are_all_used_and_the_input_is_left_as_it_is() -> None:
    files = table(("a", "x", "train", "1"), ("b", "x", "train", "2"), ("c", "y", "test", "3"))
    before = files.copy()
    assert statuses(files) == {"a": "ok", "b": "ok", "c": "ok"}
    pd.testing.assert_frame_equal(files, before)


def test_of_copies_under_one_label_the_first_by_name_stays() -> None:
    files = table(("c", "x", "train", "1"), ("a", "x", "train", "1"), ("b", "x", "train", "1"))
    assert statuses(files) == {"a": "ok", "b": "duplicate", "c": "duplicate"}
    marked = mark_duplicates(files).set_index("image_id")
    assert marked.loc["c", "error"] == marked.loc["b", "error"] == "same pixels as a"


def test_copies_under_several_labels_are_all_set_aside_and_say_which() -> None:
    files = table(
        ("a", "x", "train", "1"), ("b", "x", "train", "1"), ("c", "y", "train", "1"), ("d", "y", "train", "2")
    )
    assert statuses(files) == {"a": "conflict", "b": "conflict", "c": "conflict", "d": "ok"}
    assert set(mark_duplicates(files)["error"]) == {"", "same pixels under the labels x, y"}


def test_the_copy_in_the_test_split_stays_even_if_it_comes_later() -> None:
    files = table(("a", "x", "train", "1"), ("b", "x", "test", "1"), ("c", "x", "test", "1"))
    assert statuses(files) == {"a": "duplicate", "b": "ok", "c": "duplicate"}


def test_a_conflict_across_splits_is_used_by_neither() -> None:
    assert set(statuses(table(("a", "x", "train", "1"), ("b", "y", "test", "1"))).values()) == {"conflict"}


def test_unreadable_files_are_copies_of_nothing() -> None:
    files = table(("a", "x", "train", ""), ("b", "y", "train", ""), ("c", "x", "train", "1"))
    assert statuses(files) == {"a": "unreadable", "b": "unreadable", "c": "ok"}


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_rows_decides_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [
        (
            f"i{i:02}",
            str(rng.choice(["x", "y"], p=[0.9, 0.1])),
            str(rng.choice(["train", "test"])),
            str(rng.integers(12)),
        )
        for i in range(30)
    ]
    files = table(*rows)
    assert statuses(files) == statuses(files.sample(frac=1, random_state=seed, ignore_index=True))


def test_each_picture_that_is_not_contradicted_is_used_exactly_once() -> None:
    rng = np.random.default_rng(0)
    files = table(*((f"i{i:02}", "x", "train", str(rng.integers(12))) for i in range(40)))
    used = mark_duplicates(files).query("status == 'ok'")
    assert sorted(used["pixel_digest"]) == sorted(set(files["pixel_digest"]))


# Groups


def merged(groups: str, clusters: str) -> str:
    """One letter a row; a dot is no cluster."""
    found = merge_groups(pd.Series(list(groups)), pd.Series([c.replace(".", "") for c in clusters]))
    return "".join(found)


def test_groups_that_share_no_cluster_stay_as_they_are() -> None:
    assert merged("abca", "....") == "abca"
    assert merged("aabb", "1122") == "aabb"


def test_groups_that_share_a_cluster_take_the_first_of_their_names() -> None:
    assert merged("cbad", "11..") == "bbad"
    assert merged("ba", "11") == "aa"


def test_a_chain_of_clusters_ties_all_its_groups_together() -> None:
    #  a-b by 1, b-c by 2, c-d by 3; e alone
    assert merged("abbccde", "112233.") == "aaaaaae"


def test_all_rows_of_a_joined_group_move_not_only_the_copies() -> None:
    assert merged("aabbb", ".1..1") == "aaaaa"


@pytest.mark.parametrize("seed", range(20))
def test_merging_is_the_finest_division_that_keeps_groups_and_clusters_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = pd.Series([f"g{i}" for i in rng.integers(9, size=25)])
    clusters = pd.Series([f"c{i}" if i < 6 else "" for i in rng.integers(14, size=25)])
    expected = groups.copy()
    while True:  # take the least name within each cluster, then within each group, until nothing changes
        before = expected.copy()
        linked = clusters != ""
        expected[linked] = expected[linked].groupby(clusters[linked]).transform("min")
        expected = expected.groupby(groups).transform("min")
        if expected.equals(before):
            break
    assert list(merge_groups(groups, clusters)) == list(expected)


@pytest.mark.parametrize("seed", range(5))
def test_merging_does_not_depend_on_the_order_of_rows_and_keeps_their_index(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = pd.Series([f"g{i}" for i in rng.integers(9, size=25)])
    clusters = pd.Series([f"c{i}" if i < 6 else "" for i in rng.integers(14, size=25)])
    order = rng.permutation(25)
    shuffled = merge_groups(groups[order], clusters[order])
    assert list(shuffled.index) == list(order)
    assert shuffled.sort_index().equals(merge_groups(groups, clusters))


def test_merging_twice_changes_nothing_more() -> None:
    groups, clusters = pd.Series(list("abbccde")), pd.Series([*"112233", ""])
    once = merge_groups(groups, clusters)
    assert merge_groups(once, clusters).equals(once)
