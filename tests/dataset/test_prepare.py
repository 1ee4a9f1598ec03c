"""From a folder as it is found to a manifest: a row a file, a reason for each not used, folds for the others."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from microscopy_cls.config import Config, Paths
from microscopy_cls.dataset import cache
from microscopy_cls.dataset.cache import open_pixels
from microscopy_cls.dataset.manifest import COLUMNS, class_names, manifest_digest, read_manifest, trainable
from microscopy_cls.dataset.prepare import prepare, reading_of
from microscopy_cls.dataset.share import share_prepared
from microscopy_cls.errors import DataError, FoldError

PATHS = Paths("cells")
NUM_SLIDES, NUM_PER_SLIDE = 6, 2


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)


def save(path: str, seed: int) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed)).save(path)


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes on six slides, all good, below the working directory."""
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(good_names()):
        save(f"raw/{name}", i)
    return Path("raw")


def good_names() -> list[str]:
    return [
        f"{label}/slide{slide}_{i}.png"
        for label in ("alga", "yeast")
        for slide in range(NUM_SLIDES)
        for i in range(NUM_PER_SLIDE)
    ]


def config_of(**changes: Any) -> Config:
    """`data_page=1` changes data.page."""
    values: dict[str, Any] = {
        "name": "cells",
        "data": {"root": "raw", "group_regex": r"(slide\d+)", "max_unreadable": 0.5},
        "folds": {"num": 3},
        "model": {"image_size_px": 32},
    }
    for key, value in changes.items():
        section, _, name = key.partition("_")
        values.setdefault(section, {})[name] = value
    return Config.model_validate(values)


def run(**changes: Any) -> pd.DataFrame:
    return prepare(config_of(**changes), PATHS).manifest


def plant_faults() -> dict[str, str]:
    """Add one file of each kind; returns its expected status."""
    good = Image.fromarray(picture(0).repeat(8, 0).repeat(8, 1))
    good.save("raw/yeast/slide0_truncated.jpg")
    whole = Path("raw/yeast/slide0_truncated.jpg").read_bytes()
    Path("raw/yeast/slide0_truncated.jpg").write_bytes(whole[: len(whole) // 2])
    Path("raw/alga/slide1_empty.png").touch()
    Path("raw/alga/slide2_text.png").write_text("moved to the archive", encoding="utf-8")
    Image.fromarray(picture(1001)).save("raw/alga/slide3_misnamed.jpg", format="PNG")
    Image.fromarray(picture(0)).save("raw/alga/slide5_copy.tif")  # of alga/slide0_0.png
    Image.fromarray(picture(2)).save("raw/yeast/slide1_other_label.bmp")  # of alga/slide1_0.png
    tifffile.imwrite("raw/yeast/slide4_deep.tif", picture(1002)[..., 0].astype(np.uint16) * 16)
    Path("raw/alga/notes.txt").write_text("no image", encoding="utf-8")
    return {
        "yeast/slide0_truncated.jpg": "unreadable",
        "alga/slide1_empty.png": "unreadable",
        "alga/slide2_text.png": "unreadable",
        "alga/slide3_misnamed.jpg": "ok",
        "alga/slide5_copy.tif": "duplicate",
        "yeast/slide1_other_label.bmp": "conflict",
        "alga/slide1_0.png": "conflict",
        "yeast/slide4_deep.tif": "ok",
    }


# The manifest


def test_a_row_a_file_sorted_by_id_with_the_promised_columns(raw: Path) -> None:
    manifest = run()
    assert tuple(manifest.columns) == COLUMNS
    assert list(manifest["image_id"]) == good_names() == sorted(good_names())
    assert set(manifest["status"]) == {"ok"}
    assert set(manifest["split"]) == {"train"}
    pd.testing.assert_frame_equal(read_manifest(PATHS.manifest), manifest)


def test_no_slide_is_divided_and_each_fold_holds_each_class() -> None:
    manifest = run()
    assert (manifest.groupby("split_group")["fold"].nunique() == 1).all()
    assert set(manifest["split_group"]) == {f"slide{i}" for i in range(NUM_SLIDES)}
    assert set(manifest["fold"]) == {0, 1, 2}
    assert (manifest.groupby("fold")["label"].nunique() == 2).all()


def test_the_cache_holds_row_i_of_the_manifest_as_the_config_reads_it() -> None:
    config = config_of(model_resize="pad")
    manifest = prepare(config, PATHS).manifest
    for pixels, path in zip(open_pixels(PATHS.prepared), manifest["path"], strict=True):
        assert np.array_equal(pixels, reading_of(config).read(Path(path)))


def test_planted_faults_get_their_status_and_stay_out_of_folds() -> None:
    expected = dict.fromkeys(good_names(), "ok") | plant_faults()
    prepared = prepare(config_of(), PATHS)
    manifest = prepared.manifest.set_index("image_id")
    assert manifest["status"].to_dict() == expected
    assert ((manifest["fold"] >= 0) == (manifest["status"] == "ok")).all()
    assert (manifest.loc[manifest["status"] != "ok", "fold"] == -1).all()
    assert ((manifest["error"] != "") == (manifest["status"] != "ok")).all()
    assert prepared.counts == {"ok": 25, "unreadable": 3, "duplicate": 1, "conflict": 2}
    assert prepared.num_ignored == 1
    assert prepared.grouped


def test_each_fault_is_told_in_its_row() -> None:
    plant_faults()
    manifest = run().set_index("image_id")
    assert manifest.loc["yeast/slide0_truncated.jpg", "error"].startswith("is truncated")
    assert manifest.loc["alga/slide1_empty.png", "error"] == "is empty (0 bytes)"
    assert manifest.loc["alga/slide2_text.png", "error"] == "is not an image: it starts like a text"
    assert manifest.loc["alga/slide5_copy.tif", "error"] == "same pixels as alga/slide0_0.png"
    assert manifest.loc["alga/slide1_0.png", "error"] == "same pixels under the labels alga, yeast"
    assert manifest.loc["alga/slide3_misnamed.jpg", "format"] == "PNG"
    assert manifest.loc["yeast/slide4_deep.tif", ["bit_depth", "channels", "format"]].tolist() == [16, 1, "TIFF"]


def test_a_copy_ties_its_slide_to_that_of_the_original_even_though_it_is_not_used() -> None:
    plant_faults()
    manifest = run().set_index("image_id")
    assert manifest.loc["alga/slide5_copy.tif", "split_group"] == "slide0"
    assert set(manifest.loc[manifest["group"] == "slide5", "split_group"]) == {"slide0"}
    assert (trainable(manifest).groupby("split_group")["fold"].nunique() == 1).all()


def test_without_groups_each_image_is_its_own_and_a_warning_says_what_that_means(
    caplog: pytest.LogCaptureFixture,
) -> None:
    prepared = prepare(config_of(data_group_regex=None), PATHS)
    assert not prepared.grouped
    assert list(prepared.manifest["split_group"]) == good_names()
    assert "no groups are declared: images of one patient, slide or day may end up on both sides" in caplog.text


def test_running_twice_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_faults()
    run()
    before = {path.name: path.read_bytes() for path in PATHS.prepared.iterdir()}
    run()
    assert {path.name: path.read_bytes() for path in PATHS.prepared.iterdir()} == before
    assert set(before) == {"manifest.parquet", "pixels.npy", "pixels.json", "pixels.parquet", "unreadable.csv"}


def test_where_the_files_lie_changes_no_fold_and_no_digest(tmp_path: Path) -> None:
    first = run()
    Path("raw").rename("moved")
    second = run(data_root="moved")
    assert list(first["fold"]) == list(second["fold"])
    assert manifest_digest(first) == manifest_digest(second)


# Splits


def with_table(*rows: str) -> dict[str, Any]:
    """Settings for a table of all good files and these rows `path,label,split`."""
    lines = [f"{name},{name.split('/')[0]},{'test' if 'slide5' in name else 'train'}" for name in good_names()]
    Path("raw/t.csv").write_text("\n".join(["path,label,part", *lines, *rows]), encoding="utf-8")
    return {"data_table": "raw/t.csv", "data_columns": {"split": "part"}}


def test_the_test_split_is_in_no_fold() -> None:
    manifest = run(**with_table())
    is_test = manifest["image_id"].str.contains("slide5")
    assert (manifest.loc[is_test, "split"] == "test").all()
    assert ((manifest["fold"] == -1) == is_test).all()
    assert (manifest["status"] == "ok").all()


def test_a_training_copy_of_a_test_picture_is_set_aside() -> None:
    save("raw/alga/a.png", good_names().index("alga/slide5_0.png"))
    manifest = run(**with_table("alga/a.png,alga,train"), data_group_regex=None).set_index("image_id")
    assert manifest.loc["alga/a.png", "status"] == "duplicate"
    assert manifest.loc["alga/slide5_0.png", ["status", "split", "fold"]].tolist() == ["ok", "test", -1]


def test_a_test_class_that_training_never_sees_is_refused() -> None:
    save("raw/new.png", 99)
    settings = with_table("new.png,hydra,test")
    with pytest.raises(DataError, match="the test split holds classes that training never sees: hydra"):
        run(**settings, data_group_regex=None)


def test_a_set_without_training_images_is_refused() -> None:
    Path("raw/t.csv").write_text("path,label,part\nalga/slide0_0.png,alga,test\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"training image is left \(1 test ok\). Correct data.columns.split or the l"):
        run(data_table="raw/t.csv", data_columns={"split": "part"})


def test_a_missing_file_of_a_table_is_a_row() -> None:
    manifest = run(**with_table("alga/slide0_gone.png,alga,train")).set_index("image_id")
    assert manifest.loc["alga/slide0_gone.png", ["status", "error"]].tolist() == ["unreadable", "does not exist"]


def test_folds_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(FoldError, match=r"fewer groups than the 7 folds: alga \(6\), yeast \(6\)"):
        run(folds_num=7)


# Near-duplicates

ENLARGED_PX = 72


def plant_near_duplicate(name: str, of: str) -> None:
    """A picture of another slide and size: enlarged, and mirrored."""
    copy = Image.open(f"raw/{of}").resize((ENLARGED_PX, ENLARGED_PX)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    copy.save(f"raw/{name}")


def test_near_duplicates_share_a_cluster_and_tie_their_slides_together(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    plant_near_duplicate("alga/slide5_near.png", of="alga/slide0_0.png")
    manifest = run().set_index("image_id")
    pair = ["alga/slide0_0.png", "alga/slide5_near.png"]
    assert manifest.loc[pair, "status"].tolist() == ["ok", "ok"]
    assert set(manifest.loc[pair, "cluster"]) == {pair[0]}
    assert set(manifest.drop(pair)["cluster"]) == {""}
    assert set(manifest.loc[manifest["group"].isin(["slide0", "slide5"]), "split_group"]) == {"slide0"}
    assert (manifest.groupby("split_group")["fold"].nunique() == 1).all()
    told = f"2 images are near-duplicates of others (clusters: 1), for example {pair[0]} and {pair[1]}: "
    assert told + "each is kept in one fold" in caplog.text


def test_near_duplicates_under_two_labels_are_grouped_and_both_used() -> None:
    plant_near_duplicate("yeast/slide5_near.png", of="alga/slide0_0.png")
    manifest = run().set_index("image_id")
    pair = ["alga/slide0_0.png", "yeast/slide5_near.png"]
    assert manifest.loc[pair, ["status", "cluster"]].to_numpy().tolist() == [["ok", pair[0]]] * 2
    assert manifest.loc[pair, "fold"].nunique() == 1


def test_grouping_can_be_left_off_and_the_clusters_are_found_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    plant_near_duplicate("alga/slide5_near.png", of="alga/slide0_0.png")
    save("raw/alga/slide4_copy.png", good_names().index("alga/slide1_0.png"))
    manifest = run(folds_group_near_duplicates=False).set_index("image_id")
    assert manifest.loc["alga/slide5_near.png", "cluster"] == "alga/slide0_0.png"
    assert set(manifest.loc[manifest["group"] == "slide5", "split_group"]) == {"slide5"}
    assert set(manifest.loc[manifest["group"] == "slide4", "split_group"]) == {"slide1"}  # by an exact copy
    assert "folds may divide them (folds.group_near_duplicates is false)" in caplog.text


@pytest.mark.parametrize("grouped", [True, False])
def test_near_duplicates_in_train_and_test_are_told(caplog: pytest.LogCaptureFixture, grouped: bool) -> None:
    plant_near_duplicate("alga/near.png", of="alga/slide5_0.png")
    settings = with_table("alga/near.png,alga,train")
    manifest = run(**settings, data_group_regex=None, folds_group_near_duplicates=grouped).set_index("image_id")
    assert manifest.loc["alga/near.png", "status"] == "ok"
    assert "1 of these clusters lie in both train and test, for example that of alga/near.png" in caplog.text
    assert ("1 groups lie in both train and test, for example alga/near.png" in caplog.text) == grouped


# Excluded files


def excluding(*image_ids: str) -> dict[str, str]:
    Path("out.csv").write_text("\n".join(["image_id", *image_ids]), encoding="utf-8")
    return {"data_exclude": "out.csv"}


def test_excluded_files_are_rows_in_no_fold() -> None:
    manifest = run(**excluding("alga/slide0_0.png")).set_index("image_id")
    row = manifest.loc["alga/slide0_0.png"]
    assert row[["status", "fold", "error", "cluster"]].tolist() == ["excluded", -1, "listed in out.csv", ""]
    assert (manifest.drop("alga/slide0_0.png")["status"] == "ok").all()


def test_excluding_the_original_or_the_contradiction_makes_the_other_usable() -> None:
    plant_faults()
    manifest = run(**excluding("alga/slide0_0.png", "yeast/slide1_other_label.bmp")).set_index("image_id")
    assert manifest.loc[["alga/slide5_copy.tif", "alga/slide1_0.png"], "status"].tolist() == ["ok", "ok"]
    assert manifest.loc["alga/slide5_copy.tif", "split_group"] == "slide5"


def test_naming_the_list_that_evaluate_writes_anew_is_told(caplog: pytest.LogCaptureFixture) -> None:
    found = PATHS.label_errors
    found.parent.mkdir(parents=True)
    found.write_text("image_id,path,label\nalga/slide0_0.png,x,alga\n", encoding="utf-8")
    manifest = run(data_exclude=found.as_posix()).set_index("image_id")
    assert manifest.loc["alga/slide0_0.png", "status"] == "excluded"
    assert "label_errors.csv: lists suspicions, and evaluate writes it anew. Copy it under another name" in caplog.text


def test_excluded_files_do_not_count_as_unreadable() -> None:
    Path("raw/alga/slide1_empty.png").touch()
    assert prepare(config_of(data_max_unreadable=0, **excluding("alga/slide1_empty.png")), PATHS).counts == {
        "ok": len(good_names()),
        "excluded": 1,
    }


def test_a_set_of_which_everything_is_excluded_is_refused() -> None:
    with pytest.raises(DataError, match=r"no usable training image is left \(24 train excluded\)"):
        run(**excluding(*good_names()))


# Quality and metadata


def test_flaws_are_flagged_and_the_images_used_all_the_same() -> None:
    Image.new("RGB", (24, 24), (9, 9, 9)).save("raw/alga/slide0_black.png")
    Path("raw/alga/slide1_empty.png").touch()
    manifest = run().set_index("image_id")
    assert manifest.loc["alga/slide0_black.png", ["quality", "status"]].tolist() == ["constant", "ok"]
    assert manifest.loc["alga/slide1_empty.png", "quality"] == ""


def test_the_quality_of_jpegs_stands_in_the_manifest() -> None:
    Image.fromarray(picture(70)).save("raw/alga/slide0_jpeg.jpg", quality=70)
    quality = run().set_index("image_id")["jpeg_quality"]
    assert quality["alga/slide0_jpeg.jpg"] == 70
    assert quality.drop("alga/slide0_jpeg.jpg").isna().all()


def test_metadata_of_the_table_follow_the_promised_columns() -> None:
    lines = [f"{name},{name.split('/')[0]},{row},x{row % 2}" for row, name in enumerate(good_names())]
    Path("raw/t.csv").write_text("\n".join(["path,label,gain,lamp", *lines]), encoding="utf-8")
    manifest = run(data_table="raw/t.csv", data_metadata=("gain", "lamp"))
    assert tuple(manifest.columns) == (*COLUMNS, "meta_gain", "meta_lamp")
    assert manifest["meta_gain"].tolist() == list(range(len(lines)))
    pd.testing.assert_frame_equal(read_manifest(PATHS.manifest), manifest)


# Unreadable files


def test_more_unreadable_files_than_allowed_stop_with_the_list() -> None:
    plant_faults()
    with pytest.raises(DataError) as raised:
        run(data_max_unreadable=0.05)
    message = str(raised.value)
    assert message.startswith(
        "3 of 31 files are unreadable, more than data.max_unreadable = 0.05 allows. "
        "Repair or remove them, or raise that limit:\n"
    )
    assert "\n  raw/alga/slide1_empty.png: is empty (0 bytes)" in message
    assert "\n  raw/yeast/slide0_truncated.jpg: is truncated" in message
    assert not PATHS.manifest.exists()
    listed = pd.read_csv(PATHS.prepared / "unreadable.csv")
    assert len(listed) == 3


@pytest.mark.parametrize(("num_bad", "num_good"), [(1, 99), (7, 93), (29, 71), (57, 43)])
def test_the_limit_itself_is_allowed_and_one_more_is_not(raw: Path, num_bad: int, num_good: int) -> None:
    """29 of 100 is 0.29, though 0.29 * 100 is 28.999999999999996."""
    for name in good_names():
        Path("raw", name).unlink()
    for i in range(num_good):
        save(f"raw/{'alga' if i % 2 else 'yeast'}/{i:02}.png", i)
    for i in range(num_bad):
        Path(f"raw/alga/x{i:02}.png").touch()
    settings: dict[str, Any] = {"data_group_regex": None, "data_max_unreadable": float(f"0.{num_bad:02}")}
    assert prepare(config_of(**settings), PATHS).counts == {"ok": num_good, "unreadable": num_bad}
    Path("raw/alga/one_more.png").touch()
    with pytest.raises(DataError, match=f"{num_bad + 1} of 101 files are unreadable"):
        run(**settings)


def test_unreadable_files_within_the_limit_are_told_in_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    plant_faults()
    run()
    assert "3 of 31 files are unreadable and stay out (each is a row of the manifest):\n" in caplog.text
    assert "raw/alga/slide2_text.png: is not an image" in caplog.text
    assert "1 files set aside as duplicate, for example alga/slide5_copy.tif: same pixels as" in caplog.text
    assert "2 files set aside as conflict, for example alga/slide1_0.png: same pixels under the labels" in caplog.text


def test_a_long_list_is_cut_and_stands_whole_in_a_file() -> None:
    for i in range(60):
        Path(f"raw/alga/slide0_{i}.jpg").touch()
    with pytest.raises(DataError) as raised:
        run(data_max_unreadable=0.1)
    lines = str(raised.value).splitlines()
    assert len(lines) == 52
    assert lines[-1] == f"  and 10 more, see {PATHS.prepared / 'unreadable.csv'}"
    assert len(pd.read_csv(PATHS.prepared / "unreadable.csv")) == 60


def test_a_clean_set_leaves_an_empty_list_and_warns_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run()
    assert (PATHS.prepared / "unreadable.csv").read_text(encoding="utf-8") == "path,error\n"
    assert caplog.text == ""


# Running again


def decoded_by(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    seen: list[bytes] = []
    decode = cache.decode

    def counted(data: bytes, **settings: Any) -> Any:
        seen.append(data)
        return decode(data, **settings)

    monkeypatch.setattr(cache, "decode", counted)
    return seen


def test_after_a_refusal_the_good_files_are_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("raw/alga/slide1_empty.png").touch()
    with pytest.raises(DataError):
        run(data_max_unreadable=0)
    Path("raw/alga/slide1_empty.png").unlink()
    seen = decoded_by(monkeypatch)
    assert set(run(data_max_unreadable=0)["status"]) == {"ok"}
    assert seen == []


def test_a_duplicate_becomes_usable_when_its_original_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_faults()
    run()
    Path("raw/alga/slide0_0.png").unlink()
    Path("raw/yeast/slide1_other_label.bmp").unlink()
    seen = decoded_by(monkeypatch)
    manifest = run().set_index("image_id")
    assert manifest.loc["alga/slide5_copy.tif", ["status", "error"]].tolist() == ["ok", ""]
    assert manifest.loc["alga/slide1_0.png", ["status", "error"]].tolist() == ["ok", ""]
    assert manifest.loc["alga/slide5_copy.tif", "split_group"] == "slide5"
    assert len(seen) == 2  # the two of the three unreadable files that hold bytes


def test_a_refused_run_leaves_no_manifest_that_would_name_other_pixels() -> None:
    run()
    save("raw/alga/slide0_0a.png", 500)  # moves every later row
    with pytest.raises(FoldError):
        run(folds_num=7)
    with pytest.raises(DataError, match="there is no manifest yet"):
        read_manifest(PATHS.manifest)
    manifest = run()
    for pixels, path in zip(open_pixels(PATHS.prepared), manifest["path"], strict=True):
        assert np.array_equal(pixels, reading_of(config_of()).read(Path(path)))


def test_a_source_that_is_not_there_leaves_the_earlier_manifest() -> None:
    manifest = run()
    with pytest.raises(DataError, match="nowhere: there is no such folder"):
        run(data_root="nowhere")
    pd.testing.assert_frame_equal(read_manifest(PATHS.manifest), manifest)


def test_a_class_without_any_usable_file_is_told(caplog: pytest.LogCaptureFixture) -> None:
    Path("raw/hydra").mkdir()
    Path("raw/hydra/slide0.png").touch()
    assert class_names(run()) == ["alga", "yeast"]
    assert "no file of these classes is usable, so the model will not know them: hydra" in caplog.text


# Reading the manifest


def test_a_missing_manifest_says_which_command_writes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no manifest yet. Run `microscopy-cls prepare` with the same config"):
        read_manifest(tmp_path / "manifest.parquet")


def test_classes_are_those_of_the_training_rows_by_name() -> None:
    manifest = pd.DataFrame({"label": ["b", "Z", "a", "test only", "b"], "fold": [0, 1, 0, -1, 1]})
    assert class_names(manifest) == ["Z", "a", "b"]
    assert list(trainable(manifest).index) == [0, 1, 2, 4]


@pytest.mark.parametrize("column", ["image_id", "label", "split_group", "fold", "pixel_digest"])
def test_the_digest_changes_with_whatever_training_depends_on(column: str) -> None:
    manifest = run()
    changed = manifest.copy()
    changed.loc[0, column] = (
        2 if column == "fold" and manifest.loc[0, "fold"] != 2 else 1 if column == "fold" else "other"
    )
    assert manifest_digest(changed) != manifest_digest(manifest)


@pytest.mark.parametrize("column", ["quality", "cluster", "jpeg_quality"])
def test_what_is_only_told_does_not_change_the_digest(column: str) -> None:
    manifest = run()
    assert manifest_digest(manifest.assign(**{column: "other"})) == manifest_digest(manifest)


def test_the_digest_does_not_change_with_rows_that_training_never_sees() -> None:
    manifest = run()
    plant_faults()
    for name in ("alga/slide5_copy.tif", "yeast/slide1_other_label.bmp", "alga/slide3_misnamed.jpg"):
        Path("raw", name).unlink()
    Path("raw/yeast/slide4_deep.tif").unlink()
    with_faults = run()
    assert len(with_faults) == len(manifest) + 3
    assert manifest_digest(with_faults) == manifest_digest(manifest)


# Divisions


def test_each_repeat_is_a_further_column_and_the_first_one_stays_as_it_is_alone() -> None:
    alone, manifest = run(), run(folds_repeats=3)
    place = list(manifest.columns).index("fold")
    assert list(manifest.columns[place : place + 3]) == ["fold", "fold_1", "fold_2"]
    assert manifest["fold"].equals(alone["fold"])
    assert manifest_digest(manifest) == manifest_digest(alone), "what was trained on the first one still holds"
    for column in ("fold_1", "fold_2"):
        assert (manifest.groupby("split_group")[column].nunique() == 1).all()
        assert set(manifest[column]) == {0, 1, 2}
        assert pd.factorize(manifest[column])[0].tolist() != pd.factorize(manifest["fold"])[0].tolist()


def test_what_is_not_trained_on_is_in_no_fold_of_any_repeat() -> None:
    plant_faults()
    manifest = run(folds_repeats=2)
    unused = manifest["status"] != "ok"
    assert (manifest.loc[unused, ["fold", "fold_1"]] == -1).all(axis=None)
    assert (manifest.loc[~unused, ["fold", "fold_1"]] >= 0).all(axis=None)


def test_leaving_one_group_out_makes_each_declared_group_a_fold_and_tells_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        manifest = run(folds_scheme="leave_one_group_out")
    assert (manifest["fold"] == manifest["group"].str[-1].astype(int)).all()
    assert "each of the 6 groups is a fold of its own; folds.num is not used" in caplog.text


def test_groups_that_share_near_duplicates_are_left_out_together_and_named(caplog: pytest.LogCaptureFixture) -> None:
    plant_near_duplicate("alga/slide5_near.png", of="alga/slide0_0.png")
    manifest = run(folds_scheme="leave_one_group_out").set_index("image_id")
    assert "2 declared groups are joined into 1, for example slide0, slide5: they share copies" in caplog.text
    assert manifest.loc["alga/slide5_near.png", "fold"] == manifest.loc["yeast/slide0_1.png", "fold"]
    assert manifest["fold"].nunique() == 5


def test_leaving_one_group_out_needs_declared_groups() -> None:
    with pytest.raises(FoldError, match="no groups are declared"):
        run(folds_scheme="leave_one_group_out", data_group_regex=None)


# Folders that several names share


def test_preparing_under_a_name_that_shares_a_folder_leaves_the_others_images(
    raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = Paths("study")
    prepare(config_of(), shared)
    before = {file.name: file.read_bytes() for file in shared.prepared.iterdir()}
    share_prepared(shared.prepared, PATHS.prepared)
    next((raw / "alga").iterdir()).unlink()
    with caplog.at_level(logging.WARNING):
        prepare(config_of(), PATHS)
    assert {file.name: file.read_bytes() for file in shared.prepared.iterdir()} == before
    assert len(read_manifest(PATHS.manifest)) == len(good_names()) - 1
    assert "data/prepared/cells: was a link to study; from here on it has images of its own" in caplog.text


def test_a_link_to_another_disk_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    PATHS.prepared.parent.mkdir(parents=True)
    PATHS.prepared.symlink_to(tmp_path / "disk", target_is_directory=True)
    prepare(config_of(), PATHS)
    assert PATHS.prepared.is_symlink()
    assert (tmp_path / "disk" / "manifest.parquet").is_file()
