"""Every set says where it is, what may be done with it and what was published; every layout finds its images."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from tests.dataset.upstream import SMEAR, UPSTREAM

from microscopy_cls.config import load_config
from microscopy_cls.dataset.catalogue import Entry, find_entry, load_catalogue
from microscopy_cls.dataset.catalogue.cells import at_most, bccd_cells, chula_cells
from microscopy_cls.dataset.catalogue.item import Item
from microscopy_cls.dataset.catalogue.layouts import (
    LAYOUTS,
    class_folders,
    covid_ct,
    covid_xray3,
    plankton,
    plankton_day,
    shipped_table,
)
from microscopy_cls.errors import DataError

ROOT = Path(__file__).parents[2]
ENTRIES = load_catalogue()
FETCHABLE = [entry for entry in ENTRIES if not entry.steps]


def named(entry: Entry) -> str:
    return entry.name


# Entries


@pytest.mark.parametrize("entry", ENTRIES, ids=named)
def test_each_set_is_described_in_full(entry: Entry) -> None:
    assert entry.licence
    assert len(entry.citation) > 20
    assert entry.source.startswith("https://")
    assert entry.groups
    assert entry.num_classes >= 2
    assert all(published.protocol for published in entry.published)


@pytest.mark.parametrize("entry", FETCHABLE, ids=named)
def test_each_set_that_can_be_fetched_is_pinned_to_a_whole_commit_and_has_a_layout(entry: Entry) -> None:
    assert re.fullmatch(r"[0-9a-f]{40}", entry.revision or "")
    assert entry.layout in LAYOUTS
    assert entry.name in UPSTREAM


def test_names_are_unique_and_each_layout_is_used() -> None:
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)
    assert {entry.layout for entry in FETCHABLE} == set(LAYOUTS)


@pytest.mark.parametrize("entry", FETCHABLE, ids=named)
def test_the_config_of_a_set_reads_the_folder_that_fetch_writes(entry: Entry) -> None:
    data = load_config(ROOT / entry.config_path).data
    assert data.root == entry.folder
    assert data.table == entry.folder / "manifest.csv"
    assert (data.columns.path, data.columns.label) == ("file", "label")
    assert data.columns.group == (None if entry.groups.startswith("none") else "group")


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.steps], ids=named)
def test_a_set_to_be_fetched_by_hand_has_steps_that_end_with_prepare_and_a_config_that_is_there(entry: Entry) -> None:
    assert entry.steps[-1].startswith("microscopy-cls prepare -c ")
    assert entry.config_path.as_posix() in entry.steps[-1]
    assert (ROOT / entry.config_path).is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"revision": "c353120e"}, "String should match pattern"),
        ({"revision": None}, "give either revision and layout, or steps"),
        ({"revision": None, "layout": None}, "give either revision and layout, or steps"),
        ({"steps": ("Log in.",)}, "give either revision and layout, or steps"),
        ({"licence": ""}, "at least 1 character"),
        ({"licence": None}, "should be a valid string"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
    ],
)
def test_an_incomplete_entry_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Entry.model_validate(ENTRIES[0].model_dump() | changes)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("polen23", r"Did you mean pollen23e\?"),
        ("plankton", r"Did you mean pwssc-plankton12\?"),
        ("rbc", r"Did you mean chula-rbc12\?"),
        ("zzzz", r"It has: pollen23e, pwssc-plankton12, covid-xray3"),
        ("", r"It has: pollen23e"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(DataError, match=f"'{name}': the catalogue has no set of this name. {hint}"):
        find_entry(name, ENTRIES)


def test_the_wheel_takes_the_catalogue_along() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"dataset/catalogue/*.yaml", "dataset/catalogue/tables/*.csv"' in text


def test_the_catalogue_is_yaml_without_a_key_twice() -> None:
    text = (ROOT / "src/microscopy_cls/dataset/catalogue/catalogue.yaml").read_text(encoding="utf-8")
    assert sum(line.startswith("- name:") for line in text.splitlines()) == len(yaml.safe_load(text))


# Tables and layouts


@pytest.mark.parametrize(("name", "num_rows", "num_groups"), [("covid-ct", 746, 384), ("covid-xray3", 125, 83)])
def test_a_table_gives_each_image_its_patient(name: str, num_rows: int, num_groups: int) -> None:
    table = shipped_table(name)
    assert len(table) == num_rows
    assert len(set(table.values())) == num_groups
    assert all(table.values())


def test_the_chosen_plankton_are_twelve_taxa_of_at_most_150() -> None:
    labels = [file.split("/")[0] for file in shipped_table("plankton12")]
    assert len(set(labels)) == 12
    assert max(labels.count(label) for label in set(labels)) == 150


def test_only_images_directly_in_a_class_folder_are_taken() -> None:
    paths = ["a/x/1.png", "a/x/2.JPG", "a/x/3.txt", "a/x/y/4.png", "a/5.png", "b/x/6.png", "a/x/.7.png", "a/z/8.jpeg"]
    assert [item.path for item in class_folders(paths, "a/")] == ["a/x/1.png", "a/x/2.JPG", "a/z/8.jpeg"]
    assert [item.file for item in class_folders(paths, "a/", {"z": "Z"})] == ["Z/8.jpeg"]


def test_radiographs_are_grouped_by_patient_across_classes_and_an_unknown_patient_is_refused() -> None:
    root = "X-Ray Image DataSet"
    paths = [f"{root}/No_findings/00001280_004.png", f"{root}/Pneumonia/00001280_007.png", f"{root}/Covid-19/a.jpeg"]
    groups = {item.name: item.group for item in covid_xray3(paths, {"a.jpeg": "cohen_4"})}
    assert groups == {"00001280_004.png": "nih_00001280", "00001280_007.png": "nih_00001280", "a.jpeg": "cohen_4"}
    with pytest.raises(
        DataError, match=r"the patient of 1 images is not known, such as X-Ray Image DataSet/Covid-19/a"
    ):
        covid_xray3(paths, {})


def test_slices_are_grouped_by_patient_and_an_unknown_patient_is_refused() -> None:
    paths = ["Data/master-data/COVID/1%0.png", "Data/master-data/NonCOVID/1.jpg"]
    items = covid_ct(paths, {"1%0.png": "p1", "1.jpg": "p2"})
    assert [(item.file, item.group) for item in items] == [("CT_COVID/1%0.png", "p1"), ("CT_NonCOVID/1.jpg", "p2")]
    with pytest.raises(DataError, match="the patient of 2 images is not known"):
        covid_ct(paths, {})


def test_plankton_are_grouped_by_day_and_those_without_a_time_share_a_group() -> None:
    assert plankton_day("SPC-PWSSC-1462276049-000244-024-3644-1236-280-212.png") == "day_2016-05-03"
    assert plankton_day("SPC-PWSSC-0-001069-109-2580-1816-664-344.png") == "epoch0"
    with pytest.raises(DataError, match=r"x.png: does not begin with SPC-PWSSC-<time>, so its day is not known"):
        plankton_day("x.png")


def test_only_the_chosen_plankton_are_taken_and_a_lacking_one_is_told() -> None:
    paths = [f"data/{label}/SPC-PWSSC-86400-{number}.png" for label in ("A", "B") for number in range(2)]
    items = plankton(paths, ["B/SPC-PWSSC-86400-1.png"])
    assert [(item.path, item.group) for item in items] == [("data/B/SPC-PWSSC-86400-1.png", "day_1970-01-02")]
    with pytest.raises(DataError, match=r"the tree lacks 1 files of the set, such as C/9.png"):
        plankton(paths, ["C/9.png"])


# Cells


def test_boxes_are_clipped_numbered_by_their_place_and_dropped_when_tiny() -> None:
    image = "BCCD/JPEGImages/BloodImage_00001.jpg"
    items = bccd_cells([image], {"BCCD/Annotations/BloodImage_00001.xml": SMEAR.encode()})
    assert items == [
        Item(image, "RBC", "BloodImage_00001_obj01.png", "BloodImage_00001", (600, 400, 640, 480)),
        Item(image, "WBC", "BloodImage_00001_obj00.png", "BloodImage_00001", (10, 20, 60, 90)),
    ]


@pytest.mark.parametrize("text", ["<annotation>", "<a><object><name>RBC</name></object></a>"])
def test_an_annotation_that_cannot_be_read_is_named(text: str) -> None:
    image, annotation = "BCCD/JPEGImages/x.jpg", "BCCD/Annotations/x.xml"
    with pytest.raises(DataError, match=r"BCCD/Annotations/x.xml: is no annotation that can be read"):
        bccd_cells([image], {annotation: text.encode()})


def test_squares_stay_inside_and_odd_lines_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    text = b"32 32 0\n31 32 0\n608 448 7\n609 448 7\n100 100 10\n100 100 13\n1 2\nx y 0\n\n"
    items = chula_cells(["Dataset/7.jpg"], {"Label/7.txt": text, "Label/8.txt": b"100 100 0\n"})
    assert items == [
        Item("Dataset/7.jpg", "normal", "7_cell000.png", "smear_7", (0, 0, 64, 64)),
        Item("Dataset/7.jpg", "teardrop", "7_cell002.png", "smear_7", (576, 416, 640, 480)),
    ]
    assert "3 lines of the label files are not x, y and a class, and were left out" in caplog.text


def test_the_same_few_of_a_large_class_are_taken_in_any_order() -> None:
    items = [Item("p", "big", f"{number}.png") for number in range(50)] + [Item("p", "small", "x.png")]
    chosen = at_most(items, 5)
    assert at_most(items[::-1], 5) == chosen
    assert [sum(item.label == label for item in chosen) for label in ("big", "small")] == [5, 1]
