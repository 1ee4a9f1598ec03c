"""Tensors in a weights file, and their strict match to a model."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251  only its name: torch raises it when it refuses to unpickle
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from microscopy_cls.errors import WeightsError

logger = logging.getLogger(__name__)

_NESTED_UNDER = ("state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")  # torch's DataParallel and DDP, torch.compile
_COUNTER = ".num_batches_tracked"  # is not learnt, and files of old torch versions lack it
_UNREADABLE = (SafetensorError, UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError)


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name, on the CPU, in the file's own dtype, from safetensors or from torch's format (tensors only).

    Those nested under `state_dict` or `model` are found; wrappers' prefixes are stripped.

    Raises:
        WeightsError: the file is damaged, of another format, or holds more than tensors need.
    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load_torch(path)
    except _UNREADABLE as error:
        if "Unsupported global" in str(error):
            raise WeightsError(
                f"{path}: holds pickled objects besides tensors, which are never run. Save the tensors alone: "
                "safetensors.torch.save_file(model.state_dict(), FILE)"
            ) from error
        raise WeightsError(f"{path}: is damaged, or no weights file ({_reason(error)})") from error
    for key in _NESTED_UNDER:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    items = content.items() if isinstance(content, Mapping) else ()
    state = {_unwrapped(str(name)): value for name, value in items if isinstance(value, torch.Tensor)}
    if not state:
        raise WeightsError(f"{path}: holds no named tensors")
    return state


def load_state_dict(model: nn.Module, state: Mapping[str, torch.Tensor], origin: str) -> None:
    """Copy tensors into a timm model, cast to its dtype, where every name and shape matches.

    Only the classifier may be absent or have another number of classes: then the model's own new one stays.

    Args:
        model: changed in place.
        state: tensors by name.
        origin: where they come from, for messages.

    Raises:
        WeightsError: other tensors are missing, unexpected or of another shape.
    """
    expected = model.state_dict()
    head = _head_names(model)
    given = dict(state)
    fits = not any(name not in given or _other_classes(given[name], expected[name]) for name in head)
    if not fits:
        given = {name: tensor for name, tensor in given.items() if name not in head}
        expected = {name: tensor for name, tensor in expected.items() if name not in head}
    _check_match(given, expected, origin)
    model.load_state_dict(given, strict=False)
    if not fits:
        logger.debug("%s: its classifier, of other classes, is replaced by a new one", origin)


def _load_torch(path: Path) -> Any:
    with torch.serialization.safe_globals([Namespace]):  # timm's training script saves its arguments as one
        return torch.load(path, map_location="cpu", weights_only=True)


def _reason(error: Exception) -> str:
    """One line; not torch's advice to run the pickle after all."""
    lines = "" if isinstance(error, UnpicklingError) else str(error).strip()
    return lines.splitlines()[0] if lines else type(error).__name__


def _unwrapped(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.partition(".")[2]
    return name


def _head_names(model: nn.Module) -> set[str]:
    """The classifier's tensors, by the name that timm's description of the model gives it."""
    classifier = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    prefixes = tuple(f"{name}." for name in ((classifier,) if isinstance(classifier, str) else classifier))
    return {name for name in model.state_dict() if prefixes and name.startswith(prefixes)}


def _other_classes(given: torch.Tensor, expected: torch.Tensor) -> bool:
    return given.shape[:1] != expected.shape[:1] and given.shape[1:] == expected.shape[1:]


def _check_match(given: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], origin: str) -> None:
    missing = [name for name in expected if name not in given and not name.endswith(_COUNTER)]
    unexpected = [name for name in given if name not in expected and not name.endswith(_COUNTER)]
    mismatching = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in given and given[name].shape != tensor.shape
    ]
    if missing or unexpected or mismatching:
        found = (("missing", missing), ("unexpected", unexpected), ("of another shape", mismatching))
        listed = "; ".join(f"{len(names)} {word}: {_first(names)}" for word, names in found if names)
        cause = _likely_cause(bool(missing or unexpected), any(name in expected for name in given))
        raise WeightsError(f"{origin}: does not fit the model. Tensors {listed}. Likely cause: {cause}")


def _first(names: Sequence[str], at_most: int = 5) -> str:
    return ", ".join(names[:at_most]) + (", ..." if len(names) > at_most else "")


def _likely_cause(names_differ: bool, some_agree: bool) -> str:
    if not names_differ:
        return "another width or cardinality of the same family (model.name 32x8d for 32x4d, say)"
    if not some_agree:
        return "weights of another library, or of a model wrapped in another one; timm's names are needed"
    return "another architecture; check model.name"
