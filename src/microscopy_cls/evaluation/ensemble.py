"""Several finished runs as one model: figures out of fold, what it gains over its best run, and the bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from microscopy_cls.config import Config, Paths
from microscopy_cls.config.paths import EnsemblePaths
from microscopy_cls.dataset.manifest import manifest_digest, read_manifest, trainable
from microscopy_cls.dataset.prepare import reading_of
from microscopy_cls.errors import DataError
from microscopy_cls.evaluation.assemble import Bundle, headline
from microscopy_cls.evaluation.audit.answers import score_answers, task_of
from microscopy_cls.evaluation.audit.audit import current_audit
from microscopy_cls.evaluation.audit.judge import judge_shortcuts
from microscopy_cls.evaluation.compare import compare_runs
from microscopy_cls.evaluation.doubt import Doubt, doubt_of_bundle, doubt_report, fit_doubt
from microscopy_cls.evaluation.ensemble_parts import EnsemblePart, best_of, check_parts, read_part, together, with_probs
from microscopy_cls.evaluation.external_images import read_tests
from microscopy_cls.evaluation.finished import FinishedRun
from microscopy_cls.evaluation.held_out import HeldOut
from microscopy_cls.evaluation.label_errors import find_label_errors, listed_label_errors
from microscopy_cls.evaluation.metrics import Json, out_of_fold_metrics
from microscopy_cls.evaluation.names import check_name
from microscopy_cls.evaluation.novelty import novelty_report, try_strangers
from microscopy_cls.evaluation.scrutiny import judge_calibration, tested_outside
from microscopy_cls.evaluation.usual import looks_of
from microscopy_cls.model.ensemble import write_ensemble
from microscopy_cls.system.files import atomic_path, sha256_of_json, write_csv, write_json, write_parquet
from microscopy_cls.system.versions import git_commit, software_versions

CHOSEN = (
    "The best run was chosen by its accuracy on these same images, which flatters it: on new images it would stand a "
    "little worse beside the ensemble."
)


@dataclass(frozen=True)
class Ensembled:
    """What came of it.

    Attributes:
        paths: of the ensemble.
        config: of the first run, under the ensemble's name and with a notice: what a page needs to know.
        metrics: as `evaluate` has them, with the section `ensemble`.
    """

    paths: Paths
    config: Config
    metrics: Json


def ensemble(names: list[str], name: str) -> Ensembled:
    """Average evaluated runs on the same folds; write the bundle, `metrics.json` and the files of a run.

    The order of the names does not matter. Nothing is registered.

    Args:
        names: of the runs, two or more.
        name: of the ensemble.

    Raises:
        DataError: too few names or one twice, the ensemble's name is taken, a run is not finished, or they are not of
            the same images and folds.
        ConfigError: the ensemble's name cannot name a folder.
        BundleError: a run was not evaluated, or they read images differently.
    """
    _check_names(names, name)
    parts = [read_part(one) for one in sorted(names)]
    check_parts(parts)
    first = parts[0]
    config, paths = first.config, EnsemblePaths(name, first.name)
    manifest, classes = read_manifest(paths.manifest), first.run.classes
    tests = read_tests(config.data, reading_of(config), manifest, classes, paths.prepared, paths.external)
    held_out, resamples, seed = together(parts), config.evaluate.bootstrap_samples, config.runtime.seed
    target = config.evaluate.target_coverage
    oof = _oof(first.run, held_out)
    looks = looks_of(manifest, oof, paths.prepared)
    doubt = fit_doubt(held_out, looks, target, resamples=resamples, seed=seed, methods=("temperature",))
    groups = pd.Series(held_out.groups, index=oof.index)
    positive = config.evaluate.positive_class
    identity = _identity(parts, manifest_digest(manifest))
    metrics = {
        "name": name,
        "fingerprint": sha256_of_json(identity),
        **out_of_fold_metrics(oof, groups, classes, resamples=resamples, positive_class=positive),
        **doubt_report(held_out, doubt, resamples=resamples),
        "ensemble": _gain(parts, name, doubt),
    }
    folders = {part.name: part.bundle.folder for part in parts}
    info = write_ensemble(paths.bundle, _info(parts, name, doubt, metrics), folders)
    tried = try_strangers(first.bundle.folder, first.info, doubt.experience, held_out, doubt.novelty, seed=seed)
    metrics["novelty"] = novelty_report(held_out, looks, tried, resamples=resamples, seed=seed)
    metrics |= _scrutinised(config, paths, manifest, oof, held_out, metrics)
    whole, calibrated = Bundle(paths.bundle, info), doubt.calibrated.probs
    for section, test in tests.items():
        outside = None if test is None else tested_outside(test, whole, held_out, calibrated, resamples=resamples)
        metrics[section] = outside
    write_json(paths.metrics, metrics)
    _write_run(paths, oof, held_out, parts, identity)
    return Ensembled(paths, _told(config, parts, name), metrics)


def _check_names(names: list[str], name: str) -> None:
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        raise DataError(f"{', '.join(twice)}: named twice, and an ensemble of a run with itself is that run.")
    if len(names) < 2:
        raise DataError(f"{', '.join(names)}: an ensemble needs two runs or more. Name another on the same folds.")
    check_name(name, "an ensemble")


def _oof(run: FinishedRun, held_out: HeldOut) -> pd.DataFrame:
    """The out-of-fold table, `image_id, fold, label, predicted, prob_<class>...`."""
    table = with_probs(run, held_out.probs).images.reset_index(names="image_id")
    table["predicted"] = np.array(run.classes, dtype=object)[held_out.logits.argmax(1)]
    return table[["image_id", "fold", "label", "predicted", *(f"prob_{label}" for label in run.classes)]]


def _gain(parts: list[EnsemblePart], name: str, doubt: Doubt) -> Json:
    """The section `ensemble`: each run's figures, and the paired comparison with the best of them, all calibrated."""
    best = best_of(parts)
    images = with_probs(best.run, doubt.calibrated.probs).images
    settings = {"ensemble": dict.fromkeys(part.name for part in parts)}
    compared = compare_runs(best.run, FinishedRun(name, images, best.run.classes, settings))
    compared["cautions"].append(CHOSEN)
    return {
        "runs": [
            {"name": part.name, "model": part.config.model.title, "strategy": part.config.finetune.strategy}
            | {"seed": part.config.runtime.seed, "size_px": part.info.preprocessing.size_px}
            | part.scores
            for part in parts
        ],
        "best": best.name,
        "compared": compared,
    }


def _info(parts: list[EnsemblePart], name: str, doubt: Doubt, metrics: Json) -> Json:
    """The fields of `bundle.json`."""
    first = parts[0].info
    return first.model_dump(include={"classes", "preprocessing", "field_px", "field_um", "slide_rule"}) | {
        "name": name,
        "architecture": _architectures(parts),
        "weights": {part.name: part.info.weights for part in parts},
        **doubt_of_bundle(doubt),
        "positive_class": metrics.get("binary", {}).get("positive_class"),
        "training_data": first.training_data | {"num_groups": metrics["num_groups"]},
        "metrics": headline(metrics),
        "config": {"name": name, "ensemble": [part.name for part in parts]},
        "versions": software_versions(),
        "git_commit": git_commit(Path.cwd()),
    }


def _architectures(parts: list[EnsemblePart]) -> str:
    return " + ".join(dict.fromkeys(part.config.model.title for part in parts))


def _scrutinised(
    config: Config, paths: Paths, manifest: pd.DataFrame, oof: pd.DataFrame, held_out: HeldOut, metrics: Json
) -> Json:
    """The verdicts, without those that need a network's own maps or answers to changed images; suspected labels."""
    images = trainable(manifest).set_index("image_id").loc[oof["image_id"]]
    errors = find_label_errors(oof, images["path"], list(held_out.classes))
    write_csv(paths.label_errors, errors)
    audit = current_audit(config, Paths(paths.images_of) if isinstance(paths, EnsemblePaths) else paths)
    task = task_of(images, config.evaluate.bootstrap_samples, config.runtime.seed)
    scores = score_answers(task, held_out.logits.argmax(1))
    found, *on_shortcuts = judge_shortcuts(audit["shortcuts"], scores, "model")
    judged = {"shortcuts": tuple(on_shortcuts), "calibration": judge_calibration(metrics["calibration"])}
    return {
        "verdicts": audit["verdicts"] | {question: verdict for question, (verdict, _) in judged.items()},
        "reasons": audit["reasons"] | {question: reason for question, (_, reason) in judged.items()},
        "audit": audit | {"shortcuts": found},
        "label_errors": listed_label_errors(errors),
    }


def _identity(parts: list[EnsemblePart], digest: str) -> Json:
    """What the ensemble is made of; `digest` is the manifest's."""
    runs = {part.name: part.state.get("fingerprint") for part in parts}
    return {"ensemble": runs, "images_of": parts[0].name, "manifest": digest}


def _write_run(paths: Paths, oof: pd.DataFrame, held_out: HeldOut, parts: list[EnsemblePart], identity: Json) -> None:
    """What later commands look for in a run's folder; the curves are the first run's."""
    write_parquet(paths.oof, oof)
    for key, array in (("logits", held_out.logits.astype(np.float32)), ("features", held_out.features)):
        with atomic_path(paths.runs / f"oof_{key}.safetensors") as temporary:
            save_file({key: np.ascontiguousarray(array)}, temporary)
    write_csv(paths.curves, pd.read_csv(Paths(parts[0].name).curves))
    state = {
        "fingerprint": sha256_of_json(identity), "identity": identity,
        "weights": {part.name: part.state["weights"] for part in parts},
        "versions": software_versions(), "git_commit": git_commit(Path.cwd()),
        "seconds": sum(part.state.get("seconds", 0) for part in parts), "finished": True,
    }  # fmt: skip
    write_json(paths.runs / "run_state.json", state)


def _told(config: Config, parts: list[EnsemblePart], name: str) -> Config:
    """The first run's config with the ensemble's name and network, and a sentence that says what it is."""
    names = ", ".join(part.name for part in parts)
    notice = (
        f"An ensemble: the mean of the calibrated answers of {names}, each image answered by members that never saw "
        f"it. The learning curves below are those of {parts[0].name}; no part of an image was hidden from it."
    )
    if config.data.notice:
        notice = f"{config.data.notice} {notice}"
    model = config.model.model_copy(update={"name": _architectures(parts)})
    data = config.data.model_copy(update={"notice": notice})
    return config.model_copy(update={"name": name, "model": model, "data": data})
