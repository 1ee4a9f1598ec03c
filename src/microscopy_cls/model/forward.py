"""Features and logits of a timm classifier in one pass, and which classifiers have them."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from microscopy_cls.errors import ConfigError


def features_and_logits(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pooled features (b, d), as the classifier sees them, and logits (b, num_classes)."""
    timm_model = cast(Any, model)
    features = timm_model.forward_head(timm_model.forward_features(images), pre_logits=True)
    return features, timm_model.get_classifier()(features)


def check_classifier(model: nn.Module, name: str, size_px: int) -> None:
    """Refuse a network that does not end in one classifier on pooled features. It answers one grey-scale image twice.

    Args:
        model: on any device; keeps its mode.
        name: as `model.name` gives it.
        size_px: side of the square input.

    Raises:
        ConfigError: timm's model has several classifiers, one that is no layer on features (b, d), or another input.
    """
    _check_size(model, name, size_px)
    training, device = model.training, next(model.parameters()).device
    image = torch.linspace(-1, 1, 3 * size_px * size_px, device=device).view(1, 3, size_px, size_px)
    with torch.no_grad():
        is_apart = _answers_alike(model.eval(), image)
    model.train(training)
    if not is_apart:
        raise ConfigError(
            f"model.name {name}: timm's {type(model).__name__} does not end in one classifier on pooled features, "
            "which calibration, novelty and probes need. Choose one that `microscopy-cls models` lists, or "
            "another family."
        )


def _check_size(model: nn.Module, name: str, size_px: int) -> None:
    published = getattr(model, "pretrained_cfg", None) or {}
    side_px = published.get("input_size", (3, size_px))[-1]
    if published.get("fixed_input_size") and side_px != size_px:
        raise ConfigError(
            f"model.image_size_px {size_px}: {name} takes squares of {side_px} px only. Set it to {side_px}, or choose "
            "another model.name."
        )


def _answers_alike(model: nn.Module, image: torch.Tensor) -> bool:
    """Whether features and their classifier say what the network as a whole does."""
    whole = model(image)
    try:
        features, logits = features_and_logits(model, image)
    except (AttributeError, IndexError, TypeError, RuntimeError):  # the whole went through: its parts are otherwise
        return False
    is_one = isinstance(whole, torch.Tensor) and features.ndim == 2 and logits.shape == whole.shape
    return is_one and torch.allclose(logits, whole, rtol=1e-2, atol=1e-4)  # apart by rounding alone
