"""Names for what is made of finished runs: they share their folders with the runs."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Literal

from microscopy_cls.config import Paths
from microscopy_cls.config.schema import NAME_PATTERN
from microscopy_cls.errors import BundleError, ConfigError, DataError
from microscopy_cls.model.bundle import read_bundle
from microscopy_cls.system.files import read_json

Kind = Literal["a run", "an ensemble", "a soup"]


def check_name(name: str, kind: Kind) -> None:
    """See that nothing but an earlier one of its kind would be overwritten.

    Raises:
        ConfigError: it cannot name a folder.
        DataError: something of another kind has that name.
        BundleError: a bundle of that name is damaged, so that nobody knows.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(f"--name {name}: names folders: letters, digits, dots, dashes and underscores only.")
    there = _kind_of_run(Paths(name)) or _kind_of_bundle(Paths(name))
    if there not in (None, kind):
        raise DataError(f"--name {name}: is the name of {there}, which would be overwritten. Choose another.")


def check_name_of_run(name: str) -> None:
    """See that a config's name is not that of an ensemble or a soup: `train` and `evaluate` would overwrite it.

    Raises:
        DataError: it is.
    """
    paths = Paths(name)
    there = _kind_of_run(paths)
    if there != "an ensemble":
        with suppress(BundleError):  # damaged or of an earlier version, which `evaluate` is there to mend
            there = _kind_of_bundle(paths)
    if there not in (None, "a run"):
        raise DataError(
            f"name {name}: is the name of {there}, which would be overwritten. Give the config another name, or remove "
            f"{paths.runs} and {paths.bundle}."
        )


def _kind_of_run(paths: Paths) -> Kind | None:
    """Of what lies in its place; a soup has none."""
    state = paths.runs / "run_state.json"
    if not state.is_file():
        return None
    try:
        return "an ensemble" if "ensemble" in read_json(state)["identity"] else "a run"
    except (ValueError, KeyError, TypeError):  # damaged: `train` says so and starts anew
        return "a run"


def _kind_of_bundle(paths: Paths) -> Kind | None:
    if not (paths.bundle / "bundle.json").is_file():
        return None
    info = read_bundle(paths.bundle)
    if info.parts:
        return "an ensemble"
    return "a soup" if "soup_of" in info.training_data else "a run"
