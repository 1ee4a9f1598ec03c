"""Every file of a source is listed or counted, under the label, group and split that the source declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from microscopy_cls.config.schema import Columns, Data
from microscopy_cls.dataset.sources import Listing, list_files
from microscopy_cls.errors import ConfigError, DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def ids(listing: Listing) -> list[str]:
    return list(listing.files["image_id"])


def error_of(kind: type[Exception], **data: Any) -> str:
    with pytest.raises(kind) as raised:
        list_files(Data(**data))
    return str(raised.value)


# Metadata


def metadata_of(tmp_path: Path, *values: str, **data: Any) -> list[object]:
    """The column `x` of a table as the listing gives it, missing values as None."""
    lines = [f"{row:02}.png,a,{value}" for row, value in enumerate(values)]
    path = table(tmp_path / "t.csv", "\n".join(["path,label,x", *lines]))
    column = list_files(Data(table=path, metadata=("x",), **data)).files["meta_x"]
    return [None if pd.isna(value) else value for value in column]


def test_numbers_stay_numbers_text_stays_text_and_missing_stays_missing(tmp_path: Path) -> None:
    assert metadata_of(tmp_path, "1", " 2.5", "", "-3e2") == [1.0, 2.5, None, -300.0]
    assert metadata_of(tmp_path, "1", "b ", "", "nan") == ["1", "b", None, "nan"]
    assert metadata_of(tmp_path, "1", "inf") == ["1", "inf"]
    assert metadata_of(tmp_path, "", "") == [None, None]


def test_metadata_follow_their_image_when_the_rows_are_sorted(tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": ["b.png", "a.png"], "label": "x", "gain": [2, 1], "lamp": ["old", None]})
    frame.to_parquet(tmp_path / "t.parquet")
    files = list_files(Data(table=tmp_path / "t.parquet", metadata=("gain", "lamp"))).files
    assert list(files.columns) == ["image_id", "path", "label", "group", "split", "meta_gain", "meta_lamp"]
    assert files["meta_gain"].tolist() == [1, 2]
    assert files["meta_lamp"].isna().tolist() == [True, False]


def test_metadata_that_the_table_does_not_have_are_refused_with_the_nearest(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "path,label,scanner\na.png,x,1\n")
    known = f"{path}: has no column scaner, which data.metadata names. Did you mean scanner?"
    assert error_of(ConfigError, table=path, metadata=["scaner"]) == known
    assert "names. It has: path, label, scanner." in error_of(ConfigError, table=path, metadata=["qqq"])


# A folder per class


def test_the_first_folder_is_the_class_and_the_path_below_the_root_the_id(tmp_path: Path) -> None:
    touch(tmp_path, "yeast/b.png", "yeast/day 2/slide3/a.JPG", "alga/c.tif")
    listing = list_files(Data(root=tmp_path))
    assert ids(listing) == ["alga/c.tif", "yeast/b.png", "yeast/day 2/slide3/a.JPG"]
    assert list(listing.files["label"]) == ["alga", "yeast", "yeast"]
    assert list(listing.files["path"]) == [str(tmp_path / name) for name in ids(listing)]
    assert set(listing.files["split"]) == {"train"}
    assert listing.num_ignored == 0
    assert list(listing.files.columns) == ["image_id", "path", "label", "group", "split"]


def test_scans_are_listed_and_other_archives_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "ill/a.dcm", "ill/b.DICOM", "well/c.nii", "well/d.nii.gz", "well/e.gz", "well/IM0001")
    listing = list_files(Data(root=tmp_path))
    assert ids(listing) == ["ill/a.dcm", "ill/b.DICOM", "well/c.nii", "well/d.nii.gz"]
    assert listing.num_ignored == 2


def test_other_hidden_and_loose_files_are_counted_and_not_listed(tmp_path: Path) -> None:
    touch(
        tmp_path, "yeast/a.png", "loose.png", "yeast/notes.txt", "yeast/noending", "yeast/._a.png", ".cache/yeast/b.png"
    )
    listing = list_files(Data(root=tmp_path))
    assert ids(listing) == ["yeast/a.png"]
    assert listing.num_ignored == 5


@pytest.mark.parametrize("name", ["Ångström µ", "酵母", "nan", "NA", "1", "a b"])
def test_any_folder_name_is_a_label_as_it_is(tmp_path: Path, name: str) -> None:
    touch(tmp_path, f"{name}/{name}.png")
    assert list_files(Data(root=tmp_path)).files[["image_id", "label"]].to_numpy().tolist() == [
        [f"{name}/{name}.png", name]
    ]


def test_a_linked_class_folder_and_a_linked_file_are_followed(tmp_path: Path) -> None:
    outside = touch(tmp_path / "disk", "yeast/a.png", "b.png")
    root = touch(tmp_path / "raw", "alga/c.png")
    (root / "yeast").symlink_to(outside / "yeast", target_is_directory=True)
    (root / "alga" / "d.png").symlink_to(outside / "b.png")
    assert ids(list_files(Data(root=root))) == ["alga/c.png", "alga/d.png", "yeast/a.png"]


def test_links_that_lead_back_are_entered_once(tmp_path: Path) -> None:
    root = touch(tmp_path / "raw", "yeast/a.png", "alga/b.png")
    (root / "yeast" / "up").symlink_to(root, target_is_directory=True)
    (root / "yeast" / "self").symlink_to(root / "yeast", target_is_directory=True)
    assert ids(list_files(Data(root=root))) == ["alga/b.png", "yeast/a.png"]


def test_links_that_lead_to_each_other_end(tmp_path: Path) -> None:
    root = touch(tmp_path / "raw", "a/1.png", "b/2.png")
    (root / "a" / "to_b").symlink_to(root / "b", target_is_directory=True)
    (root / "b" / "to_a").symlink_to(root / "a", target_is_directory=True)
    # The same picture under two labels: nothing is hidden, `prepare` sets it aside as a conflict.
    assert ids(list_files(Data(root=root))) == ["a/1.png", "a/to_b/2.png", "b/2.png", "b/to_a/1.png"]


def test_a_link_to_nothing_is_listed_so_that_it_gets_a_row(tmp_path: Path) -> None:
    root = touch(tmp_path, "yeast/a.png")
    (root / "yeast" / "gone.png").symlink_to(root / "nowhere.png")
    assert ids(list_files(Data(root=root))) == ["yeast/a.png", "yeast/gone.png"]


def test_a_missing_root_is_refused(tmp_path: Path) -> None:
    message = f"{tmp_path / 'raw'}: there is no such folder. Set data.root to a folder that holds a folder per class."
    assert error_of(DataError, root=tmp_path / "raw") == message


def test_a_root_without_images_in_class_folders_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "yeast/notes.txt")
    message = error_of(DataError, root=tmp_path)
    assert "holds no images in class folders (2 other files). Expected" in message
    assert f"{tmp_path}/<class>/<image> with an ending such as .png, .jpg or .tif." in message


def test_a_folder_that_cannot_be_listed_is_refused_and_not_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "yeast/a.png", "alga/b.png")
    iterdir = Path.iterdir

    def refuse(self: Path) -> Any:
        if self.name == "yeast":
            raise PermissionError(13, "Permission denied")
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    message = f"{tmp_path / 'yeast'}: cannot be listed: Permission denied. Make it readable or move it away."
    assert error_of(DataError, root=tmp_path) == message


# Groups


def test_without_groups_each_image_is_its_own(tmp_path: Path) -> None:
    listing = list_files(Data(root=touch(tmp_path, "a/1.png", "b/1.png")))
    assert list(listing.files["group"]) == ids(listing)
    assert not listing.grouped


def test_the_first_capture_group_found_in_the_id_names_the_group(tmp_path: Path) -> None:
    touch(tmp_path, "a/slide01_1.png", "a/slide01_2.png", "b/slide01_1.png", "b/x/slide10.png")
    listing = list_files(Data(root=tmp_path, group_regex=r"(?:slide)(\d+)(_\d)?"))
    assert list(listing.files["group"]) == ["01", "01", "01", "10"]
    assert listing.grouped


def test_the_folder_may_be_part_of_the_group(tmp_path: Path) -> None:
    touch(tmp_path, "a/1_x.png", "b/1_y.png")
    listing = list_files(Data(root=tmp_path, group_regex=r"^(.+)_"))
    assert list(listing.files["group"]) == ["a/1", "b/1"]


@pytest.mark.parametrize("regex", [r"slide(\d+)", r"(\d*)x|slide(\d+)"])
def test_images_without_a_group_are_named(tmp_path: Path, regex: str) -> None:
    touch(tmp_path, "a/slide1.png", *(f"b/{i}.png" for i in range(7)))
    message = error_of(DataError, root=tmp_path, group_regex=regex)
    assert f"data.group_regex {regex!r}: does not match " in message
    assert "of 8 images: " in message
    assert "b/0.png, b/1.png" in message
    assert "b/6.png" not in message  # five examples are enough
    assert message.endswith("Widen it, or give the groups as a column of data.table.")


def test_a_pattern_that_is_none_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png")
    assert "data.group_regex '(': is no regular expression: " in error_of(ConfigError, root=tmp_path, group_regex="(")


def test_a_pattern_without_a_capture_group_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png")
    message = error_of(ConfigError, root=tmp_path, group_regex=r"slide\d+")
    assert message == r"data.group_regex 'slide\\d+': needs a capture group in parentheses"


# Tables


CELLS = "path,label,slide,part\nb.png,x,s1,train\nsub/a.png,y,s2,test\nc.png,x,,\n"


def test_paths_of_a_table_start_at_the_root_or_else_at_its_folder(tmp_path: Path) -> None:
    path = table(tmp_path / "labels.csv", CELLS)
    listing = list_files(Data(table=path))
    assert ids(listing) == ["b.png", "c.png", "sub/a.png"]
    assert list(listing.files["path"]) == [str(tmp_path / name) for name in ids(listing)]
    assert list(listing.files["label"]) == ["x", "x", "y"]
    assert (listing.num_ignored, listing.grouped) == (0, False)
    (tmp_path / "images").mkdir()
    elsewhere = list_files(Data(table=path, root=tmp_path / "images"))
    assert list(elsewhere.files["path"]) == [str(tmp_path / "images" / name) for name in ids(listing)]


def test_a_root_that_is_not_there_is_said_once_and_not_once_a_file(tmp_path: Path) -> None:
    path = table(tmp_path / "labels.csv", CELLS)
    assert "raw: there is no such folder. Set data.root" in error_of(DataError, table=path, root=tmp_path / "raw")


@pytest.mark.parametrize("ending", ["csv", "CSV", "tsv", "TSV", "parquet", "pq"])
def test_the_ending_tells_the_kind_of_table(tmp_path: Path, ending: str) -> None:
    frame = pd.read_csv(table(tmp_path / "cells.csv", CELLS), dtype=str, keep_default_na=False)
    path = tmp_path / f"labels.{ending}"
    if ending in {"parquet", "pq"}:
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if ending.lower() == "tsv" else ",")
    data = Data(table=path, columns=Columns(group="slide", split="part"))
    assert list_files(data).files.drop(columns="path").to_numpy().tolist() == [
        ["b.png", "x", "s1", "train"],
        ["c.png", "x", "c.png", "train"],  # no group: its own; no split: train
        ["sub/a.png", "y", "s2", "test"],
    ]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, 2, None], dtype="Int64"),
        pd.Series([1.0, 2.0, None]),
        pd.Series(pd.Categorical(["u", "v", None])),
        pd.Series(["u", "v", None], dtype=object),
        pd.Series(["u", "v", " "]),
        pd.Series(pd.to_datetime(["2020-01-01", "2020-01-02", None])),
    ],
    ids=["integers", "floats", "categories", "objects", "blanks", "dates"],
)
def test_a_typed_column_groups_as_its_text_does_and_a_missing_value_is_no_group(
    tmp_path: Path, column: pd.Series[Any]
) -> None:
    frame = pd.DataFrame(
        {"path": ["a.png", "b.png", "c.png"], "label": pd.Categorical(["x", "y", "x"]), "slide": column}
    )
    frame.to_parquet(tmp_path / "labels.parquet")
    listing = list_files(Data(table=tmp_path / "labels.parquet", columns=Columns(group="slide")))
    first, second, third = listing.files["group"]
    assert len({first, second, third, ""}) == 4
    assert third == "c.png"
    assert listing.grouped


def test_columns_may_have_any_name_and_blanks_around_values_do_not_count(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "Datei,Art,Tag\n a.png , Hefe ,1\n")
    listing = list_files(Data(table=path, columns=Columns(path="Datei", label="Art", group="Tag")))
    assert listing.files[["image_id", "label", "group"]].to_numpy().tolist() == [["a.png", "Hefe", "1"]]


def test_labels_that_look_like_missing_values_or_numbers_are_labels(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "path,label\na.png,NA\nb.png,nan\nc.png,007\nd.png,None\n")
    assert list(list_files(Data(table=path)).files["label"]) == ["NA", "nan", "007", "None"]


def test_a_byte_order_mark_and_windows_paths_are_understood(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("\ufeffpath,label\r\nß\\a.png,x\r\n".encode())
    listing = list_files(Data(table=tmp_path / "t.csv"))
    assert ids(listing) == ["ß/a.png"]
    assert list(listing.files["path"]) == [str(tmp_path / "ß" / "a.png")]


def test_an_absolute_path_stays_where_it_is(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", f"path,label\n{tmp_path}/far/a.png,x\n")
    (tmp_path / "raw").mkdir()
    assert list(list_files(Data(table=path, root=tmp_path / "raw")).files["path"]) == [f"{tmp_path}/far/a.png"]


def test_a_table_may_take_its_groups_from_the_names(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "path,label\ns1_a.png,x\ns2_a.png,x\n")
    assert list(list_files(Data(table=path, group_regex="^(s.)")).files["group"]) == ["s1", "s2"]


def test_two_ways_to_group_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", CELLS)
    message = error_of(ConfigError, table=path, columns=Columns(group="slide"), group_regex="(.)")
    assert message == "data.group_regex and data.columns.group both name the group: keep one of them"


@pytest.mark.parametrize("name", ["none.csv", "none.parquet"])
def test_a_missing_table_is_refused(tmp_path: Path, name: str) -> None:
    message = f"{tmp_path / name}: there is no such file. Set data.table to a CSV or Parquet file."
    assert error_of(DataError, table=tmp_path / name) == message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", b"path,label\n"),
        ("a.csv", b""),
        ("a.csv", "path,label\nä.png,x\n".encode("latin-1")),
        ("a.csv", b"path,label\na.png,x\nb.png,x,y,z\n"),
        ("a.csv", b"path,label\na.png,x,y\nb.png,x,y\n"),
    ],
    ids=["no Parquet", "empty", "not UTF-8", "a longer row", "rows longer than the header"],
)
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert error_of(DataError, table=tmp_path / name).startswith(f"{tmp_path / name}: cannot be read as a table: ")


def test_a_folder_in_place_of_a_table_is_refused(tmp_path: Path) -> None:
    assert "cannot be read as a table" in error_of(DataError, table=tmp_path)


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    assert "t.csv: has no rows. Expected one per image." in error_of(
        DataError, table=table(tmp_path / "t.csv", "path,label\n")
    )


def test_a_column_that_is_not_there_is_named_beside_those_that_are(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", CELLS)
    message = error_of(ConfigError, table=path, columns=Columns(label="class", split="fold"))
    assert message == (
        f"{path}: has no column class, fold. It has: path, label, slide, part. Name the right ones under data.columns."
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a.png,x\n,x\n ,y\n", "2 rows have no path: 1, 2. Correct or remove them."),
        ("a.png,x\nb.png,\n", "1 rows have no label: b.png. Correct or remove them."),
        ("a.png,x\nb.png,x\na.png,y\n", "1 rows are named twice: a.png. Correct or remove them."),
        ("s/a.png,x\ns\\a.png,x\n", "1 rows are named twice: s/a.png. Correct or remove them."),
    ],
)
def test_rows_that_cannot_be_used_are_counted_and_named(tmp_path: Path, rows: str, message: str) -> None:
    path = table(tmp_path / "t.csv", f"path,label\n{rows}")
    assert error_of(DataError, table=path) == f"{path}: {message}"


def test_many_bad_rows_give_five_examples(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "path,label\n" + "".join(f"{i}.png,\n" for i in range(9)))
    assert "9 rows have no label: 0.png, 1.png, 2.png, 3.png, 4.png. Correct" in error_of(DataError, table=path)


def test_a_split_other_than_train_and_test_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "path,label,part\na.png,x,val\nb.png,y,train\nc.png,y,Test\n")
    message = error_of(DataError, table=path, columns=Columns(split="part"))
    assert message == f"{path}: column part holds Test, val; only train, test are known"
