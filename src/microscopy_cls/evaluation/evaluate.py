"""From a finished run to figures, tables that DVC draws, and the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from microscopy_cls.config import Config, Paths
from microscopy_cls.dataset.manifest import class_names, trainable
from microscopy_cls.dataset.prepare import reading_of
from microscopy_cls.errors import ConfigError
from microscopy_cls.evaluation.assemble import assemble_bundle
from microscopy_cls.evaluation.calibration import reliability_table
from microscopy_cls.evaluation.doubt import doubt_report, fit_doubt
from microscopy_cls.evaluation.external_images import read_tests
from microscopy_cls.evaluation.finished import trained_manifest
from microscopy_cls.evaluation.held_out import read_held_out
from microscopy_cls.evaluation.metrics import Json, out_of_fold_metrics
from microscopy_cls.evaluation.novelty import novelty_report, try_strangers
from microscopy_cls.evaluation.refit import doubt_of_refit, refit_report
from microscopy_cls.evaluation.repeats import read_repeats, repeats_report
from microscopy_cls.evaluation.risk import risk_table
from microscopy_cls.evaluation.scores import METRICS, PER_CLASS
from microscopy_cls.evaluation.scrutiny import scrutinise
from microscopy_cls.evaluation.usual import looks_of
from microscopy_cls.system.files import sha256_of_json, write_csv, write_json
from microscopy_cls.tracking import Tracker


def evaluate(config: Config, paths: Paths, tracker: Tracker, state: Mapping[str, Any]) -> Json:
    """Write `metrics.json`, `label_errors.csv`, `cams.safetensors`, the plots' tables and the bundle; log and register.

    Args:
        state: the content of the finished run's `run_state.json`.

    Returns:
        The metrics; `fingerprint` is that of the run whose figures they are.

    Raises:
        DataError: the run does not belong to the manifest, its files do not belong together or lack a repeat, or the
            images were prepared with other settings; or a test set cannot be used.
        ConfigError: `evaluate.positive_class` is no class, or there are more than two.
    """
    manifest = trained_manifest(paths, state["identity"]["manifest"], reading_of(config))
    classes, positive = class_names(manifest), config.evaluate.positive_class
    _check_positive(positive, classes)
    oof = pd.read_parquet(paths.oof)
    groups = oof["image_id"].map(trainable(manifest).set_index("image_id")["split_group"])
    held_out = read_held_out(paths, oof, groups, classes)
    # Read before anything is written: a faulty test set would leave a new bundle beside old figures.
    tests = read_tests(config.data, reading_of(config), manifest, classes, paths.prepared, paths.external)
    resamples, seed = config.evaluate.bootstrap_samples, config.runtime.seed
    looks = looks_of(manifest, oof, paths.prepared)
    doubt = fit_doubt(held_out, looks, config.evaluate.target_coverage, resamples=resamples, seed=seed)
    metrics = {
        "name": config.name,
        "fingerprint": sha256_of_json(state["identity"]),
        **out_of_fold_metrics(oof, groups, classes, resamples=resamples, positive_class=positive),
        **doubt_report(held_out, doubt, resamples=resamples),
    }
    if config.folds.repeats > 1:
        metrics["repeats"] = repeats_report(read_repeats(paths, manifest, config.folds.repeats), classes)
    refitted = config.evaluate.bundle == "refit"
    folder = paths.tested if refitted else paths.bundle
    tested = kept = assemble_bundle(config, paths, manifest, metrics, doubt, state, folder)
    if refitted:
        metrics["refit"] = refit_report(paths)
        of_refit = doubt_of_refit(paths, manifest, oof["image_id"], held_out, doubt, tested, seed=seed)
        kept = assemble_bundle(config, paths, manifest, metrics, of_refit, state, paths.bundle)
    tried = try_strangers(tested.folder, tested.info, doubt.experience, held_out, doubt.novelty, seed=seed)
    metrics["novelty"] = novelty_report(held_out, looks, tried, resamples=resamples, seed=seed)
    calibrated = doubt.calibrated.probs
    metrics |= scrutinise(config, paths, manifest, oof, held_out, calibrated, tested, kept, metrics, tests)
    write_json(paths.metrics, metrics)
    _write_plots(paths, oof, metrics)
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
    write_csv(paths.plots / "reliability.csv", reliability_table(metrics["calibration"]))
    write_csv(paths.plots / "risk_coverage.csv", risk_table(metrics["risk_coverage"]))


def _track(tracker: Tracker, config: Config, paths: Paths, metrics: Json) -> None:
    with tracker:
        tracker.resume()
        tracker.log_metrics(_flat_metrics(metrics))
        tracker.set_tags(metrics["verdicts"])  # so that a dashboard filters by leakage = pass
        for file in (paths.metrics, paths.audit, paths.label_errors):
            tracker.log_artifact(file)
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
    flat |= {
        "ece_after": metrics["calibration"]["ece_after"]["value"],
        "conformal_coverage": metrics["conformal"]["coverage"]["value"],
        "referred_share": metrics["risk_coverage"]["referred"]["share"]["value"],
    }
    for name, figure in metrics.get("binary", {}).items():
        if isinstance(figure, dict):
            flat[name] = figure["value"]
    for name, row in metrics["per_class"].items():
        flat[f"f1_class_{name}"] = row["f1"]["value"]
    repeats = metrics.get("repeats") or {}
    for name in METRICS if repeats else ():
        flat |= {f"{name}_repeat_mean": repeats[name]["mean"], f"{name}_repeat_std": repeats[name]["std"]}
    for prefix, section in (("test_split", "test_split"), ("external", "external_test")):
        for name in ("accuracy", "f1_macro") if metrics[section] else ():
            flat[f"{prefix}_{name}"] = metrics[section][name]["value"]
    return {name: value for name, value in flat.items() if value is not None}
