"""The ResNeXt family: models, the weights they start from, and the bundle that keeps a trained one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microscopy_cls.model.create import get_model
    from microscopy_cls.model.resnext import check_shape
    from microscopy_cls.model.source import WeightsSource, resolve_weights, weights_digest
    from microscopy_cls.model.zoo import list_models

__all__ = ["WeightsSource", "check_shape", "get_model", "list_models", "resolve_weights", "weights_digest"]

_HOMES = {
    "WeightsSource": "source",
    "check_shape": "resnext",
    "get_model": "create",
    "list_models": "zoo",
    "resolve_weights": "source",
    "weights_digest": "source",
}


def __getattr__(name: str) -> Any:
    """Import on first use: timm takes seconds, which a classification with another engine need not spend."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
