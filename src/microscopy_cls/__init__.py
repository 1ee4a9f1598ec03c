"""Image classifiers whose numbers you can believe.

`load(MODEL)` opens a bundle for classification, `list_models` names the networks there are, `get_model` makes one,
`read_image` reads pixels from a file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microscopy_cls.images import read_image
    from microscopy_cls.inference.classifier import load
    from microscopy_cls.model import get_model, list_models

__version__ = "0.1.0"
__all__ = ["__version__", "get_model", "list_models", "load", "read_image"]

_HOMES = {
    "get_model": "microscopy_cls.model",
    "list_models": "microscopy_cls.model",
    "load": "microscopy_cls.inference.classifier",
    "read_image": "microscopy_cls.images",
}


def __dir__() -> list[str]:
    """What there is to use, imported yet or not."""
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """Import on first use: torch takes seconds, which `--help` and the configuration need not spend."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
