"""Features and logits of a timm classifier in one pass."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn


def features_and_logits(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pooled features (b, d), as the classifier sees them, and logits (b, num_classes)."""
    timm_model = cast(Any, model)
    features = timm_model.forward_head(timm_model.forward_features(images), pre_logits=True)
    return features, timm_model.get_classifier()(features)
