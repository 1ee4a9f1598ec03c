"""What a batch holds is decided by rows, epoch and seed; processes change the speed and nothing else."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from microscopy_cls.config.schema import Preset
from microscopy_cls.dataset.augment import Augmenter, item_seed
from microscopy_cls.dataset.batches import Batch, Batches, CachedImages

NUM, SIZE_PX, SEED = 23, 32, 5
IMAGE_IDS = [f"a/{i:02}.png" for i in range(NUM)]
ROWS = np.arange(2, NUM, dtype=np.int64)  # 21 of them


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of random pixels."""
    made = tmp_path_factory.mktemp("prepared")
    pixels = np.random.default_rng(0).integers(0, 256, (NUM, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    np.save(made / "pixels.npy", pixels)
    return made


def open_batches(folder: Path, num_workers: int = 0, preset: Preset = "brightfield", seed: int = SEED) -> Batches:
    return Batches(CachedImages(folder, IMAGE_IDS, preset, seed), num_workers, pin_memory=False)


@pytest.fixture
def batches(folder: Path) -> Batches:
    return open_batches(folder)


def stacked(passed: Iterable[Batch]) -> tuple[list[list[int]], NDArray[np.uint8]]:
    """Rows by batch, and all pixels."""
    seen = list(passed)
    return [batch.rows.tolist() for batch in seen], np.concatenate([batch.pixels.numpy() for batch in seen])


def rows_of(passed: Iterable[Batch]) -> list[int]:
    return [row for batch in passed for row in batch.rows.tolist()]


# As they are


def test_a_plain_pass_keeps_order_and_pixels_and_ends_with_a_smaller_batch(folder: Path, batches: Batches) -> None:
    order = np.random.default_rng(1).permutation(ROWS)
    rows, pixels = stacked(batches.plain(order, 8))
    assert [len(batch) for batch in rows] == [8, 8, 5]
    assert [row for batch in rows for row in batch] == order.tolist()
    assert np.array_equal(pixels, np.load(folder / "pixels.npy")[order])
    assert pixels.dtype == np.uint8


def test_views_of_a_plain_pass_differ_from_the_pictures_from_each_other_and_from_every_epoch(batches: Batches) -> None:
    plain, first, second = (stacked(batches.plain(ROWS, 8, view=view))[1] for view in range(3))
    again = stacked(batches.plain(ROWS[5:9], 2, view=1))[1]
    rows, epoch = stacked(batches.training(ROWS, 1, 7, SEED))
    order = np.argsort([row for batch in rows for row in batch])
    for one, other in ((plain, first), (plain, second), (first, second), (first, epoch[order])):
        assert not (one == other).all(axis=(1, 2, 3)).any()
    assert np.array_equal(again, first[5:9]), "and depend on the picture alone"


def test_a_plain_pass_over_nothing_is_empty(batches: Batches) -> None:
    assert list(batches.plain(ROWS[:0], 8)) == []


# For training


def test_training_takes_whole_batches_and_leaves_the_rest(batches: Batches) -> None:
    rows, pixels = stacked(batches.training(ROWS, epoch=0, batch_size=8, seed=SEED))
    assert [len(batch) for batch in rows] == [8, 8]
    seen = [row for batch in rows for row in batch]
    assert len(set(seen)) == 16
    assert set(seen) <= set(ROWS.tolist())
    assert pixels.shape == (16, SIZE_PX, SIZE_PX, 3)


def test_fewer_rows_than_a_batch_are_one_batch(batches: Batches) -> None:
    rows, _ = stacked(batches.training(ROWS[:5], epoch=0, batch_size=8, seed=SEED))
    assert [sorted(batch) for batch in rows] == [ROWS[:5].tolist()]


def test_each_image_is_left_out_by_some_epochs_only(batches: Batches) -> None:
    seen = {row for epoch in range(12) for row in rows_of(batches.training(ROWS, epoch, 8, SEED))}
    assert seen == set(ROWS.tolist())


def test_order_and_augmentation_differ_between_epochs(batches: Batches) -> None:
    passes = [stacked(batches.training(ROWS, epoch, 21, SEED)) for epoch in (0, 1)]
    (first,), (second,) = passes[0][0], passes[1][0]
    assert first != second
    assert sorted(first) == sorted(second)
    by_row = [dict(zip(rows, pixels, strict=True)) for (rows,), pixels in passes]
    assert not any(np.array_equal(by_row[0][row], by_row[1][row]) for row in first)


def test_images_of_a_batch_are_changed_each_in_its_own_way(tmp_path: Path) -> None:
    """albumentations left to itself draws the same change at the same place of every batch."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, SIZE_PX, SIZE_PX, 3), dtype=np.uint8).repeat(NUM, 0)
    np.save(tmp_path / "pixels.npy", pixels)
    _, changed = stacked(open_batches(tmp_path).training(ROWS, 0, 7, SEED))
    assert len({image.tobytes() for image in changed}) == len(changed) == 21


def test_an_image_is_changed_by_its_name_and_epoch_wherever_it_stands(folder: Path, batches: Batches) -> None:
    """So adding one image to a set does not change what the others look like."""
    augment, cached = Augmenter("brightfield", SIZE_PX), np.load(folder / "pixels.npy")
    (rows,), pixels = stacked(batches.training(ROWS, 3, 21, seed=99))
    for row, changed in zip(rows, pixels, strict=True):
        assert np.array_equal(changed, augment(cached[row], item_seed(SEED, 3, IMAGE_IDS[row])))


def test_two_runs_of_one_seed_agree_and_of_two_seeds_do_not(folder: Path) -> None:
    first = stacked(open_batches(folder).training(ROWS, 1, 8, seed=7))
    again = stacked(open_batches(folder).training(ROWS[::-1], 1, 8, seed=7))  # nor does the order of rows count
    assert first[0] == again[0]
    assert np.array_equal(first[1], again[1])
    assert stacked(open_batches(folder).training(ROWS, 1, 8, seed=8))[0] != first[0]


def test_preset_none_trains_on_the_pixels_as_they_are(folder: Path) -> None:
    (rows,), pixels = stacked(open_batches(folder, preset="none").training(ROWS, 0, 21, SEED))
    assert np.array_equal(pixels, np.load(folder / "pixels.npy")[rows])


def test_a_batch_may_be_written_to_without_changing_the_cache(folder: Path, batches: Batches) -> None:
    before = np.load(folder / "pixels.npy")
    for batch in batches.plain(ROWS, 8):
        batch.pixels.zero_()
    assert np.array_equal(np.load(folder / "pixels.npy"), before)


# Several processes that train together


@pytest.mark.parametrize("number", [2, 3])
def test_shares_divide_the_batches_of_one_process_of_that_size(batches: Batches, number: int) -> None:
    together = rows_of(batches.training(ROWS, 4, 3 * number, SEED))
    shares = [rows_of(batches.training(ROWS, 4, 3, SEED, share=(index, number))) for index in range(number)]
    assert len({len(share) for share in shares}) == 1
    assert sorted(row for share in shares for row in share) == sorted(together)
    merged = [row for step in zip(*shares, strict=True) for row in step]
    assert merged == together  # step by step, not only in all


def test_shares_take_as_many_steps_each_even_with_fewer_rows_than_a_common_batch(batches: Batches) -> None:
    shares = [stacked(batches.training(ROWS[:7], 0, 8, SEED, share=(index, 2)))[0] for index in (0, 1)]
    assert [len(share) for share in shares] == [1, 1]
    assert sorted(row for share in shares for batch in share for row in batch) == ROWS[:7].tolist()


# Worker processes


@pytest.fixture(scope="module")
def pool(folder: Path) -> Batches:
    """Two processes, started once for the tests below: a start costs seconds."""
    return open_batches(folder, num_workers=2)


def worker_ids() -> set[int | None]:
    return {child.pid for child in multiprocessing.active_children()}


def test_two_workers_give_what_this_process_gives(batches: Batches, pool: Batches) -> None:
    for epoch in (0, 1):
        alone = stacked(batches.training(ROWS, epoch, 4, SEED))
        shared = stacked(pool.training(ROWS, epoch, 4, SEED))
        assert alone[0] == shared[0]
        assert np.array_equal(alone[1], shared[1])
    alone, shared = stacked(batches.plain(ROWS, 4)), stacked(pool.plain(ROWS, 4))
    assert alone[0] == shared[0]
    assert np.array_equal(alone[1], shared[1])


def test_one_worker_gives_what_two_give(folder: Path, pool: Batches) -> None:
    alone, shared = (stacked(b.training(ROWS, 6, 4, SEED)) for b in (open_batches(folder, num_workers=1), pool))
    assert alone[0] == shared[0]
    assert np.array_equal(alone[1], shared[1])


def test_one_pool_of_workers_lives_through_all_passes(pool: Batches) -> None:
    list(pool.plain(ROWS, 4))
    first = worker_ids()
    for epoch in range(3):
        list(pool.training(ROWS[epoch:], epoch, 4, SEED))
        list(pool.plain(ROWS[:epoch], 4))
    assert worker_ids() <= first
    assert len(worker_ids()) >= 2


def test_a_pass_that_was_left_early_leaks_nothing_into_the_next(batches: Batches, pool: Batches) -> None:
    for either in (batches, pool):
        left = either.training(ROWS, 0, 2, SEED)
        next(left)
        rows, _ = stacked(either.plain(ROWS, 8))
        assert [row for batch in rows for row in batch] == ROWS.tolist()


def test_a_row_that_stands_twice_is_augmented_otherwise_the_second_time(batches: Batches) -> None:
    rows = np.array([3, 3, 3, 5], np.int64)
    seen, pixels = stacked(batches.training(rows, 1, 4, SEED))
    copies = pixels[np.array(seen[0]) == 3]
    assert len({copy.tobytes() for copy in copies}) == 3
    alone, lone = stacked(batches.training(np.array([3, 5], np.int64), 1, 2, SEED))
    assert lone[alone[0].index(3)].tobytes() in {copy.tobytes() for copy in copies}
