"""Images unlike all that a member was tried on, told by its features and by how the pixels look.

A member's features of its own held-out fold say what is known: it never saw these images, as it will not have seen
those to come. The distance is Mahalanobis' with a covariance shrunk towards a sphere, since there are more features
than images, on features whose length counts by its root (`model.doubt.points`). Area under the ROC curve by fold 0 of
resnext26ts, in brackets that of directions alone: drawn noise to a model of drawn organisms 0.995 (0.61), chest scans
to it 0.80 (0.21); chest scans to a pollen model 0.969 (0.965), to a pretrained one 1.000 (1.000); pollen to a chest
model 1.000 (1.000). The nearest neighbour (Sun et al. 2022, arXiv:2204.06507) reached 0.858 for chest scans to pollen.
An order is not a flag: of the chest scans few were beyond the threshold of a network trained from scratch, so what
`evaluation.usual` says of the pixels counts beside it.
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
from microscopy_cls.evaluation.usual import fit_usual, parts_of, spread_over_groups
from microscopy_cls.images.appearance import appearances
from microscopy_cls.model.answers import member_answers
from microscopy_cls.model.bundle import BundleInfo
from microscopy_cls.model.doubt import Experience, Known, points

METHOD = "mahalanobis"  # of features, and of looks
SHRINKAGE = 0.00025  # variance that every direction has, of 1 in all; from 0.0001 to 0.0005 nothing changes much
THRESHOLD_SHARE = 0.995  # of held-out images that are nearer, by features and by looks: 0.99 by both
NUM_PARTS = 5  # of a fold's groups; each is tried on the others to count false alarms
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
    chosen = spread_over_groups(groups, MAX_IMAGES, seed)
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


def fit_experience(held_out: HeldOut, looks: Array, *, seed: int) -> tuple[dict[int, Experience], Array]:
    """What each member has seen, by fold, and the novelty of each image to the member that never saw it, (n,).

    Args:
        held_out: n images.
        looks: of the images, (n, k).
        seed: of choices among images.
    """
    usual, by_looks = fit_usual(looks, held_out.groups, THRESHOLD_SHARE, seed=seed)
    experience, by_features = {}, np.empty(len(looks))
    for fold in np.unique(held_out.folds).tolist():
        inside = held_out.folds == fold
        known, by_features[inside] = fit_known(held_out.features[inside], held_out.groups[inside], seed=seed)
        experience[fold] = Experience(known, usual)
    return experience, np.maximum(by_features, by_looks)


def novelty_report(
    held_out: HeldOut, looks: Array, strangers_found: Mapping[str, Json], *, resamples: int, seed: int
) -> Json:
    """The section `novelty` of `metrics.json`."""
    flagged = false_alarms(held_out, looks, seed=seed)
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
        "method": METHOD, "threshold_share": 2 * THRESHOLD_SHARE - 1, "false_alarms": share,
        "auroc": {kind: number(found["auroc"]) for kind, found in strangers_found.items()},
        "flagged": {kind: number(found["flagged"]) for kind, found in strangers_found.items()},
    }  # fmt: skip


def false_alarms(held_out: HeldOut, looks: Array, *, seed: int) -> Array:
    """Whether each image is called novel where neither it nor its group had a part in the fit: (n,).

    1 or 0; NaN in folds of a single group.
    """
    flagged = np.full(len(looks), np.nan)
    for fold in np.unique(held_out.folds):
        inside = np.flatnonzero(held_out.folds == fold)
        groups = held_out.groups[inside]
        for tried in parts_of(groups, NUM_PARTS, seed) if len(set(groups)) > 1 else ():
            known, _ = fit_known(held_out.features[inside[~tried]], groups[~tried], seed=seed)
            flagged[inside[tried]] = known.novelty(held_out.features[inside[tried]]) >= 1
    for tried in parts_of(held_out.groups, NUM_PARTS, seed):
        usual, _ = fit_usual(looks[~tried], held_out.groups[~tried], THRESHOLD_SHARE, seed=seed)
        flagged[tried & ~np.isnan(flagged)] += usual.novelty(looks[tried & ~np.isnan(flagged)]) >= 1
    either: Array = np.minimum(flagged, 1)
    return either


def try_strangers(
    bundle: Path,
    info: BundleInfo,
    experience: Mapping[int, Experience],
    held_out: HeldOut,
    novelty: Array,
    *,
    seed: int,
) -> dict[str, Json]:
    """How well the first member tells its held-out images from drawn strangers.

    Args:
        bundle, info: with the member.
        experience: of each member, by fold.
        held_out, novelty: of all images; those of its fold are compared.
        seed: of the drawings.

    Returns:
        By kind: `auroc`, the area under the ROC curve, and `flagged`, the share of the strangers that are novelties.

    Raises:
        BundleError: a file of the bundle is missing or damaged.
    """
    first = info.members[0]
    own = novelty[held_out.folds == first.fold]
    drawn = [strangers(kind, NUM_STRANGERS, info.preprocessing.size_px, seed) for kind in KINDS]
    squares = np.concatenate(drawn)
    found = experience[first.fold].novelty(member_answers(bundle, info, first, squares)[1], appearances(squares))
    is_stranger = np.arange(len(own) + NUM_STRANGERS) >= len(own)
    return {
        kind: {
            "auroc": float(binary_auroc(is_stranger, np.concatenate([own, part]), np.ones((1, len(is_stranger))))[0]),
            "flagged": float((part >= 1).mean()),
        }
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
