"""The external test: images that no fold held, beside the cross-validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from microscopy_cls.reporting.numbers import Estimate, Kind, counted, named

FIGURES: tuple[tuple[str, str, Kind], ...] = (
    ("accuracy", "Accuracy", "percent"),
    ("balanced_accuracy", "Balanced accuracy", "percent"),
    ("f1_macro", "Macro F1", "decimal"),
    ("ece", "Calibration error", "decimal"),
)


@dataclass(frozen=True)
class Compared:
    """One figure in cross-validation and outside; of a class, with its number of images there, and no drop."""

    title: str
    inside: Estimate
    outside: Estimate
    drop: Estimate
    num_images: int = 0


@dataclass(frozen=True)
class ExternalTest:
    """Images apart from the cross-validation: `size` in words, figures over all classes, the share found of each.

    `elsewhere` is false where images of the test split, which come from the same table, are among them; `num_aside`
    counts copies and contradictions.
    """

    source: str
    elsewhere: bool
    size: str
    num_failed: int
    num_aside: int
    figures: list[Compared]
    classes: list[Compared]

    @property
    def missing(self) -> list[str]:
        """Classes of which there is no image."""
        return [named(row.title) for row in self.classes if not row.num_images]


def is_elsewhere(found: Mapping[str, Any]) -> bool:
    """Whether an external test can speak of other sources; files that do not say are of a set of its own."""
    return bool(found.get("elsewhere", True))


def external_test(metrics: Mapping[str, Any]) -> ExternalTest | None:
    """From the metrics file; None where nothing was tested elsewhere."""
    found = metrics.get("external_test")
    if not found:
        return None
    images, groups = (int(found.get(key) or 0) for key in ("num_images", "num_groups"))
    return ExternalTest(
        str(found.get("source") or ""),
        is_elsewhere(found),
        f"{counted(images, 'image')} in {counted(groups, 'group')}",
        int(found.get("failed") or 0),
        sum((found.get("set_aside") or {}).values()),
        [_overall(metrics, found, key, title, kind) for key, title, kind in FIGURES],
        [_of_class(metrics, str(name), entry) for name, entry in (found.get("per_class") or {}).items()],
    )


def _overall(metrics: Mapping[str, Any], found: Mapping[str, Any], key: str, title: str, kind: Kind) -> Compared:
    drop = (found.get("drop") or {}).get(key)
    inside, outside = (Estimate.read(one.get(key), kind) for one in (metrics, found))
    return Compared(title, inside, outside, Estimate.read(drop, "points" if kind == "percent" else kind))


def _of_class(metrics: Mapping[str, Any], name: str, entry: Mapping[str, Any]) -> Compared:
    inside, outside = (
        Estimate.read((one or {}).get("recall"), "percent") for one in (metrics["per_class"].get(name), entry)
    )
    return Compared(name, inside, outside, Estimate("points"), int(entry.get("num_images") or 0))
