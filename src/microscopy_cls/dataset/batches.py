"""Batches of pixels from the cache: augmented for training, as they are for evaluation.

Which items a batch holds, and the epoch that seeds each, travels through the loader's queue. So one pool of worker
processes lives through all epochs and folds, and no worker has a state of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from microscopy_cls.config.schema import Preset
from microscopy_cls.dataset.augment import Augmenter, item_seed
from microscopy_cls.dataset.cache import open_pixels

AS_IT_IS = -1  # the epoch that stands for no augmentation; those below it for views that no epoch shows
BETWEEN_COPIES = 1_000_000  # epochs; no training has so many, so a copy is augmented as in no epoch of its own


class Item(NamedTuple):
    """One image of one epoch: its row in the cache, and the epoch that seeds its augmentation."""

    row: int
    epoch: int


class Batch(NamedTuple):
    """Pixels uint8 (b, size_px, size_px, 3) and rows of the cache int64 (b,), both on the CPU (pinned for CUDA)."""

    pixels: torch.Tensor
    rows: torch.Tensor


class CachedImages(Dataset[Batch]):
    """The pixel cache, augmented by (seed, epoch, image id)."""

    def __init__(
        self, folder: Path, image_ids: Sequence[str], preset: Preset, seed: int, *, strength: float = 1.0
    ) -> None:
        self._folder, self._image_ids, self._seed = folder, list(image_ids), seed
        self._preset, self._strength = preset, strength
        self._pixels: NDArray[np.uint8] | None = None
        self._augment: Augmenter | None = None

    def __len__(self) -> int:
        return len(self._image_ids)

    def __getitems__(self, items: Sequence[Item]) -> Batch:
        """A whole batch at once: the only way the loader asks."""
        pixels = np.stack([self._image(item) for item in items])
        return Batch(torch.from_numpy(pixels), torch.tensor([item.row for item in items]))

    def _image(self, item: Item) -> NDArray[np.uint8]:
        if self._pixels is None:  # opened in the process that reads
            self._pixels = open_pixels(self._folder)
        pixels: NDArray[np.uint8] = self._pixels[item.row]
        if item.epoch == AS_IT_IS:
            return pixels
        if self._augment is None:
            self._augment = Augmenter(self._preset, pixels.shape[0], self._strength)
        return self._augment(pixels, item_seed(self._seed, item.epoch, self._image_ids[item.row]))


class _Schedule:
    """The loader's batch sampler, given new batches before each pass."""

    def __init__(self) -> None:
        self.batches: list[list[Item]] = []

    def __iter__(self) -> Iterator[list[Item]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class Batches:
    """One loader for every fold and epoch. Passes must not overlap.

    Args:
        images: the cache.
        num_workers: processes; 0 reads in this one.
        pin_memory: for asynchronous copies to a CUDA device.
    """

    def __init__(self, images: CachedImages, num_workers: int, pin_memory: bool) -> None:
        self._schedule = _Schedule()
        self._loader = DataLoader(
            images,
            batch_sampler=self._schedule,
            collate_fn=_as_collated,  # type: ignore[arg-type]  # gets what __getitems__ returned
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=pin_memory,
            multiprocessing_context="spawn" if num_workers > 0 else None,  # a fork of a threaded process can hang
        )

    def training(
        self, rows: NDArray[np.int64], epoch: int, batch_size: int, seed: int, share: tuple[int, int] = (0, 1)
    ) -> Iterator[Batch]:
        """`rows` in the epoch's order, augmented; the images left over from whole batches wait for another epoch.

        With fewer rows than a batch, all of them are one batch. A row that stands there twice is augmented otherwise
        the second time. `share` is (index, number) of the processes that
        train together: each gets another part of the same order.
        """
        index, number = share
        order = np.random.default_rng([seed, epoch]).permutation(np.sort(rows))
        num_batches = max(1, len(order) // (batch_size * number))
        epochs = epoch + BETWEEN_COPIES * _num_before(order)
        chosen = slice(index, num_batches * batch_size * number, number)
        return self._pass(order[chosen], epochs[chosen], batch_size)

    def plain(self, rows: NDArray[np.int64], batch_size: int, *, view: int = 0) -> Iterator[Batch]:
        """`rows` in their order; the last batch may be smaller.

        View 0 is without augmentation; 1, 2, ... are augmented, each otherwise and otherwise than in any epoch.
        """
        return self._pass(rows, np.full(len(rows), AS_IT_IS - view), batch_size)

    def _pass(self, rows: NDArray[np.int64], epochs: NDArray[np.int64], batch_size: int) -> Iterator[Batch]:
        items = [Item(int(row), int(epoch)) for row, epoch in zip(rows, epochs, strict=True)]
        self._schedule.batches = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
        return iter(self._loader)


def _num_before(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each row stands before itself, (n,)."""
    order = np.argsort(rows, kind="stable")
    _, first, inverse = np.unique(rows[order], return_index=True, return_inverse=True)
    before = np.empty(len(rows), np.int64)
    before[order] = np.arange(len(rows)) - first[inverse]
    return before


def _as_collated(batch: Batch) -> Batch:
    """`__getitems__` has stacked the batch already."""
    return batch
