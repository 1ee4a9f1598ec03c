"""The verdict on shortcuts: what artefacts alone reach, as a part of what the model reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from microscopy_cls.evaluation.audit.shortcuts import TOGETHER

# Lower ends of artefacts' skill, as a part of the model's. Of eight drawn sets without faults none exceeds 0.12; a tag
# drawn on most scans of one class gives 0.83 and more, the sizes of films that give a class away 1.4. Between lie
# sets whose organisms differ in size (plankton: 0.5).
WARN, FAIL = 0.4, 0.8
# Artefacts that are certain to reach less than a tenth of the way to perfection explain no score, however weak the
# model; it also keeps the chance finds of many families and classes from a verdict.
FLOOR = 0.1
# Of a single class: below it the skill itself counts instead of the ratio. A model may be weak on a class that is hard,
# and that its size tells as much (plankton: 0.52 of Oithona) is no reason to fail the set.
SURE = 0.6

Json = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """What one family's artefacts reach on one class (None: on all), and that as a part of the model's."""

    family: str
    label: str | None
    skill: Json
    model_skill: float

    @property
    def ratio(self) -> Json:
        """Of the family's skill, with its interval, to the model's value."""
        return {end: value / self.model_skill for end, value in self.skill.items()}

    @property
    def weight(self) -> float:
        """What the verdict rests on: the lower end of the ratio; for a single class only where that class is sure."""
        lowest = float(self.skill["ci_low"])
        if lowest < FLOOR:
            return 0.0
        return lowest if self.label and lowest < SURE else lowest / self.model_skill

    @property
    def verdict(self) -> str:
        """`pass`, `warn` or `fail`."""
        return "fail" if self.weight >= FAIL else "warn" if self.weight >= WARN else "pass"

    @property
    def order(self) -> tuple[float, float]:
        """Of two claims, the greater decides."""
        return self.weight, float(self.ratio["value"])


def judge_shortcuts(found: Json, scores: Json, name: str) -> tuple[Json, str, str]:
    """Judge artefacts against a model's own held-out answers.

    `audit` calls it with a cheap classifier of the pixels, `evaluate` with the trained model:
    `judge_shortcuts(audit["shortcuts"], score_answers(task, predicted), "model")`. It may be called on its own result.

    Args:
        found: the `shortcuts` of an audit.
        scores: the model's, from `score_answers` on the same images and folds.
        name: `pixels` or `model`.

    Returns:
        `found` with `model`, `ratio`, `decisive` (family and class, None for all classes) and each family's `ratio`
        and `verdict` set; the verdict; its reason in a sentence.
    """
    by_family, judged = {}, []
    for family, part in found["by_family"].items():
        best = max(_claims(family, part, scores), key=lambda claim: claim.order)
        verdict = best.verdict if part["judged"] else None  # families that are only reported have none
        by_family[family] = part | {"ratio": best.ratio["value"], "verdict": verdict}
        judged += [best] if part["judged"] else []
    told = {"name": name, "accuracy": scores["accuracy"], "skill": scores["skill"]}
    thresholds = {"warn": WARN, "fail": FAIL, "floor": FLOOR, "sure": SURE}
    result = found | {"model": told, "by_family": by_family, "thresholds": thresholds}
    best = max(judged, key=lambda claim: claim.order)
    result |= {"ratio": best.ratio, "decisive": {"family": best.family, "class": best.label}}
    return result, best.verdict, _reason(best, result)


def _claims(family: str, part: Json, scores: Json) -> list[Claim]:
    """On all classes and on each; a class on which the model is weak counts as its average does."""
    overall = max(scores["skill"]["value"], FLOOR)
    claims = [Claim(family, None, part["skill"], overall)]
    for label, skill in part["class_skill"].items():
        claims.append(Claim(family, label, skill, max(scores["class_skill"][label]["value"], overall)))
    return claims


def _reason(claim: Claim, found: Json) -> str:
    what = "all artefacts together" if claim.family == TOGETHER else f"artefacts of {claim.family} alone"
    against = "the model" if found["model"]["name"] == "model" else "a cheap classifier of the pixels"
    whom = "the classes" if claim.label is None else claim.label
    skill = f"skill {claim.skill['value']:.2f} [{claim.skill['ci_low']:.2f}, {claim.skill['ci_high']:.2f}]"
    if claim.verdict == "pass":
        comes = "comes" if claim.ratio["value"] < WARN else "is shown to come"  # few groups show nothing
        return f"No artefact {comes} near {against}: best are {what} at telling {whom} ({skill})."
    part = f"{claim.ratio['value']:.0%} of what {against} reaches"
    features = [row for row in found["top_features"] if claim.family in (TOGETHER, row["family"])]
    example = f". First of them, {features[0]['told']}" if features else ""
    return f"Without the content, {what} tell {whom}: {skill}, {part}{example}."
