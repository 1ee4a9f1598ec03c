"""Laws of the features that a probe is fitted on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from microscopy_cls.dataset.batches import Batches, CachedImages
from microscopy_cls.model import get_model
from microscopy_cls.model.answers import BATCH_SIZE
from microscopy_cls.model.preprocess import Normalise
from microscopy_cls.model.vino import has_openvino
from microscopy_cls.system.hardware import Hardware
from microscopy_cls.training import features as features_module
from microscopy_cls.training.compute import make_accelerator, predict
from microscopy_cls.training.features import view_features

NUM, SIZE_PX = BATCH_SIZE + 3, 32  # one batch and a part of another
ROWS = np.arange(NUM, dtype=np.int64)[::-1]

pytestmark = pytest.mark.skipif(not has_openvino(), reason="compares with OpenVINO")


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> Batches:
    folder = tmp_path_factory.mktemp("prepared")
    pixels = np.random.default_rng(0).integers(0, 256, (NUM, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    np.save(folder / "pixels.npy", pixels)
    return Batches(CachedImages(folder, [f"{row}.png" for row in range(NUM)], "brightfield", 0), 0, pin_memory=False)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return get_model("test_resnet", 3, "none")


def computed(network: nn.Module, batches: Batches, num_views: int = 1) -> NDArray[np.float32]:
    normalise = Normalise((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    accelerator = make_accelerator(Hardware("cpu", "fp32", 1, 0))
    return view_features(network, normalise, batches, ROWS, num_views, SIZE_PX, 8, accelerator)


def test_the_fastest_engine_gives_the_features_of_torch(
    network: nn.Module, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = computed(network, batches, 2)
    monkeypatch.setattr(features_module, "has_openvino", lambda: False)
    plain = computed(network, batches, 2)
    assert fast.dtype == plain.dtype == np.float32
    assert fast.shape == plain.shape == (2, NUM, network.num_features)
    np.testing.assert_allclose(fast, plain, atol=1e-4)


def test_views_are_as_the_images_are_and_then_augmented(network: nn.Module, batches: Batches) -> None:
    first, second, third = computed(network, batches, 3)
    accelerator = make_accelerator(Hardware("cpu", "fp32", 1, 0))
    normalise = Normalise((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    as_they_are = predict(network, normalise, batches.plain(ROWS, 8), accelerator).features
    np.testing.assert_allclose(first, as_they_are, atol=1e-4)
    assert np.abs(second - first).max() > 1e-3
    assert np.abs(third - second).max() > 1e-3


def test_an_image_has_the_same_features_whatever_lies_beside_it(network: nn.Module, batches: Batches) -> None:
    np.testing.assert_array_equal(computed(network, batches)[0], computed(network, batches, 2)[0])
