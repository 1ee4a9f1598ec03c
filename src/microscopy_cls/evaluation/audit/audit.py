"""From a manifest and its pixels to `audit.json`: four questions, each with a verdict and a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls import __version__
from microscopy_cls.config import Config, Paths
from microscopy_cls.dataset.cache import check_reading, open_pixels
from microscopy_cls.dataset.manifest import METADATA_PREFIX, read_manifest, trainable
from microscopy_cls.dataset.prepare import reading_of
from microscopy_cls.errors import DataError
from microscopy_cls.evaluation.audit.answers import task_of
from microscopy_cls.evaluation.audit.findings import find_bad_pictures, find_copies, find_groups
from microscopy_cls.evaluation.audit.judge import judge_shortcuts
from microscopy_cls.evaluation.audit.leakage import measure_leakage
from microscopy_cls.evaluation.audit.looks import look_at
from microscopy_cls.evaluation.audit.shortcuts import find_shortcuts
from microscopy_cls.evaluation.audit.verdicts import judge_duplicates, judge_leakage, judge_quality
from microscopy_cls.system.files import read_json, sha256_of_file, write_json

NEEDED = ("cluster", "quality", "jpeg_quality")

Json = dict[str, Any]


def audit(config: Config, paths: Paths) -> Json:
    """Examine a prepared set and write `audit.json`.

    Returns:
        Its content.

    Raises:
        DataError: nothing is prepared, by an earlier version, or with other settings.
    """
    manifest = read_manifest(paths.manifest)
    missing = {*NEEDED, *(METADATA_PREFIX + column for column in config.data.metadata)} - set(manifest.columns)
    if missing:
        raise DataError(
            f"{paths.manifest}: was prepared by an earlier version or without some of data.metadata (it has no column "
            f"{', '.join(sorted(missing))}). Run `microscopy-cls prepare` again."
        )
    check_reading(paths.prepared, reading_of(config))
    found = examine(manifest, open_pixels(paths.prepared), config.evaluate.bootstrap_samples, config.runtime.seed)
    written = {"name": config.name, "of": _identity(config, paths)} | found
    write_json(paths.audit, written)
    return written


def current_audit(config: Config, paths: Paths) -> Json:
    """The written audit where it is of the same manifest and settings, else a new one; see `audit`."""
    if paths.audit.is_file():
        written: Json = read_json(paths.audit)
        if written.get("of") == _identity(config, paths):
            return written
    return audit(config, paths)


def _identity(config: Config, paths: Paths) -> Json:
    """What an audit depends on."""
    return {
        "manifest_sha256": sha256_of_file(paths.manifest),
        "resamples": config.evaluate.bootstrap_samples,
        "seed": config.runtime.seed,
        "version": __version__,
    }


def examine(manifest: pd.DataFrame, pixels: NDArray[np.uint8], resamples: int, seed: int) -> Json:
    """Examine a manifest with its pixels, uint8 (rows, s, s, 3).

    Args:
        resamples: of the groups, for the intervals.
        seed: of everything drawn by chance.

    Returns:
        The content of `audit.json`, but for the name.
    """
    images = trainable(manifest)
    task = task_of(images, resamples, seed)
    looks = look_at(pixels, images.index.to_numpy(np.int64))
    found: Json = {"num_images": len(images)} | find_groups(manifest) | find_copies(manifest)
    found |= {"leakage": measure_leakage(images, looks.thumbnail, task)} | find_bad_pictures(manifest)
    artefacts, by_pixels = find_shortcuts(images, looks, task)
    found["shortcuts"], *on_shortcuts = judge_shortcuts(artefacts, by_pixels, "pixels")
    judged = {
        "duplicates": judge_duplicates(found),
        "leakage": judge_leakage(found),
        "shortcuts": tuple(on_shortcuts),
        "quality": judge_quality(found),
    }
    verdicts = {name: verdict for name, (verdict, _) in judged.items()}
    return {"verdicts": verdicts, "reasons": {name: reason for name, (_, reason) in judged.items()}} | found
