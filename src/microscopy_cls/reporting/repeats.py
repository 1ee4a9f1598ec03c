"""How much the figures depend on how the folds were drawn, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from microscopy_cls.reporting.numbers import NO_VALUE, Kind, count, finite, shown, span

NAMED: tuple[tuple[str, str, Kind], ...] = (("accuracy", "accuracy", "percent"), ("f1_macro", "macro F1", "decimal"))


def num_repeats(metrics: Mapping[str, Any]) -> int:
    """How often the images were divided."""
    return int((metrics.get("repeats") or {}).get("num") or 1)


def range_of(metrics: Mapping[str, Any], key: str, kind: Kind) -> str:
    """Lowest and highest repeat of one metric."""
    entry = (metrics.get("repeats") or {}).get(key) or {}
    return span(finite(entry.get("min")), finite(entry.get("max")), kind)


def dependence(metrics: Mapping[str, Any]) -> str | None:
    """The sentence under the headline; None where the folds were drawn once."""
    if num_repeats(metrics) == 1:
        return None
    parts = [
        f"{title} {range_of(metrics, key, kind)} (standard deviation {_std(metrics, key, kind)})"
        for key, title, kind in NAMED
    ]
    return (
        f"How the folds are drawn moves these figures: over {count(num_repeats(metrics))} divisions of the same "
        f"images, all else equal, {' and '.join(parts)}. All else on this page is of the first division."
    )


def _std(metrics: Mapping[str, Any], key: str, kind: Kind) -> str:
    value = finite(((metrics.get("repeats") or {}).get(key) or {}).get("std"))
    if value is None:
        return NO_VALUE
    return f"{100 * value:.1f} points" if kind == "percent" else shown(value, kind)
