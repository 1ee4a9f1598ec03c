"""ResNeXts of any shape, and the published member that timm lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD  # noqa: TID251  the model room's library
from timm.models import (  # noqa: TID251
    build_model_with_cfg,
    generate_default_cfgs,
    is_model,
    is_model_in_modules,
    register_model,
)
from timm.models.resnet import Bottleneck, ResNet  # noqa: TID251
from torch import nn

from microscopy_cls.config.schema import Activation, Shortcut
from microscopy_cls.errors import ConfigError

NUM_STAGES = 4
# timm's modules (and this one) whose models are its class ResNet. Other relatives have blocks of another kind.
_SHAPED_IN = ("resnet", "sknet", __name__.rpartition(".")[2])
_PLAIN = {"shortcut": "identity", "activation": "post"}  # what every published member has
_WORDS = {"shortcut": get_args(Shortcut), "activation": get_args(Activation)}

default_cfgs = generate_default_cfgs({
    "resnext152_32x4d.untrained": {
        "input_size": (3, 224, 224), "pool_size": (7, 7), "num_classes": 1000,
        "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "interpolation": "bilinear", "crop_pct": 0.875,
        "first_conv": "conv1", "classifier": "fc",
    },
})  # fmt: skip


@register_model  # type: ignore[untyped-decorator]
def resnext152_32x4d(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """152 layers, as mmpretrain publishes it. timm calls this like its own; timm has no weights for it."""
    shape = {"block": Bottleneck, "layers": (3, 8, 36, 3), "cardinality": 32, "base_width": 4}
    return cast(nn.Module, build_model_with_cfg(ResNet, "resnext152_32x4d", pretrained, **(shape | arguments)))


def shape_of(
    layers: Sequence[int] | None = None,
    cardinality: int | None = None,
    base_width: int | None = None,
    shortcut: str = "identity",
    activation: str = "post",
) -> dict[str, Any]:
    """Those of the five that are given and no member's own, as `build` takes them."""
    given = {"layers": layers, "cardinality": cardinality, "base_width": base_width}
    words = {"shortcut": shortcut, "activation": activation}
    return {key: value for key, value in (given | words).items() if value is not None and value != _PLAIN.get(key)}


def check_shape(name: str, weights: str, shape: Mapping[str, Any]) -> None:
    """Refuse a shape that cannot be built or cannot start from these weights. Asks nothing of disk or network.

    Args:
        name, weights: as `get_model` takes them. An unknown name passes: `resolve_weights` has the better message.
        shape: of `shape_of`; an empty one always passes.

    Raises:
        ConfigError: it says which key and what to do.
    """
    if not shape or not is_model(name):
        return
    keys = ", ".join(f"model.{key}" for key in shape)
    if "resnext" not in name or not is_model_in_modules(name, _SHAPED_IN):
        raise ConfigError(
            f"{keys}: {name} has another shape, which they cannot change. Remove them, or take a member that they can, "
            "such as model.name: resnext50_32x4d"
        )
    if weights == "imagenet" or weights.startswith("hf-hub:"):
        raise ConfigError(
            f"{keys}: make a network of your own, for which nobody publishes weights, so model.weights: {weights} "
            "cannot be used. Set model.weights: none, or a local file with weights of this very shape"
        )
    _check_numbers(shape)
    _check_variant(name, shape)


def _check_numbers(shape: Mapping[str, Any]) -> None:
    layers = shape.get("layers", (1,) * NUM_STAGES)
    if len(layers) != NUM_STAGES or min(layers) < 1:
        raise ConfigError(f"model.layers: {list(layers)}: give the blocks of {NUM_STAGES} stages, each at least 1")
    for key in ("cardinality", "base_width"):
        if shape.get(key, 1) < 1:
            raise ConfigError(f"model.{key}: {shape[key]}: must be at least 1")


def _check_variant(name: str, shape: Mapping[str, Any]) -> None:
    for key in _WORDS.keys() & shape.keys():
        if shape[key] not in _WORDS[key]:
            raise ConfigError(f"model.{key}: {shape[key]}: choose {', '.join(_WORDS[key])}")
        if is_model_in_modules(name, ("sknet",)):
            raise ConfigError(f"model.{key}: {name} has blocks of another kind, which it cannot change. Remove it")
    if "shortcut" in shape and max(shape.get("layers", (2,))) == 1:
        raise ConfigError(
            f"model.shortcut: {shape['shortcut']}: changes all blocks but the first of a stage, and model.layers "
            f"{list(shape['layers'])} has no others. Give a stage 2 or more"
        )
