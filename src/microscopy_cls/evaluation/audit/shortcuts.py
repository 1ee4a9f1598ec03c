"""How far artefacts alone get: a classifier that sees no anatomy, under the model's own folds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.evaluation.audit.answers import Codes, Task, score_answers
from microscopy_cls.evaluation.audit.features import JUDGED, Features, artefact_features
from microscopy_cls.evaluation.audit.held_out import fit_forest, fit_linear, held_out_answers, held_out_importance
from microscopy_cls.evaluation.audit.looks import Look
from microscopy_cls.system.progress import progress

TOGETHER, CORNERS = "together", "corners"  # all judged families; the one that is read by a linear classifier
NUM_PERMUTATIONS = 999
NUM_FEATURES = 8  # that are told,
MIN_IMPORTANCE = 0.005  # unless they cost less accuracy than that: chance alone gives as much

Json = dict[str, Any]


def find_shortcuts(images: pd.DataFrame, looks: Look, task: Task) -> tuple[Json, Json]:
    """Train on artefacts, family by family and together, and on the pixels for comparison.

    Args:
        images: n rows of a manifest, all in a fold.
        looks: the same images' numbers.

    Returns:
        What was found: `accuracy, balanced_accuracy, skill` of all artefacts, `chance`, `p_value`,
        `num_permutations`, `by_family`, `top_features`. And the scores of a cheap classifier of the pixels, to be
        judged against (`score_answers`).
    """
    features = artefact_features(images, looks)
    parts = {name: features.only(name) for name in features.present}
    parts |= {TOGETHER: features.only(*JUDGED).placeless, "": features.placeless}
    answers = {
        name: held_out_answers(part.values, task, fit_linear if name == CORNERS else fit_forest)
        for name, part in progress(parts.items(), "artefacts", unit="family")
    }
    scores = {name: score_answers(task, answer) for name, answer in answers.items()}
    found = scores.pop("")
    del found["class_skill"]
    by_family = {name: score | {"judged": name in (*JUDGED, TOGETHER)} for name, score in scores.items()}
    found |= {
        "chance": task.chance,
        "p_value": _p_value(task, answers[""]),
        "num_permutations": NUM_PERMUTATIONS,
        "by_family": by_family,
        "top_features": _top_features(features.only(*JUDGED), task),
    }
    return found, score_answers(task, held_out_answers(np.hstack([looks.texture, looks.thumbnail]), task))


def _p_value(task: Task, predicted: Codes) -> float:
    """How often labels dealt out anew agree with the held-out answers as well as the true ones do.

    The forest is not trained again on them: 999 trainings on 5,000 images would take an hour, and its answers for an
    image depend on the labels of the other folds only.
    """
    rng = np.random.default_rng(task.seed)
    right = np.sum(predicted == task.truth)
    as_good = sum(np.sum(predicted == deal_labels(task, rng)) >= right for _ in range(NUM_PERMUTATIONS))
    return float((1 + as_good) / (1 + NUM_PERMUTATIONS))


def deal_labels(task: Task, rng: np.random.Generator) -> Codes:
    """The labels, (n,), in another order that keeps together what a group has in common.

    The groups in one random order give their labels, in another order they take them, so that images of one group
    receive neighbours.
    """
    codes, names = pd.factorize(task.groups, sort=True)
    giving, taking = (np.lexsort((rng.random(len(codes)), rng.permutation(len(names))[codes])) for _ in range(2))
    dealt = np.empty_like(task.truth)
    dealt[taking] = task.truth[giving]
    return dealt


def _top_features(judged: Features, task: Task) -> list[Json]:
    importance = _importance(judged, task)
    ranked = sorted(
        (source for source in importance if importance[source] >= MIN_IMPORTANCE), key=lambda name: -importance[name]
    )
    return [
        {
            "feature": source,
            "family": str(judged.families[judged.sources == source][0]),
            "importance": importance[source],
            "told": told(judged, source, task),
        }
        for source in ranked[:NUM_FEATURES]
    ]


def _importance(judged: Features, task: Task) -> dict[str, float]:
    """Of each source among all judged ones; of a corner also among the corners, if it is greater there."""
    together, corners = judged.placeless, judged.only(CORNERS)
    importance = held_out_importance(together.values, together.sources, task)
    among_corners = held_out_importance(corners.values, corners.sources, task, fit_linear)
    return importance | {source: max(lost, importance.get(source, 0)) for source, lost in among_corners.items()}


def told(features: Features, source: str, task: Task) -> str:
    """One sentence: where a source's most telling column is highest and where lowest."""
    columns = np.flatnonzero(features.sources == source)
    best = max(columns, key=lambda column: _separation(features.values[:, column], task))
    values, name = features.values[:, best], features.names[best]
    of_classes = {label: values[(task.truth == k) & ~np.isnan(values)] for k, label in enumerate(task.classes)}
    unknown = "".join(f", none in {label}" for label, own in of_classes.items() if not len(own))
    known = {label: own for label, own in of_classes.items() if len(own)}
    kind, middles = "median", {label: float(np.median(own)) for label, own in known.items()}
    is_share = set(np.unique(values)) <= {0.0, 1.0}
    if is_share or len(set(middles.values())) == 1:  # most images have the same, such as no white pixel
        kind, middles = "mean", {label: float(np.mean(own)) for label, own in known.items()}
    high, low = max(middles, key=lambda label: middles[label]), min(middles, key=lambda label: middles[label])
    if is_share:
        return f"{name}: {middles[high]:.0%} of {high}, {middles[low]:.0%} of {low}"
    others = f", {_number(middles[low])} in {low}" if low != high else ""
    return f"{name}: {kind} {_number(middles[high])} in {high}{others}{unknown}"


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"


def _separation(values: NDArray[np.float64], task: Task) -> float:
    """The part of the ranks' variance that lies between classes, 0 to 1; no number ranks lowest."""
    ranks = pd.Series(values).rank(na_option="top")
    between = ranks.groupby(task.truth).transform("mean")
    return float(between.var() / ranks.var()) if ranks.var() else 0.0
