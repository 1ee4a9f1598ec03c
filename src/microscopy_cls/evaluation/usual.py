"""How a run's images usually look, and which look like none of them.

A network's features need not tell what it was never asked about: those of a small network trained from scratch on drawn
micrographs put chest scans among the amoebas. How the pixels look is the second witness. At the threshold it flags, of
chest scans given to models of organisms, pollen and plankton, 97 to 100 %, of noise, blank fields and text all; of
chest scans from another clinic next to nothing, which is as it should be.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.dataset.cache import open_pixels
from microscopy_cls.dataset.manifest import trainable
from microscopy_cls.evaluation.intervals import Array
from microscopy_cls.images.appearance import appearances
from microscopy_cls.model.doubt import Usual
from microscopy_cls.system.progress import progress

NUM_PARTS = 10  # of the groups; each is tried on the others
MAX_IMAGES = 4096  # that say what is usual: 31 numbers need no more
VISIBLE = 0.05  # of a number of `images.appearance`: images that vary less in it are all taken to vary so much

Groups = NDArray[np.object_]
Bools = NDArray[np.bool_]


def looks_of(manifest: pd.DataFrame, oof: pd.DataFrame, prepared: Path) -> Array:
    """How the images of an out-of-fold table look, (n, k); `prepared` holds their pixels."""
    images, pixels = trainable(manifest), open_pixels(prepared)
    rows = pd.Series(images.index, index=images["image_id"]).loc[oof["image_id"]].tolist()
    return appearances(np.asarray(pixels[row]) for row in progress(rows, "looking"))


def fit_usual(looks: Array, groups: Groups, share: float, *, seed: int) -> tuple[Usual, Array]:
    """How images look.

    Args:
        looks: (n, k), n at least 2.
        groups: of the images. Where there is only one, each image counts as its own.
        share: of the images that the threshold leaves out of doubt, each tried on other groups' images.
        seed: of choices among groups.

    Returns:
        That, and the novelty of each image (n,) to images of other groups.
    """
    distances = np.empty(len(looks))
    for tried in parts_of(groups, NUM_PARTS, seed):
        distances[tried] = _spread(looks[~tried], groups[~tried], 1.0, seed).novelty(looks[tried])
    threshold = max(float(np.quantile(distances, share, method="higher")), 1e-6)
    return _spread(looks, groups, threshold, seed), distances / threshold


def parts_of(groups: Groups, num: int, seed: int) -> Iterator[Bools]:
    """Up to `num` disjoint parts of n images, none dividing a group, bool (n,) each; of one group alone, its images."""
    codes = pd.factorize(groups, sort=True)[0] if len(set(groups)) > 1 else np.arange(len(groups))
    num_codes = int(codes.max()) + 1
    part = np.random.default_rng(seed).permutation(num_codes)[codes] % num
    for number in range(min(num, num_codes)):
        yield part == number


def spread_over_groups(groups: Groups, num: int, seed: int) -> NDArray[np.int64]:
    """Up to `num` images, from each group as many as from any other as far as it has them: none speaks for all."""
    order = np.random.default_rng(seed).permutation(len(groups))
    turn = pd.Series(groups[order]).groupby(groups[order]).cumcount().to_numpy()
    return np.sort(order[np.argsort(turn, kind="stable")[:num]])


def _spread(looks: Array, groups: Groups, threshold: float, seed: int) -> Usual:
    """Mean and spread of images, the latter shrunk (Ledoit and Wolf 2004, doi:10.1016/S0047-259X(03)00096-4)."""
    from sklearn.covariance import ledoit_wolf

    chosen = looks[spread_over_groups(groups, MAX_IMAGES, seed)]
    covariance = ledoit_wolf(chosen)[0] if len(chosen) > 1 else np.zeros((looks.shape[1],) * 2)
    values, vectors = np.linalg.eigh(covariance + VISIBLE**2 * np.eye(len(covariance)))
    return Usual(chosen.mean(0), (vectors / np.sqrt(values)).T, threshold)
