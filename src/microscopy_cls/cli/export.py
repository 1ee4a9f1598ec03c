"""`export`: a trained model for programs that do not know this one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from microscopy_cls.cli.main import command


@command
def export(
    model: Annotated[str, typer.Option("--model", "-m", help="A bundle folder or models:/NAME@champion.")],
    kind: Annotated[str, typer.Option("--format", help="onnx or openvino.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="A folder of its own.")],
    members: Annotated[str, typer.Option(help="all, a number, or one such as fold_0.")] = "all",
    uri: Annotated[str, typer.Option(help="MLflow's store, for models named by address.")] = "sqlite:///mlflow.db",
) -> None:
    """Write a portable model, preprocessing and calibration inside, checked equal to torch on real images."""
    from microscopy_cls.inference.classifier import bundle_folder
    from microscopy_cls.inference.portable import FORMATS, TOLERANCE, export_bundle

    if kind not in FORMATS:
        raise typer.BadParameter(f"{kind}: choose {' or '.join(FORMATS)}", param_hint="--format")
    done = export_bundle(bundle_folder(model, uri), out, kind, members)
    found = done.difference
    typer.echo(f"largest difference from torch on {found.num_images} images: {found}; let through: {TOLERANCE:.0e}")
    typer.echo(f"model: {done.model} ({len(done.members)} {'member' if len(done.members) == 1 else 'members'})")
    typer.echo(f"note: {done.note}")
