"""Two runs on the same images: is one better, or is it chance?"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.config.identity import changes
from microscopy_cls.dataset.duplicates import merge_groups
from microscopy_cls.errors import DataError
from microscopy_cls.evaluation.finished import FinishedRun, check_same_images, read_finished
from microscopy_cls.evaluation.intervals import Array, with_intervals
from microscopy_cls.evaluation.paired import corrected_t_test, discordant, same_division
from microscopy_cls.evaluation.scores import scores_of_answers

Json = dict[str, Any]
Codes = NDArray[np.int64]
Division = tuple[pd.DataFrame, pd.DataFrame]  # the images of A and of B under one division into folds
WORDS = {
    "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "f1_macro": "macro F1", "log_loss": "log loss"
}  # fmt: skip
JUDGED = "accuracy"  # chosen here and not by the numbers: whoever takes the metric that differs most finds chance
LOWER_IS_BETTER = {"log_loss"}
RESAMPLES = 2000  # twice those of evaluate: a verdict hangs on one end of the interval
FEW_GROUPS = 10  # from so few clusters intervals are rough: Cameron et al. 2008, doi:10.1162/rest.90.3.414


def compare(name_a: str, name_b: str) -> Json:
    """Differences B - A between two finished runs on the images that both predicted out of fold.

    Intervals of 95 % by a paired bootstrap: a resample draws the same groups for both. Groups are those of A's
    manifest, joined where they share an image with a group of B's. The folds may differ.

    Returns:
        `a`, `b`, `num_images`, `num_groups`; `settings`: a phrase for each that differs, or in its place `ensembles`:
        the names of the runs of `a` or `b`, where that is one; `metrics`: for each of `WORDS` the values `a` and `b`,
        `difference` (`value, ci_low, ci_high`), `better` (a name, or None where the interval holds 0) and `t_test`
        (see `corrected_t_test`, over the folds of all repeats that both have alike; None where the folds differ, and
        `t_test_reason` says so); `num_repeats` of these; `discordant`; `verdict`, one or more sentences; `cautions`, a
        list of sentences.

    Raises:
        DataError: a run is not finished, they are not of the same images, or all of these are one group.
    """
    a, b = read_finished(name_a), read_finished(name_b)
    check_same_images(a, b)
    return compare_runs(a, b)


def compare_runs(a: FinishedRun, b: FinishedRun) -> Json:
    """As `compare`, of runs that are read and known to be of the same images."""
    groups = merge_groups(a.images["split_group"], b.images["split_group"])
    if groups.nunique() < 2:
        raise DataError(f"{a.name}, {b.name}: all images are one group, so there is no interval. Check the groups.")
    shared = shared_divisions(a, b)
    metrics = _metrics(a, b, groups.to_numpy(dtype=object), shared)
    return {
        "a": a.name,
        "b": b.name,
        "num_images": len(groups),
        "num_groups": int(groups.nunique()),
        **_told_apart(a, b),
        "metrics": metrics,
        "t_test_reason": None if shared else "the two runs have other folds",
        "num_repeats": len(shared),
        "discordant": discordant(*(run.predicted.top == run.predicted.truth for run in (a, b))),
        "verdict": verdict(metrics, a.name, b.name),
        "cautions": _cautions(a.images["split_group"], b.images["split_group"], groups),
    }


def _told_apart(a: FinishedRun, b: FinishedRun) -> Json:
    """An average of runs has no settings of its own: beside those of a run, each would differ."""
    ensembles = {letter: run.parts for letter, run in (("a", a), ("b", b)) if run.parts}
    return {"ensembles": ensembles} if ensembles else {"settings": changes(a.settings, b.settings)}


def shared_divisions(a: FinishedRun, b: FinishedRun) -> list[Division]:
    """The divisions into folds that both runs have alike, from the first one on."""
    pairs = zip(a.divisions, b.divisions, strict=False)
    return list(itertools.takewhile(lambda pair: same_division(pair[0]["fold"], pair[1]["fold"]), pairs))


def _fold_differences(a: FinishedRun, b: FinishedRun, shared: list[Division]) -> tuple[dict[str, Array], Codes]:
    """B - A of each metric and the number of tested images, on each fold of each division: (r * k,)."""
    differences: dict[str, list[Array]] = {name: [] for name in WORDS}
    num_tested = []
    for of_a, of_b in shared:
        folds, counts = np.unique(of_a["fold"], return_counts=True)
        weights = (of_a["fold"].to_numpy()[None, :] == folds[:, None]).astype(np.float64)
        first = scores_of_answers(a.predicted_in(of_a), weights)[0]
        second = scores_of_answers(b.predicted_in(of_b), weights)[0]
        num_tested.append(counts)
        for name, found in differences.items():
            found.append(second[name] - first[name])
    return {name: np.concatenate(found) for name, found in differences.items()}, np.concatenate(num_tested)


def _metrics(a: FinishedRun, b: FinishedRun, groups: NDArray[np.object_], shared: list[Division]) -> Json:
    def values(weights: Array) -> dict[str, Array]:
        """Columns A, B and B - A of each metric: (b, 3)."""
        first, second = (scores_of_answers(run.predicted, weights)[0] for run in (a, b))
        return {name: np.stack([first[name], second[name], second[name] - first[name]], 1) for name in WORDS}

    differences, num_tested = _fold_differences(a, b, shared) if shared else ({}, np.empty(0, np.int64))
    found = {}
    for name, value, low, high, _ in with_intervals(values, groups, a.folds, RESAMPLES, seed=0):
        found[name] = {
            "a": _number(value[0]),
            "b": _number(value[1]),
            "difference": {"value": _number(value[2]), "ci_low": _number(low[2]), "ci_high": _number(high[2])},
            "better": _better(name, low[2], high[2], a.name, b.name),
            "t_test": corrected_t_test(differences[name], num_tested, len(a.images)) if shared else None,
        }
    return found


def _number(value: float) -> float:
    return round(float(value), 6)


def _better(metric: str, low: float, high: float, a: str, b: str) -> str | None:
    if low <= 0 <= high:
        return None
    return b if (low > 0) != (metric in LOWER_IS_BETTER) else a


def verdict(metrics: Json, a: str, b: str) -> str:
    """What the intervals allow to say: first of `JUDGED`, then of the metrics that say otherwise.

    Args:
        metrics: as `compare` returns them.
        a, b: names of the runs.
    """
    judged = metrics[JUDGED]
    low, high = (100 * judged["difference"][end] for end in ("ci_low", "ci_high"))
    points = 100 * judged["difference"]["value"]
    if judged["better"] is None:
        first = (
            f"No evidence of a difference in {WORDS[JUDGED]}: {b} - {a} is {points:+.1f} percentage points, "
            f"95 % interval {low:+.1f} to {high:+.1f}."
        )
    else:
        low, high = sorted((abs(low), abs(high)))
        first = (
            f"{judged['better']} is better: its {WORDS[JUDGED]} is higher by {abs(points):.1f} percentage points, "
            f"95 % interval {low:.1f} to {high:.1f}."
        )
    return " ".join([first, *_otherwise(metrics, judged["better"])])


def _otherwise(metrics: Json, judged: str | None) -> list[str]:
    by_winner: dict[str | None, list[str]] = {}
    for name, found in metrics.items():
        if found["better"] != judged:
            by_winner.setdefault(found["better"], []).append(WORDS[name])
    return [
        f"But {winner} is better in {' and '.join(names)}."
        if winner
        else f"There is no evidence of a difference in {' and '.join(names)}."
        for winner, names in by_winner.items()
    ]


def _cautions(groups_a: pd.Series, groups_b: pd.Series, joined: pd.Series) -> list[str]:
    cautions = [
        "One training stands behind each run, and the interval knows only the choice of images: another seed alone "
        "moves the numbers too. Before you choose by a small difference, train both with several runtime.seed."
    ]
    if not same_division(groups_a, groups_b):
        cautions.append(
            f"The runs group the images differently ({groups_a.nunique()} and {groups_b.nunique()} groups); those that "
            f"share an image are joined into {joined.nunique()}."
        )
    if joined.nunique() < FEW_GROUPS:
        cautions.append(
            f"There are only {joined.nunique()} groups: what the next one will be like, so few hardly tell."
        )
    return cautions
