"""Two classifiers under given folds: their held-out answers, and what these rest on."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from microscopy_cls.evaluation.audit.answers import Codes, Task
from microscopy_cls.evaluation.intervals import Array
from microscopy_cls.system.hardware import num_cores

NUM_TREES = 100  # 300 move no skill by more than 0.04
MIN_LEAF = 2
# Images that a tree is grown on: each leaf holds a number a class, 3.6 GB a forest of 50,000 images in 200 classes.
MAX_SAMPLES = 16_000
RIDGE = 100.0  # a third of it and ten times of it move no skill by more than 0.03
NUM_SHUFFLES = 3  # of each source, on every held-out fold

Fit = Callable[[Array, Codes, int], Any]  # values (n, d), truth (n,), seed; gives what has .predict


def fit_forest(values: Array, truth: Codes, seed: int) -> RandomForestClassifier:
    """A random forest; takes NaN as a value of its own."""
    forest = RandomForestClassifier(
        NUM_TREES, min_samples_leaf=MIN_LEAF, max_samples=min(len(truth), MAX_SAMPLES), n_jobs=num_cores(),
        random_state=seed,
    )  # fmt: skip
    # Its threads all save, reset and restore the one list of warning filters of the process, which may stay empty.
    with warnings.catch_warnings():
        forest.fit(values, truth)
    return forest.set_params(n_jobs=1)  # a fold is predicted faster than threads start


def fit_linear(values: Array, truth: Codes, seed: int) -> Any:  # noqa: ARG001  nothing is drawn
    """Ridge regression on the classes: for many columns and few images, and for columns that hardly vary in a class."""
    return make_pipeline(StandardScaler(), RidgeClassifier(alpha=RIDGE)).fit(values, truth)


def held_out_answers(values: Array, task: Task, fit: Fit = fit_forest) -> Codes:
    """The class index that a classifier, trained on the other folds, gives each image, (n,).

    Args:
        values: (n, d); without any column the commonest class is the answer.
    """
    predicted = np.full(len(task.truth), np.bincount(task.truth).argmax())
    for fold in np.unique(task.folds) if values.shape[1] else ():
        test = task.folds == fold
        predicted[test] = fit(values[~test], task.truth[~test], task.seed).predict(values[test])
    return predicted


def held_out_importance(
    values: Array, sources: NDArray[np.object_], task: Task, fit: Fit = fit_forest
) -> dict[str, float]:
    """How much accuracy is lost when all columns of a source are shuffled together on the held-out images.

    Columns of one source say nearly the same, so that one alone would hardly be missed.
    """
    lost = dict.fromkeys(sorted(set(sources)), 0.0)
    rng = np.random.default_rng(task.seed)
    for fold in np.unique(task.folds) if lost else ():
        test = task.folds == fold
        fitted, truth = fit(values[~test], task.truth[~test], task.seed), task.truth[test]
        right = np.sum(fitted.predict(values[test]) == truth)
        for source in lost:
            columns = np.flatnonzero(sources == source)
            for _ in range(NUM_SHUFFLES):
                shuffled = values[test]
                shuffled[:, columns] = rng.permutation(shuffled[:, columns])
                lost[source] += float(right - np.sum(fitted.predict(shuffled) == truth))
    return {source: total / NUM_SHUFFLES / len(task.truth) for source, total in lost.items()}
