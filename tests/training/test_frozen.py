"""Laws of the features that all folds share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from accelerate import Accelerator
from numpy.typing import NDArray

from microscopy_cls.config.schema import Finetune
from microscopy_cls.training.fold_data import FoldData, Images
from microscopy_cls.training.frozen import FrozenNetwork
from microscopy_cls.training.parts import Part

NUM, SHIFT = 40, np.array([[0.0, 0.0], [0.0, 8.0]])
LABELS = np.arange(NUM) % 2
ROWS = np.arange(NUM, dtype=np.int64)


@pytest.fixture
def images() -> Images:
    """Two classes; the last two rows are in no fold."""
    names = [f"{row:02}" for row in range(NUM)]
    folds = np.where(ROWS < NUM - 2, ROWS % 4, -1)
    labels = np.array(["a", "b"], dtype=object)[LABELS]
    manifest = pd.DataFrame({"image_id": names, "split_group": names, "label": labels, "fold": folds})
    return Images(manifest, ["a", "b"], LABELS)


class Counted:
    """Features that lie apart by class in the first column; a view adds its `SHIFT`."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, rows: NDArray[np.int64], num_views: int) -> NDArray[np.float32]:
        self.calls.append((len(rows), num_views))
        return np.stack([self.of_view(rows, view) for view in range(num_views)])

    def of_view(self, rows: NDArray[np.int64], view: int) -> NDArray[np.float32]:
        noise = np.random.default_rng(view).normal(0, 0.3, (len(rows), 2))
        places = np.stack([2.0 * LABELS[rows], LABELS[rows] * 4.0], axis=1)
        return (places + noise - SHIFT[view] * LABELS[rows, None]).astype(np.float32)


def frozen(images: Images, compute: Counted, folder: Path, num_augmented: int = 0) -> FrozenNetwork:
    return FrozenNetwork(images, compute, folder / "features.safetensors", Accelerator(cpu=True), num_augmented)


def test_features_are_computed_once_for_all_folds_and_not_again_by_the_next_command(
    images: Images, tmp_path: Path
) -> None:
    compute = Counted()
    for _ in range(2):
        network = frozen(images, compute, tmp_path)
        for fold in range(4):
            network.fit(images.part(Part(fold), 0, 0).train, Finetune(), 0)
    assert compute.calls == [(38, 1)]


def test_rows_in_no_fold_have_no_features(images: Images, tmp_path: Path) -> None:
    features = frozen(images, Counted(), tmp_path).features
    assert features.shape == (NUM, 2)
    assert not features[-2:].any()
    assert features[:-2].any(axis=1).all()


def test_a_head_that_saw_augmented_views_knows_them(images: Images, tmp_path: Path) -> None:
    """The second column says the opposite of itself in the augmented view: only who saw both leaves it alone."""
    compute = Counted()
    for num_augmented, right in ((0, 0.5), (1, 1.0)):
        network = frozen(images, compute, tmp_path / str(num_augmented), num_augmented)
        head = network.fit(ROWS[:30], Finetune(), 0)
        assert (head.logits(compute.of_view(ROWS[30:38], 1)).argmax(1) == LABELS[30:38]).mean() == right


def test_an_images_views_together_count_as_one_image(images: Images, tmp_path: Path) -> None:
    class Same(Counted):
        def of_view(self, rows: NDArray[np.int64], view: int) -> NDArray[np.float32]:
            return super().of_view(rows, 0)

    once, thrice = (frozen(images, Same(), tmp_path / str(num), num).fit(ROWS[:30], Finetune(), 0) for num in (0, 2))
    assert once.strength == thrice.strength
    np.testing.assert_allclose(once.weight, thrice.weight, rtol=1e-2)


def test_a_probe_row_tells_its_inner_folds(images: Images, tmp_path: Path) -> None:
    network = frozen(images, Counted(), tmp_path)
    data = FoldData(Part(3), ROWS[:30], ROWS[:0], ROWS[30:38])
    row = network.row(data, network.fit(data.train, Finetune(), 0))
    assert row["fold"] == 3
    assert row["val_accuracy"] == 1
    assert row["train_loss"] < row["val_loss"]
