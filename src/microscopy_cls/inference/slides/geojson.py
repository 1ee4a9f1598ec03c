"""Tiles as GeoJSON that QuPath (0.4 and later) opens as detections: drop the file on the open slide."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.inference.slides.palette import class_colours
from microscopy_cls.inference.slides.tiles import BOX
from microscopy_cls.system.files import atomic_path

_DIGITS = 5  # of a probability; more would only make the file larger


def write_geojson(
    path: Path, grid: pd.DataFrame, predicted: NDArray[np.intp], probs: NDArray[np.float64], classes: Sequence[str]
) -> None:
    """Write a FeatureCollection with a polygon a tile, atomically, one tile in memory at a time.

    Coordinates are pixels of level 0 from the upper left corner. Ids are the same whenever the same tile is written.
    Source: QuPath's reader of objects, qupath.lib.io.QuPathTypeAdapters (0.4: `id` a UUID, `measurements` a map).

    Args:
        path: of the file.
        grid: tiles with `x_px, y_px, width_px, height_px`.
        predicted: (tiles,), index of the class.
        probs: (tiles, classes).
        classes: names in index order. QuPath takes a colon in a name for a class derived from another.
    """
    colours = class_colours(len(classes))
    classifications = [{"name": name, "color": list(colour)} for name, colour in zip(classes, colours, strict=True)]
    boxes = grid[BOX].to_numpy()
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        handle.write('{"type": "FeatureCollection", "features": [')
        for row, (box, index, values) in enumerate(zip(boxes, predicted, probs, strict=True)):
            measured = {
                f"prob_{name}": round(value, _DIGITS) for name, value in zip(classes, values.tolist(), strict=True)
            }
            feature = _feature(box.tolist(), classifications[index], measured)
            handle.write(",\n" if row else "\n")
            handle.write(json.dumps(feature, ensure_ascii=False, allow_nan=False))
        handle.write("\n]}\n")


def _feature(box: list[int], classification: dict[str, Any], measurements: dict[str, float]) -> dict[str, Any]:
    x, y, width, height = box
    right, bottom = x + width, y + height
    ring = [[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{x},{y},{width},{height}")),
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "detection", "classification": classification, "measurements": measurements},
    }
