"""The commands: parse, load the config, one library call, print."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microscopy_cls.cli.main import SOME_FAILED, ConfigPath, Overrides, command
from microscopy_cls.cli.text import wrapped
from microscopy_cls.config import Config, Paths, load_config

if TYPE_CHECKING:
    from microscopy_cls.tracking import Tracker


@command
def sample(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to draw.")],
    seed: Annotated[int, typer.Option(help="Other pictures for another seed.")] = 0,
    faults: Annotated[str, typer.Option(help="Planted faults: all or none.")] = "all",
) -> None:
    """Draw the demo sets: organism micrographs, chest-scan phantoms, one slide."""
    from microscopy_cls.samples import draw_samples

    if faults not in {"all", "none"}:
        raise typer.BadParameter(f"{faults}: choose all or none", param_hint="--faults")
    for name, num_files in draw_samples(out, seed=seed, faults=faults == "all").items():
        typer.echo(f"{out / name}: {num_files} files")


@command
def prepare(config: ConfigPath, overrides: Overrides = None) -> None:
    """Find, read, verify and hash the images, find duplicates, divide into folds, cache the pixels."""
    from microscopy_cls.dataset.manifest import num_folds
    from microscopy_cls.dataset.prepare import prepare as run

    settings, paths = _load(config, overrides)
    prepared = run(settings, paths)
    usable = prepared.counts.get("ok", 0)
    others = [f"{count} {status}" for status, count in prepared.counts.items() if status != "ok"]
    if prepared.num_ignored:
        others.append(f"{prepared.num_ignored} ignored (no image's ending, or in no class folder)")
    groups = prepared.manifest.loc[prepared.manifest["fold"] >= 0, "split_group"].nunique()
    folds = f"{num_folds(prepared.manifest)} folds"
    if settings.folds.repeats > 1:
        folds += f", divided {settings.folds.repeats} times"
    typer.echo(f"{usable} usable images in {groups} groups, {folds}" + "".join(f"; {o}" for o in others))
    typer.echo(f"manifest: {paths.manifest}")


@command
def audit(config: ConfigPath, overrides: Overrides = None) -> None:
    """Report on copies, leakage, shortcuts and picture quality; needs no model."""
    from microscopy_cls.evaluation.audit.audit import audit as run

    settings, paths = _load(config, overrides)
    found = run(settings, paths)
    _show_verdicts(found["verdicts"], found["reasons"])
    typer.echo(f"audit: {paths.audit}")


@command
def train(
    config: ConfigPath,
    overrides: Overrides = None,
    fold: Annotated[int | None, typer.Option(min=0, help="Only this fold, of every repeat.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what an earlier command left.")] = False,
) -> None:
    """Fine-tune every fold of every repeat, and refit; picks up where it stopped."""
    settings, paths = _load_run(config, overrides)
    if fold is not None and fold >= (num := num_folds_of(settings, paths)):
        raise typer.BadParameter(f"{fold}: folds are 0 to {num - 1}", param_hint="--fold")
    from microscopy_cls.training.cross_validation import CrossValidation

    table = CrossValidation(settings, paths, _tracker(settings, paths), restart=restart).run(fold)
    if table is None and fold is not None:
        typer.echo(f"fold {fold} is done; others are not yet")
    if table is not None:
        from microscopy_cls.evaluation.metrics import first_metrics

        _show_headline(first_metrics(settings, paths))
        typer.echo(f"{len(table)} images predicted out of fold: {paths.oof}")


@command
def evaluate(config: ConfigPath, overrides: Overrides = None) -> None:
    """Out-of-fold metrics with intervals; assembles and registers the bundle."""
    from microscopy_cls.evaluation.evaluate import evaluate as run

    settings, paths = _load_run(config, overrides)
    state = _finished_run(settings, paths)
    metrics = run(settings, paths, _tracker(settings, paths), state)
    _show_headline(metrics)
    _show_verdicts(
        {key: verdict for key, verdict in metrics["verdicts"].items() if verdict != "pass"}, metrics["reasons"]
    )
    typer.echo(f"metrics: {paths.metrics}\nmodel: {paths.bundle}")


def _show_verdicts(verdicts: Mapping[str, str], reasons: Mapping[str, str]) -> None:
    for question, verdict in verdicts.items():
        for line in wrapped(reasons[question], f"{question:<12}{verdict:<6}", " " * 18):
            typer.echo(line)


def _show_headline(metrics: Mapping[str, Any]) -> None:
    for name in ("accuracy", "f1_macro"):
        figure = metrics[name]
        typer.echo(f"{name} {figure['value']:.3f} [{figure['ci_low']:.3f}, {figure['ci_high']:.3f}]")


@command
def report(config: ConfigPath, overrides: Overrides = None) -> None:
    """Write one self-contained page."""
    from microscopy_cls.reporting import write_report

    settings, paths = _load(config, overrides)
    _finished_run(settings, paths)
    page = write_report(settings, paths)
    with _tracker(settings, paths) as tracker:
        tracker.resume()
        tracker.log_artifact(page)
    typer.echo(f"report: {page}")


@command
def classify(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders, patterns, tables with a path column, or -.")
    ],
    model: Annotated[
        list[str], typer.Option("--model", "-m", help="A bundle folder or models:/NAME@champion; several are averaged.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where results go, and go on.")],
    engine: Annotated[str, typer.Option(help="auto, torch, openvino or onnx.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or int8.")] = "auto",
    tta: Annotated[
        bool, typer.Option("--tta", help="Average over mirrored views, where the modality allows it.")
    ] = False,
    members: Annotated[str, typer.Option(help="all, a number, or one such as fold_0.")] = "all",
    mpp: Annotated[float | None, typer.Option(min=0.001, help="Microns per pixel of all slides.")] = None,
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds that an input may take without progress.")] = 300,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew.")] = False,
    uri: Annotated[str, typer.Option(help="MLflow's store, for models named by address.")] = "sqlite:///mlflow.db",
) -> None:
    """Classify images and slides into a table, a row an input; picks up where it stopped."""
    from microscopy_cls.inference.batch.classify import Request
    from microscopy_cls.inference.batch.classify import classify as run
    from microscopy_cls.inference.batch.inputs import find_inputs
    from microscopy_cls.inference.classifier import bundle_folder
    from microscopy_cls.inference.predictor import open_predictor

    arguments = {
        "inputs": inputs,
        "model": model,
        "engine": engine,
        "precision": precision,
        "tta": tta,
        "members": members,
        "mpp": mpp,
        "time_limit": time_limit,
    }
    found = find_inputs(inputs, sys.stdin)
    folders = [bundle_folder(name, uri) for name in model]
    predictor = open_predictor(
        folders, engine=engine, precision=precision, members=members, tta=tta, num_images=len(found)
    )
    summary = run(Request(found, out, mpp, time_limit, overwrite, arguments), predictor)
    for line in summary.lines():
        typer.echo(line)
    typer.echo(f"predictions: {out / 'predictions.csv'}")
    typer.echo(f"page: {out / 'index.html'}")
    if summary.num_failed:
        raise typer.Exit(SOME_FAILED)


@command
def promote(
    name: Annotated[str, typer.Argument(help="The registered model: the config's name.")],
    version: Annotated[int | None, typer.Option(help="This version instead of the candidate.")] = None,
    uri: Annotated[str, typer.Option(help="MLflow's store.")] = "sqlite:///mlflow.db",
) -> None:
    """Give the registered candidate the alias champion."""
    from microscopy_cls.tracking import promote as run

    typer.echo(f"{name} version {run(uri, name, version)} is now the champion: models:/{name}@champion")


def _load(config: Path, overrides: list[str] | None) -> tuple[Config, Paths]:
    settings = load_config(config, overrides or [])
    return settings, Paths(settings.name)


def _load_run(config: Path, overrides: list[str] | None) -> tuple[Config, Paths]:
    """For commands that write what an ensemble or a soup of the same name would lose."""
    from microscopy_cls.evaluation.names import check_name_of_run

    settings, paths = _load(config, overrides)
    check_name_of_run(settings.name)
    return settings, paths


def num_folds_of(settings: Config, paths: Paths) -> int:
    """As configured; one a group is known from the manifest alone."""
    from microscopy_cls.dataset.manifest import num_folds, read_manifest

    if settings.folds.scheme == "stratified":
        return settings.folds.num
    return num_folds(read_manifest(paths.manifest))


def _tracker(settings: Config, paths: Paths) -> Tracker:
    from microscopy_cls.tracking import open_tracker

    return open_tracker(
        enabled=settings.tracking.mlflow, uri=settings.tracking.uri, experiment=settings.name, run_dir=paths.runs
    )


def _finished_run(settings: Config, paths: Paths) -> dict[str, object]:
    from dataclasses import asdict

    from microscopy_cls.training.run_state import require_finished

    return asdict(require_finished(paths.runs, settings))
