"""Which images to explain, and where their networks found the evidence for their answers."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.dataset.cache import open_pixels
from microscopy_cls.errors import ExplanationError
from microscopy_cls.evaluation.scores import Predicted
from microscopy_cls.model.bundle import read_bundle
from microscopy_cls.system.files import atomic_path

Indices = NDArray[np.int64]
CONFIDENT_ERROR, DOUBTFUL, RIGHT = 0, 1, 2
NUM_EACH = 12  # three rows of four on the page

log = logging.getLogger(__name__)


def choose(oof: pd.DataFrame, classes: list[str], num: int = NUM_EACH, seed: int = 0) -> tuple[Indices, Indices]:
    """The images worth looking at: `num` of each kind, or as many as there are, and none twice.

    Confident errors: the highest probability of a wrong answer. Doubtful: the smallest lead of the likeliest class over
    the next, right or wrong. Right: a seeded choice of the others that are, to see what is usual.

    Args:
        oof: `image_id, label, prob_<class>...`, a row an image.
        classes: in index order.

    Returns:
        Places in `oof` and their kinds, each (m,), by kind and within the first two by rank.
    """
    order = np.argsort(oof["image_id"].to_numpy(dtype=object), kind="stable")  # the same whatever the rows' order
    predicted = Predicted.of(oof, classes)
    probs, wrong = predicted.probs[order], (predicted.top != predicted.truth)[order]
    second, first = np.sort(probs, axis=1)[:, -2:].T
    by_confidence, by_lead = np.argsort(-first, kind="stable"), np.argsort(first - second, kind="stable")
    errors = by_confidence[wrong[by_confidence]][:num]
    doubtful = by_lead[~np.isin(by_lead, errors)][:num]
    others = np.flatnonzero(~wrong & ~np.isin(np.arange(len(oof)), doubtful))
    right = np.random.default_rng(seed).permutation(others)[:num]
    kinds = np.repeat([CONFIDENT_ERROR, DOUBTFUL, RIGHT], [len(errors), len(doubtful), len(right)])
    return order[np.concatenate([errors, doubtful, right])], kinds.astype(np.int64)


def explain(
    oof: pd.DataFrame, rows: Indices, classes: list[str], bundle: Path, prepared: Path
) -> NDArray[np.uint8] | None:
    """Evidence of each image for its predicted class, by the member that never saw it.

    Args:
        oof: `fold, prob_<class>...`, the chosen images.
        rows: of the pixel cache, of each, (m,).
        classes: in index order.
        bundle: folder of the bundle whose member of fold k made the predictions of fold k.
        prepared: folder of the pixel cache.

    Returns:
        (m, h, w), see `model.cam`; None, and a line in the log, where the network has no such map.

    Raises:
        BundleError: the bundle or a member is missing or damaged.
    """
    from microscopy_cls.model.cam import member_cams
    from microscopy_cls.model.graph import load_graph
    from microscopy_cls.model.members import member_weights

    info, pixels = read_bundle(bundle), open_pixels(prepared)
    predicted = oof[[f"prob_{name}" for name in classes]].to_numpy(np.float64).argmax(1)
    folds = oof["fold"].to_numpy(np.int64)
    members = {member.fold: member for member in info.members}
    graph = load_graph(bundle, info, info.members[0])
    places, parts = [], []
    try:
        for fold in np.unique(folds):
            inside = np.flatnonzero(folds == fold)
            graph.network.load_state_dict(member_weights(bundle, members[int(fold)]))
            parts.append(member_cams(graph, pixels[rows[inside]], predicted[inside]))
            places.append(inside)
    except ExplanationError as error:
        log.warning("no explanations: %s", error)
        return None
    return np.concatenate(parts)[np.argsort(np.concatenate(places))]


def write_cams(path: Path, rows: Indices, cams: NDArray[np.uint8], kinds: Indices) -> None:
    """Write `rows` of the manifest int64 (m,), `cam` uint8 (m, h, w) and `kind` int64 (m,) as safetensors."""
    from safetensors.numpy import save_file

    with atomic_path(path) as temporary:
        save_file({"rows": rows, "cam": np.ascontiguousarray(cams), "kind": kinds}, temporary)
