"""One answer of `doctor`, and how libraries are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from microscopy_cls.system.versions import library_version

UNLOADABLE = (ImportError, OSError)  # a library that is installed, but whose own libraries are not


@dataclass(frozen=True)
class Check:
    """One answer.

    Attributes:
        name: what was asked for.
        status: `ok`; `missing`: not here; `warn`: here, but look at it.
        detail: what was found.
        advice: what to do; empty where nothing is.
        essential: nothing works without it.
    """

    name: str
    status: Literal["ok", "missing", "warn"]
    detail: str
    advice: str = ""
    essential: bool = False


def find_library(module: str, distribution: str, purpose: str, *, extra: str = "", essential: bool = False) -> Check:
    """Whether a library is installed, without importing it.

    Args:
        module: what is imported.
        distribution: what is installed.
        purpose: what it is for.
        extra: the package's extra that brings it; "" where the package itself does.
        essential: nothing works without it.
    """
    if find_spec(module) is None:
        return Check(module, "missing", f"not installed: {purpose}", install(extra), essential)
    version = library_version(distribution) or "of unknown version"
    return Check(module, "ok", f"{version}: {purpose}", essential=essential)


def load_library(found: Check, describe: Callable[[Any], str]) -> Check:
    """The same answer after a real import: its own libraries may be missing."""
    if found.status != "ok":
        return found
    try:
        return replace(found, detail=describe(import_module(found.name)))
    except UNLOADABLE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        advice = "Install it anew, and the system library that it names."
        return replace(found, status="missing", detail=f"installed, but does not load: {reason}", advice=advice)


def install(extra: str) -> str:
    """The command that brings an extra; "" is the package itself."""
    return f"pip install 'microscopy-cls[{extra}]'" if extra else "pip install microscopy-cls"
