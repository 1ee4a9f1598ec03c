"""`find-lr`: which learning rate to begin with."""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from microscopy_cls.cli.commands import num_folds_of
from microscopy_cls.cli.main import ConfigPath, Overrides, command
from microscopy_cls.cli.text import wrapped
from microscopy_cls.config import Paths, load_config

if TYPE_CHECKING:
    from microscopy_cls.training.range_test import RangeTest


@command
def find_lr(
    config: ConfigPath,
    overrides: Overrides = None,
    fold: Annotated[int, typer.Option(min=0, help="Whose training images; its test images take no part.")] = 0,
    steps: Annotated[int, typer.Option(help="Steps from the slowest rate to the fastest.")] = 100,
) -> None:
    """Find a learning rate: a short training at growing rates, of which only the curve is kept."""
    settings = load_config(config, overrides or [])
    paths = Paths(settings.name)
    if fold >= (num := num_folds_of(settings, paths)):
        raise typer.BadParameter(f"{fold}: folds are 0 to {num - 1}", param_hint="--fold")
    from microscopy_cls.reporting.learning_rate import write_range_test
    from microscopy_cls.training.range_test import find_learning_rate

    found = find_learning_rate(settings, fold, steps)
    table, picture = write_range_test(found, paths.reports)
    rate = f"{found.suggestion:.2g}"
    for line in wrapped(told(found), "", ""):
        typer.echo(line)
    given = [
        part for one in overrides or [] if not one.startswith("finetune.learning_rate=") for part in ("--set", one)
    ]
    again = ["microscopy-cls", "train", "-c", str(config), *given, "--set", f"finetune.learning_rate={rate}"]
    typer.echo(f"use it: {shlex.join(again)}")
    typer.echo(f"curve: {picture}\ntable: {table}")


def told(found: RangeTest) -> str:
    """The suggestion and where it comes from, in a sentence."""
    turned = "beyond that the loss rose for good" if found.rose else "even there, at the fastest, it had not risen"
    share, begun = found.peak / found.suggestion, ""
    if not math.isclose(share, 1):
        begun = f"the fitted head begins with {share:.2g} of it, {found.peak:.2g}, which is "
    return f"learning rate {found.suggestion:.2g}: {begun}a tenth of {found.turn:.2g}, {turned}"
