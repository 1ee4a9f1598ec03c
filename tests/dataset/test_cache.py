"""Each file is decoded once, whatever else comes and goes, and a cache that cannot be trusted is made anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from microscopy_cls.dataset import cache
from microscopy_cls.dataset.cache import FACTS, Reading, build_cache, open_pixels
from microscopy_cls.errors import ConfigError, ImageError
from microscopy_cls.images import Decoded, decode
from microscopy_cls.system.files import sha256_of_file

READING = Reading(size_px=32, resize="stretch", intensity="percentile")


def picture(seed: int, height_px: int = 20, width_px: int = 28) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Paths of four pictures and a text named .png, the latter in the middle."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(picture(i)).save(folder / f"{i}.png")
    (folder / "1b.png").write_text("no picture", encoding="utf-8")
    return sorted(str(path) for path in folder.iterdir())


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bytes that were decoded, in any order; clear it between two runs."""
    seen: list[bytes] = []

    def counted(data: bytes, **settings: Any) -> Decoded:
        seen.append(data)
        return decode(data, **settings)

    monkeypatch.setattr(cache, "decode", counted)
    return seen


def is_good(folder: Path, files: list[str], facts: pd.DataFrame, reading: Reading = READING) -> bool:
    """Whether every row of the cache holds what its file gives when it is read anew; zeros when unreadable."""
    pixels = open_pixels(folder)
    return len(pixels) == len(files) == len(facts) and all(
        np.array_equal(row, reading.read(Path(path)) if status == "ok" else np.zeros_like(row))
        for row, path, status in zip(pixels, files, facts["status"], strict=True)
    )


def readable(files: list[str]) -> list[bytes]:
    return [Path(path).read_bytes() for path in files if "1b" not in path]


def test_row_i_belongs_to_file_i_and_unreadable_files_stay_zero(tmp_path: Path, files: list[str]) -> None:
    facts = build_cache(files, READING, tmp_path / "cache")
    assert list(facts.columns) == list(FACTS)
    assert list(facts["status"]) == ["ok", "ok", "unreadable", "ok", "ok"]
    assert open_pixels(tmp_path / "cache").shape == (5, 32, 32, 3)
    assert is_good(tmp_path / "cache", files, facts)


def test_the_cache_cannot_be_written_through_its_map(tmp_path: Path, files: list[str]) -> None:
    build_cache(files, READING, tmp_path / "cache")
    with pytest.raises(ValueError, match="read-only"):
        open_pixels(tmp_path / "cache")[0, 0, 0, 0] = 1


def test_facts_tell_the_file_and_its_quality(tmp_path: Path) -> None:
    grey = np.full((10, 14), 100, np.uint8)
    Image.fromarray(grey).save(tmp_path / "flat.png")
    grey[::2] = 50
    Image.fromarray(grey).save(tmp_path / "lines.tif")
    facts = build_cache([str(tmp_path / "flat.png"), str(tmp_path / "lines.tif")], READING, tmp_path / "cache")
    flat, lines = facts.to_dict("records")
    assert flat["sha256"] == sha256_of_file(tmp_path / "flat.png")
    assert flat["num_bytes"] == (tmp_path / "flat.png").stat().st_size
    assert (flat["width_px"], flat["height_px"], flat["channels"], flat["bit_depth"]) == (14, 10, 1, 8)
    assert (flat["format"], lines["format"]) == ("PNG", "TIFF")
    assert (flat["brightness"], flat["contrast"], flat["sharpness"]) == (100, 0, 0)
    assert lines["brightness"] == pytest.approx(75, abs=3)
    assert lines["contrast"] > 10
    assert lines["sharpness"] > 0


def test_equal_pixels_have_one_digest_whatever_the_format(tmp_path: Path) -> None:
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    Image.fromarray(picture(0)).save(tmp_path / "b.tif")
    Image.fromarray(picture(0).reshape(28, 20, 3)).save(tmp_path / "c.png")
    facts = build_cache([str(tmp_path / name) for name in ("a.png", "b.tif", "c.png")], READING, tmp_path / "cache")
    first, second, reshaped = facts["pixel_digest"]
    assert first == second != reshaped
    assert facts["sha256"].is_unique


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("1b.png", "is not an image: it starts like a text"),
        ("empty.png", "is empty (0 bytes)"),
        ("folder.png", "is a directory"),
        ("gone.png", "does not exist"),
        ("x" * 300 + ".png", "cannot be read (File name too long)"),
    ],
)
def test_an_unreadable_file_has_facts_too(tmp_path: Path, files: list[str], name: str, reason: str) -> None:
    folder = Path(files[0]).parent
    (folder / "empty.png").touch()
    (folder / "folder.png").mkdir()
    fact = build_cache([str(folder / name)], READING, tmp_path / "cache").iloc[0]
    assert (fact["status"], fact["error"]) == ("unreadable", reason)
    assert (fact["width_px"], fact["pixel_digest"], fact["format"]) == (0, "", "")
    assert np.isnan(fact["brightness"])


# What is decoded again


def test_a_second_run_decodes_no_readable_file_and_gives_the_same(
    tmp_path: Path, files: list[str], decoded: list[bytes]
) -> None:
    first = build_cache(files, READING, tmp_path / "cache")
    pixels = np.array(open_pixels(tmp_path / "cache"))
    assert sorted(decoded) == sorted([*readable(files), b"no picture"])
    decoded.clear()
    second = build_cache(files, READING, tmp_path / "cache")
    assert decoded == [b"no picture"]
    pd.testing.assert_frame_equal(first, second)
    assert np.array_equal(open_pixels(tmp_path / "cache"), pixels)


def test_a_changed_file_alone_is_decoded_again(tmp_path: Path, files: list[str], decoded: list[bytes]) -> None:
    build_cache(files, READING, tmp_path / "cache")
    decoded.clear()
    Image.fromarray(picture(9)).save(files[3])
    facts = build_cache(files, READING, tmp_path / "cache")
    assert sorted(decoded) == sorted([Path(files[3]).read_bytes(), b"no picture"])
    assert is_good(tmp_path / "cache", files, facts)


def test_a_repaired_file_becomes_readable(tmp_path: Path, files: list[str], decoded: list[bytes]) -> None:
    build_cache(files, READING, tmp_path / "cache")
    decoded.clear()
    Image.fromarray(picture(9)).save(files[2])
    facts = build_cache(files, READING, tmp_path / "cache")
    assert len(decoded) == 1
    assert set(facts["status"]) == {"ok"}
    assert is_good(tmp_path / "cache", files, facts)


def test_a_file_that_broke_is_no_longer_readable(tmp_path: Path, files: list[str]) -> None:
    build_cache(files, READING, tmp_path / "cache")
    Path(files[0]).write_bytes(Path(files[0]).read_bytes()[:100])
    facts = build_cache(files, READING, tmp_path / "cache")
    assert facts["status"][0] == "unreadable"
    assert is_good(tmp_path / "cache", files, facts)


def test_deleted_added_and_renamed_files_move_rows_and_only_new_bytes_are_decoded(
    tmp_path: Path, files: list[str], decoded: list[bytes]
) -> None:
    build_cache(files, READING, tmp_path / "cache")
    folder = Path(files[0]).parent
    decoded.clear()
    Path(files[0]).unlink()  # 0.png
    Path(files[-1]).rename(folder / "0a.png")  # 3.png
    Image.fromarray(picture(7)).save(folder / "0b.png")
    shutil.copy(folder / "2.png", folder / "9.png")
    now = sorted(str(path) for path in folder.iterdir())
    facts = build_cache(now, READING, tmp_path / "cache")
    assert sorted(decoded) == sorted([(folder / "0b.png").read_bytes(), b"no picture"])
    assert is_good(tmp_path / "cache", now, facts)


@pytest.mark.parametrize(
    "changed",
    [
        replace(READING, size_px=48),
        replace(READING, resize="pad"),
        replace(READING, intensity="full"),
        replace(READING, intensity=(0.0, 4095.0)),
        replace(READING, max_pixels=10**6),
        replace(READING, channels=(0,)),
    ],
    ids=["size", "resize", "intensity", "window", "limit", "channels"],
)
def test_another_setting_decodes_everything_anew(
    tmp_path: Path, files: list[str], decoded: list[bytes], changed: Reading
) -> None:
    build_cache(files, READING, tmp_path / "cache")
    decoded.clear()
    facts = build_cache(files, changed, tmp_path / "cache")
    assert len(decoded) == 5
    assert is_good(tmp_path / "cache", files, facts, changed)


def test_another_page_reads_another_picture(tmp_path: Path, decoded: list[bytes]) -> None:
    pages = [Image.fromarray(picture(i)) for i in range(2)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    path = [str(tmp_path / "stack.tif")]
    digests = {build_cache(path, replace(READING, page=page), tmp_path / "cache")["pixel_digest"][0] for page in (0, 1)}
    assert len(digests) == len(decoded) == 2


def test_another_version_of_the_reader_decodes_everything_anew(
    tmp_path: Path, files: list[str], decoded: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    build_cache(files, READING, tmp_path / "cache")
    decoded.clear()
    monkeypatch.setattr(cache, "READER_VERSION", cache.READER_VERSION + 1)
    build_cache(files, READING, tmp_path / "cache")
    assert len(decoded) == 5


# Caches that cannot be trusted


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-40])


def emptied(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(b"")


def lost(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def shorter(folder: Path) -> None:
    """The pixels of another set of files."""
    np.save(folder / "pixels.npy", np.zeros((2, 32, 32, 3), np.uint8))


DAMAGES = {
    f"{damage.__name__} {name}": damage(name)
    for damage in (cut, emptied, lost)
    for name in ("pixels.npy", "pixels.parquet", "pixels.json")
} | {"of other files": shorter}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_cache_is_made_anew(
    tmp_path: Path, files: list[str], decoded: list[bytes], damage: Callable[[Path], object]
) -> None:
    folder = tmp_path / "cache"
    build_cache(files, READING, folder)
    decoded.clear()
    damage(folder)
    facts = build_cache(files, READING, folder)
    assert len(decoded) == 5
    assert is_good(folder, files, facts)


@pytest.mark.parametrize("stopped_at", ["write_parquet", "write_json"])
def test_pixels_and_facts_of_two_runs_are_never_taken_for_one(
    tmp_path: Path, files: list[str], monkeypatch: pytest.MonkeyPatch, stopped_at: str
) -> None:
    """A run is killed after the pixels were replaced: the facts beside them are those of other rows."""
    folder = tmp_path / "cache"
    build_cache(files, READING, folder)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache, stopped_at, stop)
        with pytest.raises(KeyboardInterrupt):
            build_cache(files[1:], READING, folder)
    facts = build_cache(files, READING, folder)
    assert is_good(folder, files, facts)


def test_a_run_that_stops_while_reading_leaves_the_earlier_cache(
    tmp_path: Path, files: list[str], decoded: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    build_cache(files, READING, folder)
    before = sorted(path.name for path in folder.iterdir())

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    Image.fromarray(picture(9)).save(files[0])
    with monkeypatch.context() as patch:
        patch.setattr(cache, "decode", stop)
        with pytest.raises(KeyboardInterrupt):
            build_cache(files, READING, folder)
    assert sorted(path.name for path in folder.iterdir()) == before
    decoded.clear()
    facts = build_cache(files, READING, folder)
    assert len(decoded) == 2  # the changed file and the unreadable one
    assert is_good(folder, files, facts)


# Reading


def test_reading_gives_the_pixels_of_the_cache_from_a_path_or_bytes(tmp_path: Path, files: list[str]) -> None:
    build_cache(files, READING, tmp_path / "cache")
    path = Path(files[0])
    assert np.array_equal(READING.read(path), open_pixels(tmp_path / "cache")[0])
    assert np.array_equal(READING.read(path.read_bytes()), READING.read(path))


def test_reading_a_file_without_pixels_raises(files: list[str]) -> None:
    with pytest.raises(ImageError, match="it starts like a text"):
        READING.read(Path(files[2]))


def test_an_intensity_that_is_no_rule_stops_the_whole_run_and_leaves_nothing(tmp_path: Path, files: list[str]) -> None:
    with pytest.raises(ConfigError, match="give a window"):
        build_cache(files, replace(READING, intensity=(5.0, 1.0)), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
