"""`study`: train and compare a study's variants on one data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microscopy_cls.cli.main import ConfigPath, Overrides, command
from microscopy_cls.cli.text import wrapped
from microscopy_cls.config import Config, Paths

if TYPE_CHECKING:
    from microscopy_cls.tracking import Tracker


@command
def study(
    file: Annotated[Path, typer.Argument(metavar="STUDY", help="A file of configs/studies.")],
    config: ConfigPath,
    overrides: Overrides = None,
) -> None:
    """Train a study's variants on one data set and compare them; picks up where it stopped."""
    from microscopy_cls.config.study import load_study, study_config, variant_configs
    from microscopy_cls.evaluation.study import study_results
    from microscopy_cls.reporting.study_page import write_study_page
    from microscopy_cls.system.files import write_json

    asked = load_study(file)
    shared = study_config(asked, config, overrides or [])
    configs = variant_configs(asked, config, overrides or [])
    _prepare(shared, configs)
    for place, (name, settings) in enumerate(configs.items(), 1):
        typer.echo(f"{name} ({place} of {len(configs)}): {settings.model.title}")
        _train(settings, shared)
    results = study_results(asked, shared.name.removesuffix(f"-{asked.name}"), configs)
    _track(results, configs, shared)
    paths = Paths(shared.name)
    write_json(paths.reports / "study.json", results)
    write_study_page(results, paths.page)
    claim = results["claim"]
    for sentence in (f"Claim: {claim['sentence']}", claim["headline"], *claim["sentences"]):
        for line in wrapped(sentence, "", "  "):
            typer.echo(line)
    typer.echo(f"study: {paths.page}")


def _prepare(shared: Config, configs: Mapping[str, Config]) -> None:
    """Once for all variants, after a look at each: one that cannot be trained should not be found after hours."""
    from microscopy_cls.dataset.prepare import prepare
    from microscopy_cls.dataset.share import share_prepared
    from microscopy_cls.evaluation.names import check_name_of_run
    from microscopy_cls.model import check_shape

    for settings in configs.values():
        check_name_of_run(settings.name)
        check_shape(settings.model.name, settings.model.weights, settings.model.shape)
    paths = Paths(shared.name)
    prepare(shared, paths)
    for settings in configs.values():
        share_prepared(paths.prepared, Paths(settings.name).prepared)


def _train(settings: Config, shared: Config) -> None:
    """What is done already costs seconds: the run in the folder decides whether it is the same one."""
    from microscopy_cls.training.cross_validation import CrossValidation

    CrossValidation(settings, Paths(settings.name), _tracker(settings, shared)).run()


def _track(results: Mapping[str, Any], configs: Mapping[str, Config], shared: Config) -> None:
    """Tell MLflow which run is which variant, and how good it is."""
    for row in results["variants"]:
        with _tracker(configs[row["name"]], shared) as tracker:
            tracker.resume()
            tracker.set_tags({"study": results["name"], "variant": row["name"]})
            ends = {"": "value", "_ci_low": "ci_low", "_ci_high": "ci_high"}
            tracker.log_metrics(
                {f"{name}{end}": row[name][key] for name in ("accuracy", "f1_macro") for end, key in ends.items()}
            )


def _tracker(settings: Config, shared: Config) -> Tracker:
    """A run a variant, all in the study's experiment."""
    from microscopy_cls.tracking import open_tracker

    tracking, folder = settings.tracking, Paths(settings.name).runs
    return open_tracker(enabled=tracking.mlflow, uri=tracking.uri, experiment=shared.name, run_dir=folder)
