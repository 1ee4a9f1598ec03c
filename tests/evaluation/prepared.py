"""Prepared sets made by hand: a manifest with every column that the audit reads, and its pixels."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SIDE = 48
LABELS = ("alga", "rod", "yeast")
Squares = NDArray[np.uint8]


def manifest_of(num_groups: int = 24, per_group: int = 3, num_folds: int = 3) -> pd.DataFrame:
    """Groups of one class each, dealt to the folds; nothing but the label differs between classes."""
    num = num_groups * per_group
    group = np.arange(num) // per_group
    label = group % len(LABELS)
    rows = {
        "image_id": [f"{LABELS[k]}/g{g:02d}_{i:03d}.png" for i, (g, k) in enumerate(zip(group, label, strict=True))],
        "label": [LABELS[k] for k in label],
        "group": [f"g{g:02d}" for g in group],
        "split": "train",
        "fold": group // len(LABELS) % num_folds,
        "status": "ok",
        "width_px": 64,
        "height_px": 64,
        "channels": 3,
        "bit_depth": 8,
        "format": "PNG",
        "num_bytes": 4000 + np.arange(num) * 37 % 101,
        "pixel_digest": [f"d{i}" for i in range(num)],
        "jpeg_quality": np.nan,
        "quality": "",
        "cluster": "",
    }
    table = pd.DataFrame(rows)
    return table.assign(split_group=table["group"])


def squares_of(manifest: pd.DataFrame, seed: int = 0) -> Squares:
    """Noise with a shape in the middle: a bar that lies for the first class, stands for the second, a dot else."""
    rng = np.random.default_rng(seed)
    squares = rng.normal(120, 12, (len(manifest), SIDE, SIDE, 3))
    shapes = {"alga": (slice(20, 28), slice(10, 38)), "rod": (slice(10, 38), slice(20, 28))}
    for row, label in enumerate(manifest["label"]):
        rows, columns = shapes.get(label, (slice(19, 29), slice(19, 29)))
        squares[row, rows, columns] -= 60
    return np.clip(squares, 0, 255).astype(np.uint8)
