"""`models`: the ResNeXt family and what its members cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from microscopy_cls.cli.main import command
from microscopy_cls.cli.text import wrapped
from microscopy_cls.errors import ConfigError

if TYPE_CHECKING:
    from microscopy_cls.model.zoo import Entry

EXPLAINED = (
    "GMACs: multiply-adds of convolutions and matrix products. GFLOPs: these, plus twice the normalised values, the "
    "activations and the pooled values. Top-1: on ImageNet-1k, published, each at its own image size. Weights: what "
    "model.weights: imagenet starts from; \"-\" has none that are free for commercial use. Others are named with their "
    "tag, model.name: NAME.TAG."
)  # fmt: skip


@command
def models(
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="A name or a shell pattern over all of timm's.")
    ] = "*resnext*",
    size: Annotated[
        int, typer.Option(min=32, max=1024, metavar="PX", help="Side of the image that operations are counted for.")
    ] = 224,
    as_json: Annotated[bool, typer.Option("--json", help="A list of objects instead of a table.")] = False,
) -> None:
    """Show the ResNeXt family: parameters, FLOPs, published top-1, weights and their licence. Downloads nothing."""
    from microscopy_cls.model.zoo import entry, list_models

    names = list_models(pattern)
    if not names:
        raise ConfigError(_nothing(pattern))
    entries = [entry(name, size) for name in names]
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in entries], indent=2))
        return
    for line in _table(entries, size):
        typer.echo(line)


def _nothing(pattern: str) -> str:
    from microscopy_cls.model.zoo import list_models

    inside = list_models(f"*{pattern}*")
    hint = f'write "*{pattern}*" for {inside[0]} and others' if inside else '"*resnext*" lists the family'
    return f"{pattern}: no model has this name; {hint}"


def _table(entries: Sequence[Entry], size: int) -> Iterator[str]:
    width = max(len(one.name) for one in entries)
    tags = max(len(one.weights or "") for one in entries)
    yield f"{f'at {size} px':<{width}}  params M   GFLOPs    GMACs   top-1  {'weights':<{tags}}  licence"
    for one in entries:
        figures = f"{one.params_m:>8.2f} {_figure(one.gflops, 8)} {_figure(one.gmacs, 8)} {_figure(one.top1, 7)}"
        yield f"{one.name:<{width}}  {figures}  {one.weights or '-':<{tags}}  {one.licence or '-'}"
    yield ""
    yield from wrapped(EXPLAINED, "", "")
    unfit = [one.name for one in entries if one.gflops is None]
    if unfit:
        yield from wrapped(f"Not for images of {size} x {size} pixels: {', '.join(unfit)}.", "", "")


def _figure(value: float | None, width: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.2f}"
