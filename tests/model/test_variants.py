"""Each variant of the block is the function that its docstring states, and fits wherever the plain one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.inference.bundles import make_bundle, squares
from timm.models.resnet import Bottleneck  # noqa: TID251
from torch import nn

from microscopy_cls.config import Config
from microscopy_cls.errors import ConfigError, WeightsError
from microscopy_cls.model import check_shape, get_model
from microscopy_cls.model.bundle import read_bundle
from microscopy_cls.model.cam import member_cams
from microscopy_cls.model.cost import cost_of
from microscopy_cls.model.graph import load_graph
from microscopy_cls.model.resnext import shape_of
from microscopy_cls.model.variants import Gated, Identity, PreResidual, Projected, Residual, Scaled
from microscopy_cls.training.stages import stage_names

SMALL: dict[str, Any] = {"layers": [1, 1, 1, 2], "cardinality": 2, "base_width": 2}
VARIANTS: list[dict[str, Any]] = [
    {"shortcut": "scaled"}, {"shortcut": "gated"}, {"shortcut": "projected"}, {"activation": "pre"},
    {"shortcut": "gated", "activation": "pre"},
]  # fmt: skip


def name_of(variant: dict[str, Any]) -> str:
    return "-".join(variant.values())


def some_block(inputs: int = 64, downsample: nn.Module | None = None) -> Any:
    torch.manual_seed(0)
    block = Bottleneck(inputs, 16, cardinality=2, base_width=8, downsample=downsample).double().eval()
    settle(block)
    return block


def settle(network: nn.Module) -> None:
    """Statistics as after training."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight, norm.bias, norm.running_mean):
                nn.init.normal_(tensor)  # type: ignore[arg-type]
            nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]


def some_input(channels: int = 64) -> torch.Tensor:
    return torch.randn(2, channels, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def branch_of(block: Any, x: torch.Tensor) -> torch.Tensor:
    """What timm's block adds to its input."""
    y = block.bn1(block.conv1(x)).relu()
    y = block.bn2(block.conv2(y)).relu()
    done: torch.Tensor = block.bn3(block.conv3(y))
    return done


# What each of them computes


@torch.no_grad()
def test_with_the_identity_as_shortcut_the_block_is_timms() -> None:
    block, x = some_block(), some_input()
    assert torch.equal(Residual(block, Identity())(x), block(x.clone()))


@torch.no_grad()
def test_scaling_halves_both_paths() -> None:
    block, x = some_block(), some_input()
    torch.testing.assert_close(Residual(block, Scaled())(x), (0.5 * x + 0.5 * branch_of(block, x)).relu())


@torch.no_grad()
def test_a_gate_lets_through_what_its_sigmoid_leaves_and_the_branch_as_it_is() -> None:
    block, x, join = some_block(), some_input(), Gated(64).double()
    gate = torch.sigmoid(nn.functional.conv2d(x, join.gate.weight, join.gate.bias))
    torch.testing.assert_close(Residual(block, join)(x), ((1 - gate) * x + branch_of(block, x)).relu())


@torch.no_grad()
def test_a_gate_begins_nearly_open() -> None:
    block, x = some_block(), some_input()
    gate = Gated(64).double()
    nn.init.zeros_(gate.gate.weight)
    torch.testing.assert_close(gate(x, 0 * x), x * (1 - torch.sigmoid(torch.tensor(-6.0, dtype=torch.float64))))
    nn.init.constant_(gate.gate.bias, -1e3)  # type: ignore[arg-type]
    torch.testing.assert_close(Residual(block, gate)(x), block(x.clone()))


@torch.no_grad()
def test_a_projection_that_copies_is_the_identity() -> None:
    block, x, join = some_block(), some_input(), Projected(64).double().eval()
    assert not torch.allclose(Residual(block, join)(x), block(x.clone()))
    join.conv.weight.copy_(torch.eye(64)[..., None, None])
    join.bn.eps = 0.0
    torch.testing.assert_close(Residual(block, join)(x), block(x.clone()))


@torch.no_grad()
def test_the_block_that_begins_a_stage_keeps_its_projection() -> None:
    downsample = nn.Sequential(nn.Conv2d(32, 64, 1, bias=False), nn.BatchNorm2d(64))
    block, x = some_block(32, downsample), some_input(32)
    for join in (Scaled(), Gated(64), Projected(64)):
        changed = Residual(block, join)
        assert torch.equal(changed(x), block(x.clone()))
        assert changed.state_dict().keys() == block.state_dict().keys()


@torch.no_grad()
def test_before_activation_each_convolution_sees_normed_and_rectified_input_and_the_sum_is_left_alone() -> None:
    downsample = nn.Sequential(nn.Conv2d(32, 64, 1, bias=False), nn.BatchNorm2d(64))
    for channels, down in ((64, None), (32, downsample)):
        block = PreResidual(some_block(channels, down), Identity(), last=False).double().eval()
        settle(block)
        nn.init.normal_(block.conv3.weight)
        x = some_input(channels)
        ready = block.bn1(x).relu()
        y = block.bn2(block.conv1(ready)).relu()
        y = block.conv3(block.bn3(block.conv2(y)).relu())
        shortcut = x if down is None else nn.functional.conv2d(ready, down[0].weight)  # type: ignore[arg-type]
        torch.testing.assert_close(block(x), shortcut + y)
        assert (block(x) < 0).any()


@torch.no_grad()
def test_only_the_last_block_normalises_and_rectifies_its_sum() -> None:
    model: Any = get_model("resnext50_32x4d", 3, "none", **SMALL, activation="pre").eval()
    norms = [name for name, _ in model.named_modules() if name.endswith("bn4")]
    rectified = [name for name in norms if isinstance(model.get_submodule(name), nn.BatchNorm2d)]
    assert (len(norms), rectified) == (5, ["layer4.1.bn4"])
    assert not any(name.startswith("bn1.") for name in model.state_dict()), "the first block's own comes right after"
    features = model.forward_features(torch.randn(2, 3, 64, 64))
    assert (features >= 0).all()


@torch.no_grad()
@pytest.mark.parametrize("activation", ["post", "pre"])
def test_blocks_begin_as_their_shortcuts(activation: Any) -> None:
    model: Any = get_model("resnext50_32x4d", 3, "none", **SMALL, activation=activation).eval()
    block, x = model.layer4[1], torch.rand(1, 2048, 2, 2)
    torch.testing.assert_close(block(x), x, rtol=1e-4, atol=1e-4)


# What each of them has and costs


def num_params(
    layers: list[int],
    cardinality: int,
    base_width: int,
    num_classes: int,
    shortcut: str = "identity",
    pre: bool = False,
) -> int:
    """Counted by hand: convolutions without biases, two numbers a normalised channel."""
    total, inputs = 3 * 64 * 49 + (0 if pre else 2 * 64), 64
    for planes, num in zip((64, 128, 256, 512), layers, strict=True):
        width, outputs = planes * base_width // 64 * cardinality, 4 * planes
        joined = {"gated": outputs**2 + outputs, "projected": outputs**2 + 2 * outputs}.get(shortcut, 0)
        for place in range(num):
            convolved = inputs * width + 9 * width * width // cardinality + width * outputs
            normed = 2 * (inputs + 2 * width if pre else 2 * width + outputs)
            projected = inputs * outputs + (0 if pre else 2 * outputs)
            total += convolved + normed + (projected if place == 0 else joined)
            inputs = outputs
    return total + (2 * inputs if pre else 0) + inputs * num_classes + num_classes


@pytest.mark.parametrize("variant", [{}, *VARIANTS], ids=name_of)
def test_parameters_are_those_of_the_closed_formula(variant: dict[str, Any]) -> None:
    for layers, cardinality, base_width in (([1, 1, 1, 2], 2, 2), ([2, 1, 3, 1], 8, 14), ([3, 4, 6, 3], 32, 4)):
        cost = cost_of(
            "resnext50_32x4d", 64, num_classes=23, layers=layers, cardinality=cardinality, base_width=base_width,
            **variant,
        )  # fmt: skip
        pre = variant.get("activation") == "pre"
        assert cost.num_params == num_params(layers, cardinality, base_width, 23, variant.get("shortcut", ""), pre)


def test_only_convolutions_on_the_shortcut_cost_multiplications() -> None:
    plain, scaled, gated, projected, pre = (
        cost_of("resnext50_32x4d", 64, **SMALL, **variant).num_macs for variant in ({}, *VARIANTS[:4])
    )
    assert plain is not None
    assert plain == scaled == pre
    assert gated == projected == plain + 2048 * 2048 * 2 * 2  # of the one block that begins no stage, at 2 x 2 pixels


# Where the plain network goes, they go


@pytest.mark.parametrize("variant", VARIANTS, ids=name_of)
def test_a_variant_has_stages_features_and_evidence_and_learns_everywhere(variant: dict[str, Any]) -> None:
    model: Any = get_model("resnext50_32x4d", 3, "none", **SMALL, **variant)
    stages = stage_names(model)
    assert set(stages[0]) == {"fc.weight", "fc.bias"}
    assert sorted(one for stage in stages for one in stage) == sorted(name for name, _ in model.named_parameters())
    assert len(stages) == 6
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.ones_(norm.weight)
    if "activation" in variant:
        nn.init.normal_(model.layer4[1].conv3.weight)
    model(torch.randn(2, 3, 64, 64)).square().sum().backward()
    if "activation" not in variant:  # their last convolutions begin at zero, which stops gradients once
        assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_the_graph_of_a_variant_gives_its_answers_and_its_evidence_has_a_place(tmp_path: Path) -> None:
    import openvino  # noqa: TID251  as another program would

    folder = make_bundle(
        tmp_path / "bundle", 1, graphs=True, architecture="resnext50_32x4d", architecture_options=SMALL | VARIANTS[4]
    )  # fmt: skip
    info = read_bundle(folder)
    graph, pixels = load_graph(folder, info, info.members[0]), squares(5)
    with torch.no_grad():
        logits = graph(torch.from_numpy(pixels))[0].numpy()
    compiled = openvino.Core().compile_model(
        folder / str(info.members[0].graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    np.testing.assert_allclose(compiled(pixels)[0], logits, atol=1e-4)
    assert member_cams(graph, pixels, logits.argmax(1)).shape == (5, 1, 1)


def test_weights_of_the_plain_network_fit_what_adds_nothing_and_others_in_part(tmp_path: Path) -> None:
    file = str(tmp_path / "w.safetensors")
    plain = get_model("resnext50_32x4d", 3, "none", **SMALL)
    save_file(plain.state_dict(), file)
    scaled = get_model("resnext50_32x4d", 3, file, **SMALL, shortcut="scaled")
    assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in scaled.state_dict().items())
    with pytest.raises(WeightsError, match=r"missing: layer4.1.join.gate.weight.*model.partial_weights: true"):
        get_model("resnext50_32x4d", 3, file, **SMALL, shortcut="gated")
    gated = get_model("resnext50_32x4d", 3, file, **SMALL, shortcut="gated", partial_weights=True)
    assert torch.equal(gated.get_parameter("layer4.1.conv2.weight"), plain.get_parameter("layer4.1.conv2.weight"))


# What there is not


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        ("resnext50_32x4d", {"shortcut": "open"}, "model.shortcut: open: choose identity, scaled, gated, projected"),
        ("resnext50_32x4d", {"activation": "both"}, "model.activation: both: choose post, pre"),
        ("skresnext50_32x4d", {"activation": "pre"}, "model.activation: skresnext50_32x4d has blocks of another kind"),
        ("resnext26ts", {"shortcut": "gated"}, "model.shortcut: resnext26ts has another shape"),
        ("resnext50_32x4d", {"layers": [1, 1, 1, 1], "shortcut": "gated"}, "changes all blocks but the first of a sta"),
    ],
)  # fmt: skip
def test_a_variant_that_cannot_be_built_is_refused(name: str, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_shape(name, "none", keys)


def test_published_weights_are_not_those_of_a_variant() -> None:
    with pytest.raises(ConfigError, match=r"model.shortcut: make a network of your own, for which nobody publishes"):
        check_shape("resnext50_32x4d", "imagenet", {"shortcut": "scaled"})


def test_the_plain_words_change_nothing_and_others_are_part_of_shape_and_title() -> None:
    assert shape_of(shortcut="identity", activation="post") == {}
    values = {"name": "a", "data": {"root": "b"}, "model": {"shortcut": "gated", "activation": "post"}}
    model = Config.model_validate(values).model
    assert model.shape == {"shortcut": "gated"}
    assert model.title == "resnext50_32x4d (shortcut gated)"
