"""Features and their classifier say together what the network does, or the network is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

from microscopy_cls.errors import ConfigError
from microscopy_cls.model import get_model
from microscopy_cls.model.forward import check_classifier, features_and_logits


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_features_and_logits_are_those_of_the_network(name: str) -> None:
    network = get_model(name, 3, "none").eval()
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, logits = features_and_logits(network, images)
        torch.testing.assert_close(logits, network(images))
    assert features.ndim == 2


@pytest.mark.parametrize("is_training", [True, False])
def test_a_check_changes_nothing(is_training: bool) -> None:
    network = get_model("test_resnet", 3, "none").train(is_training)
    before, drawn = {name: tensor.clone() for name, tensor in network.state_dict().items()}, torch.get_rng_state()
    check_classifier(network, "test_resnet", 64)
    assert network.training is is_training
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


class Ending(nn.Module):
    """A network as timm's are, whose last part is given."""

    def __init__(self, classifier: Any, *, bends: bool = False) -> None:
        super().__init__()
        self.body, self.bends = nn.Conv2d(3, 4, 1), bends
        self.heads = nn.ModuleList(classifier) if isinstance(classifier, tuple) else classifier
        self.classifier = classifier

    def get_classifier(self) -> Any:
        return self.classifier

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images).mean((2, 3))

    def forward_head(self, features: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        if pre_logits:
            return features
        if isinstance(self.heads, nn.Conv2d):
            return self.heads(features[..., None, None]).flatten(1)
        heads = self.heads if isinstance(self.heads, nn.ModuleList) else [self.heads]
        answer = torch.stack([head(features) for head in heads]).mean(0)
        return answer.relu() - 1 if self.bends else answer

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))


class Whole(nn.Module):
    """A network that cannot be taken apart."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(images.mean((2, 3)))


@pytest.mark.parametrize(
    "network",
    [
        Ending((nn.Linear(4, 2), nn.Linear(4, 2))),
        Ending(nn.ModuleList([nn.Linear(4, 2)])),
        Ending(nn.Conv2d(4, 2, 1)),
        Ending(nn.Linear(4, 2), bends=True),
        Whole(),
    ],
)
def test_what_does_not_end_in_one_classifier_on_pooled_features_is_refused(network: nn.Module) -> None:
    message = (
        f"model.name odd: timm's {type(network).__name__} does not end in one classifier on pooled features, which "
        "calibration, novelty and probes need. Choose one that `microscopy-cls models` lists, or another family."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check_classifier(network, "odd", 32)
    check_classifier(Ending(nn.Linear(4, 2)), "usual", 32)


def test_another_size_than_the_only_one_is_refused() -> None:
    network = get_model("test_vit", 3, "none")
    message = (
        r"model.image_size_px 96: test_vit takes squares of 160 px only. Set it to 160, or choose another model.name."
    )
    with pytest.raises(ConfigError, match=message):
        check_classifier(network, "test_vit", 96)
    check_classifier(network, "test_vit", 160)
