"""`ensemble`: several finished runs as one model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from microscopy_cls.cli.compare import table_of
from microscopy_cls.cli.main import command

if TYPE_CHECKING:
    from microscopy_cls.evaluation.ensemble import Ensembled


@command
def ensemble(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Evaluated runs on the same folds.")],
    name: Annotated[str, typer.Option("--name", help="Of the ensemble: its bundle, figures and page.")],
    as_json: Annotated[bool, typer.Option("--json", help="The metrics as an object instead of text.")] = False,
) -> None:
    """Average runs (other seeds, strategies, architectures); scored on images that no member in use ever saw."""
    from microscopy_cls.evaluation.ensemble import ensemble as run
    from microscopy_cls.reporting import write_report

    done = run(names, name)
    page = write_report(done.config, done.paths)
    if as_json:
        typer.echo(json.dumps(done.metrics, indent=2, ensure_ascii=False))
        return
    typer.echo("\n".join(_lines(done)))
    typer.echo(f"metrics: {done.paths.metrics}\nmodel: {done.paths.bundle}\nreport: {page}")


def _lines(done: Ensembled) -> Iterator[str]:
    found = done.metrics["ensemble"]
    width = max(len(run["name"]) for run in found["runs"])
    yield "each calibrated, out of fold:"
    for run in found["runs"]:
        yield f"  {run['name']:<{width}}  accuracy {run['accuracy']:.3f}, log loss {run['log_loss']:.3f}"
    yield ""
    yield from table_of(found["compared"])
    yield ""
