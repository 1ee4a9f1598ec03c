"""Which networks there are, what they cost, and which weights they can start from."""

from __future__ import annotations

from dataclasses import dataclass

import timm  # noqa: TID251  the model room's library

from microscopy_cls.errors import WeightsError
from microscopy_cls.model.cost import cost_of
from microscopy_cls.model.source import resolve_weights
from microscopy_cls.model.tags import FREE_WEIGHTS

FAMILY = "*resnext*"

# ImageNet-1k top-1 in percent at 224 px of members without free weights in timm:
# open-mmlab/mmpretrain, configs/resnext/README.md.
_PUBLISHED_ELSEWHERE = {"resnext152_32x4d": 78.88}


@dataclass(frozen=True)
class Entry:
    """One network of the table.

    Attributes:
        params_m: parameters in millions, with a classifier for ImageNet's 1000 classes.
        gflops: 10^9 operations for one image, as mmpretrain counts them; see `Cost`. None: not at this size.
        image_size_px: side of that image.
        top1: published ImageNet-1k accuracy in percent, at its own image size; None where no source is at hand. It is
            that of `weights`, where there are some.
        weights: timm's tag of the weights that `imagenet` means; None: there are none under a free licence.
        licence: of these weights.
        gmacs: 10^9 multiply-adds of convolutions and matrix products alone.
    """

    name: str
    params_m: float
    gflops: float | None
    image_size_px: int
    top1: float | None
    weights: str | None
    licence: str | None
    gmacs: float | None


def list_models(pattern: str = FAMILY) -> list[str]:
    """Names that `get_model` and `model.name` take, in natural order. Without a pattern, the whole ResNeXt family.

    Args:
        pattern: a name, or a shell pattern over all names; `*` alone lists every classifier of timm.

    >>> import microscopy_cls as mc
    >>> mc.list_models("resnext1*")  # doctest: +NORMALIZE_WHITESPACE
    ['resnext101_32x4d', 'resnext101_32x8d', 'resnext101_32x16d', 'resnext101_32x32d', 'resnext101_64x4d',
     'resnext152_32x4d']
    >>> mc.list_models("no such thing")
    []
    """
    return list(timm.list_models(pattern))


def entry(name: str, image_size_px: int = 224) -> Entry:
    """A network's line of the table, from code alone: nothing is downloaded.

    >>> entry("resnext152_32x4d").params_m
    59.9514
    """
    weights = licence = None
    try:
        source = resolve_weights(name, "imagenet")
        weights, licence = source.location.partition(".")[2], source.licence
    except WeightsError:
        pass  # none that are free
    free = FREE_WEIGHTS.get(name)
    top1 = free.top1_percent if free else _PUBLISHED_ELSEWHERE.get(name)
    cost = cost_of(name, image_size_px)
    return Entry(
        name, round(cost.num_params / 1e6, 4), _billions(cost.num_flops), image_size_px, top1, weights, licence,
        _billions(cost.num_macs),
    )  # fmt: skip


def _billions(count: int | None) -> float | None:
    return None if count is None else round(count / 1e9, 4)
