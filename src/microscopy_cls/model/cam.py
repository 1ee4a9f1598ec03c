"""Where in an image a network finds the evidence for a class: class activation maps.

Zhou et al. 2016, doi:10.1109/CVPR.2016.319. Exact for networks that end in the mean over positions and one linear
layer, as the ResNeXt family does: the class's logit is the mean of this map (and a bias). It shows where the evidence
lies at the coarse grid of the last layer, not whether it is a good reason.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from microscopy_cls.errors import ExplanationError
from microscopy_cls.model.graph import Graph

BATCH_SIZE = 16  # few images are explained; more would only take memory


@torch.inference_mode()
def member_cams(member: Graph, squares: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Evidence for one class in each image, in fp32 on the device where the member lies.

    Args:
        member: put into evaluation mode.
        squares: (n, size_px, size_px, 3).
        classes: index of the class asked for, of each image, (n,).

    Returns:
        (n, h, w) on the grid of the last feature map: 0 where there is none, 255 at an image's strongest place. An
        image without any evidence for its class is 0 everywhere.

    Raises:
        ExplanationError: the network does not end in the mean over positions and one linear layer.
    """
    member.eval()
    weights = _class_weights(member.network)
    parts = []
    for start in range(0, len(squares), BATCH_SIZE):
        chosen = slice(start, start + BATCH_SIZE)
        features = _feature_maps(member, torch.from_numpy(np.ascontiguousarray(squares[chosen])).to(weights.device))
        wanted = weights[torch.from_numpy(classes[chosen]).to(weights.device)]
        parts.append(torch.einsum("bc,bchw->bhw", wanted, features).relu())
    evidence = torch.cat(parts)
    strongest = evidence.amax((1, 2), keepdim=True).clamp_min(torch.finfo(evidence.dtype).tiny)
    cams: NDArray[np.uint8] = (255 * evidence / strongest).round().to(torch.uint8).cpu().numpy()
    return cams


def _class_weights(network: nn.Module) -> torch.Tensor:
    """Weights of the classifier, (classes, channels)."""
    classifier = cast(Any, network).get_classifier()
    if not isinstance(classifier, nn.Linear):
        raise ExplanationError(f"{_name(network)}: ends in {_name(classifier)}, so it has no class activation map")
    return classifier.weight


def _feature_maps(member: Graph, pixels: torch.Tensor) -> torch.Tensor:
    """The last feature maps, (b, channels, h, w), whose mean over positions is what the classifier sees."""
    network = cast(Any, member.network)
    features: torch.Tensor = network.forward_features(member.normalise(pixels))
    pooled: torch.Tensor = network.forward_head(features, pre_logits=True)
    # Asked of the numbers: the name of the pooling layer differs between timm's architectures.
    if features.ndim != 4 or pooled.shape != features.shape[:2] or not _close(features.mean((2, 3)), pooled):
        raise ExplanationError(
            f"{_name(member.network)}: its classifier does not see the mean over positions, so it has no class "
            "activation map"
        )
    return features


def _close(mean: torch.Tensor, pooled: torch.Tensor) -> bool:
    return torch.allclose(mean, pooled, rtol=1e-3, atol=1e-4 * float(pooled.abs().max()))


def _name(module: nn.Module) -> str:
    return type(module).__name__
