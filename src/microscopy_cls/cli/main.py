"""`microscopy-cls`: options of all commands, and what an error or an interruption looks like.

Exit codes: 0 all done; 1 unexpected fault; 2 usage, config or data error; 130 interrupted. Results go to stdout,
logs and progress to stderr. Heavy imports stand inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import functools
import logging
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from microscopy_cls import __version__
from microscopy_cls.errors import MicroscopyError
from microscopy_cls.system import environment

environment.set_defaults()

USAGE, SOME_FAILED, INTERRUPTED = 2, 3, 130
CHATTY = (
    "accelerate", "alembic", "filelock", "httpx", "matplotlib", "mlflow", "onnx_ir", "onnxscript", "optuna", "PIL",
    "tifffile", "timm", "urllib3",
)  # fmt: skip
Arguments = ParamSpec("Arguments")

app = typer.Typer(
    name="microscopy-cls",
    help="Image classifiers whose numbers you can believe. Research software, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigPath = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The experiment's YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as in finetune.epochs=5.")
]


def command(body: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Register a command named like its function; expected errors are one message, without a traceback."""
    told = guarded(body)
    app.command(name=body.__name__.replace("_", "-"))(told)
    return told


def guarded(body: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """The same command, its expected errors being one message, without a traceback."""

    @functools.wraps(body)
    def told(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            body(*args, **kwargs)
        except MicroscopyError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(USAGE) from None
        except KeyboardInterrupt:
            again = shlex.join(["microscopy-cls", *sys.argv[1:]])
            typer.echo(f"\ninterrupted; what is finished is saved. Go on with: {again}", err=True)
            raise typer.Exit(INTERRUPTED) from None

    return told


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"microscopy-cls {__version__}")
        raise typer.Exit


@app.callback()
def options(
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    version: Annotated[  # noqa: ARG001  its callback acts
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Set up what all commands share."""
    if log_level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise typer.BadParameter(f"{log_level}: choose debug, info, warning or error", param_hint="--log-level")
    logging.basicConfig(
        level=log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)


def main() -> None:
    """Entry point."""
    from microscopy_cls.cli import (  # noqa: F401  registers them
        commands,
        compare,
        datasets,
        doctor,
        ensemble,
        export,
        find_lr,
        init,
        models,
        soup,
        study,
    )

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # batch systems ask with it: save and go, like Ctrl-C
    app()
