"""From probabilities to rows: the columns of `predictions.csv` and of everything else that answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

DECIMALS = 6  # of probabilities in files: the engines' own differences are larger


def answer(probs: NDArray[np.float64], classes: Sequence[str]) -> dict[str, Any]:
    """`predicted, confidence, prob_<class>...` of one input; probs float64 (classes,)."""
    best = int(probs.argmax())
    by_class = {f"prob_{name}": float(value) for name, value in zip(classes, probs, strict=True)}
    return {"predicted": classes[best], "confidence": float(probs[best]), **by_class}


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
    for name in ("confidence", *(f"prob_{name}" for name in classes)):
        frame[name] = frame[name].astype("Float64").astype("float64")
    names = dict.fromkeys(name for row in carried for name in row if name not in frame)
    others = pd.DataFrame({name: [row.get(name) for row in carried] for name in names}, index=frame.index)
    return pd.concat([frame, others], axis=1)
