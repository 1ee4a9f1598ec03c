"""Which published ImageNet weights `imagenet` means for each ResNeXt, and which licences forbid commercial use.

Chosen for each architecture: among timm's tags that are trained on or fine-tuned to ImageNet-1k and are not `fb_*`
(CC-BY-NC-4.0), the one with the highest ImageNet-1k top-1 at the best image size of timm's own table
(huggingface/pytorch-image-models, results/results-imagenet.csv at commit 7479d45).
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class FreeWeights:
    """Published weights that may be used commercially.

    Attributes:
        tag: timm's tag; with the architecture before it, timm's full name.
        licence: SPDX identifier, lower case.
        top1_percent: accuracy on the ImageNet-1k validation images.
        tested_at_px: image size of that accuracy.
    """

    tag: str
    licence: str
    top1_percent: float
    tested_at_px: int


_APACHE, _BSD = "apache-2.0", "bsd-3-clause"

FREE_WEIGHTS: dict[str, FreeWeights | None] = {
    "bat_resnext26ts": FreeWeights("ch_in1k", _APACHE, 78.280, 256),
    "cspresnext50": FreeWeights("ra_in1k", _APACHE, 80.552, 256),
    "eca_resnext26ts": FreeWeights("ch_in1k", _APACHE, 78.016, 288),
    "ecaresnext26t_32x4d": None,
    "ecaresnext50t_32x4d": None,
    "gcresnext26ts": FreeWeights("ch_in1k", _APACHE, 78.438, 288),
    "gcresnext50ts": FreeWeights("ch_in1k", _APACHE, 81.234, 288),
    "legacy_seresnext26_32x4d": FreeWeights("in1k", _APACHE, 77.100, 224),
    "legacy_seresnext50_32x4d": FreeWeights("in1k", _APACHE, 79.084, 224),
    "legacy_seresnext101_32x4d": FreeWeights("in1k", _APACHE, 80.274, 224),
    "resnext26ts": FreeWeights("ra2_in1k", _APACHE, 77.182, 288),
    "resnext50_32x4d": FreeWeights("a1h_in1k", _APACHE, 82.012, 288),
    "resnext50d_32x4d": FreeWeights("bt_in1k", _APACHE, 80.680, 288),
    "resnext101_32x4d": FreeWeights("gluon_in1k", _APACHE, 80.336, 224),
    "resnext101_32x8d": FreeWeights("tv2_in1k", _BSD, 82.832, 224),
    "resnext101_32x16d": None,
    "resnext101_32x32d": None,
    "resnext101_64x4d": FreeWeights("c1_in1k", _APACHE, 83.158, 288),
    "resnext152_32x4d": None,
    "seresnext26d_32x4d": FreeWeights("bt_in1k", _APACHE, 78.826, 288),
    "seresnext26t_32x4d": FreeWeights("bt_in1k", _APACHE, 78.738, 288),
    "seresnext26ts": FreeWeights("ch_in1k", _APACHE, 78.292, 288),
    "seresnext50_32x4d": FreeWeights("racm_in1k", _APACHE, 82.186, 288),
    "seresnext101_32x4d": FreeWeights("gluon_in1k", _APACHE, 80.886, 224),
    "seresnext101_32x8d": FreeWeights("ah_in1k", _APACHE, 84.194, 288),
    "seresnext101_64x4d": FreeWeights("gluon_in1k", _APACHE, 80.886, 224),
    "seresnext101d_32x8d": FreeWeights("ah_in1k", _APACHE, 84.402, 288),
    "seresnextaa101d_32x8d": FreeWeights("sw_in12k_ft_in1k_288", _APACHE, 86.722, 320),
    "seresnextaa201d_32x8d": FreeWeights("sw_in12k_ft_in1k_384", _APACHE, 87.308, 384),
    "skresnext50_32x4d": FreeWeights("ra_in1k", _APACHE, 80.166, 224),
}

# The nearest architecture in depth and size that has free weights.
FREE_NEIGHBOURS = {
    "ecaresnext26t_32x4d": "seresnext26t_32x4d",
    "ecaresnext50t_32x4d": "seresnext50_32x4d",
    "resnext101_32x16d": "resnext101_64x4d",
    "resnext101_32x32d": "resnext101_64x4d",
    "resnext152_32x4d": "resnext101_32x4d",
}

# Words of licence identifiers: cc-by-nc-4.0, fair-noncommercial-research-license, apple-amlr (research), seer-license.
_NON_COMMERCIAL_WORDS = {"nc", "noncommercial", "research", "amlr", "seer"}


def is_non_commercial(licence: str | None) -> bool:
    """Whether a licence identifier names a licence that forbids commercial use; None (unknown) does not."""
    return not _NON_COMMERCIAL_WORDS.isdisjoint(re.split(r"[^a-z0-9]+", (licence or "").lower()))
