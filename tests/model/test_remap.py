"""Networks saved by other libraries give here the answers that they gave there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import timm  # noqa: TID251
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from microscopy_cls.errors import WeightsError
from microscopy_cls.model.remap import remap
from microscopy_cls.model.state import load_state_dict, read_state_dict

CLASSES = 5
State = dict[str, torch.Tensor]


class Sum(nn.Sequential):
    """The parallel branches of a block written as a list of layers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = (branch(x) for branch in self)
        return torch.as_tensor(first + second)


def small(num_classes: int = CLASSES, **changes: int) -> nn.Module:
    """A ResNeXt of one block a stage."""
    arguments = {"layers": (1, 1, 1, 1), "cardinality": 2, "base_width": 4, **changes}
    network: nn.Module = timm.create_model("resnext50_32x4d", num_classes=num_classes, **arguments)
    return network.eval()


def torchvision_small() -> nn.Module:
    network: nn.Module = ResNet(Bottleneck, [1, 1, 1, 1], CLASSES, groups=2, width_per_group=4)
    return with_statistics(network)


def pretrainedmodels_small() -> nn.Module:
    """As converted from Lua: no layer has a name."""

    def block(inputs: int, width: int, outputs: int, stride: int) -> nn.Module:
        def conv(given: int, made: int, kernel: int, step: int = 1, groups: int = 1) -> tuple[nn.Module, nn.Module]:
            conv = nn.Conv2d(given, made, kernel, step, kernel // 2, groups=groups, bias=False)
            return conv, nn.BatchNorm2d(made)

        split = nn.Sequential(*conv(inputs, width, 1), nn.ReLU(), *conv(width, width, 3, stride, 2), nn.ReLU())
        branch = nn.Sequential(split, *conv(width, outputs, 1))
        return nn.Sequential(Sum(branch, nn.Sequential(*conv(inputs, outputs, 1, stride))), nn.Identity(), nn.ReLU())

    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    sizes = [(64, 8, 256, 1), (256, 16, 512, 2), (512, 32, 1024, 2), (1024, 64, 2048, 2)]
    network = nn.Sequential()
    network.features = nn.Sequential(*stem, *(nn.Sequential(block(*size)) for size in sizes))
    network.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.last_linear = nn.Linear(2048, CLASSES)
    return with_statistics(network)


def with_statistics(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def in_mmpretrain(state: State) -> State:
    return {("head." if name.startswith("fc.") else "backbone.") + name: tensor for name, tensor in state.items()}


def below(prefix: str) -> Callable[[State], State]:
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


def num_tensors(network: nn.Module) -> int:
    return sum("num_batches_tracked" not in name for name in network.state_dict())


def assert_same_answers(network: nn.Module, original: nn.Module) -> None:
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network(pixels), original(pixels), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "wrap", "said"),
    [
        (torchvision_small, below(""), "the names of timm"),
        (torchvision_small, below("module."), "the names of timm, below module"),
        (torchvision_small, below("module._orig_mod."), "the names of timm, below module._orig_mod"),
        (torchvision_small, below("net.encoder."), "the names of timm, below net.encoder"),
        (torchvision_small, in_mmpretrain, "the names of mmpretrain"),
        (
            torchvision_small,
            lambda state: below("model.")(in_mmpretrain(state)),
            "the names of mmpretrain, below model",
        ),
        (pretrainedmodels_small, below(""), "the names of pretrainedmodels"),
        (pretrainedmodels_small, below("module."), "the names of pretrainedmodels, below module"),
    ],
)
def test_a_network_under_other_names_gives_the_same_logits(
    build: Callable[[], nn.Module],
    wrap: Callable[[State], State],
    said: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    original, network = build(), small()
    torch.save({"state_dict": wrap(original.state_dict()), "meta": {"epoch": 3}}, tmp_path / "w.pth")
    with caplog.at_level(logging.DEBUG):
        load_state_dict(network, read_state_dict(tmp_path / "w.pth"), "w.pth")
    assert_same_answers(network, original)
    number = num_tensors(network)
    assert caplog.messages == [f"w.pth: {number} of {number} tensors, by {said}"]


@pytest.mark.parametrize(("body_prefix", "said"), [("0.", "below 0"), ("backbone.", "below backbone")])
def test_a_body_cut_by_position_gives_the_same_features_and_its_head_is_left_out(
    body_prefix: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    original, network = torchvision_small(), small()
    body = nn.Sequential(*list(original.children())[:-2])
    head = {"1.2.weight": torch.ones(4), "1.4.weight": torch.ones(4, 4)}
    with caplog.at_level(logging.INFO):
        load_state_dict(network, {**below(body_prefix)(body.state_dict()), **head}, "w.pth")
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network.forward_features(pixels), body(pixels), rtol=1e-4, atol=1e-5)
    number = num_tensors(body)
    assert caplog.messages == [
        f"w.pth: {number} of {number} tensors, by the names of fastai, {said}; the classifier is new; "
        "2 left out: 1.2.weight, 1.4.weight"
    ]


def test_what_lies_beside_the_network_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    source, network = small(), small()
    beside = {"n_averaged": torch.tensor(9), "criterion.weight": torch.ones(CLASSES)}
    with caplog.at_level(logging.INFO):
        load_state_dict(network, {**below("module.")(source.state_dict()), **beside}, "w.pth")
    assert_same_answers(network, source)
    assert caplog.messages[-1].endswith("by the names of timm, below module; 2 left out: n_averaged, criterion.weight")


def test_an_unknown_head_beside_a_backbone_is_left_out() -> None:
    source, network = small(), small()
    body = {name: tensor for name, tensor in source.state_dict().items() if not name.startswith("fc.")}
    load_state_dict(network, {**below("backbone.")(body), "head.layers.0.weight": torch.ones(2)}, "w.pth")
    assert torch.equal(network.get_parameter("conv1.weight"), source.get_parameter("conv1.weight"))


def test_a_renamed_file_of_other_classes_keeps_the_new_classifier() -> None:
    source, network = small(num_classes=11), small()
    fresh = network.get_parameter("fc.weight").clone()
    load_state_dict(network, in_mmpretrain(source.state_dict()), "w.pth")
    assert torch.equal(network.get_parameter("fc.weight"), fresh)
    assert torch.equal(network.get_parameter("conv1.weight"), source.get_parameter("conv1.weight"))


def test_a_renamed_file_of_another_width_is_refused_in_the_models_names() -> None:
    with pytest.raises(WeightsError, match=r"of another shape: layer1.0.conv1.weight .* another width or cardinality"):
        load_state_dict(small(), in_mmpretrain(small(cardinality=4).state_dict()), "w.pth")


def test_of_two_networks_in_a_file_none_is_guessed() -> None:
    state = small().state_dict()
    with pytest.raises(
        WeightsError,
        match=r"w.pth: holds 2 networks of this kind \(student., teacher.\), and does not say which is meant. "
        "Save the tensors of one alone with safetensors.torch.save_file",
    ):
        load_state_dict(small(), {**below("student.")(state), **below("teacher.")(state)}, "w.pth")
    with pytest.raises(WeightsError, match=r"holds 2 networks of this kind \(without a prefix, ema.\)"):
        load_state_dict(small(), {**state, **below("ema.")(state)}, "w.pth")


def test_attention_of_mmpretrain_has_the_names_of_timms() -> None:
    theirs = ["backbone.conv1.weight", "backbone.layer1.0.se_layer.conv2.conv.bias", "head.fc.bias", "head.more"]
    ours = ["conv1.weight", "layer1.0.se.fc2.bias", "fc.bias"]
    found = remap({name: torch.ones(1) for name in theirs}, ours, "w.pth")
    assert list(found.tensors) == ours
    assert (found.scheme, found.unexpected) == ("mmpretrain", ("head.more",))
