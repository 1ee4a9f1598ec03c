"""Names for what is made of finished runs: they share their folders with the runs."""

from __future__ import annotations

import re
from typing import Literal

from microscopy_cls.config import Paths
from microscopy_cls.config.schema import NAME_PATTERN
from microscopy_cls.errors import ConfigError, DataError
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
    there = _kind_of(Paths(name))
    if there not in (None, kind):
        raise DataError(f"--name {name}: is the name of {there}, which would be overwritten. Choose another.")


def _kind_of(paths: Paths) -> Kind | None:
    """Of what lies there; a soup has no run."""
    state = paths.runs / "run_state.json"
    if state.is_file():
        return "an ensemble" if "ensemble" in read_json(state)["identity"] else "a run"
    if not (paths.bundle / "bundle.json").is_file():
        return None
    info = read_bundle(paths.bundle)
    if info.parts:
        return "an ensemble"
    return "a soup" if "soup_of" in info.training_data else "a run"
