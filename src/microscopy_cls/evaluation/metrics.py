"""`metrics.json`: what the out-of-fold predictions are worth, with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from microscopy_cls.config import Config, Paths
from microscopy_cls.dataset.manifest import class_names, read_manifest, trainable
from microscopy_cls.evaluation.binary import binary_scores, cross_fitted_calls, youden_threshold
from microscopy_cls.evaluation.figures import figure, number
from microscopy_cls.evaluation.intervals import LEVEL, Array, with_intervals
from microscopy_cls.evaluation.scores import METRICS, PER_CLASS, Predicted, all_scores, confusion_counts

Json = dict[str, Any]
SHARES = set(METRICS) - {"log_loss", "ece"}  # 1 where all is right


def first_metrics(config: Config, paths: Paths) -> Json:
    """The figures of a run that has just finished: what `evaluate` will say of its accuracy, without the model."""
    manifest, oof = read_manifest(paths.manifest), pd.read_parquet(paths.oof)
    groups = oof["image_id"].map(trainable(manifest).set_index("image_id")["split_group"])
    resamples = config.evaluate.bootstrap_samples
    return out_of_fold_metrics(oof, groups, class_names(manifest), resamples=resamples, positive_class=None)


def out_of_fold_metrics(
    oof: pd.DataFrame,
    groups: pd.Series,
    classes: list[str],
    *,
    resamples: int,
    positive_class: str | None,
    seed: int = 0,
) -> Json:
    """All figures of one cross-validation.

    Args:
        oof: `fold, label, prob_<class>...`, a row an image.
        groups: of each row.
        classes: in index order.
        resamples: of the groups, for the intervals.
        positive_class: for two classes; None takes the rarer one.

    Returns:
        The content of `metrics.json`; numbers that do not exist are None.
    """
    predicted = Predicted.of(oof, classes)
    names, folds = groups.to_numpy(dtype=object), oof["fold"].to_numpy(np.int64)

    def scores(weights: Array) -> dict[str, Array]:
        overall, per_class = all_scores(predicted, weights)
        return overall | per_class

    found = {name: rest for name, *rest in with_intervals(scores, names, folds, resamples, seed)}
    counts = confusion_counts(predicted, np.ones((1, len(oof))))[0].astype(int)
    metrics: Json = {
        "classes": classes,
        "num_images": len(oof),
        "num_groups": int(groups.nunique()),
        "num_folds": len(np.unique(folds)),
        "interval": {"level": LEVEL, "resamples": resamples, "unit": "group"},
        "majority_accuracy": float(counts.sum(1).max() / counts.sum()),
    }
    num_groups = metrics["num_groups"]
    metrics |= {name: _figure(num_groups if name in SHARES else 0, *found[name]) for name in METRICS}
    metrics["per_class"] = {
        name: {
            "num_images": int((predicted.truth == k).sum()),
            "num_groups": int(groups[(predicted.truth == k)].nunique()),
            **{
                score: _figure(int(groups[predicted.truth == k].nunique()), *(part[..., k] for part in found[score]))
                for score in PER_CLASS
            },
        }
        for k, name in enumerate(classes)
    }
    metrics["confusion_matrix"] = counts.tolist()
    if len(classes) == 2:
        metrics["binary"] = _binary(predicted, names, folds, classes, positive_class, resamples, seed)
    return metrics


def _binary(
    predicted: Predicted,
    groups: Any,
    folds: Any,
    classes: list[str],
    positive_class: str | None,
    resamples: int,
    seed: int,
) -> Json:
    rarer = int(np.argmin(np.bincount(predicted.truth, minlength=2)))
    index = rarer if positive_class is None else classes.index(positive_class)
    positive, score = predicted.truth == index, predicted.probs[:, index]
    called = cross_fitted_calls(positive, score, folds)
    found = with_intervals(
        lambda weights: binary_scores(positive, called, score, weights), groups, folds, resamples, seed
    )
    threshold = youden_threshold(positive, score)
    num = len(np.unique(groups.astype(str)))
    figures = {name: _figure(num, *rest) for name, *rest in found}
    return {"positive_class": classes[index], "threshold": threshold} | figures


def _figure(num_groups: int, value: Any, low: Any, high: Any, per_fold: Any) -> Json:
    """A score as the file has it; `num_groups` counts the groups behind a share of right answers, 0 for others."""
    return {**figure(value, low, high, num_groups), "fold_values": [number(one) for one in per_fold]}
