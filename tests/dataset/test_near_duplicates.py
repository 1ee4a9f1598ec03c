"""Copies that were changed are found, pictures that are merely alike are not, and neither depends on the order."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from microscopy_cls.dataset import lookalikes
from microscopy_cls.dataset.clusters import exact_copies, find_clusters, near_clusters
from microscopy_cls.dataset.lookalikes import candidates, seen, thumbnails, unseen
from microscopy_cls.dataset.near_duplicates import near_duplicate_pairs
from microscopy_cls.images import fit_square

SIZE_PX = 96
NUM = 12
Pixels = NDArray[np.uint8]


def texture(rng: np.random.Generator, sigma_px: float, height: int = 150, width: int = 180) -> NDArray[np.float64]:
    """Smooth noise of unit deviation: structures of some 2 sigma."""
    noise = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), sigma_px)
    return np.asarray(noise / noise.std())


def picture(seed: int, common: float = 0.0) -> Pixels:
    """RGB (150, 180, 3): shapes, of which `common` (0 to 1) are those of every picture, and detail of its own."""
    own, shared = np.random.default_rng(seed), np.random.default_rng(10_000)
    shapes = common * texture(shared, 10) + (1 - common) * texture(own, 10)
    grey = 120 + 35 * shapes + 8 * texture(own, 3) + 6 * texture(own, 2)
    return np.clip(grey[..., None] + [10, 0, -10], 0, 255).astype(np.uint8)


class Bar:
    """Counts what a progress bar is told."""

    def __init__(self, _: str, total: int, unit: str) -> None:
        self.total, self.unit, self.moved = total, unit, 0

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, num: int) -> None:
        self.moved += num


def squares(*pictures: Pixels) -> Pixels:
    return np.stack([fit_square(pixels, SIZE_PX, "stretch") for pixels in pictures])


def pairs_of(pixels: Pixels) -> list[tuple[int, int]]:
    return [(int(first), int(second)) for first, second in near_duplicate_pairs(pixels, np.arange(len(pixels)))]


def encoded(pixels: Pixels) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=60)
    return np.array(Image.open(file))


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "half the size": lambda pixels: fit_square(pixels, 75, "stretch"),
    "JPEG 60": encoded,
    "cropped evenly": lambda pixels: pixels[4:-4, 4:-5],
    "cropped above": lambda pixels: pixels[7:],
    "cropped at the right": lambda pixels: pixels[:, :-9],
    "cropped at a corner": lambda pixels: pixels[7:, 9:],
    "darker": lambda pixels: (pixels * 0.8).astype(np.uint8),
} | {
    f"view {view}": lambda pixels, view=view: np.rot90(pixels, view % 4)[:: -1 if view > 3 else 1] for view in range(8)
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_among_others_and_nothing_else(change: str) -> None:
    originals = [picture(seed) for seed in range(NUM)]
    copies = [np.ascontiguousarray(CHANGES[change](pixels)) for pixels in originals[:3]]
    assert pairs_of(squares(*originals, *copies)) == [(0, NUM), (1, NUM + 1), (2, NUM + 2)]


def test_a_copy_that_comes_before_its_original_is_found_too() -> None:
    originals = [picture(seed) for seed in range(NUM)]
    assert pairs_of(squares(originals[3][7:], encoded(np.rot90(originals[4]).copy()), *originals)) == [(0, 5), (1, 6)]


def test_a_copy_may_be_mirrored_cropped_and_encoded_at_once() -> None:
    changed = encoded(np.ascontiguousarray(picture(0)[3:-4, :-9][::-1]))
    assert pairs_of(squares(*(picture(seed) for seed in range(NUM)), changed)) == [(0, NUM)]


@pytest.mark.parametrize("common", [0.9, 1.0])
def test_pictures_with_the_same_shapes_and_other_detail_are_not_joined(common: float) -> None:
    """As chest scans are: the thumbnails are candidates, the pixels decide."""
    pixels = squares(*(picture(seed, common) for seed in range(NUM)))
    greys = [cv2.cvtColor(square, cv2.COLOR_RGB2GRAY) for square in pixels]
    assert len(list(candidates(thumbnails(greys)))) >= NUM
    assert pairs_of(pixels) == []


def test_blank_fields_with_the_same_shading_are_not_joined() -> None:
    y, x = np.mgrid[-1:1:150j, -1:1:180j]
    shading = 200 - 60 * (x * x + y * y)
    noise = (np.random.default_rng(seed).normal(0, 4, shading.shape) for seed in range(NUM))
    assert pairs_of(squares(*((shading + one).astype(np.uint8)[..., None].repeat(3, 2) for one in noise))) == []


def test_constant_images_are_not_joined() -> None:
    assert pairs_of(np.stack([np.full((SIZE_PX, SIZE_PX, 3), level, np.uint8) for level in range(0, 200, 20)])) == []


def thread(width_px: float, shift_px: float, seed: int) -> Pixels:
    """A straight bright line on black, of a little texture."""
    y, x = np.mgrid[0:150, 0:180]
    line = 180 * np.exp(-(((x - y - 15 - shift_px) / width_px) ** 2))
    return np.clip(line + 3 * texture(np.random.default_rng(seed), 2), 0, 255).astype(np.uint8)[..., None].repeat(3, 2)


def test_straight_threads_are_alike_without_being_copies() -> None:
    threads = [thread(8, 0, 0), thread(9, 1, 1), thread(7.5, -1, 2)]
    assert pairs_of(squares(*threads)) == []
    assert pairs_of(squares(*threads, encoded(threads[0]))) == [(0, 3)]


def test_rows_that_are_not_asked_for_are_in_no_pair() -> None:
    pixels = squares(picture(0), picture(1), encoded(picture(0)), encoded(picture(1)))
    assert near_duplicate_pairs(pixels, [0, 2, 3]).tolist() == [[0, 2]]
    assert near_duplicate_pairs(pixels, [1]).shape == near_duplicate_pairs(pixels, []).shape == (0, 2)


@pytest.mark.parametrize("size_px", [32, 224])
def test_the_size_of_the_cache_decides_nothing(size_px: int) -> None:
    pictures = [*(picture(seed) for seed in range(NUM)), encoded(picture(1)), picture(2)[7:], np.rot90(picture(3))]
    pixels = np.stack([fit_square(np.ascontiguousarray(one), size_px, "stretch") for one in pictures])
    assert pairs_of(pixels) == [(1, NUM), (2, NUM + 1), (3, NUM + 2)]


def test_a_copy_has_the_best_likeness_of_all_and_in_the_view_that_it_was_given() -> None:
    greys = [cv2.cvtColor(square, cv2.COLOR_RGB2GRAY) for square in squares(*(picture(seed) for seed in range(NUM)))]
    for view in range(8):
        turned = np.ascontiguousarray(seen(greys[0], view))
        found = [pair for pair in candidates(thumbnails([*greys, turned])) if pair.second == NUM and pair.first == 0]
        assert [pair.view for pair in found] == [view]
        assert np.array_equal(unseen(turned, view), greys[0])


def test_so_many_candidates_as_allowed_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookalikes, "MAX_CANDIDATES", 3)
    greys = [cv2.cvtColor(picture(0), cv2.COLOR_RGB2GRAY)] * 9
    found = list(candidates(thumbnails(cv2.resize(grey, (64, 64)) for grey in greys)))
    assert [sum(pair.first == row for pair in found) for row in range(9)] == [3, 3, 3, 3, 3, 3, 2, 1, 0]
    assert all(pair.first < pair.second for pair in found)


# Clusters


def files_of(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """Rows of image id, status, digest."""
    return pd.DataFrame(rows, columns=["image_id", "status", "pixel_digest"])


def test_exact_and_near_copies_make_one_cluster_named_after_the_first() -> None:
    pixels = squares(picture(0), picture(1), picture(1), encoded(picture(1)), picture(2))
    files = files_of(
        ("z", "ok", "0"), ("d", "duplicate", "1"), ("c", "ok", "1"), ("b", "conflict", "2"), ("a", "ok", "3")
    )
    files["cluster"] = find_clusters(files, pixels)
    assert files["cluster"].tolist() == ["", "b", "b", "b", ""]
    assert near_clusters(files)["image_id"].tolist() == ["d", "c", "b"]
    assert exact_copies(files).tolist() == ["", "1", "1", "", ""]


def test_excluded_and_unreadable_files_are_in_no_cluster_and_tie_none() -> None:
    black = np.zeros((150, 180, 3), np.uint8)
    pixels = squares(picture(0), encoded(picture(0)), picture(0), black, black)
    files = files_of(
        ("a", "excluded", "0"),
        ("b", "ok", "1"),
        ("c", "excluded", "0"),
        ("d", "unreadable", ""),
        ("e", "unreadable", ""),
    )
    files["cluster"] = find_clusters(files, pixels)
    assert set(files["cluster"]) == set(exact_copies(files)) == {""}
    assert near_clusters(files).empty


def test_exact_copies_alone_are_no_near_duplicates() -> None:
    files = files_of(("a", "ok", "0"), ("b", "duplicate", "0"))
    files["cluster"] = find_clusters(files, squares(picture(0), picture(0)))
    assert files["cluster"].tolist() == ["a", "a"]
    assert near_clusters(files).empty


@pytest.mark.parametrize("num", [2, 5, 9])
def test_the_bar_of_the_comparison_counts_all_pairs_and_ends_full(num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[Bar] = []

    def shown(*words: object) -> Bar:
        bars.append(Bar(*words))  # type: ignore[arg-type]
        return bars[-1]

    monkeypatch.setattr(lookalikes, "bar", shown)
    monkeypatch.setattr(lookalikes, "ROWS_AT_ONCE", 4)
    greys = [cv2.cvtColor(picture(seed), cv2.COLOR_RGB2GRAY)[:150, :150] for seed in range(num)]
    list(candidates(thumbnails(greys)))
    assert [(one.total, one.moved, one.unit) for one in bars] == [(num * (num + 1) // 2,) * 2 + ("pair",)]
