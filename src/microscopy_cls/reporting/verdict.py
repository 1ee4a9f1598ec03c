"""The box on top: which checks passed, and in plain words what the figures may claim and what not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from microscopy_cls.reporting.external import OutsideTest, outside_tests
from microscopy_cls.reporting.inputs import Inputs
from microscopy_cls.reporting.numbers import Estimate, counted, named
from microscopy_cls.reporting.tables import ClassRow

State = Literal["pass", "warn", "fail", "unknown"]

WORDS: Mapping[State, str] = {"pass": "Pass", "warn": "Warning", "fail": "Fail", "unknown": "Not checked"}
NUM_RELIABLE = 30  # groups of the smallest class: below, one group more or less moves its recall by over three points
NUM_USABLE = 5  # below, a bootstrap over groups has next to nothing to draw from
RUN_AUDIT = "Not checked: run `microscopy-cls audit`, then `evaluate` and `report` with the same config."
RUN_EVALUATE = "Not checked: run `microscopy-cls evaluate`, then `report` with the same config."
# check in the metrics file, its title, where the page has more, what a failure takes from the claim
CHECKS: tuple[tuple[str, str, str, str], ...] = (
    ("leakage", "Leakage", "leakage",
     "that it does as well on new groups (images on both sides of a fold may be of the same subject)"),
    ("shortcuts", "Shortcuts", "shortcuts",
     "that the model recognises the subject (how the files were made tells the classes apart, too)"),
    ("duplicates", "Duplicates", "duplicates",
     "that every image counts once (copies, or one picture under two labels, are in the data)"),
    ("quality", "Image quality", "quality",
     "that the pictures are in order (many are blurred, dark, bright, saturated, empty or constant)"),
    ("calibration", "Calibration", "calibration",
     "that a stated confidence of 90\u202f% is right nine times in ten"),
)  # fmt: skip


@dataclass(frozen=True)
class Light:
    """One check: its state in a word, the reason in a sentence, and the section that shows more (or none)."""

    title: str
    state: State
    reason: str
    anchor: str = ""

    @property
    def word(self) -> str:
        """The state, written out."""
        return WORDS[self.state]


@dataclass(frozen=True)
class VerdictBox:
    """All checks, and what follows from them."""

    lights: list[Light]
    summary: str
    may: list[str]
    may_not: list[str]

    @property
    def worst(self) -> State:
        """The state of the whole: that of the worst check."""
        states = [light.state for light in self.lights]
        order: tuple[State, ...] = ("fail", "warn", "unknown")
        return next((state for state in order if state in states), "pass")


def verdict_box(inputs: Inputs, classes: Sequence[ClassRow], compared: str | None) -> VerdictBox:
    """Judge a run by its metrics file.

    Args:
        inputs: of the page.
        classes: figures of each class.
        compared: the sentence that compares with always naming the largest class, if there is one.
    """
    lights = [*_checked(inputs.metrics), class_sizes(classes, inputs.grouped)]
    return VerdictBox(lights, _summary(lights), _may(inputs, compared), _may_not(inputs, lights))


def _checked(metrics: Mapping[str, Any]) -> list[Light]:
    audit = metrics.get("audit") or {}
    verdicts = (audit.get("verdicts") or {}) | (metrics.get("verdicts") or {})
    reasons = (audit.get("reasons") or {}) | (metrics.get("reasons") or {})
    lights = []
    for key, title, anchor, _ in CHECKS:
        if verdicts.get(key) in ("pass", "warn", "fail"):
            shown = anchor if (metrics if key == "calibration" else audit).get(key) is not None else ""
            lights.append(Light(title, verdicts[key], str(reasons.get(key) or ""), shown))
        else:
            lights.append(Light(title, "unknown", RUN_EVALUATE if key == "calibration" or audit else RUN_AUDIT))
    return lights


def class_sizes(classes: Sequence[ClassRow], grouped: bool) -> Light:
    """Whether the smallest class is large enough for figures of its own."""
    smallest = min(classes, key=lambda row: row.num_groups)
    size = counted(smallest.num_groups, "group" if grouped else "different image")
    state: State = "pass" if smallest.num_groups >= NUM_RELIABLE else "warn"
    says = "enough for figures of its own"
    if smallest.num_groups < NUM_RELIABLE:
        says = f"below {NUM_RELIABLE}, one more or less visibly moves its figures"
    if smallest.num_groups < NUM_USABLE:
        state, says = "fail", f"below {NUM_USABLE}, its figures and intervals say next to nothing"
    return Light("Class sizes", state, f"The smallest class, {named(smallest.name)}, has {size}: {says}.", "classes")


def _summary(lights: Sequence[Light]) -> str:
    by_state: dict[State, list[str]] = {}
    for light in lights:
        by_state.setdefault(light.state, []).append(light.title.lower())
    told: tuple[tuple[State, str], ...] = (("fail", "Failed"), ("warn", "Warnings"), ("unknown", "Not checked"))
    num_passed = len(by_state.get("pass", []))
    others = [f"{word}: {', '.join(by_state[state])}." for state, word in told if state in by_state]
    return " ".join([f"{num_passed} of {len(lights)} checks passed.", *others]) if others else "All checks passed."


def untested(tests: Sequence[OutsideTest]) -> str:
    """What a reader must know of a refit, which only tests outside the cross-validation can try."""
    but, those = "", "They are those"
    if tests:
        but, those = f" but on {' and '.join(test.named for test in tests)}", "The others are those"
    return (
        f"Figures of the very model that classifies: it was refitted on all images of the folds and never tested{but}. "
        f"{those} of the folds’ members, trained in the same way on fewer images."
    )


def _may(inputs: Inputs, compared: str | None) -> list[str]:
    accuracy = Estimate.read(inputs.metrics.get("accuracy"), "percent")
    new = "of groups (patients, slides, days) it has never seen" if inputs.grouped else "it has never seen"
    model, outside = "The model", "it"
    if inputs.metrics.get("refit"):
        model, outside = "A model trained as this one, on the other folds,", "the refit"
    claims = [f"{model} names {accuracy.full} of the images {new} correctly, if they were made and labelled as these."]
    tests = outside_tests(inputs.metrics)
    claims += [f"On {test.named} {outside} names {test.accuracy.outside.full} correctly." for test in tests]
    return [*claims, compared] if compared else claims


def _may_not(inputs: Inputs, lights: Sequence[Light]) -> list[str]:
    denied = [
        taken[0].upper() + taken[1:] + "." if light.state == "fail" else f"Only with care: {taken}."
        for light, (*_, taken) in zip(lights, CHECKS, strict=False)
        if light.state in ("warn", "fail")
    ]
    if not inputs.grouped:
        denied.append("Anything about new specimens, slides or patients; no groups were declared.")
    if inputs.metrics.get("refit"):
        denied.append(untested(outside_tests(inputs.metrics)))
    why = "no external set was tested"
    if inputs.metrics.get("test_split"):
        why = "the test split is of the same source"
    if inputs.metrics.get("external_test"):
        why = "the external test set speaks for its own alone"
    denied.append(f"Anything about other instruments, preparations or laboratories; {why}.")
    return [*denied, "Anything about single patients. Research software, not validated for diagnosis."]
