"""Laws of the demo data: what is drawn, that it is the same again, and that nothing of the user's is overwritten."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image, UnidentifiedImageError

from microscopy_cls.errors import DataError
from microscopy_cls.samples import draw, draw_samples
from microscopy_cls.samples.draw import Extent, draw_extent
from microscopy_cls.samples.organisms import ORGANISMS, plan_shots
from microscopy_cls.samples.scans import CLASSES, plan_patients

TINY = Extent(images_per_class=4, num_slides=3, patients_per_class=2, slide_side_px=1024)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clean")
    draw_extent(out, 0, False, TINY)
    return out


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("faulty")
    draw_extent(out, 0, True, TINY)
    return out


@pytest.fixture(scope="module")
def faults(faulty: Path) -> pd.DataFrame:
    return pd.read_csv(faulty / "faults.csv")


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def planted(faults: pd.DataFrame, fault: str) -> list[str]:
    return list(faults.loc[faults["fault"].str.contains(fault, regex=False), "path"])


def test_the_same_seed_draws_the_same_bytes(faulty, tmp_path):
    draw_extent(tmp_path, 0, True, TINY)
    assert digests(tmp_path) == digests(faulty)


def test_another_seed_draws_other_pictures(clean, tmp_path):
    draw_extent(tmp_path, 1, False, TINY)
    assert not set(digests(tmp_path).values()) & set(digests(clean).values())


def test_faults_leave_the_good_micrographs_as_they_are(clean, faulty):
    assert digests(clean / "organisms").items() <= digests(faulty / "organisms").items()


def test_counts_are_the_files_on_disk(clean, faulty):
    for out in (clean, faulty):
        counts = json.loads((out / "sample.json").read_text())["num_files"]
        assert counts == {name: len(digests(out / name)) for name in ("organisms", "covid", "slides")}


def test_without_faults_there_is_no_list_of_faults(clean):
    assert not (clean / "faults.csv").exists()


def test_nothing_temporary_is_left(faulty):
    names = {path.name for path in faulty.iterdir()}
    assert names == {"organisms", "covid", "slides", "faults.csv", "sample.json"}


def test_every_micrograph_names_its_slide_and_opens_as_rgb(clean):
    paths = sorted((clean / "organisms").rglob("*.*"))
    assert len(paths) == 4 * len(ORGANISMS)
    for path in paths:
        assert re.fullmatch(r"slide\d\d_\d\d\d\.(png|jpg|tif)", path.name)
        assert pixels(path).ndim == 3
        assert 128 <= pixels(path).shape[0] <= 200


def test_no_two_micrographs_are_alike(clean):
    shown = [pixels(path).tobytes() for path in (clean / "organisms").rglob("*.*")]
    assert len(set(shown)) == len(shown)


@pytest.mark.parametrize("seed", range(5))
def test_every_class_has_forty_images_on_at_least_eight_of_ten_slides(seed):
    shots = pd.DataFrame(plan_shots(40, 10, seed))
    assert (shots.groupby("label").size() == 40).all()
    assert (shots.groupby("label")["slide"].nunique() >= 8).all()
    assert shots["slide"].nunique() == 10
    assert shots["path"].str.extract(r"(slide\d+_\d+)")[0].is_unique
    assert shots["stream"].is_unique


@pytest.mark.parametrize("seed", range(5))
def test_classes_of_scans_have_equal_patients_scans_views_and_sexes(seed):
    patients = pd.DataFrame(plan_patients(20, seed))
    assert len(patients) == 60
    assert patients["num_scans"].between(1, 6).all()
    by_class = patients.groupby("label")
    assert (by_class["num_scans"].sum() == 80).all()
    assert by_class["view"].value_counts().unstack().nunique().eq(1).all()
    assert by_class["sex"].value_counts().unstack().nunique().eq(1).all()


def test_labels_name_every_scan_once(clean):
    labels = pd.read_csv(clean / "covid" / "labels.csv")
    assert list(labels.columns) == ["path", "label", "patient", "view", "sex"]
    on_disk = {path.relative_to(clean / "covid").as_posix() for path in (clean / "covid" / "images").iterdir()}
    assert labels["path"].is_unique
    assert set(labels["path"]) == on_disk
    assert set(labels["label"]) == set(CLASSES)
    assert (labels.groupby("patient")["label"].nunique() == 1).all()
    assert (labels["path"].str.extract(r"(patient\d+)_\d+\.png")[0] == labels["patient"]).all()


def test_scans_are_grey_and_square(clean):
    for path in (clean / "covid" / "images").iterdir():
        assert pixels(path).shape == (192, 192)
        assert pixels(path).dtype == np.uint8


def test_slide_is_a_tiled_pyramid_with_its_resolution(clean):
    with tifffile.TiffFile(clean / "slides" / "demo-slide.tiff") as slide:
        assert [page.shape[:2] for page in slide.pages] == [(1024, 1024), (512, 512)]
        assert all(page.is_tiled for page in slide.pages)
        resolution, per = slide.pages[0].tags["XResolution"].value, slide.pages[0].tags["ResolutionUnit"].value
        assert (resolution[0] / resolution[1], per) == (20_000, tifffile.RESUNIT.CENTIMETER)


def test_openslide_opens_the_slide(clean):
    openslide = pytest.importorskip("openslide")
    with openslide.OpenSlide(clean / "slides" / "demo-slide.tiff") as slide:
        assert slide.level_dimensions == ((1024, 1024), (512, 512))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)


def test_slide_is_darker_where_the_table_says_that_organisms_lie(clean):
    places = pd.read_csv(clean / "slides" / "demo-slide.csv")
    assert list(places.columns) == ["class", "x_px", "y_px"]
    assert set(places["class"]) <= set(ORGANISMS)
    picture = tifffile.imread(clean / "slides" / "demo-slide.tiff", key=0).mean(axis=2)
    empty = np.median(picture)
    for _, x_px, y_px in places.itertuples(index=False, name=None):
        assert picture[y_px - 80 : y_px + 80, x_px - 80 : x_px + 80].min() < empty - 25


def test_every_planted_fault_is_listed_with_its_file(faulty, faults):
    assert list(faults.columns) == ["set", "path", "fault", "expected_status"]
    assert set(faults["expected_status"]) == {"ok", "unreadable", "duplicate", "conflict", "ignored"}
    assert all((faulty / row.set / row.path).is_file() for row in faults.itertuples())
    assert not faults.duplicated(["set", "path"]).any()


def test_unreadable_files_do_not_open_and_all_others_do(faulty, faults):
    expected = dict(zip(faults["path"], faults["expected_status"], strict=True))
    for path in (faulty / "organisms").rglob("slide*"):
        if expected.get(path.relative_to(faulty / "organisms").as_posix()) == "unreadable":
            with pytest.raises((UnidentifiedImageError, OSError)):
                pixels(path)
        else:
            assert pixels(path).size


def test_unreadable_files_are_cut_text_and_empty(faulty, faults):
    folder = faulty / "organisms"
    (cut,), (text,), (empty,) = (planted(faults, fault) for fault in ("truncated", "text", "empty"))
    assert (folder / cut).read_bytes().startswith(b"\xff\xd8\xff")
    assert (folder / text).read_text().isascii()
    assert (folder / empty).stat().st_size == 0


def test_share_of_unreadable_files_is_below_five_percent_at_full_extent():
    assert 3 / (Extent().images_per_class * len(ORGANISMS) + 8) < 0.05


def test_a_png_is_named_jpg(faulty, faults):
    (path,) = planted(faults, "PNG named .jpg")
    assert path.endswith(".jpg")
    with Image.open(faulty / "organisms" / path) as image:
        assert image.format == "PNG"


def test_twelve_bit_values_lie_in_sixteen_bits(faulty, faults):
    (path,) = planted(faults, "12-bit")
    values = tifffile.imread(faulty / "organisms" / path)
    assert values.dtype == np.uint16
    assert values.ndim == 2
    assert 2048 < values.max() < 4096


def test_duplicate_has_the_pixels_of_an_earlier_image_of_its_class_on_another_slide(faulty, faults):
    row = faults[faults["expected_status"] == "duplicate"].iloc[0]
    original = row["fault"].removeprefix("same pixels as ")
    assert np.array_equal(pixels(faulty / "organisms" / row["path"]), pixels(faulty / "organisms" / original))
    assert original < row["path"]
    assert Path(original).parent == Path(row["path"]).parent
    assert Path(original).name[:7] != Path(row["path"]).name[:7]


def test_near_duplicate_looks_like_its_original_but_has_other_pixels(faulty, faults):
    (path,) = planted(faults, "re-encoded")
    original = faults.loc[faults["path"] == path, "fault"].iloc[0].removeprefix("smaller, re-encoded copy of ")
    images = [Image.open(faulty / "organisms" / name) for name in (path, original)]
    copy, whole = (np.asarray(image.convert("L").resize((32, 32)), float).ravel() for image in images)
    assert images[0].size != images[1].size
    assert np.corrcoef(copy, whole)[0, 1] > 0.98
    assert Path(original).name[:7] != Path(path).name[:7]


def test_conflict_is_one_picture_under_two_labels(faulty, faults):
    first, second = faults.loc[faults["expected_status"] == "conflict", "path"]
    assert np.array_equal(pixels(faulty / "organisms" / first), pixels(faulty / "organisms" / second))
    assert Path(first).parent != Path(second).parent


def test_only_planted_copies_share_pixels(faulty, faults):
    listed = set(faults["path"]) | {text.rsplit(" ", 1)[-1] for text in faults["fault"]}
    seen: dict[bytes, str] = {}
    for path in (faulty / "organisms").rglob("slide*"):
        name = path.relative_to(faulty / "organisms").as_posix()
        if name in listed:
            continue
        assert seen.setdefault(pixels(path).tobytes(), name) == name


def test_a_corner_tag_gives_one_class_of_scans_away(clean, faulty, faults):
    tagged = set(planted(faults, "corner tag"))
    labels = pd.read_csv(faulty / "covid" / "labels.csv").set_index("path")["label"]
    assert {labels[path] for path in tagged} == {"covid19"}
    assert 0.6 < len(tagged) / (labels == "covid19").sum() < 1
    for path in labels.index:
        before, after = pixels(clean / "covid" / path), pixels(faulty / "covid" / path)
        changed = before != after
        assert changed.any() == (path in tagged)
        assert not changed[:170].any()
        assert not changed[:, :165].any()


def test_the_same_call_again_draws_nothing(faulty, monkeypatch):
    monkeypatch.setattr(draw, "_draw_all", lambda *_: pytest.fail("drawn again"))
    before = digests(faulty)
    assert draw_extent(faulty, 0, True, TINY) == json.loads((faulty / "sample.json").read_text())["num_files"]
    assert digests(faulty) == before


def test_a_set_that_was_removed_is_drawn_again(clean, tmp_path):
    out = shutil.copytree(clean, tmp_path / "copy")
    shutil.rmtree(out / "slides")
    draw_extent(out, 0, False, TINY)
    assert digests(out) == digests(clean)


@pytest.mark.parametrize(("seed", "with_faults"), [(1, False), (0, True)])
def test_sets_drawn_otherwise_are_refused_and_kept(clean, seed, with_faults):
    before = digests(clean)
    with pytest.raises(DataError, match=r"holds organisms, covid, slides already, not drawn with seed"):
        draw_extent(clean, seed, with_faults, TINY)
    assert digests(clean) == before


def test_a_folder_of_somebody_else_is_refused_and_kept(tmp_path):
    (tmp_path / "covid").mkdir()
    (tmp_path / "covid" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds covid already.*Name another folder, or remove these first"):
        draw_samples(tmp_path)
    assert digests(tmp_path) == {"covid/mine.txt": hashlib.sha256(b"mine").hexdigest()}


def test_an_unreadable_record_counts_as_somebody_elses(tmp_path):
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "a.tiff").touch()
    (tmp_path / "sample.json").write_text("[broken")
    with pytest.raises(DataError, match="holds slides already"):
        draw_samples(tmp_path)


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(DataError, match="is a file"):
        draw_samples(tmp_path / "out")


def test_a_negative_seed_is_refused(tmp_path):
    with pytest.raises(DataError, match="seed -1: is negative"):
        draw_samples(tmp_path, seed=-1)


def test_a_failure_leaves_no_set_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(draw, "draw_scans", fail)
    with pytest.raises(OSError, match="disk full"):
        draw_extent(tmp_path, 0, False, TINY)
    assert list(tmp_path.iterdir()) == []
