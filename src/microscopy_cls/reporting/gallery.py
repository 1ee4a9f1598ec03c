"""Pictures with the model's answer: mistakes, doubtful and random right answers, suspected labels, the browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.reporting.inputs import Inputs
from microscopy_cls.reporting.montage import SEED, Album, Thumbnail
from microscopy_cls.reporting.numbers import finite

NUM_EXAMPLES = 12  # pictures of each kind
NUM_BROWSED = 400
NUM_BROWSED_MISTAKES = 250
NUM_SUSPECTS = 24
BROWSER_PX = 88
KINDS = ("errors", "doubtful", "random")  # as the evidence maps count them


@dataclass(frozen=True)
class Answer:
    """One prediction with its picture, and the picture under its evidence map where there is one."""

    picture: Thumbnail
    truth: str
    predicted: str
    prob: float
    evidence: Thumbnail | None = None

    @property
    def right(self) -> bool:
        """Whether the model named the class that the data give."""
        return self.truth == self.predicted


@dataclass(frozen=True)
class Suspect:
    """An image whose label may be wrong."""

    picture: Thumbnail
    label: str
    suggested: str
    prob_label: float | None
    prob_suggested: float | None


@dataclass(frozen=True)
class Suspects:
    """The first of the suspected labels, and how many there are."""

    num: int
    listed: list[Suspect]


def examples(inputs: Inputs, album: Album) -> dict[str, list[Answer]]:
    """The most confident mistakes, the answers of the smallest lead over the next class, random right answers.

    Where `evaluate` drew evidence maps, its choice of images is shown, each with its map.
    """
    drawn = _with_maps(inputs, album) if inputs.cams is not None else {}
    return {kind: drawn.get(kind) or _answers(rows, album) for kind, rows in _chosen(inputs.oof).items()}


def _chosen(oof: pd.DataFrame) -> dict[str, pd.DataFrame]:
    right = oof["label"] == oof["predicted"]
    shuffled = oof[right].sort_values("image_id").sample(frac=1, random_state=SEED)
    errors = oof[~right].sort_values(["prob", "image_id"], ascending=[False, True]).head(NUM_EXAMPLES)
    return {
        "errors": errors,
        "doubtful": oof.assign(lead=_lead(oof))
        .drop(index=errors.index)
        .sort_values(["lead", "image_id"])
        .head(NUM_EXAMPLES),
        "random": shuffled.head(NUM_EXAMPLES),
    }


def _lead(oof: pd.DataFrame) -> NDArray[np.float64]:
    """Of the likeliest class over the next, (n,)."""
    probs = oof[[name for name in oof.columns if name.startswith("prob_")]].to_numpy(np.float64)
    second, first = np.sort(probs, axis=1)[:, -2:].T
    lead: NDArray[np.float64] = first - second
    return lead


def _answers(rows: pd.DataFrame, album: Album) -> list[Answer]:
    return [
        Answer(picture, row["label"], row["predicted"], row["prob"])
        for picture, row in zip(
            album.thumbnails(rows), rows[["label", "predicted", "prob"]].to_dict("records"), strict=True
        )
    ]


def _with_maps(inputs: Inputs, album: Album) -> dict[str, list[Answer]]:
    assert inputs.cams is not None
    answers: dict[str, list[Answer]] = {kind: [] for kind in KINDS}
    predicted = inputs.oof.set_index("image_id")[["label", "predicted", "prob"]].to_dict("index")
    maps = zip(inputs.cams["rows"].tolist(), inputs.cams["cam"], inputs.cams["kind"].tolist(), strict=True)
    for row, cam, kind in maps:
        image_id = str(inputs.manifest["image_id"].iloc[row])
        same_kind = answers[KINDS[kind]]
        if image_id not in predicted or len(same_kind) == NUM_EXAMPLES:
            continue
        answer = predicted[image_id]
        picture, evidence = album.named([image_id])[0], album.drawn(image_id, cam)
        same_kind.append(Answer(picture, answer["label"], answer["predicted"], answer["prob"], evidence))
    return answers


def browsed(oof: pd.DataFrame, album: Album) -> list[Answer]:
    """At most `NUM_BROWSED` predictions to look through: the most confident mistakes, then random right answers."""
    right = (oof["label"] == oof["predicted"]).to_numpy(bool)
    wrong_rows = oof[~right].sort_values(["prob", "image_id"], ascending=[False, True]).head(NUM_BROWSED_MISTAKES)
    order = np.random.default_rng(SEED).permutation(int(right.sum()))[: NUM_BROWSED - len(wrong_rows)]
    rows = pd.concat([wrong_rows, oof[right].iloc[np.sort(order)]])
    pictures = album.thumbnails(rows, BROWSER_PX)
    facts: Sequence[Mapping[Any, Any]] = rows[["label", "predicted", "prob"]].to_dict("records")
    answers = zip(pictures, facts, strict=True)
    return [Answer(picture, one["label"], one["predicted"], one["prob"]) for picture, one in answers if picture.uri]


def suspects(metrics: Mapping[str, Any], album: Album) -> Suspects | None:
    """The suspected labels of the metrics file, most suspected first; None where nobody looked."""
    found = metrics.get("label_errors")
    if not found:
        return None
    listed = sorted(found.get("listed") or (), key=lambda one: one["rank"])[:NUM_SUSPECTS]
    pictures = album.named(one["image_id"] for one in listed)
    return Suspects(
        int(found.get("num") or 0),
        [
            Suspect(
                picture,
                str(one["label"]),
                str(one["suggested"]),
                finite(one.get("prob_label")),
                finite(one.get("prob_suggested")),
            )
            for picture, one in zip(pictures, listed, strict=True)
        ],
    )
