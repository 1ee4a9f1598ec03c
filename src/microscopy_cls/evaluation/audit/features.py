"""What tells an image's origin rather than its content: numbers by family, for a classifier that sees no anatomy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.dataset.manifest import METADATA_PREFIX
from microscopy_cls.evaluation.audit.looks import CELLS, PERCENTILES, Look
from microscopy_cls.evaluation.intervals import Array

JUDGED = ("size", "format", "bytes", "compression", "corners", "metadata")
REPORTED = ("border", "grey")  # depend on what is shown as much as on how it was taken: no verdict rests on them
CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")
MAX_CATEGORIES = 20  # of a metadata column, the commonest; rarer ones cannot be learnt and told

Column = tuple[str, str, str, Array]  # family, source, name, values (n,)
OVER = "over the "  # in the names of columns that compare a corner's places


@dataclass(frozen=True)
class Features:
    """Numbers of n images; columns that are the same for all are left out.

    Attributes:
        values: (n, d) float64; NaN where an image has no such number (the JPEG quality of a PNG).
        names: what each column is, in plain words, with its unit.
        sources: the thing each column describes; columns of one thing are weighed together.
        families: of each column, out of `JUDGED` and `REPORTED`.
        placed: whether a column means something only in its place, see `placeless`.
    """

    values: Array
    names: NDArray[np.object_]
    sources: NDArray[np.object_]
    families: NDArray[np.object_]
    placed: NDArray[np.bool_]

    def only(self, *families: str) -> Features:
        """The columns of some families."""
        return self._where(np.isin(self.families, families))

    @property
    def placeless(self) -> Features:
        """Without the columns of corners that a forest would read as texture.

        A label is bright or dark in the same cells of every image, which a linear classifier sees. Organisms that reach
        into the corners make every cell dark or bright now and then: a forest tells them by that, though it is content.
        """
        return self._where(~self.placed)

    @property
    def present(self) -> list[str]:
        """The families that have a column."""
        return [name for name in (*JUDGED, *REPORTED) if name in self.families]

    def _where(self, chosen: NDArray[np.bool_]) -> Features:
        return Features(
            self.values[:, chosen],
            self.names[chosen],
            self.sources[chosen],
            self.families[chosen],
            self.placed[chosen],
        )


def artefact_features(images: pd.DataFrame, looks: Look) -> Features:
    """What file and pixels tell about how each image was made.

    Args:
        images: n rows of a manifest, `meta_<column>` included.
        looks: the same images' numbers.
    """
    columns = [*_of_files(images), *_of_metadata(images), *_of_pixels(looks)]
    columns.append(("bytes", "file size", "bytes beyond what the content explains", file_weight(images, looks)))
    families, sources, names, values = zip(*(one for one in columns if _varies(one[3])), strict=True)
    placed = np.array([OVER in name for name in names])
    return Features(np.stack(values, 1), _texts(names), _texts(sources), _texts(families), placed)


def _texts(parts: tuple[str, ...]) -> NDArray[np.object_]:
    return np.array(parts, dtype=object)


def _varies(values: Array) -> bool:
    return len(np.unique(values)) > 1


def _of_files(images: pd.DataFrame) -> Iterator[Column]:
    width, height = images["width_px"].to_numpy(float), images["height_px"].to_numpy(float)
    yield "size", "image size", "width in px", width
    yield "size", "image size", "height in px", height
    yield "size", "image size", "width / height", width / height
    yield "size", "image size", "number of pixels", width * height
    yield from _of_categories("format", "file format", images["format"])
    yield "format", "channels", "stored channels", images["channels"].to_numpy(float)
    yield "format", "bit depth", "bits per channel", images["bit_depth"].to_numpy(float)
    # Blocking artefacts would tell more, but the cache is resized: their grid is gone.
    yield "compression", "JPEG quality", "JPEG quality", images["jpeg_quality"].to_numpy(float)


def file_weight(images: pd.DataFrame, looks: Look) -> Array:
    """How much larger each file is than its content explains, as a natural logarithm, (n,).

    A rough texture takes more bytes than a smooth one in every format, so that bytes by themselves tell the content.
    What they say beyond it is what a line through all images of a format, fitted without the labels, leaves over: from
    the number of pixels and from the bytes that the cached image takes as PNG and as JPEG.
    """
    pixels = images["width_px"].to_numpy(float) * images["height_px"].to_numpy(float)
    known = np.log(np.column_stack([pixels, looks.encoded]))
    weight: Array = np.log(np.maximum(images["num_bytes"].to_numpy(float), 1))
    for rows in images.groupby(["format", "channels", "bit_depth"]).indices.values():
        inputs = np.column_stack([known[rows], np.ones(len(rows))])
        weight[rows] -= inputs @ np.linalg.lstsq(inputs, weight[rows], rcond=None)[0]
    return weight


def _of_metadata(images: pd.DataFrame) -> Iterator[Column]:
    for column in sorted(name for name in map(str, images.columns) if name.startswith(METADATA_PREFIX)):
        texts = images[column].astype("string").fillna("").str.strip()
        name = column.removeprefix(METADATA_PREFIX)
        numbers = pd.to_numeric(texts.where(texts != ""), errors="coerce")
        if numbers.notna().any() and (numbers.notna() | (texts == "")).all():
            yield "metadata", name, name, numbers.to_numpy(float, na_value=np.nan)
        else:
            yield from _of_categories("metadata", name, texts)


def _of_categories(family: str, source: str, texts: pd.Series) -> Iterator[Column]:
    """A column of 0 and 1 for each of the commonest values: the label has no part in the encoding."""
    for value in texts.value_counts().index[:MAX_CATEGORIES]:
        yield family, source, f"{source} is {value or 'empty'}", (texts == value).to_numpy(float)


def _of_pixels(looks: Look) -> Iterator[Column]:
    cells = [f"grey of cell {row + 1}, {column + 1} {OVER}corner's" for row, column in np.ndindex(CELLS, CELLS)]
    corners = looks.corners.copy()
    corners[:, :, 2] -= corners[:, :, 2].mean(1, keepdims=True)
    names = ["share of black pixels", "share of white pixels", f"mean grey {OVER}four corners'", *cells]
    for corner, values in zip(CORNERS, np.moveaxis(corners, 1, 0), strict=True):
        for name, column in zip(names, values.T, strict=True):
            yield "corners", f"{corner} corner", f"{corner} corner: {name}", column
    for name, column in zip(("mean", "spread"), looks.ring.T, strict=True):
        yield "border", "outermost ring", f"outermost ring: {name} of grey", column
    levels = [f"grey that {percent} % of the pixels stay below" for percent in PERCENTILES]
    for name, column in zip(["mean grey", "spread of grey", *levels], looks.grey.T, strict=True):
        yield "grey", "overall grey", name, column
