"""Images whose label the out-of-fold predictions contradict: what a person should look at first.

Confident learning: Northcutt, Jiang and Chuang 2021, doi:10.1613/jair.1.12125. A suspicion, not a verdict: the model
may be the one that errs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.evaluation.scores import Array, Predicted

COLUMNS = ["image_id", "path", "label", "suggested", "prob_label", "prob_suggested", "rank"]
NUM_LISTED = 50  # in metrics.json and the page; the CSV has all


def find_label_errors(oof: pd.DataFrame, paths: pd.Series, classes: list[str]) -> pd.DataFrame:
    """Images that another class suits better than their label, most suspicious first.

    A class is confident of an image when it gives it at least the mean probability that it gives the images of its own
    label. So a class that the model is timid about needs less, and one that it hands out freely needs more. An image is
    suspected when a confident class other than the label is also likelier than the label.

    Args:
        oof: `image_id, label, prob_<class>...`, a row an image, predicted by a member that never saw its group.
        paths: file of each image, by image id.
        classes: in index order; each is the label of some image.

    Returns:
        `COLUMNS`; `rank` counts from 1, by the margin of the label over the suggested class (the least first).
    """
    predicted = Predicted.of(oof, classes)
    labels, probs = predicted.truth, predicted.probs
    suggested = _suggested(labels, probs)
    rows = np.arange(len(oof))
    own, other = probs[rows, labels], probs[rows, suggested]
    names = np.array(classes, dtype=object)
    found = pd.DataFrame(
        {
            "image_id": oof["image_id"].to_numpy(dtype=object),
            "path": paths.loc[oof["image_id"]].to_numpy(dtype=object),
            "label": names[labels],
            "suggested": names[suggested],
            "prob_label": own,
            "prob_suggested": other,
            "margin": own - other,
        }
    )[suggested != labels]
    ranked: pd.DataFrame = found.sort_values(["margin", "image_id"], ignore_index=True)
    return ranked.assign(rank=np.arange(1, len(ranked) + 1))[COLUMNS]


def _suggested(labels: NDArray[np.int64], probs: Array) -> NDArray[np.int64]:
    """The likeliest confident class where it beats the label, else the label itself: (n,)."""
    own = probs[np.arange(len(labels)), labels]
    thresholds = np.array([own[labels == k].mean() for k in range(probs.shape[1])])
    confident = np.where(probs >= thresholds, probs, -1.0)
    likeliest: NDArray[np.int64] = np.where(confident.max(1) > own, confident.argmax(1), labels)
    return likeliest


def listed_label_errors(table: pd.DataFrame) -> dict[str, Any]:
    """The entry of `metrics.json`: how many there are, and the first `NUM_LISTED` without their paths."""
    first = table.head(NUM_LISTED).drop(columns="path").round({"prob_label": 6, "prob_suggested": 6})
    return {"num": len(table), "listed": first.to_dict("records")}
