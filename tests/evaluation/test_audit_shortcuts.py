"""Artefacts that tell a class are found, named and judged; content is not accused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.prepared import SIDE, Squares, manifest_of, squares_of

from microscopy_cls.evaluation.audit import held_out, shortcuts
from microscopy_cls.evaluation.audit.answers import Json, score_answers, task_of
from microscopy_cls.evaluation.audit.features import artefact_features, file_weight
from microscopy_cls.evaluation.audit.held_out import fit_linear, held_out_answers
from microscopy_cls.evaluation.audit.judge import judge_shortcuts
from microscopy_cls.evaluation.audit.looks import look_at
from microscopy_cls.evaluation.audit.shortcuts import deal_labels, find_shortcuts

SCHEMA = {
    "accuracy", "balanced_accuracy", "skill", "chance", "p_value", "num_permutations", "by_family", "top_features",
    "model", "ratio", "decisive", "thresholds",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    """Fewer trees and shuffles: what is planted here is plain, and a second a test is too long."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(held_out, "NUM_TREES", 20)
        patched.setattr(held_out, "NUM_SHUFFLES", 1)
        patched.setattr(held_out, "num_cores", lambda: 1)
        patched.setattr(shortcuts, "NUM_PERMUTATIONS", 199)
        yield


def judged(manifest: pd.DataFrame, squares: Squares) -> tuple[Json, str, str]:
    looks = look_at(squares, np.arange(len(manifest)))
    return judge_shortcuts(*find_shortcuts(manifest, looks, task_of(manifest, 100, 0)), "pixels")


@pytest.fixture(scope="module")
def clean() -> tuple[Json, str, str]:
    manifest = manifest_of()
    return judged(manifest, squares_of(manifest))


# Found, named, judged


def test_a_set_whose_classes_differ_in_content_alone_passes(clean: tuple[Json, str, str]) -> None:
    found, verdict, reason = clean
    assert verdict == "pass"
    assert found["model"]["skill"]["value"] > 0.8
    assert reason.startswith("No artefact comes near a cheap classifier of the pixels")
    assert set(found) == SCHEMA


CORNERS = {
    "top-left": (0, 0),
    "top-right": (0, SIDE - 8),
    "bottom-left": (SIDE - 8, 0),
    "bottom-right": (SIDE - 8,) * 2,
}


@pytest.mark.parametrize("level", [255, 0, 170])
@pytest.mark.parametrize("corner", CORNERS)
def test_a_marker_on_one_class_is_found_and_its_corner_named(corner: str, level: int) -> None:
    """White, black, or merely lighter than what lies around it."""
    manifest = manifest_of()
    squares = squares_of(manifest)
    row, column = CORNERS[corner]
    squares[manifest["label"] == "rod", row + 2 : row + 6, column + 1 : column + 7] = level
    found, verdict, reason = judged(manifest, squares)
    assert verdict == "fail"
    assert found["top_features"][0]["feature"] == f"{corner} corner"
    assert f"{corner} corner: " in reason
    assert " in rod" in reason


def test_organisms_that_reach_into_the_corners_of_one_class_are_no_marker() -> None:
    manifest = manifest_of(36)
    squares = squares_of(manifest)
    rng = np.random.default_rng(1)
    for square in squares[manifest["label"] == "yeast"]:
        for row, column in rng.integers(0, SIDE - 4, (60, 2)):
            square[row : row + 4, column : column + 4] = 60
    found, verdict, _ = judged(manifest, squares)
    assert verdict == "pass"
    assert found["by_family"]["grey"]["class_skill"]["yeast"]["value"] > 0.9


FAULTS: dict[str, tuple[str, Any, str]] = {
    "width_px": ("size", 80, "width"),
    "format": ("format", "JPEG", "file format is"),
    "num_bytes": ("bytes", 9000, "bytes beyond what the content explains"),
    "jpeg_quality": ("compression", 75.0, "JPEG quality: mean 75 in yeast, none in alga, none in rod"),
    "meta_scanner": ("metadata", "B", "scanner is"),
    "meta_kvp": ("metadata", "120", "kvp: median"),
}


@pytest.mark.parametrize("column", FAULTS)
def test_a_file_property_that_gives_one_class_away_fails_by_its_family(column: str) -> None:
    family, value, told = FAULTS[column]
    usual = {"meta_scanner": "A", "meta_kvp": "80"}
    manifest = manifest_of()
    manifest[column] = manifest.get(column, usual.get(column))
    manifest.loc[manifest["label"] == "yeast", column] = value
    found, verdict, reason = judged(manifest, squares_of(manifest))
    expected = "warn" if family == "bytes" else "fail"  # content, which tells the class too, explains a part of them
    assert verdict == found["by_family"][family]["verdict"] == expected
    assert told in reason
    assert found["p_value"] <= 0.01


def test_what_is_shown_and_not_how_it_was_taken_is_reported_and_never_judged() -> None:
    manifest = manifest_of()
    squares = squares_of(manifest)
    middle = squares[:, 10:-10, 10:-10]
    middle[manifest["label"] == "yeast"] = middle[manifest["label"] == "yeast"] // 2
    found, verdict, _ = judged(manifest, squares)
    grey = found["by_family"]["grey"]
    assert grey["class_skill"]["yeast"]["value"] > 0.9
    assert (grey["judged"], grey["verdict"], verdict) == (False, None, "pass")


# Features


def test_columns_that_are_the_same_for_all_images_are_no_features() -> None:
    manifest = manifest_of()
    features = artefact_features(manifest, look_at(squares_of(manifest), np.arange(len(manifest))))
    assert features.present == ["bytes", "corners", "border", "grey"]
    assert features.only("size", "format").values.shape == (len(manifest), 0)


def test_bytes_that_the_content_explains_weigh_nothing() -> None:
    """A rougher texture is a larger file; only what the encoder was told otherwise is left."""
    manifest = manifest_of()
    squares = squares_of(manifest)
    rough = (manifest["label"] == "rod").to_numpy()
    squares[rough] = np.clip(squares[rough].astype(int) * 3 - 240, 0, 255).astype(np.uint8)
    looks = look_at(squares, np.arange(len(manifest)))
    manifest["num_bytes"] = (looks.encoded[:, 0] * 1.5).astype(int)
    assert looks.encoded[rough, 0].min() > looks.encoded[~rough, 0].max()
    assert np.abs(file_weight(manifest, looks)).max() < 0.01
    other_encoder = np.arange(len(manifest)) % 2 == 0
    manifest.loc[other_encoder, "num_bytes"] *= 2
    weight = file_weight(manifest, looks)
    assert weight[other_encoder].min() > weight[~other_encoder].max() + 0.5


def test_numbers_stay_numbers_and_words_become_categories_with_room_for_the_empty() -> None:
    manifest = manifest_of(6)
    manifest["meta_kvp"] = ["80", "", "120"] * 6
    manifest["meta_site"] = ["north", "", "south"] * 6
    features = artefact_features(manifest, look_at(squares_of(manifest), np.arange(18))).only("metadata")
    assert sorted(features.names) == ["kvp", "site is empty", "site is north", "site is south"]
    assert np.array_equal(features.values[:3, 0], [80, np.nan, 120], equal_nan=True)


# Scores


def test_skill_is_the_way_from_chance_to_perfection() -> None:
    manifest = manifest_of()
    task = task_of(manifest, 100, 0)
    perfect, constant = score_answers(task, task.truth), score_answers(task, np.zeros_like(task.truth))
    assert perfect["skill"] == {"value": 1.0, "ci_low": 1.0, "ci_high": 1.0}
    assert constant["skill"]["value"] == pytest.approx(0)
    assert constant["balanced_accuracy"]["value"] == pytest.approx(1 / 3)
    assert [constant["class_skill"][name]["value"] for name in task.classes] == pytest.approx([0, 0, 0])


def test_answers_are_held_out_and_without_a_column_the_commonest_class() -> None:
    manifest = manifest_of()
    task = task_of(manifest, 100, 0)
    names = np.arange(len(manifest), dtype=float)[:, None]  # a number of its own tells nothing of the other folds
    assert (held_out_answers(names, task) == task.truth).mean() < 0.6
    assert set(held_out_answers(names[:, :0], task)) == {0}
    telling = np.column_stack([task.truth == 0, task.truth == 1]).astype(float)
    assert np.array_equal(held_out_answers(telling, task, fit_linear), task.truth)


def test_a_tree_of_a_large_set_is_no_larger_than_its_part_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    values, truth = np.random.default_rng(0).normal(size=(400, 3)), np.arange(400) % 8
    whole = held_out.fit_forest(values, truth, 0).estimators_[0].tree_.node_count
    monkeypatch.setattr(held_out, "MAX_SAMPLES", 40)
    assert held_out.fit_forest(values, truth, 0).estimators_[0].tree_.node_count < whole / 5


def test_labels_are_dealt_out_in_full_and_together() -> None:
    task = task_of(manifest_of(), 100, 0)
    dealt = deal_labels(task, np.random.default_rng(0))
    assert sorted(dealt) == sorted(task.truth)
    assert not np.array_equal(dealt, task.truth)
    same = pd.Series(dealt).groupby(task.groups).nunique()
    assert (same == 1).all()  # groups of equal size and one class each


def test_nothing_but_noise_has_a_large_p_value() -> None:
    manifest = manifest_of()
    manifest["label"] = np.random.default_rng(3).permutation(manifest["label"])
    found, verdict, _ = judged(manifest, squares_of(manifest_of()))
    assert found["p_value"] > 0.05
    assert verdict == "pass"


# Judged again by the trained model


def figures(value: float, half: float = 0.05) -> Json:
    return {"value": value, "ci_low": value - half, "ci_high": value + half}


def found_with(skill: float, of_class: float = 0.0) -> Json:
    part = {"skill": figures(skill), "class_skill": {"rod": figures(of_class)}, "judged": True}
    return {"by_family": {"size": part}, "top_features": []}


def scores_of(skill: float) -> Json:
    return {"accuracy": figures(skill), "skill": figures(skill), "class_skill": {"rod": figures(skill)}}


@pytest.mark.parametrize(
    ("artefacts", "model", "verdict"),
    [(0.80, 0.90, "fail"), (0.60, 0.90, "warn"), (0.30, 0.90, "pass"), (0.30, 0.40, "warn"), (0.12, 0.02, "pass")],
)
def test_the_verdict_is_by_the_lower_end_of_the_artefacts_skill_in_parts_of_the_models(
    artefacts: float, model: float, verdict: str
) -> None:
    found, judged_as, _ = judge_shortcuts(found_with(artefacts), scores_of(model), "model")
    assert judged_as == verdict == found["by_family"]["size"]["verdict"]
    assert found["ratio"]["value"] == pytest.approx(artefacts / max(model, 0.1))


@pytest.mark.parametrize(("of_class", "verdict"), [(0.90, "fail"), (0.60, "warn"), (0.40, "pass")])
def test_one_class_of_many_that_artefacts_tell_is_enough(of_class: float, verdict: str) -> None:
    found, judged_as, reason = judge_shortcuts(found_with(0.05, of_class), scores_of(0.95), "model")
    assert judged_as == verdict
    assert found["decisive"] == {"family": "size", "class": "rod"}
    assert ("tell rod" in reason) or ("telling rod" in reason)


def test_a_judgement_can_be_repeated_against_another_model(clean: tuple[Json, str, str]) -> None:
    again, verdict, reason = judge_shortcuts(clean[0], scores_for(clean[0], 0.99), "model")
    assert verdict == "pass"
    assert again["model"]["name"] == "model"
    assert "the model" in reason
    assert judge_shortcuts(again, scores_for(again, 0.99), "model")[0] == again


def scores_for(found: Json, skill: float) -> Json:
    classes = found["by_family"]["together"]["class_skill"]
    return scores_of(skill) | {"class_skill": {name: figures(skill) for name in classes}}
