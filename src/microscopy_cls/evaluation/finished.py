"""Finished runs, found by their name, and whether two of them are of the same images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.config import Paths
from microscopy_cls.config.paths import paths_of_images
from microscopy_cls.dataset.cache import Reading, check_reading
from microscopy_cls.dataset.manifest import class_names, fold_column, manifest_digest, read_manifest, trainable
from microscopy_cls.errors import DataError
from microscopy_cls.evaluation.repeats import read_repeat
from microscopy_cls.evaluation.scores import Predicted
from microscopy_cls.system.files import read_json


@dataclass(frozen=True)
class FinishedRun:
    """The out-of-fold predictions of one name.

    Attributes:
        images: a row an image, indexed by and sorted by image id: `label, fold, sha256, split_group, prob_<class>...`.
        classes: in index order.
        settings: what it was trained with, sections of keys.
        repeats: further divisions of the same images, each with `fold, prob_<class>...` in the order of `images`.
    """

    name: str
    images: pd.DataFrame
    classes: list[str]
    settings: dict[str, Any]
    repeats: tuple[pd.DataFrame, ...] = ()

    @property
    def predicted(self) -> Predicted:
        """Truth and probabilities, in the order of `images`."""
        return self.predicted_in(self.images)

    def predicted_in(self, division: pd.DataFrame) -> Predicted:
        """The same of one of the divisions: `images` itself or one of `repeats`."""
        return Predicted.of(division.assign(label=self.images["label"].to_numpy()), self.classes)

    @property
    def divisions(self) -> tuple[pd.DataFrame, ...]:
        """The images under each division into folds."""
        return (self.images, *self.repeats)

    @property
    def parts(self) -> list[str]:
        """Of an ensemble, the names of its runs; of a run, none."""
        return sorted(self.settings.get("ensemble", {}))

    @property
    def folds(self) -> NDArray[np.int64]:
        """In which each image was tested, in the order of `images`."""
        return self.images["fold"].to_numpy(np.int64)


def trained_manifest(paths: Paths, digest: str, reading: Reading) -> pd.DataFrame:
    """A run's manifest, once it is certain that the run was trained on it and that its pixels were read alike.

    Args:
        digest: of the manifest that the run was trained on.
        reading: what the run's config asks for.

    Raises:
        DataError: the manifest names other images, or they were prepared with other settings.
    """
    manifest = read_manifest(paths.manifest)
    if digest != manifest_digest(manifest):
        raise DataError(f"{paths.runs}: was trained on other images than {paths.manifest} names. Run train again.")
    check_reading(paths.prepared, reading)
    return manifest


def read_finished(name: str) -> FinishedRun:
    """Read a run's out-of-fold predictions, and what its manifest knows of the images.

    Raises:
        DataError: there are none, or they are not of the images that the manifest names.
    """
    paths = Paths(name)
    if not paths.oof.is_file():
        others = ", ".join(sorted(path.parent.name for path in paths.runs.parent.glob("*/oof.parquet")))
        advice = f"Finished here: {others}." if others else "Run `microscopy-cls train` first."
        raise DataError(f"{paths.oof}: there is no finished run of that name. {advice}")
    identity = read_json(paths.runs / "run_state.json")["identity"]
    paths = paths_of_images(name, identity.get("images_of"))
    manifest = read_manifest(paths.manifest)
    rows = trainable(manifest).set_index("image_id")[["label", "fold", "sha256", "split_group"]].sort_index()
    oof = pd.read_parquet(paths.oof).set_index("image_id").sort_index()
    same_images = identity["manifest"] == manifest_digest(manifest)  # their pixels too, which the predictions lack
    if not same_images or not oof[["label", "fold"]].equals(rows[["label", "fold"]]):
        again = "ensemble" if "ensemble" in identity else "train"
        raise DataError(f"{paths.runs}: was trained on other images than {paths.manifest} names. Run {again} again.")
    classes = class_names(manifest)
    settings = {section: keys for section, keys in identity.items() if isinstance(keys, dict)}  # the others are digests
    repeats = tuple(read_repeat(paths, manifest, repeat) for repeat in _repeats_there(paths, manifest))
    by_image = (table.set_index("image_id").sort_index() for table in repeats)
    images = rows.join(oof[[f"prob_{label}" for label in classes]])
    return FinishedRun(name, images, classes, settings, tuple(by_image))


def _repeats_there(paths: Paths, manifest: pd.DataFrame) -> Iterator[int]:
    """The further repeats that were prepared and trained."""
    repeats = itertools.count(1)
    return itertools.takewhile(lambda r: fold_column(r) in manifest and paths.oof_of(r).is_file(), repeats)


def check_same_images(a: FinishedRun, b: FinishedRun) -> None:
    """See that both runs predicted the same files under the same labels.

    Raises:
        DataError: they did not; each kind of difference is counted, with an example.
    """
    both = a.images.merge(b.images, left_index=True, right_index=True, suffixes=("_a", "_b"))
    found = [
        f"{len(ids)} only in {mine.name} ({ids[0]})"
        for mine, other in ((a, b), (b, a))
        if len(ids := mine.images.index.difference(other.images.index))
    ]
    if len(odd := both[both["label_a"] != both["label_b"]]):
        example = f"{odd.index[0]}: {odd['label_a'].iloc[0]}, {odd['label_b'].iloc[0]}"
        found.append(f"{len(odd)} under another label ({example})")
    if len(odd := both[both["sha256_a"] != both["sha256_b"]]):
        found.append(f"{len(odd)} of the same name with other bytes ({odd.index[0]})")
    if found:
        raise DataError(
            f"{a.name} and {b.name} are not of the same images: {len(both)} names in common, {', '.join(found)}. "
            "Prepare and train both from the same data."
        )
