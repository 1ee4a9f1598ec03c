"""A file or folder is the earlier one or the new one, never a part, and nothing else is left behind."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from microscopy_cls.system.files import (
    atomic_folder,
    atomic_path,
    read_json,
    sha256_of_file,
    sha256_of_json,
    write_csv,
    write_json,
    write_parquet,
    write_text,
)


def stop_half_way(target: Path, error: type[BaseException]) -> None:
    with atomic_path(target) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise error


def stop_half_way_in_folder(target: Path, error: type[BaseException]) -> None:
    with atomic_folder(target) as temporary:
        fill(temporary, new="2")
        raise error


def fill(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Files


def test_a_file_appears_whole_and_alone_in_folders_made_for_it(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "note.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert not target.exists()
    assert target.read_text(encoding="utf-8") == "new"
    assert names(target.parent) == ["note.txt"]


def test_the_temporary_file_is_hidden_beside_the_target_with_its_ending(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "pixels.npy") as temporary:
        temporary.touch()
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".npy"
        assert temporary.name.startswith(".")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "note.txt"
    target.write_text("earlier", encoding="utf-8")
    with pytest.raises(error):
        stop_half_way(target, error)
    assert target.read_text(encoding="utf-8") == "earlier"
    assert names(tmp_path) == ["note.txt"]


def test_a_failed_first_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        stop_half_way(tmp_path / "note.txt", KeyError)
    assert names(tmp_path) == []


def test_a_block_that_writes_nothing_is_an_error_and_not_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "note.txt"):
        pass
    assert names(tmp_path) == []


def test_a_reader_of_the_earlier_file_keeps_it(tmp_path: Path) -> None:
    target = tmp_path / "pixels.npy"
    for value in (1, 2):
        with atomic_path(target) as temporary:
            np.save(temporary, np.full(9, value))
        if value == 1:
            mapped = np.load(target, mmap_mode="r")
    assert mapped.max() == 1
    assert np.load(target).min() == 2


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "ü.txt", "Größe µm")
    assert (tmp_path / "ü.txt").read_bytes().decode("utf-8") == "Größe µm"


def test_json_comes_back_as_it_was_readable_and_ended_by_a_line(tmp_path: Path) -> None:
    value = {"name": "Zelle µ", "values": [1, 0.1, None, True], "inner": {"a": []}}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert read_json(tmp_path / "a.json") == value
    assert text.endswith("}\n")
    assert "Zelle µ" in text


def test_names_of_files_that_are_no_text_come_back_from_json(tmp_path: Path) -> None:
    name = "byte \udcff.png"
    write_json(tmp_path / "a.json", {"path": name})
    assert read_json(tmp_path / "a.json") == {"path": name}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_refuses_what_is_no_json_and_leaves_the_earlier_file(tmp_path: Path, value: float) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": [0.0, value]})
    assert read_json(tmp_path / "a.json") == {"x": 1}
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_tables_come_back_with_full_precision_and_without_an_index(tmp_path: Path, ending: str) -> None:
    table = pd.DataFrame({"name": ["ä", "b"], "value": [0.1 + 0.2, 1 / 3]}, index=[7, 3])
    path = tmp_path / f"table.{ending}"
    if ending == "csv":
        write_csv(path, table)
        read = pd.read_csv(path)
    else:
        write_parquet(path, table)
        read = pd.read_parquet(path)
    assert read.to_dict("list") == table.to_dict("list")
    assert list(read.index) == [0, 1]
    assert names(tmp_path) == [path.name]


# Digests


def test_the_digest_of_a_file_is_of_its_bytes_alone(tmp_path: Path) -> None:
    for name in ("a.png", "b.txt"):
        (tmp_path / name).write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, example B.1
    assert {sha256_of_file(tmp_path / name) for name in ("a.png", "b.txt")} == {expected}


def test_the_digest_of_json_ignores_the_order_of_keys_only() -> None:
    assert sha256_of_json({"a": 1, "b": {"c": 2, "d": 3}}) == sha256_of_json({"b": {"d": 3, "c": 2}, "a": 1})
    assert sha256_of_json({"a": [1, 2]}) != sha256_of_json({"a": [2, 1]})
    assert sha256_of_json({"a": Path("x")}) == sha256_of_json({"a": "x"})


# Folders


def test_a_folder_takes_the_place_of_the_earlier_one_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "models" / "cells"
    with atomic_folder(target) as temporary:
        fill(temporary, old="1", both="1")
    with atomic_folder(target) as temporary:
        assert names(temporary) == []
        fill(temporary, new="2", both="2")
        assert names(target) == ["both", "old"]
    assert names(target) == ["both", "new"]
    assert (target / "both").read_text(encoding="utf-8") == "2"
    assert names(target.parent) == ["cells"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_folder_leaves_the_earlier_one_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "cells"
    with atomic_folder(target) as temporary:
        fill(temporary, old="1")
    with pytest.raises(error):
        stop_half_way_in_folder(target, error)
    assert names(target) == ["old"]
    assert names(tmp_path) == ["cells"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_between_the_two_renames_puts_the_earlier_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    target = tmp_path / "cells"
    with atomic_folder(target) as temporary:
        fill(temporary, old="1")
    rename = Path.rename

    def stops(self: Path, other: Path) -> Path:
        if self.suffix == ".tmp":
            raise error
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", stops)
    with pytest.raises(error), atomic_folder(target) as temporary:
        fill(temporary, new="2")
    assert names(target) == ["old"]
    assert names(tmp_path) == ["cells"]


def test_what_a_killed_process_left_under_the_temporary_name_is_not_taken_over(tmp_path: Path) -> None:
    target = tmp_path / "cells"
    with atomic_folder(target) as temporary:
        place = temporary
    place.mkdir()
    fill(place, stale="0")
    with atomic_folder(target) as temporary:
        assert temporary == place
        assert names(temporary) == []
    assert names(target) == []


def test_files_get_the_usual_mode_whoever_wrote_them(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    with atomic_path(tmp_path / "file") as temporary:
        temporary.touch(mode=0o600)
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "inside").touch(mode=0o600)
        (folder / "within").mkdir(mode=0o700)
        (folder / "within" / "deeper").touch(mode=0o600)
    found = [tmp_path / "file", *(tmp_path / "folder" / name for name in ("inside", "within/deeper"))]
    assert len({path.stat().st_mode for path in (plain, *found)}) == 1
    assert (tmp_path / "folder" / "within").stat().st_mode & 0o777 == 0o700, "a folder that could not be entered"
