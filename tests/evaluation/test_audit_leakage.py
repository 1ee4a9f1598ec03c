"""Inflation is there where groups look alike and only there; copies, groups and pictures are counted as they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from tests.evaluation.prepared import manifest_of

from microscopy_cls.evaluation.audit import leakage
from microscopy_cls.evaluation.audit.answers import Json, task_of
from microscopy_cls.evaluation.audit.findings import FLAGS, find_bad_pictures, find_copies, find_groups
from microscopy_cls.evaluation.audit.leakage import measure_leakage
from microscopy_cls.evaluation.audit.verdicts import judge_duplicates, judge_leakage, judge_quality


def points_of(manifest: pd.DataFrame, alike: float, telling: float) -> NDArray[np.float64]:
    """Thumbnails that share a part with their group, and a part with their class."""
    rng = np.random.default_rng(0)
    points = rng.normal(0, 1, (len(manifest), 576))
    for column, size in (("group", alike), ("label", telling)):
        codes, names = pd.factorize(manifest[column])
        points += size * rng.normal(0, 1, (len(names), 576))[codes]
    return 100 + 20 * points


def measured(manifest: pd.DataFrame, alike: float, telling: float) -> Json:
    return measure_leakage(manifest, points_of(manifest, alike, telling), task_of(manifest, 200, 0))


# Leakage


def test_groups_that_look_alike_inflate_a_random_split() -> None:
    found = measured(manifest_of(), alike=2, telling=0)
    assert found["random"]["value"] > 0.9
    assert found["grouped"]["value"] < 0.6
    assert found["inflation"]["ci_low"] > 0.2
    assert found["inflation"]["value"] == pytest.approx(found["random"]["value"] - found["grouped"]["value"])


def test_groups_that_look_like_any_other_inflate_nothing() -> None:
    found = measured(manifest_of(), alike=0, telling=0.5)
    assert found["inflation"]["ci_low"] < 0.02
    assert found["grouped"]["value"] > 0.6


def test_without_groups_both_folds_are_of_images_and_inflation_is_nil() -> None:
    manifest = manifest_of(60, 1)
    manifest["split_group"] = manifest["group"] = manifest["image_id"]
    found = measured(manifest, alike=2, telling=1)
    assert found["inflation"]["ci_low"] <= 0 <= found["inflation"]["ci_high"]
    assert abs(found["inflation"]["value"]) < 0.1


def test_a_large_set_is_measured_on_some_whole_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = manifest_of()
    monkeypatch.setattr(leakage, "MAX_IMAGES", 40)
    monkeypatch.setattr(leakage, "MIN_GROUPS", 10)
    task = task_of(manifest, 100, 0)
    kept = leakage._some_groups(task)
    assert len(kept) == 39
    assert manifest["group"].iloc[kept].value_counts().eq(3).all()
    assert measured(manifest, 2, 0)["inflation"]["value"] > 0.1


@pytest.mark.parametrize(("max_images", "num_kept"), [(200, 198), (90, 90)])
def test_groups_larger_than_all_that_is_measured_are_each_measured_in_part(
    max_images: int, num_kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = manifest_of(num_groups=9, per_group=200)
    monkeypatch.setattr(leakage, "MAX_IMAGES", max_images)
    monkeypatch.setattr(leakage, "MIN_GROUPS", 10)
    kept = leakage._some_groups(task_of(manifest, 100, 0))
    assert len(kept) == num_kept
    assert manifest["group"].iloc[kept].nunique() == 9
    found = measured(manifest, alike=0, telling=0.3)
    assert found["grouped"]["ci_low"] < found["grouped"]["value"] < found["grouped"]["ci_high"]
    assert found["inflation"]["ci_low"] < 0.02


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(manifest_of(), 1, 1)
    monkeypatch.setattr(leakage, "BLOCK", 7)
    assert measured(manifest_of(), 1, 1) == whole


# Copies, groups, pictures


def with_copies(manifest: pd.DataFrame, *rows: int, same_pixels: bool = True) -> pd.DataFrame:
    manifest = manifest.copy()
    ids = list(rows)
    manifest.loc[ids, "cluster"] = manifest.loc[ids, "image_id"].min()
    if same_pixels:
        manifest.loc[ids, "pixel_digest"] = manifest.loc[ids[0], "pixel_digest"]
    return manifest


def test_no_copies_pass() -> None:
    found = find_copies(manifest_of())
    assert found["duplicates"] == found["conflicts"] == []
    assert judge_duplicates(found) == ("pass", "No image is a copy or near-copy of another.")


def test_copies_in_one_fold_warn_and_contradictions_are_told() -> None:
    manifest = with_copies(manifest_of(), 0, 1)  # one group
    manifest = with_copies(manifest, 2, 3, same_pixels=False)  # two groups, two classes, one fold
    found = find_copies(manifest)
    assert (found["num_exact"], found["num_near"]) == (1, 1)
    assert (found["clusters_across_groups"], found["clusters_across_folds"]) == (1, 0)
    assert found["duplicates"] == [sorted(manifest["image_id"][[0, 1]]), sorted(manifest["image_id"][[2, 3]])]
    assert found["conflicts"] == [{"image_ids": found["duplicates"][1], "labels": ["alga", "rod"]}]
    assert judge_duplicates(found) == (
        "warn",
        "2 clusters of copies with 4 images, 1 of them in several groups, kept together in the folds; 1 under several "
        "labels, of which at most one is right.",
    )


def test_copies_within_a_declared_group_pass() -> None:
    assert judge_duplicates(find_copies(with_copies(manifest_of(), 0, 1, same_pixels=False))) == (
        "pass",
        "1 cluster of copies with 2 images, each within one declared group, so that no fold divides them.",
    )


def test_copies_in_two_folds_fail_both_as_copies_and_as_a_leak() -> None:
    manifest = with_copies(manifest_of(), 0, 9)  # same class, next fold
    found = find_copies(manifest) | find_groups(manifest)
    assert found["clusters_across_folds"] == 1
    assert judge_duplicates(found) == (
        "fail",
        "1 cluster of copies with 2 images, 1 of them divided between folds: the model is tested on what it was "
        "trained on. Set folds.group_near_duplicates to true, or list the copies in data.exclude, and run prepare "
        "again.",
    )
    assert judge_leakage(found) == (
        "fail",
        "0 declared groups and 1 cluster of copies are divided between folds or splits, so the figures are not of "
        "unseen ones. Correct the split or the groups.",
    )


def test_a_copy_that_is_set_aside_divides_nothing() -> None:
    manifest = with_copies(manifest_of(), 0, 9)
    manifest.loc[9, ["status", "fold"]] = ["duplicate", -1]
    assert find_copies(manifest)["clusters_across_folds"] == 0


def test_copies_in_train_and_test_warn_because_the_test_leaves_them_out() -> None:
    manifest = with_copies(manifest_of(), 0, 1)
    manifest.loc[1, ["split", "fold", "group"]] = ["test", -1, "other"]
    found = find_copies(manifest) | find_groups(manifest)
    assert (found["clusters_across_folds"], found["clusters_across_splits"]) == (0, 1)
    verdict, reason = judge_duplicates(found)
    assert verdict == "warn"
    assert reason.endswith("; 1 in train and in test, where the test leaves its own out.")


def test_a_group_in_train_and_test_fails() -> None:
    manifest = manifest_of()
    manifest.loc[0, ["split", "fold"]] = ["test", -1]
    found = find_copies(manifest) | find_groups(manifest)
    assert found["groups_across_folds"] == 1
    assert judge_leakage(found)[0] == "fail"


def test_groups_of_several_classes_are_listed_with_their_counts() -> None:
    manifest = manifest_of()
    manifest.loc[0, "label"] = "yeast"
    assert find_groups(manifest)["mixed_groups"] == [{"group": "g00", "labels": {"alga": 2, "yeast": 1}}]


def judged_leak(random: float, grouped: float, low: float) -> tuple[str, str]:
    leak = {
        "random": {"value": random},
        "grouped": {"value": grouped},
        "inflation": {"value": random - grouped, "ci_low": low},
    }
    tied = {"groups_across_folds": 0, "clusters_across_folds": 0, "grouped": True, "duplicates": []}
    return judge_leakage(tied | {"leakage": leak, "shortcuts": {"chance": 0.5}})


def test_the_leakage_verdict_says_what_a_random_split_would_have_published() -> None:
    scores = "a nearest neighbour scores {:.3f} with random folds and {:.3f} with grouped ones."
    assert judged_leak(0.78, 0.77, -0.01) == (
        "pass", "A random split is not shown to flatter: " + scores.format(0.78, 0.77)
    )  # fmt: skip
    assert judged_leak(0.90, 0.85, 0.04) == (
        "pass",
        "The folds respect the groups; a random split would have published 5.0 points more: "
        + scores.format(0.90, 0.85),
    )
    assert judged_leak(0.78, 0.67, 0.08) == (
        "warn",
        "The folds respect the groups, and any other use of these images must too: a random split would have published "
        "11.0 points more: " + scores.format(0.78, 0.67),
    )


def test_without_groups_nothing_is_measured_and_nothing_passes() -> None:
    manifest = manifest_of().assign(group=lambda rows: rows["image_id"])
    alone = find_copies(manifest) | find_groups(manifest)
    assert judge_leakage(alone) == (
        "warn",
        "No groups are declared, so leakage cannot be measured: images of one patient, slide or day may lie on both "
        "sides of a fold. Say what belongs together in data.group_regex or data.columns.group (where each image truly "
        "is its own, a column that says so).",
    )
    copied = with_copies(manifest, 0, 1)
    verdict, reason = judge_leakage(find_copies(copied) | find_groups(copied))
    assert verdict == "warn"
    assert reason.startswith("No groups are declared, so leakage cannot be measured, and there are copies: ")


@pytest.mark.parametrize(
    ("num_flagged", "verdict"), [(0, "pass"), (3, "pass"), (4, "warn"), (14, "warn"), (15, "fail")]
)
def test_pictures_are_judged_by_the_share_that_is_flagged(num_flagged: int, verdict: str) -> None:
    manifest = manifest_of()
    manifest.loc[: num_flagged - 1, "quality"] = "dark,blurred"
    found = find_bad_pictures(manifest)
    assert list(found["quality"]) == list(FLAGS)
    assert found["quality"]["dark"] == found["quality"]["blurred"] == list(manifest["image_id"][:num_flagged])
    assert found["quality_share"] == pytest.approx(num_flagged / 72)
    assert judge_quality(found)[0] == verdict
    assert f"{num_flagged} blurred, {num_flagged} dark" in judge_quality(found)[1] or num_flagged == 0
