"""`soup`: one network from the members of a run, where it is worth it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from microscopy_cls.cli.main import command
from microscopy_cls.cli.text import wrapped

if TYPE_CHECKING:
    from microscopy_cls.evaluation.soup import Souped


@command
def soup(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An evaluated run with a test split or data.test.")],
    new: Annotated[str | None, typer.Option("--name", help="Of the soup; by default NAME-soup.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Write the bundle whatever it is worth.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as an object instead of text.")] = False,
) -> None:
    """Average the weights of a run's members; scored on images that no member saw."""
    from microscopy_cls.config import Paths
    from microscopy_cls.evaluation.soup import REPORT
    from microscopy_cls.evaluation.soup import soup as run

    new = new or f"{name}-soup"
    done = run(name, new, keep=keep)
    if as_json:
        typer.echo(json.dumps(done.report, indent=2, ensure_ascii=False))
        return
    typer.echo("\n".join(_lines(done)))
    typer.echo(f"report: {Paths(new).reports / REPORT}")


def _lines(done: Souped) -> Iterator[str]:
    from microscopy_cls.evaluation.compare import WORDS

    found = done.report
    yield f"{found['num_images']} images in {found['num_groups']} groups that no member saw ({found['source']})"
    yield ""
    yield f"{'':<19}{'soup':>8}{'a member':>10}{'all':>8}   {'soup - a member':<27} soup - all"
    for name, word in WORDS.items():
        soup_, alone, whole = (found[kind][name]["value"] for kind in ("soup", "members", "ensemble"))
        gains = [_gain(found[kind][name]) for kind in ("gain_over_members", "gain_over_ensemble")]
        yield f"{word:<19}{soup_:>8.3f}{alone:>10.3f}{whole:>8.3f}   {gains[0]:<27} {gains[1]}"
    yield ""
    yield from wrapped(found["verdict"], "", "")
    for caution in found["cautions"]:
        yield from wrapped(caution, "! ", "  ")
    if done.bundle is None:
        told = "The soup is less accurate than its members on average, and was not written (--keep writes it)."
        yield from wrapped(told, "", "")
    else:
        yield f"model: {done.bundle}"


def _gain(figure: dict[str, float]) -> str:
    return f"{figure['value']:+.3f} [{figure['ci_low']:+.3f}, {figure['ci_high']:+.3f}]"
