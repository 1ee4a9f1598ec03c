"""What a person lists is left out and nothing else, whatever else the list says."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from microscopy_cls.dataset.exclusion import mark_excluded
from microscopy_cls.errors import DataError


def files() -> pd.DataFrame:
    return pd.DataFrame(
        {"image_id": ["a/1.png", "a/2.png", "b/3.png"], "status": ["ok", "unreadable", "ok"], "error": ""}
    )


def listed(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_listed_images_are_excluded_and_say_where_they_are_listed(tmp_path: Path) -> None:
    before = files()
    path = listed(tmp_path / "out.csv", "image_id,label,suggested\nb/3.png,b,a\n a\\2.png ,a,b\n,,\n")
    marked = mark_excluded(before, path)
    assert marked["status"].tolist() == ["ok", "excluded", "excluded"]
    assert marked["error"].tolist() == ["", f"listed in {path.as_posix()}", f"listed in {path.as_posix()}"]
    pd.testing.assert_frame_equal(before, files())


def test_without_a_list_nothing_changes() -> None:
    pd.testing.assert_frame_equal(mark_excluded(files(), None), files())


def test_ids_that_are_not_there_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = listed(tmp_path / "out.csv", "image_id\nz.png\na/1.png\ny.png\n")
    assert mark_excluded(files(), path)["status"].tolist() == ["excluded", "unreadable", "ok"]
    assert f"{path} lists 2 images that are not there, for example y.png" in caplog.text


def test_a_missing_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"out\.csv: there is no such file\. Set data\.exclude to a CSV with a column"):
        mark_excluded(files(), tmp_path / "out.csv")


def test_a_list_without_ids_is_refused(tmp_path: Path) -> None:
    path = listed(tmp_path / "out.csv", "image,label\na/1.png,a\n")
    with pytest.raises(DataError, match=r"out\.csv: has no column image_id\. It has: image, label\. Name the images"):
        mark_excluded(files(), path)


def test_a_list_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"out\.csv: cannot be read as a table"):
        mark_excluded(files(), listed(tmp_path / "out.csv", ""))
