"""Class activation maps: the evidence lies where it was planted, and only networks that have such maps give one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from microscopy_cls.errors import ExplanationError
from microscopy_cls.model import get_model
from microscopy_cls.model.cam import BATCH_SIZE, member_cams
from microscopy_cls.model.graph import Graph
from microscopy_cls.model.preprocess import Normalise

SIZE_PX, CELL_PX = 32, 8


class Toy(nn.Module):
    """Feature maps that are brightness and darkness of 4 x 4 cells; class 0 is dark, class 1 bright, as timm asks."""

    def __init__(self, pooling: str = "mean", classifier: nn.Module | None = None) -> None:
        super().__init__()
        self.pooling, self.classifier = pooling, classifier or nn.Linear(2, 2)
        if isinstance(self.classifier, nn.Linear):
            nn.init.eye_(self.classifier.weight)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        bright = nn.functional.avg_pool2d(images.mean(1, keepdim=True), CELL_PX)
        return torch.cat([-bright, bright], 1)

    def forward_head(self, features: torch.Tensor, pre_logits: bool) -> torch.Tensor:
        return features.mean((2, 3)) if self.pooling == "mean" else features.amax((2, 3))

    def get_classifier(self) -> nn.Module:
        return self.classifier


def as_member(network: nn.Module) -> Graph:
    return Graph(network, Normalise((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)))


def with_square(place: tuple[int, int], level: int = 255, around: int = 128) -> np.ndarray:
    """A grey image with one cell of another level."""
    image = np.full((SIZE_PX, SIZE_PX, 3), around, np.uint8)
    top, left = (CELL_PX * part for part in place)
    image[top : top + CELL_PX, left : left + CELL_PX] = level
    return image


def test_the_evidence_lies_on_the_square_that_decides_the_class() -> None:
    places = [(0, 0), (1, 3), (3, 2)]
    squares = np.stack([with_square(place) for place in places])
    cams = member_cams(as_member(Toy()), squares, np.array([1, 1, 1]))
    assert (cams.shape, cams.dtype) == ((3, 4, 4), np.uint8)
    for cam, place in zip(cams, places, strict=True):
        assert np.unravel_index(cam.argmax(), cam.shape) == place
        assert cam[place] == 255
        assert np.median(cam) < 5


def test_the_map_is_that_of_the_class_asked_for() -> None:
    dark_and_bright = with_square((0, 0))
    dark_and_bright[-CELL_PX:, -CELL_PX:] = 0
    cams = member_cams(as_member(Toy()), np.stack([dark_and_bright] * 2), np.array([0, 1]))
    assert [np.unravel_index(cam.argmax(), cam.shape) for cam in cams] == [(3, 3), (0, 0)]


def test_an_image_without_evidence_for_its_class_is_dark_everywhere() -> None:
    cams = member_cams(as_member(Toy()), with_square((0, 0), 200, around=200)[None], np.array([0]))
    assert not cams.any()


def test_each_image_has_its_own_map_whatever_the_batch_it_came_in() -> None:
    rng = np.random.default_rng(0)
    squares = rng.integers(0, 256, (2 * BATCH_SIZE + 3, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    classes = rng.integers(2, size=len(squares))
    together = member_cams(as_member(Toy()), squares, classes)
    alone = [member_cams(as_member(Toy()), squares[i : i + 1], classes[i : i + 1])[0] for i in range(len(squares))]
    assert np.abs(together.astype(int) - np.stack(alone)).max() <= 1


@pytest.mark.parametrize("name", ["test_resnet", "resnext26ts", "cspresnext50", "legacy_seresnext26_32x4d"])
def test_networks_of_the_family_have_maps_that_add_up_to_the_logit(name: str) -> None:
    torch.manual_seed(0)
    member = as_member(get_model(name, 3, "none")).eval()
    nn.init.normal_(member.network.get_classifier().weight)
    squares = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    classes = np.array([0, 1, 2, 0, 1, 2])
    cams = member_cams(member, squares, classes)
    assert (len(cams), cams.dtype) == (6, np.uint8)
    assert set(cams.max((1, 2))) <= {0, 255}
    logits = member(torch.from_numpy(squares))[0].detach().numpy()[np.arange(6), classes]
    bias = member.network.get_classifier().bias.detach().numpy()[classes]
    assert (cams.max((1, 2))[logits > bias + 1e-3] == 255).all()  # the mean of a map that is positive somewhere


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Toy(pooling="max"), "Toy: its classifier does not see the mean over positions"),
        (Toy(classifier=nn.Sequential(nn.Linear(2, 2))), "Toy: ends in Sequential, so it has no class activation map"),
    ],
)
def test_a_network_of_another_form_is_refused(network: nn.Module, message: str) -> None:
    with pytest.raises(ExplanationError, match=message):
        member_cams(as_member(network), with_square((0, 0))[None], np.array([1]))


def test_a_network_without_feature_maps_is_refused() -> None:
    vit = get_model("test_vit", 2, "none")
    squares = np.zeros((1, 160, 160, 3), np.uint8)
    with pytest.raises(ExplanationError, match="VisionTransformer: its classifier does not see the mean"):
        member_cams(as_member(vit), squares, np.array([0]))
