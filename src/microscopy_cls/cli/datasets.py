"""`datasets`: the catalogue of public sets, and fetching one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microscopy_cls.cli.main import app, guarded
from microscopy_cls.cli.text import wrapped

if TYPE_CHECKING:
    from microscopy_cls.dataset.catalogue import Entry, Fetched

catalogue = typer.Typer(help="List public sets, and fetch one with its groups.", no_args_is_help=True)
app.add_typer(catalogue, name="datasets")

NAME_WIDTH = 18


@catalogue.command("list")
@guarded
def list_sets(
    as_json: Annotated[bool, typer.Option("--json", help="A list of objects instead of a table.")] = False,
) -> None:
    """Show the public sets: source, pinned revision, licence, citation, what was published. Asks no network."""
    from microscopy_cls.dataset.catalogue import load_catalogue

    entries = load_catalogue()
    if as_json:
        typer.echo(json.dumps([_object(entry) for entry in entries], indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(_table(entries)))


@catalogue.command("fetch")
@guarded
def fetch_set(
    name: Annotated[str, typer.Argument(help="A set of the catalogue, as `datasets list` names it.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Its folder; otherwise data/raw/NAME.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="URL", help="A mirror: another address of its repository.")
    ] = None,
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds that a request for 64 files may take.")] = 600,
) -> None:
    """Fetch a set's pinned revision, verify it, and lay it out as its config expects; goes on where it stopped."""
    from microscopy_cls.dataset.catalogue import fetch, find_entry, load_catalogue

    entry = find_entry(name, load_catalogue())
    done = fetch(entry, out or entry.folder, source, time_limit)
    typer.echo("\n".join(_done(entry, done)))


def _object(entry: Entry) -> dict[str, object]:
    return entry.model_dump(mode="json", exclude={"layout"}) | {"fetchable": not entry.steps}


def _table(entries: Sequence[Entry]) -> Iterator[str]:
    """A line a set, then a paragraph each: what does not fit into columns matters as much as what does."""
    yield f"{'set':<{NAME_WIDTH}}{'images':>8}{'classes':>9}  {'how':<9}config"
    for entry in entries:
        images = "-" if entry.num_images is None else f"{entry.num_images:,}"
        how = "by hand" if entry.steps else "fetch"
        yield f"{entry.name:<{NAME_WIDTH}}{images:>8}{entry.num_classes:>9}  {how:<9}{entry.config_path.as_posix()}"
    yield ""
    for entry in entries:
        yield from _row(entry.name, entry.title)
        yield from _row("  source", f"{entry.source}{f' at {entry.revision}' if entry.revision else ''}")
        yield from _row("  groups", entry.groups)
        for published in entry.published:
            yield from _row("  published", f"{published.result}. Protocol: {published.protocol}")
        for caution in entry.cautions:
            yield from _row("  caution", caution)
        yield from _row("  licence", entry.licence)
        yield from _row("  cite", entry.citation)
        for number, step in enumerate(entry.steps, 1):
            yield from _row(f"  step {number}", step)
        yield ""
    yield "Fetch one: microscopy-cls datasets fetch NAME. Those by hand need a login or are no git repository."


def _done(entry: Entry, done: Fetched) -> Iterator[str]:
    groups = f" in {done.num_groups} groups" if done.num_groups else ", no groups known"
    state = "is there already and whole" if done.already else "fetched and verified"
    yield f"{done.folder}: {state}: {done.num_images:,} images{groups}, {entry.num_classes} classes"
    for caution in entry.cautions:
        yield from wrapped(caution, "! ", "  ")
    yield from _row("licence", entry.licence)
    yield from _row("cite", entry.citation)
    words = ["microscopy-cls", "prepare", "-c", entry.config_path.as_posix()]
    if done.folder != entry.folder:
        words += [part for key, path in _places(done.folder) for part in ("--set", f"{key}={path}")]
    yield f"next: {shlex.join(words)}"


def _places(folder: Path) -> list[tuple[str, str]]:
    return [("data.root", folder.as_posix()), ("data.table", (folder / "manifest.csv").as_posix())]


def _row(word: str, sentence: str) -> list[str]:
    return wrapped(sentence, f"{word:<{NAME_WIDTH}}", " " * NAME_WIDTH)
