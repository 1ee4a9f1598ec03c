"""A timm classifier with the weights it starts from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

import timm  # noqa: TID251  the model room's library
import torch
from timm.models import get_pretrained_cfg  # noqa: TID251
from torch import nn

from microscopy_cls.config.schema import Activation, Shortcut
from microscopy_cls.errors import ConfigError, WeightsError
from microscopy_cls.model.hub import cached_item
from microscopy_cls.model.resnext import check_shape, shape_of
from microscopy_cls.model.source import HUB_PREFIX, WeightsSource, resolve_weights, weights_path
from microscopy_cls.model.state import load_state_dict, read_state_dict
from microscopy_cls.model.tags import is_non_commercial
from microscopy_cls.model.variants import build

logger = logging.getLogger(__name__)


def get_model(
    name: str,
    num_classes: int = 1000,
    weights: str = "imagenet",
    *,
    drop_path: float = 0.0,
    layers: Sequence[int] | None = None,
    cardinality: int | None = None,
    base_width: int | None = None,
    shortcut: Shortcut = "identity",
    activation: Activation = "post",
    partial_weights: bool = False,
) -> nn.Module:
    """A timm model in training mode, float32, on the CPU, with a classifier for `num_classes`.

    A new classifier (and all of a model without weights) is drawn from torch's global random state.

    Args:
        name: a timm model, or NAME.TAG for those published weights whatever their licence; see `list_models`.
        num_classes: number of logits; ImageNet's 1000 keep the published classifier.
        weights: imagenet, none, hf-hub:OWNER/NAME, or a local file or directory; see `resolve_weights`.
        drop_path: stochastic depth, the rate of the deepest block, in 0..1.
        layers, cardinality, base_width: blocks of the four stages, paths of a block, channels of a path in the first
            stage: a ResNeXt of one's own where they are given. The rest is as `name` says.
        shortcut, activation: how a block adds its input, and whether it rectifies after or before its convolutions;
            see `model.variants`. A file of the plain network fits other shortcuts in part.
        partial_weights: of a file or `hf-hub:`, take the tensors that fit and warn of the others.

    Raises:
        ConfigError: timm has no such model or tag, the model has no stochastic depth, or its shape cannot be changed,
            or not with such weights.
        WeightsError: the weights cannot be had, read or matched. Never falls back to a random start.

    >>> import microscopy_cls as mc
    >>> model = mc.get_model("resnext50_32x4d", num_classes=7, weights="none", cardinality=8, base_width=14)
    >>> tuple(model.layer1[0].conv2.weight.shape), model.layer1[0].conv2.groups
    ((112, 14, 3, 3), 8)
    """
    shape = shape_of(layers, cardinality, base_width, shortcut, activation)
    check_shape(name, weights, shape)
    source = resolve_weights(name, weights)
    if source.kind == "none":
        return _create(source.architecture, drop_path, num_classes=num_classes, **shape)
    model = _create_started(source, num_classes, drop_path, shape, partial_weights=partial_weights)
    logger.debug("%s starts from %s (%s)", source.architecture, source.location, source.licence or "licence unknown")
    if is_non_commercial(source.licence):
        logger.warning("%s is licensed %s: not for commercial use", source.location, source.licence)
    return model


def _create_started(
    source: WeightsSource, num_classes: int, drop_path: float, shape: Mapping[str, Any], *, partial_weights: bool
) -> nn.Module:
    state = _read(source)
    if source.kind == "hub" and not source.location.startswith(HUB_PREFIX):
        return _create_published(source.location, state, num_classes, drop_path)
    model = _create(source.architecture, drop_path, num_classes=num_classes, **shape)
    load_state_dict(model, state, source.location, partial=partial_weights)
    return model


def _read(source: WeightsSource) -> dict[str, torch.Tensor]:
    path = weights_path(source)
    try:
        return read_state_dict(path)
    except WeightsError as error:
        if source.kind == "file":
            raise
        raise WeightsError(f"{error}. Delete {cached_item(path)}, then it is downloaded again") from error


def _create_published(tagged: str, state: Mapping[str, torch.Tensor], num_classes: int, drop_path: float) -> nn.Module:
    """Let timm convert and load what it published, strictly, which it does only for the published number of classes."""
    num_published = get_pretrained_cfg(tagged).num_classes
    try:
        model = _create(
            tagged, drop_path, num_classes=num_published, pretrained=True, pretrained_cfg_overlay={"state_dict": state}
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:400]
        raise WeightsError(
            f"{tagged}: the published weights do not fit timm {timm.__version__}'s model: {reason}"
        ) from error
    cast(Any, model).pretrained_cfg.pop("state_dict")  # timm keeps a second copy of all tensors there
    if num_classes != num_published:
        cast(Any, model).reset_classifier(num_classes)
    return model


def _create(name: str, drop_path: float, **arguments: Any) -> nn.Module:
    """`build`; stochastic depth is passed only where it is wanted, because not every model takes it."""
    if drop_path:
        arguments["drop_path_rate"] = drop_path
    try:
        return build(name, **arguments)
    except TypeError as error:
        if "drop_path_rate" not in str(error):
            raise
        raise ConfigError(f"model.drop_path: {name} has no stochastic depth; set it to 0") from None
