"""From probabilities to rows: the columns of `predictions.csv` and of everything else that answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.model.doubt import prediction_sets

SEPARATOR = "|"  # between the classes of a prediction set
DECIMALS = 6  # of probabilities in files: the engines' own differences are larger


@dataclass(frozen=True, eq=False)
class Judge:
    """Says of an input what it is, and whether a person should look at it.

    Attributes:
        classes: in index order.
        thresholds: the probability from which on each class is in the prediction set, float64 (classes,); None for a
            bundle without.
    """

    classes: Sequence[str]
    thresholds: NDArray[np.float64] | None = None

    def answer(self, probs: NDArray[np.float64], novelty: float) -> dict[str, Any]:
        """The row of one input but for its file.

        Args:
            probs: float64 (classes,).
            novelty: from 1 on unlike all that is known; NaN where nobody knows.

        Returns:
            `predicted, confidence, prob_<class>...`; `prediction_set`, its classes joined by "|", and `refer`, which
            is true where the set has not exactly one class or the input is a novelty, both None without thresholds;
            `novelty`, None instead of NaN.
        """
        best = int(probs.argmax())
        by_class = {f"prob_{name}": float(value) for name, value in zip(self.classes, probs, strict=True)}
        found = {"predicted": self.classes[best], "confidence": float(probs[best]), **by_class}
        doubt = {"prediction_set": None, "refer": None, "novelty": None if np.isnan(novelty) else float(novelty)}
        if self.thresholds is None:
            return found | doubt
        inside = prediction_sets(probs, self.thresholds)
        names = SEPARATOR.join(name for name, is_in in zip(self.classes, inside, strict=True) if is_in)
        return found | doubt | {"prediction_set": names, "refer": bool(inside.sum() != 1 or novelty >= 1)}


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    """An answer as files have it."""
    return {name: round(value, DECIMALS) if isinstance(value, float) else value for name, value in values.items()}


def printable(text: str) -> str:
    """Text that UTF-8 can hold: bytes of a file name that are no text become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def columns(classes: Sequence[str]) -> list[str]:
    """The columns in their order, without those carried through."""
    probs = [f"prob_{name}" for name in classes]
    doubt = ["prediction_set", "refer", "novelty"]
    return ["path", "status", "error", "predicted", "confidence", *probs, *doubt, "width_px", "height_px"]


def table(records: Sequence[dict[str, Any]], carried: Sequence[dict[str, Any]], classes: Sequence[str]) -> pd.DataFrame:
    """A row an input. Columns of the users' own table follow; where they have one of our names, ours stays."""
    texts = [{**record, "path": printable(record["path"])} for record in records]  # pandas' text is UTF-8, too
    frame = pd.DataFrame(texts, columns=columns(classes))
    for name in ("width_px", "height_px"):
        frame[name] = frame[name].astype("Int64")
    frame["refer"] = frame["refer"].astype("boolean")
    for name in ("confidence", "novelty", *(f"prob_{name}" for name in classes)):
        frame[name] = frame[name].astype("Float64").astype("float64")
    names = dict.fromkeys(name for row in carried for name in row if name not in frame)
    others = pd.DataFrame({name: [row.get(name) for row in carried] for name in names}, index=frame.index)
    return pd.concat([frame, others], axis=1)
