"""Tensors in a weights file, and their strict match to a model."""

from __future__ import annotations

import logging
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251  only its name: torch raises it when it refuses to unpickle
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from microscopy_cls.errors import WeightsError
from microscopy_cls.model.remap import TIMM, Remapped, remap

logger = logging.getLogger(__name__)

Tensors = Mapping[str, torch.Tensor]

_AVERAGED = ("state_dict_ema", "model_ema")  # timm's and torchvision's scripts; their results are reported for these
_NESTED_UNDER = (*_AVERAGED, "state_dict", "model")
_COUNTER = ".num_batches_tracked"  # is not learnt, and files of old torch versions lack it
_UNREADABLE = (SafetensorError, UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError)
_REFUSED = re.compile(r"unsupported (?:global: )?global (\S+)|unrecognized function (\S+)|(TorchScript)", re.IGNORECASE)


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by the file's names, on the CPU, in its dtype, from safetensors or from torch's format (tensors only).

    Those nested under `state_dict` or `model` are found, moving averages before them, or under any other name if there
    is but one such.

    Raises:
        WeightsError: the file is damaged, of another format, or holds more than tensors need.
    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load_torch(path)
    except _UNREADABLE as error:
        refused = _REFUSED.search(str(error))
        if refused:
            raise WeightsError(
                f"{path}: holds {next(filter(None, refused.groups()))} besides tensors: pickled objects are never run. "
                "Convert it where you trust it: load it with torch.load(FILE, weights_only=False), then save the "
                "tensors alone with safetensors.torch.save_file(STATE_DICT, 'weights.safetensors')"
            ) from error
        raise WeightsError(f"{path}: is damaged, or no weights file ({_reason(error)})") from error
    return _named_tensors(content, path)


def load_state_dict(model: nn.Module, state: Tensors, origin: str, *, partial: bool = False) -> None:
    """Copy tensors into a timm model, cast to its dtype, where every name and shape matches.

    Names of torchvision, mmpretrain, fastai and pretrainedmodels are translated, wrappers' prefixes found; a first
    layer of other than 3 input channels is adapted. Only the classifier may be absent or have another number of
    classes: then the model's own new one stays. What was done is logged.

    Args:
        model: changed in place.
        state: tensors by name.
        origin: where they come from, for messages.
        partial: take what fits, and warn of the rest.

    Raises:
        WeightsError: other tensors are missing, unexpected or of another shape; or `partial`, and nothing fits.
    """
    expected: Tensors = model.state_dict()
    found = remap(state, expected, origin)
    given = _with_3_channels(model, found.tensors, expected, origin)
    head = _head_names(model)
    new_head = any(name not in given or _other_classes(given[name], expected[name]) for name in head)
    if new_head:
        given, expected, found = _without(head, given, expected, found)
    misfit = _misfit(given, expected, found)
    fitting = {name: tensor for name, tensor in given.items() if tensor.shape == expected[name].shape}
    if misfit and not (partial and _num_counted(fitting)):
        raise WeightsError(f"{origin}: does not fit the model. Tensors {misfit}. {_advice(given, expected, found)}")
    model.load_state_dict(fitting, strict=False)
    _report(origin, found, f"{_num_counted(fitting)} of {_num_counted(expected)}", new_head=new_head)
    if misfit:
        logger.warning("%s: loaded in part, as model.partial_weights asks. Tensors %s", origin, misfit)


def _named_tensors(content: Any, path: Path) -> dict[str, torch.Tensor]:
    entries = content if isinstance(content, Mapping) else {}
    inside = [name for name, value in entries.items() if isinstance(value, Mapping) and _tensors(value)]
    chosen = next((name for name in _NESTED_UNDER if name in inside), None)
    if chosen in _AVERAGED:
        logger.info("%s: its moving average (%s) is taken", path, chosen)
    if chosen is None and not _tensors(entries) and len(inside) == 1:
        chosen = inside[0]
    state = _tensors(entries if chosen is None else entries[chosen])
    if not state:
        listed = f"; its entries are {_first([str(name) for name in entries])}" if entries else ""
        raise WeightsError(f"{path}: holds no named tensors{listed}")
    return state


def _tensors(entries: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in entries.items() if isinstance(name, str) and isinstance(value, torch.Tensor)}


def _load_torch(path: Path) -> Any:
    with torch.serialization.safe_globals([Namespace]):  # timm's training script saves its arguments as one
        return torch.load(path, map_location="cpu", weights_only=True)


def _reason(error: Exception) -> str:
    """One line; not torch's advice to run the pickle after all."""
    lines = "" if isinstance(error, UnpicklingError) else str(error).strip()
    return lines.splitlines()[0] if lines else type(error).__name__


def _head_names(model: nn.Module) -> set[str]:
    """The classifier's tensors, by the name that timm's description of the model gives it."""
    classifier = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    prefixes = tuple(f"{name}." for name in ((classifier,) if isinstance(classifier, str) else classifier))
    return {name for name in model.state_dict() if prefixes and name.startswith(prefixes)}


def _other_classes(given: torch.Tensor, expected: torch.Tensor) -> bool:
    return given.shape[:1] != expected.shape[:1] and given.shape[1:] == expected.shape[1:]


def _with_3_channels(model: nn.Module, given: Tensors, expected: Tensors, origin: str) -> Tensors:
    """The first layer's kernels, repeated or cut to 3 input channels and scaled by what that makes of their sum.

    timm's rule for the other direction. Grey images then get the answers that a network of one channel gave them.
    """
    layer = getattr(model, "pretrained_cfg", {}).get("first_conv")
    name = f"{layer}.weight"
    if name not in given or name not in expected or given[name].ndim != 4:
        return given
    kernels, channels, wanted = given[name], given[name].shape[1], expected[name].shape[1]
    if channels == wanted:
        return given
    logger.info("%s: %s adapted from %d to %d input channels", origin, layer, channels, wanted)
    adapted = kernels[:, [channel % channels for channel in range(wanted)]].float() * (channels / wanted)
    return {**given, name: adapted}


def _without(head: set[str], given: Tensors, expected: Tensors, found: Remapped) -> tuple[Tensors, Tensors, Remapped]:
    """All but the classifier, be it of one layer or, in the file, of several."""
    layers = tuple(f"{name.rpartition('.')[0]}." for name in head)
    return (
        {name: tensor for name, tensor in given.items() if name not in head},
        {name: tensor for name, tensor in expected.items() if name not in head},
        replace(found, unexpected=tuple(name for name in found.unexpected if not name.startswith(layers))),
    )


def _misfit(given: Tensors, expected: Tensors, found: Remapped) -> str:
    """What does not match, in words; empty where everything does."""
    kinds = {
        "missing": [name for name in expected if name not in given and not name.endswith(_COUNTER)],
        "unexpected": [name for name in found.unexpected if not name.endswith(_COUNTER)],
        "of another shape": [
            f"{name} {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
            for name, tensor in given.items()
            if tensor.shape != expected[name].shape
        ],
    }
    return "; ".join(f"{len(names)} {kind}: {_first(names)}" for kind, names in kinds.items() if names)


def _advice(given: Tensors, expected: Tensors, found: Remapped) -> str:
    if not given:
        return (
            "Likely cause: weights of another architecture or library; names of timm, torchvision, mmpretrain, fastai "
            "and pretrainedmodels are known"
        )
    same_names = not found.unexpected and all(name in given or name.endswith(_COUNTER) for name in expected)
    cause = (
        "another width or cardinality of the same family (model.name 32x8d for 32x4d, say)"
        if same_names
        else "another architecture; check model.name"
    )
    return f"Likely cause: {cause}. To load what fits all the same: model.partial_weights: true"


def _report(origin: str, found: Remapped, share: str, *, new_head: bool) -> None:
    """At debug level where the file needed no translation: a training says it once a fold."""
    names = f"the names of {found.scheme}" + (f", below {found.prefix}" if found.prefix else "")
    classifier = ["the classifier is new"] if new_head else []
    left_out = [f"{len(found.outside)} left out: {_first(found.outside)}"] if found.outside else []
    done = "; ".join([f"{share} tensors, by {names}", *classifier, *left_out])
    plain = (found.scheme, found.prefix) == (TIMM, "")
    logger.log(logging.DEBUG if plain else logging.INFO, "%s: %s", origin, done)


def _num_counted(tensors: Tensors) -> int:
    return sum(not name.endswith(_COUNTER) for name in tensors)


def _first(names: Sequence[str], at_most: int = 5) -> str:
    return ", ".join(names[:at_most]) + (", ..." if len(names) > at_most else "")
