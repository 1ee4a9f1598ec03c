"""Which parts of a slide are looked at, and what their answers make of the slide."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import tifffile

from microscopy_cls.config.schema import SlideRule
from microscopy_cls.errors import ImageError
from microscopy_cls.images.slide import Slide, open_slide
from microscopy_cls.inference.slides.aggregate import aggregate
from microscopy_cls.inference.slides.tiles import count_tiles, read_tiles, tile_grid, tile_side_px
from microscopy_cls.inference.slides.tissue import tissue_mask

RNG = np.random.default_rng(3)
GLASS = (243, 243, 241)


def stained(height: int, width: int, colour: tuple[int, int, int], where: np.ndarray, noise: float = 2) -> np.ndarray:
    pixels = np.where(where[..., None], np.array(colour), np.array(GLASS)) + RNG.normal(0, noise, (height, width, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def disc(height: int, width: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.hypot(y - height / 2, x - width / 2) < radius


@pytest.mark.parametrize("colour", [(200, 120, 170), (110, 70, 140), (160, 120, 80), (150, 150, 155), (225, 190, 215)])
def test_tissue_of_any_stain_is_found_where_it_is(colour: tuple[int, int, int]) -> None:
    where = disc(400, 500, 120)
    mask = tissue_mask(stained(400, 500, colour, where))
    assert (mask == where).mean() > 0.99


@pytest.mark.parametrize("noise", [0, 2, 5])
@pytest.mark.parametrize("glass", [(255, 255, 255), (240, 238, 230), (215, 220, 225)])
def test_an_empty_slide_has_no_tissue(glass: tuple[int, int, int], noise: float) -> None:
    pixels = np.clip(np.array(glass) + RNG.normal(0, noise, (300, 400, 3)), 0, 255).astype(np.uint8)
    assert not tissue_mask(pixels).any()


def test_a_slide_full_of_tissue_is_all_tissue() -> None:
    assert tissue_mask(stained(300, 300, (190, 110, 160), np.ones((300, 300), bool), noise=20)).mean() > 0.99


def test_uneven_light_is_no_tissue() -> None:
    pixels = stained(300, 400, GLASS, np.zeros((300, 400), bool)) * np.linspace(0.94, 1, 400)[None, :, None]
    assert not tissue_mask(pixels.astype(np.uint8)).any()


def test_specks_are_dropped_and_gaps_closed() -> None:
    where = disc(600, 600, 150)
    speckled = where.copy()
    speckled[300:303, 250:350] = False  # a crack
    speckled[10:13, 10:13] = True  # dust
    mask = tissue_mask(stained(600, 600, (180, 100, 150), speckled))
    assert mask[301, 300]
    assert not mask[:30, :30].any()


def test_what_was_not_scanned_is_no_tissue() -> None:
    pixels = stained(300, 400, (190, 110, 160), disc(300, 400, 60))
    pixels[:, :100] = 0
    mask = tissue_mask(pixels)
    assert not mask[:, :90].any()
    assert mask[150, 200]


SIZES = [(1000, 700), (224, 224), (1001, 223), (50, 60), (997, 1003)]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("tile_px", [100.0, 37.3, 224.0])
@pytest.mark.parametrize("size", SIZES)
def test_tiles_cover_every_pixel_and_stay_inside(size: tuple[int, int], tile_px: float, overlap: float) -> None:
    width, height = size
    grid = tile_grid(width, height, tile_px, overlap=overlap)
    covered = np.zeros((height, width), bool)
    for x, y, w, h in grid[["x_px", "y_px", "width_px", "height_px"]].itertuples(index=False):
        covered[y : y + h, x : x + w] = True
        assert (w, h) == (np.ceil(tile_px), np.ceil(tile_px))
        assert min(x, y) >= 0
        assert x + w <= max(width, w)
        assert y + h <= max(height, h)
    assert covered.all()
    assert len(grid) == count_tiles(width, height, tile_px, overlap=overlap)
    assert list(grid) == ["x_px", "y_px", "width_px", "height_px", "tissue"]
    assert (grid.dtypes.iloc[:4] == np.int64).all()


@pytest.mark.parametrize("size", SIZES)
def test_tiles_stand_row_by_row_and_none_twice(size: tuple[int, int]) -> None:
    grid = tile_grid(*size, 90.0, overlap=0.3)
    places = list(zip(grid["y_px"], grid["x_px"], strict=True))
    assert places == sorted(set(places))


def test_neighbours_share_the_overlap() -> None:
    grid = tile_grid(1000, 100, 100.0, overlap=0.4)
    assert list(grid["x_px"]) == [*range(0, 900, 60), 900]


@pytest.mark.parametrize("scale", [1, 3, 7.5])
def test_tissue_is_the_part_of_a_tile_that_the_mask_covers(scale: float) -> None:
    mask = RNG.random((40, 60)) < 0.5
    width, height = round(60 * scale), round(40 * scale)
    grid = tile_grid(width, height, 10 * scale, mask=mask, min_tissue=0)
    if scale == 1:
        expected = mask.reshape(4, 10, 6, 10).mean(axis=(1, 3)).ravel()
        np.testing.assert_allclose(grid["tissue"], expected, atol=1e-12)
    weights = grid["tissue"] * grid["width_px"] * grid["height_px"]
    assert weights.sum() / (width * height) == pytest.approx(mask.mean(), abs=0.03)
    assert grid["tissue"].between(0, 1).all()


def test_tiles_with_less_tissue_are_left_out() -> None:
    mask = np.zeros((10, 10), bool)
    mask[:, :5] = True
    mask[0, 5] = True
    grid = tile_grid(100, 100, 50.0, mask=mask)
    assert list(grid["x_px"]) == [0, 0]
    assert list(grid["tissue"]) == [1.0, 1.0]
    assert len(tile_grid(100, 100, 50.0, mask=mask, min_tissue=0.04)) == 3
    assert tile_grid(100, 100, 50.0, mask=np.zeros((10, 10), bool)).empty


def test_a_tile_larger_than_the_slide_is_judged_by_the_part_on_it() -> None:
    grid = tile_grid(50, 40, 100.0, mask=np.ones((4, 5), bool))
    assert grid.to_dict("records") == [{"x_px": 0, "y_px": 0, "width_px": 100, "height_px": 100, "tissue": 1.0}]


def test_the_side_of_a_tile_shows_the_models_field() -> None:
    assert tile_side_px(Path("a.svs"), 0.25, 112.0, 224) == 448.0
    assert tile_side_px(Path("a.svs"), None, None, 224) == 224.0
    assert tile_side_px(Path("a.svs"), 0.25, None, 224) == 224.0


def test_a_field_of_view_needs_the_slides_scale() -> None:
    with pytest.raises(ImageError) as caught:
        tile_side_px(Path("a.svs"), None, 112.0, 224)
    assert caught.value.reason == (
        "does not say how many microns a pixel has, and the model looks at fields of 112 µm: "
        "give --mpp, or a column mpp in a table"
    )


class Counted:
    """A slide that counts what is read at once and in all, and fails where told."""

    def __init__(self, broken_x: int | None = None, delay_s: float = 0.0) -> None:
        self.num_read = 0
        self._broken_x, self._delay_s = broken_x, delay_s
        self._lock = threading.Lock()

    def region(self, x_px: int, y_px: int, width_px: int, height_px: int, out_px: tuple[int, int]) -> np.ndarray:
        time.sleep(self._delay_s * ((x_px // 10) % 3))  # later tiles are ready earlier
        with self._lock:
            self.num_read += 1
        if x_px == self._broken_x:
            raise ImageError("a.svs", "is truncated")
        return np.full((out_px[1], out_px[0], 3), x_px // 10, np.uint8)


GRID = tile_grid(1000, 10, 10.0)


def read(slide: Any, grid: pd.DataFrame = GRID, **options: Any) -> Iterator[tuple[int, np.ndarray]]:
    return read_tiles(slide, grid, 4, **options)


def test_tiles_come_in_the_grids_order_in_batches() -> None:
    batches = list(read(Counted(delay_s=0.002), batch_size=16, num_threads=4))
    assert [start for start, _ in batches] == list(range(0, 100, 16))
    assert [len(pixels) for _, pixels in batches] == [16] * 6 + [4]
    np.testing.assert_array_equal(np.concatenate([pixels for _, pixels in batches])[:, 0, 0, 0], np.arange(100))


def test_no_more_is_read_ahead_than_asked() -> None:
    slide = Counted()
    batches = read(slide, batch_size=5, num_threads=3, prefetch=2)
    next(batches)
    time.sleep(0.1)
    assert slide.num_read == 15
    batches.close()  # type: ignore[attr-defined]


def test_a_damaged_tile_ends_reading_with_its_reason() -> None:
    slide = Counted(broken_x=300, delay_s=0.001)
    with pytest.raises(ImageError, match="is truncated"):
        list(read(slide, batch_size=4, prefetch=1))
    assert slide.num_read < 60
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tiles")]


def test_no_tiles_give_no_batches() -> None:
    assert list(read(Counted(), GRID.iloc[:0])) == []


def test_tiles_of_a_file_are_its_rectangles(tmp_path: Path) -> None:
    picture = RNG.integers(0, 256, (300, 400, 3), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tiff") as writer:
        writer.write(picture, tile=(64, 64), photometric="rgb", metadata=None)
        writer.write(picture[::2, ::2].copy(), tile=(64, 64), photometric="rgb", metadata=None)
    grid = tile_grid(400, 300, 50.0)
    with open_slide(tmp_path / "a.tiff") as slide:
        assert isinstance(slide, Slide)
        tiles = np.concatenate([pixels for _, pixels in read_tiles(slide, grid, 50)])
    for (x, y), tile in zip(grid[["x_px", "y_px"]].to_numpy(), tiles, strict=True):
        np.testing.assert_array_equal(tile, picture[y : y + 50, x : x + 50])


def some_probs(num: int, num_classes: int = 4) -> np.ndarray:
    return RNG.dirichlet(np.ones(num_classes), num)


@pytest.mark.parametrize("rule", get_args(SlideRule))
def test_every_rule_gives_shares_whatever_the_order(rule: SlideRule) -> None:
    probs, weights, order = some_probs(57), RNG.uniform(0.25, 1, 57), RNG.permutation(57)
    answer = aggregate(probs, weights, rule)
    assert answer.sum() == pytest.approx(1)
    assert (answer >= 0).all()
    np.testing.assert_allclose(aggregate(probs[order], weights[order], rule), answer)
    np.testing.assert_allclose(aggregate(probs, weights * 7, rule), answer)


@pytest.mark.parametrize("rule", get_args(SlideRule))
def test_one_tile_or_many_equal_ones_give_that_tiles_answer(rule: SlideRule) -> None:
    for num in (1, 40):
        probs = np.repeat(some_probs(1), num, axis=0)
        expected = np.eye(4)[probs[0].argmax()] if rule == "majority" else probs[0]
        np.testing.assert_allclose(aggregate(probs, np.full(num, 0.3), rule), expected)


def test_the_mean_weighs_tissue() -> None:
    probs = np.array([[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(aggregate(probs, np.array([0.75, 0.25])), [0.75, 0.25])
    np.testing.assert_allclose(aggregate(probs, np.array([0.75, 0.25]), "majority"), [0.75, 0.25])


def test_few_certain_tiles_decide_where_the_largest_are_taken() -> None:
    probs = np.array([[0.99, 0.01]] * 2 + [[0.45, 0.55]] * 18)
    weights = np.ones(20)
    assert aggregate(probs, weights, "top_k")[0] == pytest.approx(0.99 / (0.99 + 0.55))
    assert aggregate(probs, weights, "mean")[0] < 0.51
    assert aggregate(probs, weights, "majority")[0] == pytest.approx(0.1)
    np.testing.assert_allclose(aggregate(probs, weights, "top_k", fraction=1.0), aggregate(probs, weights, "mean"))
