"""Images unlike all that a member was tried on, told by their features.

A member's features of its own held-out fold say what is known: it never saw these images, as it will not have seen
those to come. The distance is Mahalanobis' with a covariance shrunk towards a sphere, since there are more features
than images, on features whose length counts by its root (`model.doubt.points`). Area under the ROC curve by fold 0 of
resnext26ts, in brackets that of directions alone: drawn noise to a model of drawn organisms 0.995 (0.61), chest scans
to it 0.80 (0.21); chest scans to a pollen model 0.969 (0.965), to a pretrained one 1.000 (1.000); pollen to a chest
model 1.000 (1.000). The nearest neighbour (Sun et al. 2022, arXiv:2204.06507) reached 0.858 for chest scans to pollen.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.evaluation.figures import figures, number
from microscopy_cls.evaluation.held_out import HeldOut
from microscopy_cls.evaluation.intervals import Array
from microscopy_cls.evaluation.scores import binary_auroc
from microscopy_cls.evaluation.strangers import KINDS, strangers
from microscopy_cls.model.answers import member_answers
from microscopy_cls.model.bundle import BundleInfo
from microscopy_cls.model.doubt import Known, points

METHOD = "mahalanobis"
SHRINKAGE = 0.00025  # variance that every direction has, of 1 in all; from 0.0001 to 0.0005 nothing changes much
THRESHOLD_SHARE = 0.99  # of held-out images that are nearer
MAX_IMAGES = 512  # that span what is known, an axis each: 4 MB a member and 0.1 ms an image with 2048 features
NUM_STRANGERS = 64
Json = dict[str, Any]
Groups = NDArray[np.object_]


def fit_known(features: NDArray[np.float32], groups: Groups, *, seed: int) -> tuple[Known, Array]:
    """What a member knows, from its features of held-out images.

    Args:
        features: (n, d), n at least 1; of more than 512 a seeded choice, from all groups alike, spans what is known.
        groups: of the images. Where there is only one, nothing tells how far another lies: then each image counts as
            its own, and images of other groups are flagged more often than is meant.
        seed: of the choice.

    Returns:
        That, and the novelty of each of the images (n,) had neither it nor its group been there; the threshold is
        a quantile of these distances.
    """
    if len(set(groups)) == 1:
        groups = np.arange(len(groups)).astype(object)
    chosen = spread_over_groups(groups, seed)
    length = _mean_length(features[chosen])
    every = points(features, length)
    spanning = every[chosen]
    axes, inverse = _axes(spanning)
    distances = np.empty(len(features))
    for rows in pd.Series(np.arange(len(groups))).groupby(groups, sort=False).indices.values():
        own = np.isin(chosen, rows)
        if own.any():
            distances[rows] = _without(own, (every[rows] ** 2).sum(1), every[rows] @ spanning.T, inverse)
        else:
            distances[rows] = Known(axes, length, 1.0).novelty(features[rows])
    threshold = threshold_of(distances)
    return Known(axes, length, threshold), distances / threshold


def span(features: NDArray[np.float32]) -> Known:
    """What features (m, d) of few images span, with a threshold of 1: `novelty` then gives bare distances."""
    length = _mean_length(features)
    return Known(_axes(points(features, length))[0], length, 1.0)


def threshold_of(distances: Array) -> float:
    """Which distance but few images exceed, of those that are no strangers."""
    return float(np.quantile(distances, THRESHOLD_SHARE, method="higher"))


def fit_all_known(held_out: HeldOut, *, seed: int) -> tuple[dict[int, Known], Array]:
    """What each member knows, by fold, and the novelty of each image to the member that never saw it, (n,)."""
    known, novelty = {}, np.empty(len(held_out.truth))
    for fold in np.unique(held_out.folds).tolist():
        inside = held_out.folds == fold
        known[fold], novelty[inside] = fit_known(held_out.features[inside], held_out.groups[inside], seed=seed)
    return known, novelty


def novelty_report(held_out: HeldOut, auroc: dict[str, float], *, resamples: int, seed: int) -> Json:
    """The section `novelty` of `metrics.json`."""
    flagged = false_alarms(held_out, seed=seed)
    is_known = ~np.isnan(flagged)
    share = {"value": None, "ci_low": None, "ci_high": None}
    if is_known.any():
        share = figures(
            lambda weights: {"share": weights @ flagged[is_known] / weights.sum(1)},
            held_out.groups[is_known],
            resamples=resamples,
            shares={"share": held_out.num_groups(is_known)},
        )["share"]
    return {
        "method": METHOD, "neighbours": None, "threshold_share": THRESHOLD_SHARE, "false_alarms": share,
        "auroc": {kind: number(value) for kind, value in auroc.items()},
    }  # fmt: skip


def false_alarms(held_out: HeldOut, *, seed: int) -> Array:
    """Whether each image is called novel where half of its fold is known, and it and its group are not: (n,).

    1 or 0; NaN in folds of a single group.
    """
    flagged = np.full(len(held_out.truth), np.nan)
    for fold in np.unique(held_out.folds):
        inside = np.flatnonzero(held_out.folds == fold)
        codes, names = pd.factorize(held_out.groups[inside], sort=True)
        side = np.random.default_rng(seed).permutation(len(names))[codes] % 2
        for tested in (0, 1) if len(names) > 1 else ():
            known, _ = fit_known(
                held_out.features[inside[side != tested]], held_out.groups[inside[side != tested]], seed=seed
            )
            flagged[inside[side == tested]] = known.novelty(held_out.features[inside[side == tested]]) >= 1
    return flagged


def strangers_auroc(
    bundle: Path, info: BundleInfo, known: Mapping[int, Known], held_out: HeldOut, novelty: Array, *, seed: int
) -> dict[str, float]:
    """How well the first member tells its held-out images from drawn strangers, by kind: area under the ROC curve.

    Args:
        bundle, info: with the member.
        known: of each member, by fold.
        held_out, novelty: of all images; those of its fold are compared.
        seed: of the drawings.

    Raises:
        BundleError: a file of the bundle is missing or damaged.
    """
    first = info.members[0]
    squares = [strangers(kind, NUM_STRANGERS, info.preprocessing.size_px, seed) for kind in KINDS]
    found = known[first.fold].novelty(member_answers(bundle, info, first, np.concatenate(squares))[1])
    own = novelty[held_out.folds == first.fold]
    is_stranger = np.arange(len(own) + NUM_STRANGERS) >= len(own)
    return {
        kind: float(binary_auroc(is_stranger, np.concatenate([own, part]), np.ones((1, len(is_stranger))))[0])
        for kind, part in zip(KINDS, np.split(found, len(KINDS)), strict=True)
    }


def _mean_length(features: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(features.astype(np.float64), axis=1).mean())


def _axes(spanning: Array) -> tuple[NDArray[np.float32], Array]:
    """The axes of `Known` that points (m, d + 1) span, and the inverse of the points' products and the shrinkage."""
    values, vectors = np.linalg.eigh(spanning @ spanning.T)
    values = np.maximum(values, 0.0)
    shrinkage = SHRINKAGE * float((spanning**2).sum())
    spanned = values > values[-1] * 1e-12
    axes = ((vectors / np.sqrt(values + shrinkage)).T @ spanning)[spanned].astype(np.float32)
    return axes, (vectors / (values + shrinkage)) @ vectors.T


def _without(own: NDArray[np.bool_], squares: Array, likeness: Array, inverse: Array) -> Array:
    """Distance of r images to the known ones but for `own`, in closed form, (r,).

    Args:
        own: which of the m known images are of their group, at least one.
        squares: of the images' lengths, (r,).
        likeness: products with the known images, (r, m).
        inverse: of the known images' products with each other and the shrinkage, (m, m).
    """
    shares = likeness @ inverse
    regained = np.linalg.solve(inverse[np.ix_(own, own)], shares[:, own].T).T
    variance = squares - (shares * likeness).sum(1) + (shares[:, own] * regained).sum(1)
    distances: Array = np.sqrt(np.maximum(variance, 0))
    return distances


def spread_over_groups(groups: Groups, seed: int) -> NDArray[np.int64]:
    """Up to 512 images, from each group as many as from any other as far as it has them: none speaks for all."""
    order = np.random.default_rng(seed).permutation(len(groups))
    turn = pd.Series(groups[order]).groupby(groups[order]).cumcount().to_numpy()
    return np.sort(order[np.argsort(turn, kind="stable")[:MAX_IMAGES]])
