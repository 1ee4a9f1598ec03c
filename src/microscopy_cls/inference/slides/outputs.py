"""What is written about one slide: a folder that is whole or absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.config.schema import SlideRule
from microscopy_cls.inference.slides.aggregate import aggregate
from microscopy_cls.inference.slides.geojson import write_geojson
from microscopy_cls.inference.slides.heatmap import draw_heatmap
from microscopy_cls.system.files import atomic_folder, write_json, write_parquet

ABOUT_DOUBT = (
    "prediction_set and refer in predictions.csv apply the thresholds of single images to the joined answer: a slide "
    "of several classes is referred because no single one fits, and no coverage is promised of slides. novelty is the "
    "median of the tiles, share_novel the part of them that is 1 or more."
)


@dataclass(frozen=True, eq=False, slots=True)
class SlideResult:
    """One classified slide. Rows of `grid` and `probs` are the tiles on tissue, in the same order.

    Attributes:
        path: as given by the user.
        format: of the file.
        width_px: of level 0.
        height_px: of level 0.
        um_per_px: of level 0; None where unknown.
        um_per_px_from: who says so, such as `file` or `--mpp`; None where unknown.
        tile_px: side of a tile in level 0.
        num_tiles: that cover the slide, with and without tissue.
        grid: see `tiles.tile_grid`; at least one row.
        probs: float64 (tiles, classes).
        novelty: float64 (tiles,), NaN where the model does not say.
        classes: names in index order.
        rule: how `answer` comes from `probs`.
        answer: float64 (classes,), the slide's own.
        thumbnail: the whole slide, uint8 (h, w, 3).
        mask: its tissue, bool (h, w).
    """

    path: str
    format: str
    width_px: int
    height_px: int
    um_per_px: float | None
    um_per_px_from: str | None
    tile_px: float
    num_tiles: int
    grid: pd.DataFrame
    probs: NDArray[np.float64]
    novelty: NDArray[np.float64]
    classes: Sequence[str]
    rule: SlideRule
    answer: NDArray[np.float64]
    thumbnail: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def write_slide_outputs(folder: Path, result: SlideResult) -> None:
    """Write `tiles.parquet`, `tiles.geojson`, `heatmap.png` and `summary.json`, all or none.

    An earlier folder of the same name is replaced.
    """
    predicted = result.probs.argmax(axis=1)
    shares = aggregate(result.probs, result.grid["tissue"].to_numpy(), "majority")
    with atomic_folder(folder) as temporary:
        tiles = tile_table(result.grid, result.probs, result.classes).assign(novelty=result.novelty)
        write_parquet(temporary / "tiles.parquet", tiles)
        write_geojson(temporary / "tiles.geojson", result.grid, predicted, result.probs, result.classes)
        (temporary / "heatmap.png").write_bytes(_heatmap(result, shares))
        write_json(temporary / "summary.json", _summary(result, shares))


def tile_table(grid: pd.DataFrame, probs: NDArray[np.float64], classes: Sequence[str]) -> pd.DataFrame:
    """The grid with `predicted, confidence, prob_<class>...`."""
    names = np.array(classes, object)
    columns: Mapping[str, Any] = {
        "predicted": names[probs.argmax(axis=1)],
        "confidence": probs.max(axis=1),
        **{f"prob_{name}": probs[:, index] for index, name in enumerate(classes)},
    }
    return pd.concat([grid.reset_index(drop=True), pd.DataFrame(columns)], axis=1)


def _heatmap(result: SlideResult, shares: NDArray[np.float64]) -> bytes:
    best = int(result.answer.argmax())
    counted = f"{len(result.grid):,} of {result.num_tiles:,} tiles on tissue"
    return draw_heatmap(
        result.thumbnail,
        result.mask,
        result.grid,
        result.probs,
        result.classes,
        shares,
        slide_px=(result.width_px, result.height_px),
        um_per_px=result.um_per_px,
        title=Path(result.path).name,
        subtitle=f"{result.classes[best]} {result.answer[best]:.2f}  ·  {counted}",
    )


def _summary(result: SlideResult, shares: NDArray[np.float64]) -> dict[str, Any]:
    best, is_told = int(result.answer.argmax()), not np.isnan(result.novelty).any()
    return {
        "path": result.path,
        "format": result.format,
        "width_px": result.width_px,
        "height_px": result.height_px,
        "um_per_px": result.um_per_px,
        "um_per_px_from": result.um_per_px_from,
        "tile_px": result.tile_px,
        "tile_um": None if result.um_per_px is None else result.tile_px * result.um_per_px,
        "num_tiles": result.num_tiles,
        "num_tissue_tiles": len(result.grid),
        "rule": result.rule,
        "predicted": result.classes[best],
        "confidence": float(result.answer[best]),
        "novelty": float(np.median(result.novelty)) if is_told else None,
        "share_novel": float((result.novelty >= 1).mean()) if is_told else None,
        "probs": dict(zip(result.classes, result.answer.tolist(), strict=True)),
        "shares": dict(zip(result.classes, shares.tolist(), strict=True)),
        "about_doubt": ABOUT_DOUBT,
    }
