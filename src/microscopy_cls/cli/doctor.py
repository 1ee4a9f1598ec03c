"""`doctor`: what works on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from microscopy_cls.cli.main import command
from microscopy_cls.cli.text import wrapped
from microscopy_cls.errors import MicroscopyError

if TYPE_CHECKING:
    from microscopy_cls.cli.checks import Check


@command
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="A list of objects instead of a table.")] = False,
) -> None:
    """Show what works here: device, engines, readers, MLflow, DVC, disk. Asks nothing of the network."""
    from microscopy_cls.cli.checks import all_checks

    sections = all_checks()
    if as_json:
        rows = [{"section": section, **asdict(check)} for section, checks in sections.items() for check in checks]
        typer.echo(json.dumps(rows, indent=2))
    else:
        typer.echo(_table(sections))
    broken = [check for checks in sections.values() for check in checks if check.essential and check.status != "ok"]
    if broken:
        told = "".join(f"\n  {check.name}: {check.detail}. {check.advice}" for check in broken)
        raise MicroscopyError(f"something that all commands need is missing:{told}")


def _table(sections: Mapping[str, Sequence[Check]]) -> str:
    name_width = max(len(check.name) for checks in sections.values() for check in checks)
    lines = []
    for section, checks in sections.items():
        lines += [section, *(line for check in checks for line in _row(check, name_width)), ""]
    advised = [check.name for checks in sections.values() for check in checks if check.advice]
    return "\n".join([*lines, f"To look at: {', '.join(advised)}." if advised else "Nothing needs to be done."])


def _row(check: Check, name_width: int) -> Iterator[str]:
    first = f"  {check.status:<8} {check.name:<{name_width}}  "
    blank = " " * len(first)
    yield from wrapped(check.detail, first, blank)
    if check.advice:
        yield from wrapped(check.advice, f"{blank}-> ", f"{blank}   ")
