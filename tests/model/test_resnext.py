"""The block is what the paper says it is, and a ResNeXt of any shape is built, kept and refused as it should."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.inference.bundles import make_bundle
from timm.models.resnet import Bottleneck  # noqa: TID251
from torch import nn
from torch.nn.functional import conv2d

from microscopy_cls.config import Config
from microscopy_cls.errors import ConfigError, WeightsError
from microscopy_cls.model import check_shape, get_model
from microscopy_cls.model.bundle import read_bundle
from microscopy_cls.model.members import load_member, save_weights
from microscopy_cls.model.resnext import shape_of

CHANNELS, PLANES = 64, 16
SMALL: dict[str, Any] = {"layers": [1, 1, 1, 1], "cardinality": 2, "base_width": 2}


def some_block(cardinality: int, base_width: int) -> Bottleneck:
    """The zoo's own block, float64, with normalisation as after training."""
    block = Bottleneck(CHANNELS, PLANES, cardinality=cardinality, base_width=base_width).double().eval()
    with torch.no_grad():
        for norm in (block.bn1, block.bn2, block.bn3):
            for tensor in (norm.weight, norm.bias, norm.running_mean):
                tensor.normal_()
            norm.running_var.uniform_(0.5, 2)
    return block


def normed(x: torch.Tensor, norm: nn.BatchNorm2d, channels: slice) -> torch.Tensor:
    """Normalise and rectify only some channels."""
    return nn.functional.batch_norm(
        x, norm.running_mean[channels], norm.running_var[channels], norm.weight[channels], norm.bias[channels],
        eps=norm.eps,
    ).relu()  # fmt: skip


def path(block: Bottleneck, x: torch.Tensor, channels: slice) -> torch.Tensor:
    """One path up to its 3 x 3 convolution, with its share of the block's weights."""
    x = normed(conv2d(x, block.conv1.weight[channels]), block.bn1, channels)
    return normed(conv2d(x, block.conv2.weight[channels], padding=1), block.bn2, channels)


def branches_summed(block: Bottleneck, x: torch.Tensor, paths: Sequence[slice]) -> torch.Tensor:
    """Figure 3 (a): every path has its own last convolution, and their outputs are added."""
    total = sum(conv2d(path(block, x, channels), block.conv3.weight[:, channels]) for channels in paths)
    return torch.relu(block.bn3(total) + x)


def early_concatenation(block: Bottleneck, x: torch.Tensor, paths: Sequence[slice]) -> torch.Tensor:
    """Figure 3 (b): the paths are laid side by side, and one last convolution sees them all."""
    together = torch.cat([path(block, x, channels) for channels in paths], dim=1)
    return torch.relu(block.bn3(conv2d(together, block.conv3.weight)) + x)


@pytest.mark.parametrize(("cardinality", "base_width"), [(1, 16), (2, 12), (4, 8), (8, 4)])
def test_the_three_forms_of_the_block_are_one_function(cardinality: int, base_width: int) -> None:
    """Xie et al. 2017, arXiv:1611.05431, figure 3; (c), the grouped convolution, is what is trained here."""
    torch.manual_seed(0)
    block = some_block(cardinality, base_width)
    width = base_width * PLANES // 64
    paths = [slice(start, start + width) for start in range(0, cardinality * width, width)]
    assert block.conv2.groups == len(paths) == cardinality
    outputs, gradients = [], []
    for form in (branches_summed, early_concatenation, lambda block, x, _: block(x)):
        x = torch.randn(2, CHANNELS, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        x.requires_grad_()
        y = form(block, x, paths)
        block.zero_grad()
        y.square().sum().backward()
        outputs.append(y)
        gradients.append([x.grad, *(p.grad.clone() for p in block.parameters())])
    for output, gradient in zip(outputs[:2], gradients[:2], strict=True):
        torch.testing.assert_close(output, outputs[2], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient, gradients[2], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "shape", "groups", "width", "num_blocks"),
    [
        ("resnext50_32x4d", {}, 32, 128, 16),
        ("resnext50_32x4d", {"cardinality": 8, "base_width": 14}, 8, 112, 16),
        ("resnext50_32x4d", {"cardinality": 1, "base_width": 64}, 1, 64, 16),
        ("resnext50_32x4d.a1_in1k", {"layers": (1, 2, 1, 1)}, 32, 128, 5),
        ("seresnext50_32x4d", {"base_width": 2}, 32, 64, 16),
        ("skresnext50_32x4d", {"layers": (1, 1, 1, 1), "cardinality": 4}, None, None, 4),
        ("resnext152_32x4d", {}, 32, 128, 50),
    ],
)
def test_a_shape_changes_what_it_names_and_nothing_else(
    name: str, shape: dict[str, Any], groups: int | None, width: int | None, num_blocks: int
) -> None:
    with torch.device("meta"):
        model = get_model(name, 5, "none", **shape)
    stages = [model.get_submodule(f"layer{stage}") for stage in (1, 2, 3, 4)]
    assert sum(len(list(stage.children())) for stage in stages) == num_blocks
    assert model.get_parameter("fc.weight").shape == (5, 2048)
    if groups:
        first = model.get_submodule("layer1.0.conv2")
        assert isinstance(first, nn.Conv2d)
        assert (first.groups, first.out_channels) == (groups, width)


def test_weights_of_the_same_shape_fill_a_network_of_ones_own_and_others_are_refused(tmp_path: Path) -> None:
    source = get_model("resnext50_32x4d", 9, "none", **SMALL)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    model = get_model("resnext50_32x4d", 3, str(tmp_path / "w.safetensors"), **SMALL)
    assert torch.equal(model.get_parameter("layer4.0.conv2.weight"), source.get_parameter("layer4.0.conv2.weight"))
    assert model.get_parameter("fc.weight").shape[0] == 3
    with pytest.raises(WeightsError, match=r"does not fit the model.*another width or cardinality of the same family"):
        get_model("resnext50_32x4d", 3, str(tmp_path / "w.safetensors"), **(SMALL | {"cardinality": 4}))


def test_published_weights_are_refused_for_a_shape_of_ones_own() -> None:
    for weights in ("imagenet", "hf-hub:timm/resnext50_32x4d.a1h_in1k"):
        with pytest.raises(
            ConfigError,
            match=rf"^model.cardinality, model.base_width: make a network of your own, for which nobody publishes "
            rf"weights, so model.weights: {weights} cannot be used. Set model.weights: none, or a local file",
        ):
            get_model("resnext50_32x4d", 5, weights, cardinality=8, base_width=14)


@pytest.mark.parametrize("name", ["resnext26ts", "cspresnext50", "legacy_seresnext50_32x4d", "resnet50", "test_vit"])
def test_models_without_such_a_shape_are_told(name: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^model.layers: {name} has another shape, which they cannot change. Remove"
    ):
        get_model(name, 5, "none", layers=(1, 1, 1, 1))


def test_a_wrong_name_is_told_before_its_shape() -> None:
    with pytest.raises(ConfigError, match=r"model.name: resnext50_32x4: .*did you mean resnext50_32x4d"):
        get_model("resnext50_32x4", 5, "none", cardinality=2)


def test_numbers_that_build_nothing_are_refused() -> None:
    for layers in ([1, 1, 1], [1, 0, 1, 1]):
        with pytest.raises(ConfigError, match=r"model.layers: .*: give the blocks of 4 stages, each at least 1"):
            get_model("resnext50_32x4d", 5, "none", layers=layers)
    for key in ("cardinality", "base_width"):
        with pytest.raises(ConfigError, match=rf"model.{key}: 0: must be at least 1"):
            check_shape("resnext50_32x4d", "none", {key: 0})


def test_without_a_shape_nothing_is_checked() -> None:
    assert shape_of() == {}
    check_shape("resnet50", "imagenet", {})


def test_the_configs_shape_is_what_it_gives_and_the_title_says_it() -> None:
    def model(**keys: Any) -> Any:
        return Config.model_validate({"name": "a", "data": {"root": "b"}, "model": keys}).model

    assert (model().shape, model().title) == ({}, "resnext50_32x4d")
    own = model(layers=[3, 4, 6, 3], cardinality=8)
    assert own.shape == {"layers": [3, 4, 6, 3], "cardinality": 8}
    assert own.title == "resnext50_32x4d (layers [3, 4, 6, 3], cardinality 8)"


def test_a_bundle_rebuilds_a_network_of_ones_own(tmp_path: Path) -> None:
    folder = make_bundle(
        tmp_path / "bundle", 1, architecture="resnext50_32x4d", architecture_options=SMALL, graphs=True
    )  # fmt: skip
    info = read_bundle(folder)
    network = load_member(folder, info, info.members[0])
    first = network.get_submodule("layer1.0.conv2")
    assert isinstance(first, nn.Conv2d)
    assert (first.groups, first.out_channels) == (2, 4)
    save_weights(tmp_path / "again.safetensors", network.state_dict())
    assert (tmp_path / "again.safetensors").read_bytes() == (folder / info.members[0].file).read_bytes()
