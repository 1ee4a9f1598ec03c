"""From a finished run to figures, tables that DVC draws, and the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.config import Config, Paths
from microscopy_cls.dataset.cache import check_reading, open_pixels
from microscopy_cls.dataset.manifest import class_names, manifest_digest, read_manifest, trainable
from microscopy_cls.dataset.prepare import reading_of
from microscopy_cls.errors import ConfigError, DataError
from microscopy_cls.evaluation.metrics import Json, out_of_fold_metrics
from microscopy_cls.evaluation.scores import METRICS, PER_CLASS
from microscopy_cls.model.bundle import BundleInfo, write_bundle
from microscopy_cls.system.files import write_csv, write_json
from microscopy_cls.system.versions import software_versions
from microscopy_cls.tracking import Tracker

NUM_CALIBRATION_INPUTS = 256  # int8 ranges settle with some hundred images; more only make the bundle larger


def evaluate(config: Config, paths: Paths, tracker: Tracker, state: Mapping[str, Any]) -> Json:
    """Write `metrics.json`, the plots' tables and the bundle, then log and register them.

    Args:
        state: the content of the finished run's `run_state.json`.

    Returns:
        The metrics.

    Raises:
        DataError: the run does not belong to the manifest, or the images were prepared with other settings.
        ConfigError: `evaluate.positive_class` is no class, or there are more than two.
    """
    manifest = read_manifest(paths.manifest)
    if state["identity"]["manifest"] != manifest_digest(manifest):
        raise DataError(f"{paths.runs}: was trained on other images than {paths.manifest} names. Run train again.")
    check_reading(paths.prepared, reading_of(config))
    classes, positive = class_names(manifest), config.evaluate.positive_class
    _check_positive(positive, classes)
    oof = pd.read_parquet(paths.oof)
    groups = oof["image_id"].map(trainable(manifest).set_index("image_id")["split_group"])
    metrics = {"name": config.name} | out_of_fold_metrics(
        oof, groups, classes, resamples=config.evaluate.bootstrap_samples, positive_class=positive
    )
    write_json(paths.metrics, metrics)
    _write_plots(paths, oof, metrics)
    _write_bundle(config, paths, manifest, metrics, state)
    _track(tracker, config, paths, metrics)
    return metrics


def _check_positive(positive: str | None, classes: list[str]) -> None:
    if positive is not None and positive not in classes:
        raise ConfigError(f"evaluate.positive_class {positive}: is none of the classes {', '.join(classes)}")
    if positive is not None and len(classes) > 2:
        raise ConfigError(
            f"evaluate.positive_class {positive}: has a meaning for two classes only, and there are {len(classes)}. "
            "Remove it: the report gives precision and recall of every class."
        )


def headline(metrics: Json) -> Json:
    """The values of the overall metrics, without intervals."""
    return {name: metrics[name]["value"] for name in METRICS}


def _write_plots(paths: Paths, oof: pd.DataFrame, metrics: Json) -> None:
    """The tables that `dvc plots show` draws, an entry a file in dvc.yaml."""
    confusion = oof[["label", "predicted"]].rename(columns={"label": "actual"})
    write_csv(paths.plots / "confusion.csv", confusion)
    write_csv(paths.plots / "curves.csv", pd.read_csv(paths.curves))
    per_class = [
        {"class": name, **{score: row[score]["value"] for score in PER_CLASS}, "num_images": row["num_images"]}
        for name, row in metrics["per_class"].items()
    ]
    write_csv(paths.plots / "per_class.csv", pd.DataFrame(per_class))


def _write_bundle(
    config: Config, paths: Paths, manifest: pd.DataFrame, metrics: Json, state: Mapping[str, Any]
) -> BundleInfo:
    reading, weights = reading_of(config), dict(state["weights"])
    info = {
        "name": config.name,
        "classes": tuple(metrics["classes"]),
        "architecture": config.model.name,
        "preprocessing": asdict(reading) | {"mean": weights.pop("mean"), "std": weights.pop("std")},
        "weights": weights,
        **_field(manifest, config.data.um_per_px),
        "slide_rule": config.evaluate.slide_rule,
        "decision_threshold": metrics.get("binary", {}).get("threshold"),
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
    members = {fold: paths.members / f"fold_{fold}.safetensors" for fold in range(config.folds.num)}
    from microscopy_cls.model.graph import add_openvino

    inputs = _calibration_inputs(paths, manifest, config.runtime.seed)
    return write_bundle(paths.bundle, info, members, inputs, add_openvino)


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


def _track(tracker: Tracker, config: Config, paths: Paths, metrics: Json) -> None:
    with tracker:
        tracker.resume()
        tracker.log_metrics(_flat_metrics(metrics))
        tracker.log_artifact(paths.metrics)
        tracker.log_artifacts(paths.plots, "plots")
        tracker.register(paths.bundle, config.name)


def _flat_metrics(metrics: Json) -> dict[str, float]:
    """MLflow's names: the value under the metric's own, then its interval and its spread over folds."""
    flat: dict[str, float | None] = {}
    for name in METRICS:
        figure = metrics[name]
        folds = [value for value in figure["fold_values"] if value is not None]
        flat |= {name: figure["value"], f"{name}_ci_low": figure["ci_low"], f"{name}_ci_high": figure["ci_high"]}
        flat[f"{name}_std"] = float(np.std(folds, ddof=1)) if len(folds) > 1 else None
    for name, figure in metrics.get("binary", {}).items():
        if isinstance(figure, dict):
            flat[name] = figure["value"]
    for name, row in metrics["per_class"].items():
        flat[f"f1_class_{name}"] = row["f1"]["value"]
    return {name: value for name, value in flat.items() if value is not None}
