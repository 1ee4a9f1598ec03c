"""Decoded, resized pixels of all images in one memory-mapped file, and the facts found on the way.

One file, because DVC and network disks are slow with many small ones; mapped, so that all workers and folds share
one copy. Row i belongs to row i of the manifest; rows of unreadable files stay zero and, in a sparse file, empty.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.config.schema import Intensity, Resize
from microscopy_cls.errors import DataError, ImageError
from microscopy_cls.images import Decoded, decode, fit_square, jpeg_quality, read_bytes
from microscopy_cls.system.files import atomic_path, read_json, sha256_of_json, write_json, write_parquet
from microscopy_cls.system.hardware import num_cores
from microscopy_cls.system.progress import progress

READER_VERSION = 2  # raise it when the same file would be decoded to other pixels
FACTS = (
    "sha256", "status", "error", "width_px", "height_px", "channels", "bit_depth", "format", "num_bytes",
    "jpeg_quality", "brightness", "contrast", "sharpness", "pixel_digest",
)  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """The settings that decide which pixels a file gives; stored with the model."""

    size_px: int
    resize: Resize
    intensity: Intensity
    page: int = 0
    max_pixels: int = 300_000_000
    channels: tuple[int, ...] | None = None

    @property
    def key(self) -> str:
        """Digest of the settings and of the reader's own version."""
        return sha256_of_json(asdict(self) | {"reader": READER_VERSION})

    def read(self, source: Path | bytes) -> NDArray[np.uint8]:
        """Pixels of one image as every stage sees them: uint8 (size_px, size_px, 3).

        Raises:
            ImageError: the file gives no pixels.
        """
        return fit_square(self.decode(source).pixels, self.size_px, self.resize)

    def decode(self, source: str | Path | bytes, name: str | Path = "image") -> Decoded:
        """One image in its own size.

        Args:
            source: a path, or the bytes of a file read before.
            name: of the file, for `bytes`.

        Raises:
            ImageError: the file gives no pixels.
        """
        return decode(
            source,
            name=name,
            intensity=self.intensity,
            page=self.page,
            max_pixels=self.max_pixels,
            channels=self.channels,
        )


def open_pixels(folder: Path) -> NDArray[np.uint8]:
    """Map the cache of a prepared folder read-only: uint8 (n, size_px, size_px, 3)."""
    pixels: NDArray[np.uint8] = np.load(folder / "pixels.npy", mmap_mode="r")
    return pixels


def check_reading(folder: Path, reading: Reading) -> None:
    """See that the cache of a prepared folder was read by these settings.

    Raises:
        DataError: by others, or there is none.
    """
    try:
        found = read_json(folder / "pixels.json")
    except (OSError, ValueError):
        raise DataError(f"{folder}: holds no prepared images. Run `microscopy-cls prepare` first.") from None
    if found["key"] != reading.key:
        wanted = read_back(reading)
        differing = [f"{name} {value}" for name, value in found["reading"].items() if wanted.get(name) != value]
        raise DataError(
            f"{folder}: was prepared with other settings ({', '.join(differing) or 'by another version'}). "
            "Run `microscopy-cls prepare` again with the same config."
        )


def read_back(reading: Reading) -> dict[str, Any]:
    """Settings as JSON gives them back."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(reading)))
    return values


def build_cache(paths: list[str], reading: Reading, folder: Path) -> pd.DataFrame:
    """Read every file into `folder/pixels.npy` and return the facts, a row a file in the order of `paths`.

    A file whose bytes an earlier cache of this folder holds, read by the same settings, is copied and not decoded.
    """
    known = _known(folder, reading)
    shape = (len(paths), reading.size_px, reading.size_px, 3)
    seal = folder / "pixels.json"
    with atomic_path(folder / "pixels.npy") as temporary:
        pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        # Decoders and hashes release the interpreter's lock: threads are enough, and cost no start.
        with ThreadPoolExecutor(num_cores()) as pool:
            jobs = pool.map(partial(_fill, pixels, reading=reading, known=known), range(len(paths)), paths)
            facts = pd.DataFrame(list(progress(jobs, "reading", total=len(paths), unit="file")), columns=list(FACTS))
        pixels.flush()
        seal.unlink(missing_ok=True)  # pixels and facts are two files: only sealed ones are known to match
    write_parquet(folder / "pixels.parquet", facts)
    write_json(seal, {"key": reading.key, "reading": asdict(reading)})
    return facts


class _Known:
    """Facts and pixels of an earlier cache, by the file's digest; readable files only."""

    def __init__(self, facts: pd.DataFrame, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels
        self.facts: list[dict[Any, Any]] = facts[list(FACTS)].to_dict("records")
        self.rows = {fact["sha256"]: row for row, fact in enumerate(self.facts) if fact["status"] == "ok"}


def _known(folder: Path, reading: Reading) -> _Known | None:
    """The cache in `folder`; None when there is none, when it was read by other settings, or when it is damaged."""
    try:
        if read_json(folder / "pixels.json")["key"] != reading.key:
            return None
        facts, pixels = pd.read_parquet(folder / "pixels.parquet"), open_pixels(folder)
    except (OSError, ValueError, EOFError, KeyError):
        return None
    return _Known(facts, pixels) if pixels.shape == (len(facts), reading.size_px, reading.size_px, 3) else None


def _fill(pixels: NDArray[np.uint8], row: int, path: str, *, reading: Reading, known: _Known | None) -> dict[Any, Any]:
    try:
        data = read_bytes(path)
    except ImageError as error:
        return _unreadable(error.reason) | {"sha256": "", "num_bytes": 0}
    sha256 = hashlib.sha256(data).hexdigest()
    if known and (earlier := known.rows.get(sha256)) is not None:
        pixels[row] = known.pixels[earlier]
        return known.facts[earlier]
    facts, square = inspect_image(data, reading, path)
    if square is not None:
        pixels[row] = square
    return facts | {"sha256": sha256, "num_bytes": len(data)}


def inspect_image(
    data: bytes, reading: Reading, name: str | Path = "image"
) -> tuple[dict[str, Any], NDArray[np.uint8] | None]:
    """Decode the bytes of one file called `name`.

    Returns:
        Its facts (`FACTS` without `sha256` and `num_bytes`) and its pixels, uint8 (size_px, size_px, 3), or None when
        unreadable.
    """
    try:
        decoded = reading.decode(data, name)
    except ImageError as error:
        return _unreadable(error.reason), None
    square = fit_square(decoded.pixels, reading.size_px, reading.resize)
    facts = {
        "status": "ok",
        "error": "",
        "width_px": decoded.width_px,
        "height_px": decoded.height_px,
        "channels": decoded.channels,
        "bit_depth": decoded.bit_depth,
        "format": decoded.format,
        "jpeg_quality": jpeg_quality(data),
        "pixel_digest": _pixel_digest(decoded.pixels),
    }
    return facts | _quality(square), square


def _unreadable(reason: str) -> dict[str, Any]:
    numbers = {"width_px": 0, "height_px": 0, "channels": 0, "bit_depth": 0}
    quality = dict.fromkeys(("jpeg_quality", "brightness", "contrast", "sharpness"), float("nan"))
    return {"status": "unreadable", "error": reason, "format": "", "pixel_digest": "", **numbers, **quality}


def _pixel_digest(pixels: NDArray[np.uint8]) -> str:
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _quality(square: NDArray[np.uint8]) -> dict[str, float]:
    """Mean and spread of grey (0 to 255) and the variance of the Laplacian, the usual measure of focus."""
    grey = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)
    sharpness = cv2.Laplacian(grey, cv2.CV_32F).var()
    return {"brightness": float(grey.mean()), "contrast": float(grey.std()), "sharpness": float(sharpness)}
