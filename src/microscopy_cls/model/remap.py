"""Other libraries' names of the same networks: which tensor of a file is which of a timm model's.

Whose names a file has is not asked but counted: those win that name most of the model's tensors, below whatever prefix
a wrapper (DataParallel, torch.compile, Lightning, a method of self-supervision) put before them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch

from microscopy_cls.errors import WeightsError

TIMM = (
    "timm"  # torchvision's ResNets and ResNeXts have the same names, and so have Cadene's SE networks timm's legacy_*
)

# Places of a torchvision ResNet's parts in `nn.Sequential(*network.children())`, as fastai and others cut it; also of
# the first ResNeXts, which were converted from Lua. 2 is the activation, 3 the pooling.
_PLACES = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}

# Places in the first part of pretrainedmodels' ResNeXt blocks: branch and shortcut side by side, the branch's first two
# layers once more in a Sequential of their own (pretrainedmodels 0.7.4, resnext101_32x4d_features.py).
_CADENE_BLOCK = {
    "conv1": "0.0.0", "bn1": "0.0.1", "conv2": "0.0.3", "bn2": "0.0.4", "conv3": "0.1", "bn3": "0.2",
    "downsample.0": "1.0", "downsample.1": "1.1",
}  # fmt: skip
_BLOCK = re.compile(r"(layer\d)\.(\d+)\.(downsample\.\d|[a-z]+\d)\.(.+)")


@dataclass(frozen=True)
class Remapped:
    """Tensors of a file under a model's names.

    Attributes:
        tensors: those that the model names too.
        unexpected: names, without the prefix, of others of the same network.
        scheme: whose names the file has.
        prefix: that all names of the network begin with, without its last dot; empty where there is none.
        outside: names without that prefix: of a loss, a projection, a head of another form.
    """

    tensors: dict[str, torch.Tensor]
    unexpected: tuple[str, ...]
    scheme: str
    prefix: str
    outside: tuple[str, ...]


def remap(state: Mapping[str, torch.Tensor], expected: Collection[str], origin: str) -> Remapped:
    """Give a file's tensors the names that a model has for them, where any known scheme leads there.

    Args:
        state: tensors by the file's names.
        expected: the model's names.
        origin: where the tensors come from, for messages.

    Raises:
        WeightsError: the file holds several such networks, a teacher beside its student, say.
    """
    places = {scheme: {theirs(name): name for name in expected} for scheme, theirs in _SCHEMES.items()}
    found = {scheme: _prefixes(state, names) for scheme, names in places.items()}
    scheme = max(found, key=lambda each: max(found[each].values(), default=0))  # the first of equals: timm
    prefix = max(found[scheme], key=found[scheme].__getitem__, default="")
    _check_single(found[scheme], len(expected), origin)
    inside = {name.removeprefix(f"{prefix}."): tensor for name, tensor in state.items() if _below(prefix, name)}
    names = places[scheme]
    return Remapped(
        {names[name]: tensor for name, tensor in inside.items() if name in names},
        tuple(name for name in inside if name not in names),
        scheme,
        prefix,
        tuple(name for name in state if not _below(prefix, name)),
    )


def _prefixes(state: Collection[str], names: Collection[str]) -> Counter[str]:
    """How many of `names` the file has below each prefix."""
    found: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        found.update(".".join(parts[:cut]) for cut in range(len(parts)) if ".".join(parts[cut:]) in names)
    return found


def _below(prefix: str, name: str) -> bool:
    return not prefix or name.startswith(f"{prefix}.")


def _check_single(found: Counter[str], num_expected: int, origin: str) -> None:
    networks = sorted(prefix for prefix, count in found.items() if 2 * count > num_expected)
    if len(networks) > 1:
        listed = ", ".join(f"{prefix}." if prefix else "without a prefix" for prefix in networks)
        raise WeightsError(
            f"{origin}: holds {len(networks)} networks of this kind ({listed}), and does not say which is meant. "
            "Save the tensors of one alone with safetensors.torch.save_file"
        )


def _mmpretrain(name: str) -> str:
    if name.startswith("fc."):
        return f"head.{name}"
    return "backbone." + re.sub(r"\.se\.fc(\d)\.", r".se_layer.conv\1.conv.", name)


def _positional(name: str) -> str:
    part, _, rest = name.partition(".")
    return f"{_PLACES[part]}.{rest}" if part in _PLACES else name


def _cadene(name: str) -> str:
    if name.startswith("fc."):
        return name.replace("fc.", "last_linear.", 1)
    block = _BLOCK.fullmatch(name)
    if not block:
        return f"features.{_positional(name)}"
    layer, number, part, rest = block.groups()
    return f"features.{_PLACES.get(layer, layer)}.{number}.0.{_CADENE_BLOCK.get(part, part)}.{rest}"


# From a timm name to theirs.
_SCHEMES: dict[str, Callable[[str], str]] = {
    TIMM: lambda name: name,
    "mmpretrain": _mmpretrain,
    "fastai": _positional,
    "pretrainedmodels": _cadene,
}
