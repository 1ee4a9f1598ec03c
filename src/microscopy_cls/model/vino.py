"""OpenVINO's one entrance: imported late, without its telemetry."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from microscopy_cls.errors import MissingDependencyError


def has_openvino() -> bool:
    """Whether it is installed."""
    return importlib.util.find_spec("openvino") is not None


def import_openvino() -> Any:
    """The module. It reports each import to a server; without the package that sends, it stays silent.

    Raises:
        MissingDependencyError: it is not installed.
    """
    if not has_openvino():
        raise MissingDependencyError("openvino", "cpu", "The engine openvino")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: importing it fails
    import openvino  # noqa: TID251  the one entrance

    return openvino
