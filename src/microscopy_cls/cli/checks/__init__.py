"""What works on this machine: one row a question, asked without the network and without slow imports."""

from __future__ import annotations

from microscopy_cls.cli.checks.libraries import engines, readers, software
from microscopy_cls.cli.checks.machine import compute, places
from microscopy_cls.cli.checks.row import Check
from microscopy_cls.cli.checks.tools import pipeline

__all__ = ["Check", "all_checks"]


def all_checks() -> dict[str, list[Check]]:
    """Every check by section, in the order of the table."""
    sections = (software, compute, engines, readers, pipeline, places)
    return {section.__name__: section() for section in sections}
