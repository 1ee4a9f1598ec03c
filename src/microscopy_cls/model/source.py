"""Where a model's first weights come from, under which licence, and which pixels they expect."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import timm  # noqa: TID251  the model room's library
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD  # noqa: TID251
from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg  # noqa: TID251

from microscopy_cls.errors import ConfigError, WeightsError
from microscopy_cls.model import resnext  # noqa: F401  registers what timm lacks
from microscopy_cls.model.hub import fetch_from_hub, fetch_url
from microscopy_cls.model.tags import FREE_NEIGHBOURS, FREE_WEIGHTS, is_non_commercial
from microscopy_cls.system.files import read_json, sha256_of_file

Channels = tuple[float, float, float]

HUB_PREFIX = "hf-hub:"
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_DIRECTORY_PATTERNS = (
    "model.safetensors",
    "*.safetensors",
    "pytorch_model.bin",
    "*.pth",
    "*.pt",
    "*.ckpt",
    "*.bin",
    "*.tar",
)


@dataclass(frozen=True)
class WeightsSource:
    """Resolved initial weights of one model.

    Attributes:
        kind: none (random start), hub (downloaded once, then cached) or file (local).
        architecture: timm's name of the model, without a tag.
        location: timm's NAME.TAG, hf-hub:OWNER/NAME, or the path of the file; empty for none.
        licence: as published with the weights; None where nothing is published.
        mean, std: per channel, of RGB pixels in 0..1, as these weights expect them; ImageNet's where nothing is said.
            Where they expect one channel, its values thrice.
    """

    kind: Literal["none", "hub", "file"]
    architecture: str
    location: str = ""
    licence: str | None = None
    mean: Channels = IMAGENET_DEFAULT_MEAN
    std: Channels = IMAGENET_DEFAULT_STD


def resolve_weights(name: str, weights: str) -> WeightsSource:
    """Say what `model.name` and `model.weights` mean. Only `hf-hub:` may ask the network, for the model's description.

    Args:
        name: a timm model, or NAME.TAG for those published weights whatever their licence.
        weights: imagenet (the best freely licensed tag, or the tag given in `name`), none, hf-hub:OWNER/NAME, or the
            path of a file or of a directory with one weights file (described by a config.json, if there is one).

    Raises:
        ConfigError: timm has no such model or tag.
        WeightsError: there are no such weights, or they are of another architecture.
    """
    architecture, tagged = _split(name)
    if weights == "none":
        return WeightsSource("none", architecture)
    if weights == "imagenet":
        return _of_tag(architecture, tagged or _free_tag(architecture))
    if weights.startswith(HUB_PREFIX):
        return _of_repository(architecture, weights)
    return _of_path(architecture, weights)


def weights_path(source: WeightsSource) -> Path:
    """The file that holds the weights, downloaded into the cache if it must be. Not for `none`.

    Raises:
        WeightsError: it cannot be had; the message says why and what to do.
    """
    if source.kind == "file":
        return Path(source.location)
    if source.location.startswith(HUB_PREFIX):
        repo_id, revision = _repository(source.location)
        return fetch_from_hub(repo_id, _HUB_FILES, revision)
    published = get_pretrained_cfg(source.location)
    if not published.hf_hub_id:
        return fetch_url(published.url)
    repo_id, revision = _repository(published.hf_hub_id)
    filename = published.hf_hub_filename
    return fetch_from_hub(repo_id, (filename,) if filename else _HUB_FILES, revision)


def weights_digest(source: WeightsSource) -> str:
    """Identity of the weights, wherever they came from: SHA-256 of their file (downloaded if it must be), or `none`.

    Raises:
        WeightsError: as `weights_path`.
    """
    return "none" if source.kind == "none" else sha256_of_file(weights_path(source))


def _split(name: str) -> tuple[str, str | None]:
    """Architecture, and the whole NAME.TAG where a tag is given."""
    architecture, dot, _ = name.partition(".")
    known = timm.list_models()
    if architecture not in known:
        near = difflib.get_close_matches(architecture, known, n=4, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "`microscopy-cls models` lists the ResNeXt family"
        raise ConfigError(f"model.name: {name}: timm {timm.__version__} has no such model; {hint}")
    tagged = get_arch_pretrained_cfgs(architecture)
    if dot and name not in tagged:
        raise ConfigError(f"model.name: {name}: timm has no such weights; it has {', '.join(tagged) or architecture}")
    return architecture, name if dot else None


def _free_tag(architecture: str) -> str:
    if architecture in FREE_WEIGHTS:
        chosen = FREE_WEIGHTS[architecture]
        free = [f"{architecture}.{chosen.tag}"] if chosen else []
    else:
        free = [tag for tag, published in _published(architecture).items() if not is_non_commercial(published.license)]
    if not free:
        raise WeightsError(_no_free_weights(architecture))
    return free[0]


def _published(architecture: str) -> dict[str, Any]:
    """Descriptions of the weights that timm publishes, by NAME.TAG, its default first."""
    return {tag: cfg for tag, cfg in get_arch_pretrained_cfgs(architecture).items() if cfg.has_weights}


def _no_free_weights(architecture: str) -> str:
    others = _published(architecture)
    ways = ["give a local file as model.weights", "start from random weights with model.weights: none"]
    neighbour = FREE_NEIGHBOURS.get(architecture)
    if neighbour:
        ways.insert(0, f"take its neighbour with free weights, model.name: {neighbour}")
    if others:
        ways.append(f"or, if your use is not commercial, name them yourself, model.name: {next(iter(others))}")
    licences = sorted({str(published.license) for published in others.values()})
    fact = f"only has weights licensed {', '.join(licences)}" if others else "has no published weights"
    return f"{architecture}: {fact}, so model.weights: imagenet cannot be used. Instead {'; '.join(ways)}"


def _of_tag(architecture: str, tagged: str) -> WeightsSource:
    published = get_pretrained_cfg(tagged)
    if not published.has_weights:
        raise WeightsError(f"{tagged}: timm knows this name, but has no weights for it. Start with model.weights: none")
    return WeightsSource(
        "hub",
        architecture,
        tagged,
        published.license,
        _channels(tagged, published.mean),
        _channels(tagged, published.std),
    )


def _repository(address: str) -> tuple[str, str | None]:
    """OWNER/NAME and the revision after `@`."""
    repo_id, _, revision = address.removeprefix(HUB_PREFIX).partition("@")
    return repo_id, revision or None


def _of_repository(architecture: str, address: str) -> WeightsSource:
    repo_id, revision = _repository(address)
    description = _description(fetch_from_hub(repo_id, ("config.json",), revision))
    if "architecture" not in description:
        raise WeightsError(f"{address}: is not a timm model: its config.json names no architecture")
    return _described("hub", architecture, address, description)


def _of_path(architecture: str, weights: str) -> WeightsSource:
    path = Path(weights).expanduser()
    if path.is_file():
        return WeightsSource("file", architecture, str(path))
    if not path.is_dir():
        near = difflib.get_close_matches(weights, ("imagenet", "none"), n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise WeightsError(
            f"model.weights: {weights}: there is no such file or directory{hint}; "
            "write imagenet, none, a path, or hf-hub:OWNER/NAME"
        )
    config = path / "config.json"
    return _described("file", architecture, str(_weights_file(path)), _description(config) if config.is_file() else {})


def _weights_file(directory: Path) -> Path:
    for pattern in _DIRECTORY_PATTERNS:
        found = sorted(directory.glob(pattern))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise WeightsError(f"{directory}: holds several weights files ({names}); give one as model.weights")
        if found:
            return found[0]
    raise WeightsError(f"{directory}: holds no weights file ({', '.join(_DIRECTORY_PATTERNS)})")


def _description(path: Path) -> Mapping[str, Any]:
    try:
        description = read_json(path)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: is not a readable JSON file: {error}") from error
    return description if isinstance(description, dict) else {}


def _described(
    kind: Literal["hub", "file"], architecture: str, location: str, description: Mapping[str, Any]
) -> WeightsSource:
    """With what a config.json as timm writes it says (its older form has everything on the top level)."""
    theirs = str(description.get("architecture", architecture)).partition(".")[0]
    if theirs != architecture:
        raise WeightsError(f"{location}: holds a {theirs}, but model.name is {architecture}: make them the same")
    published = description.get("pretrained_cfg", description)
    return WeightsSource(
        kind, architecture, location, published.get("license"),
        _channels(location, published.get("mean", IMAGENET_DEFAULT_MEAN)),
        _channels(location, published.get("std", IMAGENET_DEFAULT_STD)),
    )  # fmt: skip


def _channels(location: str, values: Any) -> Channels:
    """As the first layer's kernels are repeated or cut to 3 channels where weights expect another number."""
    if not isinstance(values, list | tuple) or not values:
        raise WeightsError(f"{location}: its config.json should give mean and std as lists of numbers, one a channel")
    red, green, blue = (float(values[channel % len(values)]) for channel in range(3))
    return red, green, blue
