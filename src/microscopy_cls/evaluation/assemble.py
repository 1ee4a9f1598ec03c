"""The bundles of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.config import Config, Paths
from microscopy_cls.dataset.cache import open_pixels
from microscopy_cls.dataset.manifest import manifest_digest, trainable
from microscopy_cls.dataset.prepare import reading_of
from microscopy_cls.evaluation.doubt import Doubt, doubt_of_bundle
from microscopy_cls.evaluation.metrics import Json
from microscopy_cls.evaluation.scores import METRICS
from microscopy_cls.model.bundle import WITHOUT_FOLD, BundleInfo, read_bundle, weights_file, write_bundle
from microscopy_cls.system.versions import software_versions

NUM_CALIBRATION_INPUTS = 256  # int8 ranges settle with some hundred images; more only make the bundle larger


@dataclass(frozen=True)
class Bundle:
    """A written bundle: its folder and what `bundle.json` says."""

    folder: Path
    info: BundleInfo


def bundle_of_folds(paths: Paths) -> Bundle:
    """The bundle of the folds' members: the run's own, or the one beside the run where its own is a refit.

    Raises:
        BundleError: the run was not evaluated, or a bundle's description is damaged.
    """
    # Asked of the bundle: what lies beside the run may be left from an earlier config.
    kept = Bundle(paths.bundle, read_bundle(paths.bundle))
    if all(member.fold != WITHOUT_FOLD for member in kept.info.members):
        return kept
    return Bundle(paths.tested, read_bundle(paths.tested))


def assemble_bundle(
    config: Config, paths: Paths, manifest: pd.DataFrame, metrics: Json, doubt: Doubt, state: Mapping[str, Any],
    folder: Path,
) -> Bundle:  # fmt: skip
    """Write a bundle of the run: of the members that `doubt` was fitted for, those of the folds or the refit.

    Args:
        metrics: of the run.
        doubt: fitted on its held-out answers.
        state: the content of `run_state.json`.
        folder: of the bundle.
    """
    reading, weights = reading_of(config), dict(state["weights"])
    info = {
        "name": config.name,
        "classes": tuple(metrics["classes"]),
        "architecture": config.model.name,
        "architecture_options": config.model.shape,
        "preprocessing": asdict(reading) | {"mean": weights.pop("mean"), "std": weights.pop("std")},
        "weights": weights,
        **doubt_of_bundle(doubt),
        **_field(manifest, config.data.um_per_px),
        "slide_rule": config.evaluate.slide_rule,
        "positive_class": metrics.get("binary", {}).get("positive_class"),
        "training_data": {
            "manifest_digest": manifest_digest(manifest),
            "num_images": metrics["num_images"],
            "num_groups": metrics["num_groups"],
        },
        "metrics": headline(metrics),
        "config": config.model_dump(mode="json"),
        "versions": software_versions(),
        "git_commit": state["git_commit"],
    }
    members = {fold: paths.members / weights_file(fold) for fold in doubt.experience}
    from microscopy_cls.model.graph import add_openvino

    inputs = _calibration_inputs(paths, manifest, config.runtime.seed)
    if WITHOUT_FOLD in members:
        inputs["folds"] = np.full_like(inputs["folds"], WITHOUT_FOLD)
    return Bundle(folder, write_bundle(folder, info, members, inputs, add_openvino, doubt.experience))


def headline(metrics: Json) -> Json:
    """The values of the overall metrics, without intervals."""
    return {name: metrics[name]["value"] for name in METRICS}


def _field(manifest: pd.DataFrame, um_per_px: float | None) -> dict[str, Any]:
    """How much an image shows: the median side (of a square of equal area), in pixels and, where known, in microns."""
    images = trainable(manifest)
    side_px = float(np.median(np.sqrt(images["width_px"].to_numpy(float) * images["height_px"].to_numpy(float))))
    return {"field_px": round(side_px), "field_um": side_px * um_per_px if um_per_px else None}


def _calibration_inputs(paths: Paths, manifest: pd.DataFrame, seed: int) -> dict[str, NDArray[Any]]:
    """A seeded choice of the training images, and the fold of each; see `write_bundle`."""
    rows = trainable(manifest).index.to_numpy()
    chosen = np.sort(np.random.default_rng(seed).permutation(rows)[:NUM_CALIBRATION_INPUTS])
    folds = manifest.loc[chosen, "fold"].to_numpy(np.int64)
    return {"pixels": np.asarray(open_pixels(paths.prepared)[chosen]), "folds": folds}
