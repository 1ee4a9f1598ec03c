"""Tests outside the cross-validation, beside it: the data's own test split, and an external set."""

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
# section of the metrics file, anchor on the page, its heading, what it is called in a sentence, what it can say
TESTS: tuple[tuple[str, str, str, str, str], ...] = (
    ("test_split", "test-split", "Test split", "a test split of the same data",
     "New images of the same source, so it says nothing about another one."),
    ("external_test", "external", "External test", "an external test set",
     "It speaks for other instruments, preparations or laboratories as far as it comes from there."),
)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """One figure in cross-validation and outside; of a class, with its number of images there, and no drop."""

    title: str
    inside: Estimate
    outside: Estimate
    drop: Estimate
    num_images: int = 0


@dataclass(frozen=True)
class OutsideTest:
    """One test: what it is `named` in a sentence, `scope` and `size` in words, figures over all classes and of each.

    `anchor` is its place on the page; `num_aside` counts copies and contradictions; `calibrated` says whether the
    answers of the cross-validation are, as those outside always are.
    """

    anchor: str
    title: str
    named: str
    scope: str
    source: str
    size: str
    calibrated: bool
    num_failed: int
    num_aside: int
    figures: list[Compared]
    classes: list[Compared]

    @property
    def inside(self) -> str:
        """What the figures of the cross-validation are called."""
        return f"Cross-validation, {'calibrated' if self.calibrated else 'not calibrated'}"

    @property
    def missing(self) -> list[str]:
        """Classes of which there is no image."""
        return [named(row.title) for row in self.classes if not row.num_images]

    @property
    def accuracy(self) -> Compared:
        """The first figure."""
        return self.figures[0]

    @property
    def told(self) -> str:
        """What became of the accuracy, in a sentence."""
        drop = self.accuracy.drop
        if drop.value is None or drop.low is None or drop.high is None:
            return ""
        interval = f"a drop of {drop.text} points, {drop.interval}"
        if drop.low > 0:
            return f"The accuracy is lower than in cross-validation ({interval})."
        if drop.high < 0:
            return f"The accuracy is higher than in cross-validation ({interval})."
        return f"No difference in accuracy from cross-validation is shown ({interval})."


def outside_tests(metrics: Mapping[str, Any]) -> list[OutsideTest]:
    """From the metrics file; empty where nothing was tested outside."""
    return [_test(metrics, metrics[key], words) for key, *words in TESTS if metrics.get(key)]


def _test(metrics: Mapping[str, Any], found: Mapping[str, Any], words: list[str]) -> OutsideTest:
    anchor, title, named_as, scope = words
    images, groups = (int(found.get(key) or 0) for key in ("num_images", "num_groups"))
    inside = found.get("inside") or metrics  # older files compare with the answers as they come from the networks
    return OutsideTest(
        anchor,
        title,
        named_as,
        scope,
        str(found.get("source") or ""),
        counted(images, "image") + (f" in {counted(groups, 'group')}" if groups != images else ""),
        inside is not metrics,
        int(found.get("failed") or 0),
        sum((found.get("set_aside") or {}).values()),
        [_overall(inside, found, key, name, kind) for key, name, kind in FIGURES],
        [_of_class(inside, str(name), entry) for name, entry in (found.get("per_class") or {}).items()],
    )


def _overall(inside: Mapping[str, Any], found: Mapping[str, Any], key: str, title: str, kind: Kind) -> Compared:
    within, outside = (Estimate.read(one.get(key), kind) for one in (inside, found))
    lost = Estimate.read((found.get("drop") or {}).get(key), "points" if kind == "percent" else kind)
    return Compared(title, within, outside, lost)


def _of_class(inside: Mapping[str, Any], name: str, entry: Mapping[str, Any]) -> Compared:
    within, outside = (
        Estimate.read((one or {}).get("recall"), "percent") for one in (inside["per_class"].get(name), entry)
    )
    return Compared(name, within, outside, Estimate("points"), int(entry.get("num_images") or 0))
