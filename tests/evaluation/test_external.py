"""External test sets: read like the training images, independent of them, and worth figures with intervals."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from microscopy_cls.config import Config, Paths
from microscopy_cls.dataset.manifest import class_names
from microscopy_cls.dataset.prepare import prepare, reading_of
from microscopy_cls.errors import ConfigError, DataError
from microscopy_cls.evaluation.cached_squares import CachedSquares
from microscopy_cls.evaluation.external import drop, external_metrics
from microscopy_cls.evaluation.external_images import ExternalImages, read_external, read_test_split
from microscopy_cls.evaluation.held_out import HeldOut
from microscopy_cls.system.files import read_json

PATHS = Paths("cells")
CLASSES = ["dark", "light"]
LEVELS = {"dark": 50, "light": 200}


def draw(path: Path, label: str, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).normal(LEVELS[label], 20, (20, 20, 3))
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)


def draw_set(root: str, first_seed: int, num_groups: int = 4, num_each: int = 3) -> None:
    for label in CLASSES:
        for number in range(num_groups * num_each):
            first_seed += 1
            draw(Path(root, label, f"{root}{number // num_each}_{number}.png"), label, first_seed)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training images in `raw`, other ones in `away`."""
    monkeypatch.chdir(tmp_path)
    draw_set("raw", 0)
    draw_set("away", 1000)


def config_of(**data: Any) -> Config:
    section = {"root": "raw", "group_regex": r"([a-z]+\d)_", "test": "away"} | data
    return Config.model_validate(
        {"name": "cells", "data": section, "folds": {"num": 2}, "model": {"image_size_px": 32}}
    )


def prepared(config: Config) -> pd.DataFrame:
    manifest = prepare(config, PATHS).manifest
    return manifest if "cluster" in manifest else manifest.assign(cluster="")


def read(config: Config, manifest: pd.DataFrame | None = None) -> ExternalImages | None:
    manifest = prepared(config) if manifest is None else manifest
    return read_external(
        config.data, reading_of(config), manifest, class_names(manifest), PATHS.prepared, Path("cache")
    )


def found(config: Config, manifest: pd.DataFrame | None = None) -> ExternalImages:
    external = read(config, manifest)
    assert external is not None
    return external


def with_split() -> pd.DataFrame:
    """A manifest whose group raw0 is kept apart."""
    manifest = prepared(config_of())
    manifest.loc[manifest["group"] == "raw0", ["split", "fold"]] = ["test", -1]
    return manifest


def found_split(manifest: pd.DataFrame) -> ExternalImages:
    split = read_test_split(manifest, PATHS.prepared)
    assert split is not None
    return split


def by_brightness(squares: CachedSquares) -> np.ndarray:
    """What a good model would answer."""
    light = np.clip(squares[:].mean((1, 2, 3)) / 255, 0.01, 0.99)
    return np.stack([1 - light, light], axis=1)


# reading --------------------------------------------------------------------------------------------------------------


def test_without_a_test_set_there_is_nothing_to_read() -> None:
    manifest = prepared(config_of(test=None))
    assert read(config_of(test=None), manifest) is None
    assert read_test_split(manifest, PATHS.prepared) is None


def test_a_folder_per_class_is_read_with_labels_groups_and_pixels() -> None:
    external = found(config_of())
    assert external.source == "away"
    assert external.counts == {"ok": 24}
    assert list(external.images["label"]) == ["dark"] * 12 + ["light"] * 12
    assert set(external.images["group"]) == {"away0", "away1", "away2", "away3"}
    squares = external.squares[:]
    assert (squares.shape, external.squares.shape, squares.dtype) == ((24, 32, 32, 3), (24, 32, 32, 3), np.uint8)
    assert list(by_brightness(external.squares).argmax(1)) == [0] * 12 + [1] * 12


def test_squares_are_read_and_changed_a_slice_at_a_time() -> None:
    pixels = np.arange(5 * 2 * 2 * 3, dtype=np.uint8).reshape(5, 2, 2, 3)
    asked: list[int] = []

    def turned(squares: np.ndarray) -> np.ndarray:
        asked.append(len(squares))
        return squares[:, ::-1]

    some = CachedSquares(pixels, np.array([4, 0, 2]), turned)
    assert (len(some), some.shape) == (3, (3, 2, 2, 3))
    assert np.array_equal(some[1:3], pixels[[0, 2]][:, ::-1])
    assert asked == [2]


def test_a_table_is_read_by_the_columns_of_the_training_images_from_its_own_folder() -> None:
    rows = [(f"{label}/away{n // 3}_{n}.png", label, f"patient{n}") for label in CLASSES for n in range(4)]
    Path("raw/list.csv").write_text(
        "file,finding,patient,split\n" + "".join(f"{p.as_posix()[4:]},{p.parent.name},{p.stem},train\n" for p in
                                                sorted(Path("raw").rglob("*.png")))
    )  # fmt: skip
    pd.DataFrame(rows, columns=["file", "finding", "patient"]).to_csv("away/list.csv", index=False)
    columns = {"path": "file", "label": "finding", "group": "patient", "split": "split"}
    external = found(config_of(table="raw/list.csv", columns=columns, group_regex=None, test="away/list.csv"))
    assert external.source == "away/list.csv"
    assert external.counts == {"ok": 8}
    assert set(external.images["group"]) == {f"patient{n}" for n in range(4)}


def test_rows_whose_split_is_test_are_tested_from_the_pixels_already_prepared() -> None:
    split = found_split(with_split())
    assert (split.source, split.counts) == ("split test of the data", {"ok": 6})
    assert set(split.images["group"]) == {"raw0"}
    assert list(by_brightness(split.squares).argmax(1)) == [0, 0, 0, 1, 1, 1]
    assert not Path("cache").exists()


def test_an_image_of_the_test_split_is_not_from_elsewhere() -> None:
    shutil.copy("raw/dark/raw0_0.png", "away/dark/away0_0.png")
    manifest = with_split()
    assert found(config_of(), manifest).counts == {"ok": 23, "copy": 1}
    assert found_split(manifest).counts == {"ok": 6}


def test_unreadable_files_copies_and_contradictions_are_counted_set_aside_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Path("away/dark/away0_90.png").write_text("not an image")
    shutil.copy("raw/dark/raw0_0.png", "away/dark/away0_91.png")
    shutil.copy("away/dark/away0_0.png", "away/dark/away0_92.png")
    shutil.copy("away/light/away0_0.png", "away/dark/away0_93.png")
    with caplog.at_level(logging.WARNING):
        external = found(config_of())
    assert external.counts == {"ok": 23, "conflict": 2, "unreadable": 1, "copy": 1, "duplicate": 1}
    assert "dark/away0_91.png" not in set(external.images["image_id"])
    for told in (
        "away: 1 images set aside: they cannot be read, for example dark/away0_90.png",
        "away: 1 images set aside: they show the pixels of another one, for example dark/away0_92.png",
        "away: 2 images set aside: they show the pixels of another one under another label, for example dark/away0_93",
        "copies of images of the data, so they test nothing (not independent), for example dark/away0_91.png",
    ):
        assert told in caplog.text


def test_near_duplicates_of_training_images_among_the_test_rows_are_set_aside() -> None:
    manifest = with_split()
    alike = manifest["image_id"].isin(["dark/raw0_0.png", "dark/raw1_3.png"])
    only_tested = manifest["image_id"].isin(["light/raw0_0.png", "light/raw0_1.png"])
    manifest["cluster"] = np.select([alike, only_tested], ["dark/raw0_0.png", "light/raw0_0.png"], "")
    split = found_split(manifest)
    assert split.counts == {"ok": 5, "copy": 1}
    assert "dark/raw0_0.png" not in set(split.images["image_id"])


def test_a_training_image_turned_and_encoded_again_is_no_test() -> None:
    rng = np.random.default_rng(5)
    for number in range(2):  # with structure: noise survives no encoding
        pixels = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        original = Image.fromarray(pixels).resize((96, 96), Image.Resampling.BICUBIC)
        original.save(f"raw/dark/raw{number}_90.png")
        original.transpose(Image.Transpose.ROTATE_90).save(f"away/dark/away{number}_90.jpg", quality=60)
    config = config_of()
    external = found(config.model_copy(update={"model": config.model.model_copy(update={"image_size_px": 96})}))
    assert external.counts == {"ok": 24, "copy": 2}
    assert not external.images["image_id"].str.contains("_90").any()


def test_files_that_did_not_change_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = prepared(config_of())
    before = found(config_of(), manifest)
    monkeypatch.setattr("microscopy_cls.dataset.cache.inspect_image", None)
    pd.testing.assert_frame_equal(found(config_of(), manifest).images, before.images)
    assert read_json(Path("cache/pixels.json"))["key"] == reading_of(config_of()).key


def test_without_groups_each_image_is_its_own_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        external = found(config_of(group_regex=None))
    assert external.images["group"].nunique() == 24
    assert "away: no groups are declared, so each image counts as one" in caplog.text


def test_a_single_group_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found(config_of(group_regex=r"(away|raw\d)"))
    assert "away: all images are one group, so the intervals of its figures have no width" in caplog.text


def test_classes_that_the_model_does_not_know_are_named_with_their_counts() -> None:
    manifest = prepared(config_of())
    draw(Path("away/grey/away0_1.png"), "dark", 1)
    Path("away/light").rename("away/Light")
    with pytest.raises(DataError) as caught:
        read(config_of(), manifest)
    assert str(caught.value) == (
        "data.test: away: holds classes that the model does not know: Light (12 images), grey (1 images). "
        "It knows: dark, light. Name them alike, or leave the others out."
    )


def test_a_faulty_test_set_is_an_error_that_names_the_key() -> None:
    manifest = prepared(config_of())
    with pytest.raises(DataError, match=r"^data\.test: nowhere: there is no such folder or table$"):
        read(config_of(test="nowhere"), manifest)
    with pytest.raises(DataError, match=r"^data\.test: data\.group_regex '\(raw\.\)': does not match 24 of 24 images"):
        read(config_of(group_regex="(raw.)"), manifest)
    Path("away/list.csv").write_text("file,label\nx.png,dark\n")
    with pytest.raises(ConfigError, match=r"^data\.test: away/list\.csv: has no column path\."):
        read(config_of(test="away/list.csv"), manifest)


def test_a_test_set_of_which_nothing_is_left_is_an_error_that_says_why() -> None:
    manifest = prepared(config_of())
    Path("away/list.csv").write_text("path,label\nabsent.png,dark\n")
    with pytest.raises(
        DataError, match=r"away/list\.csv: no image is left to test on \(1 unreadable\)\. absent\.png: "
    ):
        read(config_of(test="away/list.csv", group_regex=None), manifest)


# figures --------------------------------------------------------------------------------------------------------------


def held_out(num_wrong: int = 2) -> HeldOut:
    """Twenty images in ten groups; the first ones are answered wrongly."""
    truth = np.arange(20) % 2
    answers = np.where(np.arange(20) < num_wrong, 1 - truth, truth)
    groups = np.array([f"g{number // 2}" for number in range(20)], object)
    return HeldOut(truth, 2.0 * np.eye(2)[answers], np.zeros((20, 1), np.float32), truth, groups, tuple(CLASSES))


def measured(answer: Any = by_brightness, inside: HeldOut | None = None, probs: Any = None) -> dict[str, Any]:
    inside = held_out() if inside is None else inside
    return external_metrics(found(config_of()), answer, inside, inside.probs if probs is None else probs, resamples=100)


def test_the_figures_are_those_of_the_answers() -> None:
    metrics = measured()
    assert (metrics["source"], metrics["num_images"], metrics["num_groups"], metrics["failed"]) == ("away", 24, 4, 0)
    assert metrics["set_aside"] == {"copy": 0, "duplicate": 0, "conflict": 0}
    for name in ("accuracy", "f1_macro", "balanced_accuracy"):
        assert metrics[name]["value"] == metrics[name]["ci_high"] == 1
        assert metrics[name]["ci_low"] == pytest.approx(0.025 ** (1 / 4), abs=1e-6)  # four groups prove little
    assert 0 < metrics["ece"]["ci_low"] <= metrics["ece"]["value"] <= metrics["ece"]["ci_high"] < 0.4
    assert {name: row["num_images"] for name, row in metrics["per_class"].items()} == {"dark": 12, "light": 12}
    assert metrics["per_class"]["dark"]["recall"]["value"] == 1
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def always_dark(squares: CachedSquares) -> np.ndarray:
    return np.tile([0.8, 0.2], (len(squares), 1))


def test_the_drop_is_what_the_model_loses_outside_with_an_interval_of_both() -> None:
    metrics = measured(always_dark)
    outside, lost = metrics["accuracy"], metrics["drop"]["accuracy"]
    assert (outside["value"], set(metrics["drop"])) == (0.5, {"accuracy", "balanced_accuracy", "f1_macro"})
    assert lost == drop(metrics["inside"]["accuracy"], outside)
    assert lost["value"] == pytest.approx(0.4)


def test_both_sides_of_a_drop_are_of_calibrated_answers_with_intervals() -> None:
    turned = held_out().probs[:, ::-1]  # as a bias of each class may turn them
    inside = measured(probs=turned)["inside"]
    assert {name: inside[name]["value"] for name in ("accuracy", "balanced_accuracy")} == dict.fromkeys(
        ("accuracy", "balanced_accuracy"), 0.1
    )
    assert inside["accuracy"]["ci_low"] < 0.1 < inside["accuracy"]["ci_high"]
    assert {name: row["recall"]["value"] for name, row in inside["per_class"].items()} == {"dark": 0.1, "light": 0.1}
    assert measured(probs=turned)["drop"]["accuracy"]["value"] == pytest.approx(-0.9)


def test_a_loss_that_scaling_each_class_makes_up_for_is_seen() -> None:
    inside = held_out(num_wrong=8)
    mended = np.where(np.eye(2)[inside.truth] > 0, 0.9, 0.1)  # right where the raw answers were wrong
    assert measured(always_dark, inside, mended)["drop"]["accuracy"]["value"] == pytest.approx(0.5)


def test_the_ends_of_a_drop_lie_as_far_as_both_errors_together() -> None:
    lost = drop({"value": 0.9, "ci_low": 0.86, "ci_high": 0.93}, {"value": 0.7, "ci_low": 0.66, "ci_high": 0.73})
    assert lost == {"value": 0.2, "ci_low": 0.15, "ci_high": 0.25}


def test_a_perfect_model_that_stays_perfect_may_have_dropped_all_the_same() -> None:
    lost = drop({"value": 1, "ci_low": 1, "ci_high": 1}, {"value": 1, "ci_low": 0.4, "ci_high": 1})
    assert lost == {"value": 0, "ci_low": 0, "ci_high": 0.6}


def test_the_interval_of_a_drop_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)

    def share(probability: float, num: int) -> dict[str, float]:
        value = rng.binomial(num, probability) / num
        half = 1.96 * np.sqrt(value * (1 - value) / num)
        return {"value": value, "ci_low": value - half, "ci_high": value + half}

    drops = [drop(share(0.9, 400), share(0.7, 150)) for _ in range(500)]
    covered = np.mean([one["ci_low"] <= 0.2 <= one["ci_high"] for one in drops])
    assert 0.92 < covered < 0.98


def test_a_class_that_the_test_lacks_has_no_recall_and_is_left_out_of_the_means() -> None:
    shutil.rmtree("away/light")
    metrics = measured()
    assert metrics["per_class"]["light"] == {
        "recall": {"value": None, "ci_low": None, "ci_high": None},
        "num_images": 0,
    }
    assert metrics["balanced_accuracy"]["value"] == metrics["f1_macro"]["value"] == 1
