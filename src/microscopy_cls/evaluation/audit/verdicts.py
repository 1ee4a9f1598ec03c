"""Verdicts on copies, leakage and picture quality: thresholds, and the reason of each in a sentence."""

from __future__ import annotations

from typing import Any

# Two images in a hundred: less changes no conclusion, and the nearest neighbour itself moves by as much between seeds.
LEAKAGE_MARGIN = 0.02
# Scans of one patient always resemble each other: drawn patients without any fault lose up to a sixth of the skill that
# random folds show (lower end of the interval), chest CTs cropped from papers nearly a third. From a quarter on, a
# random split shows another result and not only a better one.
LEAKAGE_SHARE = 0.25
# One bad picture in twenty is the usual lot of a microscope; where one in five is bad, the score is about focus.
QUALITY_WARN, QUALITY_FAIL = 0.05, 0.20

Json = dict[str, Any]
Verdict = tuple[str, str]  # pass, warn or fail; the reason


def judge_duplicates(found: Json) -> Verdict:
    """`fail` where copies lie on both sides of a split, `warn` where they tie groups or contradict each other.

    Views of one patient or slide that look alike within its declared group are what the group was declared for.
    """
    clusters = found["duplicates"]
    if not clusters:
        return "pass", "No image is a copy or near-copy of another."
    some = f"{_count(len(clusters), 'cluster')} of copies with {sum(map(len, clusters))} images"
    if found["clusters_across_folds"]:
        across = found["clusters_across_folds"]
        return "fail", (
            f"{some}, {across} of them divided between folds: the model is tested on what it was trained on. "
            "Set folds.group_near_duplicates to true, or list the copies in data.exclude, and run prepare again."
        )
    ties, conflicts = found["clusters_across_groups"], len(found["conflicts"])
    shared = found["clusters_across_splits"]
    if not ties and not conflicts and not shared:
        return "pass", f"{some}, each within one declared group, so that no fold divides them."
    contradiction = f"; {conflicts} under several labels, of which at most one is right" if conflicts else ""
    aside = f"; {shared} in train and in test, where the test leaves its own out" if shared else ""
    return "warn", f"{some}, {ties} of them in several groups, kept together in the folds{contradiction}{aside}."


def judge_leakage(found: Json) -> Verdict:
    """`fail` where groups or copies are divided, `warn` where a random split would flatter or nothing can be known."""
    divided = found["groups_across_folds"], found["clusters_across_folds"]
    if any(divided):
        return "fail", (
            f"{_count(divided[0], 'declared group')} and {_count(divided[1], 'cluster')} of copies are divided between "
            "folds or splits, so the figures are not of unseen ones. Correct the split or the groups."
        )
    if not found["grouped"]:
        return _without_groups(bool(found["duplicates"]))
    leak, chance = found["leakage"], found["shortcuts"]["chance"]
    inflation, random, grouped = leak["inflation"], leak["random"]["value"], leak["grouped"]["value"]
    measured = f"a nearest neighbour scores {random:.3f} with random folds and {grouped:.3f} with grouped ones"
    if inflation["ci_low"] < LEAKAGE_MARGIN:
        return "pass", f"A random split is not shown to flatter: {measured}."
    would = f"a random split would have published {100 * inflation['value']:.1f} points more"
    if inflation["ci_low"] < LEAKAGE_SHARE * max(random - chance, 0):
        return "pass", f"The folds respect the groups; {would}: {measured}."
    return "warn", f"The folds respect the groups, and any other use of these images must too: {would}: {measured}."


def _without_groups(has_copies: bool) -> Verdict:
    """Never `pass`: what was not measured is not known."""
    copies = ", and there are copies" if has_copies else ""
    return "warn", (
        f"No groups are declared, so leakage cannot be measured{copies}: images of one patient, slide or day may lie "
        "on both sides of a fold. Say what belongs together in data.group_regex or data.columns.group (where each "
        "image truly is its own, a column that says so)."
    )


def judge_quality(found: Json) -> Verdict:
    """`warn` from `QUALITY_WARN` of the images flagged, `fail` from `QUALITY_FAIL`."""
    share = found["quality_share"]
    counts = {flag: len(names) for flag, names in found["quality"].items() if names}
    if not counts:
        return "pass", "No image is blurred, badly exposed or empty."
    listed = ", ".join(f"{count} {flag}" for flag, count in counts.items())
    verdict = "fail" if share >= QUALITY_FAIL else "warn" if share >= QUALITY_WARN else "pass"
    return verdict, f"{share:.1%} of the images are flagged: {listed}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)
