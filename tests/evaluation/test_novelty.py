"""Features unlike all that a member was tried on are told, those like them are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.held import some_held_out

from microscopy_cls.evaluation.novelty import (
    SHRINKAGE,
    false_alarms,
    fit_experience,
    fit_known,
    novelty_report,
)
from microscopy_cls.evaluation.strangers import KINDS, strangers
from microscopy_cls.evaluation.usual import fit_usual, parts_of, spread_over_groups
from microscopy_cls.model.doubt import points

Array = np.ndarray


def familiar(num: int, seed: int, dim: int = 64) -> Array:
    """Features in a few directions, as a network's are, and a little beside."""
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(99).normal(size=(4, dim))
    return (rng.normal(size=(num, 4)) @ basis + 0.1 * rng.normal(size=(num, dim))).astype(np.float32)


def each_its_own(num: int) -> Array:
    return np.array([f"g{one}" for one in range(num)], object)


def test_strange_features_are_flagged_and_fresh_ones_of_the_same_kind_are_not() -> None:
    known, novelty = fit_known(familiar(200, 0), each_its_own(200), seed=0)
    assert (known.novelty(familiar(500, 1)) >= 1).mean() < 0.03
    assert (novelty >= 1).mean() == pytest.approx(0.005, abs=0.005)
    strange = np.random.default_rng(2).normal(size=(50, 64)).astype(np.float32)
    assert (known.novelty(strange) > 1.5).all()


def test_features_of_a_known_direction_but_of_another_length_are_strange() -> None:
    rng = np.random.default_rng(0)
    features = (rng.normal(1.0, 0.05, (200, 1)) + 0.02 * rng.normal(size=(200, 64))).astype(np.float32)
    known, _ = fit_known(features, each_its_own(200), seed=0)
    assert (known.novelty(features[:20] * np.float32(0.3)) > 1).all()
    assert (known.novelty(features[:20] * np.float32(3)) > 1).all()


def test_the_closed_form_leaves_a_group_out_as_a_fit_without_it_does() -> None:
    features, groups = familiar(60, 0), np.repeat(each_its_own(20), 3)
    known, novelty = fit_known(features, groups, seed=0)
    out = groups == "g7"
    every = points(features, known.length)
    shrinkage = SHRINKAGE * (every**2).sum()  # of the whole: the closed form keeps it
    rest, own = every[~out], every[out]
    inverse = np.linalg.inv(rest.T @ rest + shrinkage * np.eye(65))
    expected = np.sqrt(shrinkage * np.einsum("nd,de,ne->n", own, inverse, own))
    np.testing.assert_allclose(novelty[out] * known.threshold, expected, rtol=1e-4)


def test_an_image_that_is_known_is_nearer_than_one_that_is_left_out() -> None:
    features = familiar(40, 0)
    known, novelty = fit_known(features, each_its_own(40), seed=0)
    assert (known.novelty(features) < novelty).all()


def test_copies_in_a_group_do_not_make_each_other_known() -> None:
    features = np.repeat(familiar(30, 0), 2, axis=0)
    _, together = fit_known(features, np.repeat(each_its_own(30), 2), seed=0)
    alone_known, _ = fit_known(features, np.repeat(each_its_own(30), 2), seed=0)
    apart_known, _ = fit_known(features, each_its_own(60), seed=0)
    assert alone_known.threshold > apart_known.threshold
    np.testing.assert_allclose(together[::2], together[1::2], rtol=1e-9)


def test_of_very_many_images_a_seeded_choice_of_groups_spans_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microscopy_cls.evaluation.novelty.MAX_IMAGES", 60)
    features, groups = familiar(300, 0), np.repeat(each_its_own(100), 3)
    (first, novelty), (again, _), (other, _) = (fit_known(features, groups, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.axes, again.axes)
    assert first.threshold != other.threshold
    assert len(first.axes) <= 60
    assert (novelty >= 1).mean() == pytest.approx(0.005, abs=0.002)
    assert (first.novelty(familiar(1000, 1)) >= 1).mean() < 0.03


@pytest.mark.parametrize("num_groups", [2, 3, 60])
def test_however_large_the_groups_are_the_threshold_is_of_another_group(
    num_groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microscopy_cls.evaluation.novelty.MAX_IMAGES", 60)
    groups = np.array([f"g{one % num_groups}" for one in range(600)], object)
    assert set(pd.Series(groups[spread_over_groups(groups, 60, seed=0)]).value_counts()) == {60 // num_groups}
    known, novelty = fit_known(familiar(600, 0), groups, seed=0)
    assert (novelty >= 1).mean() == pytest.approx(0.005, abs=0.002)
    assert (known.novelty(familiar(500, 1)) >= 1).mean() < 0.03
    assert (known.novelty(np.random.default_rng(2).normal(size=(50, 64)).astype(np.float32)) > 1.5).all()


def test_images_beyond_the_chosen_are_judged_without_their_group_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microscopy_cls.evaluation.novelty.MAX_IMAGES", 40)
    features, groups = familiar(200, 0), np.repeat(each_its_own(10), 20)
    known, novelty = fit_known(features, groups, seed=0)
    chosen = spread_over_groups(groups, 40, seed=0)
    every = points(features, known.length)
    rest, own = every[chosen[groups[chosen] != "g3"]], every[groups == "g3"]
    shrinkage = SHRINKAGE * (every[chosen] ** 2).sum()
    inverse = np.linalg.inv(rest.T @ rest + shrinkage * np.eye(65))
    expected = np.sqrt(shrinkage * np.einsum("nd,de,ne->n", own, inverse, own))
    np.testing.assert_allclose(novelty[groups == "g3"] * known.threshold, expected, rtol=1e-4)


def test_of_a_single_group_the_images_say_what_is_usual() -> None:
    known, novelty = fit_known(familiar(60, 0), np.array(["patient"] * 60, object), seed=0)
    assert (novelty >= 1).sum() == 1
    assert (known.novelty(np.random.default_rng(2).normal(size=(50, 64)).astype(np.float32)) > 1.5).all()


@pytest.mark.parametrize("features", [np.ones((5, 8)), np.zeros((5, 8)), np.ones((1, 8))])
def test_features_that_say_nothing_flag_nothing_known(features: Array) -> None:
    known, novelty = fit_known(features.astype(np.float32), each_its_own(len(features)), seed=0)
    assert known.threshold > 0
    assert (novelty <= 1).all()
    assert known.axes.shape[1] == 9


def usual_looks(num: int, seed: int, strange: bool = False) -> Array:
    """Looks of a kind of images, of groups of three that share what their slide has."""
    rng = np.random.default_rng(seed)
    slides = np.repeat(rng.normal(size=(num // 3, 31)), 3, axis=0)
    return 10 * strange + slides + 0.5 * rng.normal(size=(num, 31))


def test_each_fold_has_its_own_and_false_alarms_are_few() -> None:
    held_out, looks = some_held_out(1200), usual_looks(1200, 0)
    experience, novelty = fit_experience(held_out, looks, seed=0)
    usual, by_looks = fit_usual(looks, held_out.groups, 0.995, seed=0)
    assert sorted(experience) == [0, 1, 2, 3, 4]
    for fold, one in experience.items():
        inside = held_out.folds == fold
        _, alone = fit_known(held_out.features[inside], held_out.groups[inside], seed=0)
        np.testing.assert_array_equal(novelty[inside], np.maximum(alone, by_looks[inside]))
        assert one.known.threshold > 0
        assert one.usual.threshold == usual.threshold
    flagged = false_alarms(held_out, looks, seed=0)
    assert set(flagged) == {0, 1}
    found = {"noise": {"auroc": 0.987654321, "flagged": 0.5}}
    report = novelty_report(held_out, looks, found, resamples=100, seed=0)
    assert report["false_alarms"]["value"] == pytest.approx(flagged.mean(), abs=1e-6)
    assert 0 < report["false_alarms"]["ci_high"] < 0.05
    assert (report["auroc"], report["flagged"]) == ({"noise": 0.987654}, {"noise": 0.5})


def test_looks_of_another_kind_are_strange_and_fresh_ones_of_the_same_are_not() -> None:
    groups = np.repeat(each_its_own(100), 3)
    usual, novelty = fit_usual(usual_looks(300, 0), groups, 0.99, seed=0)
    assert (novelty >= 1).mean() == pytest.approx(0.01, abs=0.005)
    assert (usual.novelty(usual_looks(600, 1)) >= 1).mean() < 0.04
    assert (usual.novelty(usual_looks(30, 2, strange=True)) > 1.5).all()


def test_an_alarm_of_either_witness_counts() -> None:
    held_out, looks = some_held_out(300), usual_looks(300, 0)
    looks[:3] += 100
    assert false_alarms(held_out, looks, seed=0)[:3].tolist() == [1, 1, 1]


@pytest.mark.parametrize("looks", [np.ones((12, 31)), np.ones((2, 31)), np.zeros((12, 31))])
def test_looks_that_are_all_the_same_flag_nothing_known_and_all_else(looks: Array) -> None:
    usual, novelty = fit_usual(looks, each_its_own(len(looks)), 0.995, seed=0)
    assert (novelty < 1).all()
    assert (usual.novelty(looks + 1) >= 1).all()


@pytest.mark.parametrize(("num_groups", "parts"), [(1, 10), (3, 3), (60, 10)])
def test_parts_divide_no_group_and_leave_none_out(num_groups: int, parts: int) -> None:
    groups = np.array([f"g{one % num_groups}" for one in range(120)], object)
    found = list(parts_of(groups, 10, seed=0))
    assert len(found) == parts
    np.testing.assert_array_equal(np.sum(found, axis=0), 1)
    if num_groups > 1:
        assert sum(len(set(groups[part])) for part in found) == num_groups


def test_folds_of_one_group_have_no_false_alarms_to_count() -> None:
    held_out = some_held_out(60)
    single = replace(held_out, groups=held_out.folds.astype(str).astype(object))
    report = novelty_report(single, usual_looks(60, 0), {}, resamples=100, seed=0)
    assert report["false_alarms"] == {"value": None, "ci_low": None, "ci_high": None}


@pytest.mark.parametrize("kind", list(KINDS))
def test_strangers_are_seeded_and_each_another(kind: str) -> None:
    drawn = strangers(kind, 4, 48, seed=3)
    assert (drawn.shape, drawn.dtype) == ((4, 48, 48, 3), np.uint8)
    np.testing.assert_array_equal(drawn, strangers(kind, 4, 48, seed=3))
    assert len({one.tobytes() for one in [*drawn, *strangers(kind, 4, 48, seed=4)]}) == 8


@pytest.mark.parametrize("size_px", [32, 224, 512])
def test_a_page_of_text_is_bright_with_dark_lines_on_it(size_px: int) -> None:
    for page in strangers("text", 8, size_px, seed=0):
        assert np.median(page) > 180
        assert 0.02 < (page < 180).mean() < 0.5
