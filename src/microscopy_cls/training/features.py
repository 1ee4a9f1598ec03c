"""Features of a network that is held still, by the fastest engine of the machine."""

from __future__ import annotations

import logging

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from microscopy_cls.dataset.batches import Batches
from microscopy_cls.model.answers import BATCH_SIZE, graph_runner
from microscopy_cls.model.graph import Graph, exported, to_openvino
from microscopy_cls.model.preprocess import Normalise
from microscopy_cls.model.vino import has_openvino
from microscopy_cls.system.progress import progress
from microscopy_cls.training.compute import predict
from microscopy_cls.training.fold_data import Rows

log = logging.getLogger(__name__)


def view_features(
    network: nn.Module,
    normalise: Normalise,
    batches: Batches,
    rows: Rows,
    num_views: int,
    size_px: int,
    batch_size: int,
    accelerator: Accelerator,
) -> NDArray[np.float32]:
    """Pooled features, as the classifier sees them, of images as they are and in augmented views.

    On a CPU by OpenVINO where it is installed: twice and more as fast as torch, and what the bundle will classify with.

    Args:
        network, normalise: on the accelerator's device.
        rows: of the images, (n,).
        num_views: 1 for the images as they are alone.
        size_px: side of the images.
        batch_size: images at once, where torch computes.
        accelerator: device and precision.

    Returns:
        float32 (num_views, n, d).
    """
    if accelerator.device.type != "cpu" or not has_openvino():
        passes = (batches.plain(rows, batch_size, view=view) for view in range(num_views))
        num = -(-len(rows) // batch_size)
        told = (progress(one, "features of the frozen network", num, unit="batch") for one in passes)
        return np.stack([predict(network, normalise, one, accelerator).features for one in told])
    graph = Graph(network, normalise).eval()
    run = graph_runner(
        to_openvino(exported(graph, size_px), size_px), "bf16" if accelerator.mixed_precision == "bf16" else "fp32"
    )
    found = []
    for view in range(num_views):
        pixels = (batch.pixels.numpy() for batch in batches.plain(rows, BATCH_SIZE, view=view))
        found.append(run(pixels, len(rows))[1])
    return np.stack(found)
