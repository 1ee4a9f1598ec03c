"""`compare`: is one of two runs better, or is it chance?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from microscopy_cls.cli.main import command
from microscopy_cls.cli.text import wrapped

if TYPE_CHECKING:
    from microscopy_cls.evaluation.compare import Json


@command
def compare(
    name_a: Annotated[str, typer.Argument(metavar="NAME_A", help="The one to start from: a config's name.")],
    name_b: Annotated[str, typer.Argument(metavar="NAME_B", help="The other one.")],
    as_json: Annotated[bool, typer.Option("--json", help="An object instead of a table.")] = False,
) -> None:
    """Paired test of two finished runs on the same images."""
    from microscopy_cls.evaluation.compare import compare as run

    found = run(name_a, name_b)
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else "\n".join(table_of(found)))


def table_of(found: Json) -> Iterator[str]:
    """A comparison as lines."""
    from microscopy_cls.evaluation.compare import WORDS

    yield f"A  {found['a']}"
    yield f"B  {found['b']}"
    yield f"{found['num_images']} images in {found['num_groups']} groups, each predicted out of fold by both"
    for letter, names in found.get("ensembles", {}).items():
        yield from wrapped(f"{letter.upper()} is an ensemble of {', '.join(names)}", "", "  ")
    if "settings" in found:
        yield from wrapped("A -> B: " + ("; ".join(found["settings"]) or "trained with the same settings"), "", "  ")
    yield ""
    yield f"{'':<19}{'A':>8}{'B':>8}{'B - A':>9}   95 % interval      over folds"
    for name, row in found["metrics"].items():
        difference, test = row["difference"], row["t_test"]
        ends = f"[{difference['ci_low']:+.3f}, {difference['ci_high']:+.3f}]"
        told = "-" if not test else f"p = {test['p_value']:.3f}" if test["p_value"] >= 0.001 else "p < 0.001"
        yield f"{WORDS[name]:<19}{row['a']:>8.3f}{row['b']:>8.3f}{difference['value']:>+9.3f}   {ends:<18} {told}"
    yield ""
    of_ensembles = "; those of an ensemble are calibrated already" if "ensembles" in found else ""
    yield from wrapped(
        f"Log loss is of the answers before calibration, which may take much of it away{of_ensembles}.", "", ""
    )
    only = found["discordant"]
    yield from wrapped(
        f"Only A is right on {only['only_a_right']} images, only B on {only['only_b_right']} (McNemar's exact p = "
        f"{only['mcnemar_p_value']:.2g}, which takes images for independent).", "", ""
    )  # fmt: skip
    if found["t_test_reason"]:
        yield f"No test over folds: {found['t_test_reason']}."
    yield ""
    yield from wrapped(found["verdict"], "", "")
    for caution in found["cautions"]:
        yield from wrapped(caution, "! ", "  ")
