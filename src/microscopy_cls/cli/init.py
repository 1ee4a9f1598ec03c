"""`init`: a config for a folder or table of one's own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microscopy_cls.cli.main import command
from microscopy_cls.cli.text import wrapped
from microscopy_cls.errors import ConfigError

if TYPE_CHECKING:
    from microscopy_cls.dataset.propose import Proposal

STAGES = ("prepare", "train", "evaluate", "report")


@command
def init(
    source: Annotated[Path, typer.Argument(metavar="DIR_OR_TABLE", help="A folder per class, or a CSV or Parquet.")],
    name: Annotated[str | None, typer.Option(help="Name of the config; without it, that of the folder.")] = None,
) -> None:
    """Look at a folder or table and write a config for it, its choices explained."""
    from microscopy_cls.dataset.propose import config_name, propose
    from microscopy_cls.system.files import write_text

    chosen = config_name(source, name)
    target = Path("configs") / f"{chosen}.yaml"
    if target.exists():
        again = shlex.join(["microscopy-cls", "init", str(source), "--name", _free_name(chosen)])
        raise ConfigError(f"{target}: exists already and is not overwritten. Choose another name: {again}")
    proposal = propose(source, chosen)
    write_text(target, proposal.yaml)
    typer.echo(_summary(source, target, proposal))


def _free_name(taken: str) -> str:
    number = 2
    while Path(f"configs/{taken}-{number}.yaml").exists():
        number += 1
    return f"{taken}-{number}"


def _summary(source: Path, target: Path, proposal: Proposal) -> str:
    """What was found, what to look at, what to run."""
    config = proposal.config.name
    lines = [f"{source}", ""]
    for topic, sentence in proposal.findings:
        lines += wrapped(sentence, f"  {topic:<11}", " " * 13)
    for caution in proposal.cautions:
        sentence, *commands = caution.splitlines()
        lines += ["", *wrapped(sentence, "! ", "  "), *(f"    {line}" for line in commands)]
    lines += ["", f"Written: {target}. Read it: each choice is explained, and guesses are called guesses.", ""]
    lines += ["Run next", *(f"  microscopy-cls {stage} -c {target.as_posix()}" for stage in STAGES), ""]
    lines += ["or all of them with DVC: add to params.yaml, under `datasets:`"]
    lines += [f"  {config}:", f"    data: {proposal.dvc_data.as_posix()}", "and run", f"  dvc repro report@{config}"]
    return "\n".join(lines)
