"""How many planted copies `prepare` finds in a set of images, what else it joins, and how long it takes.

Plants copies of images drawn at random: half the size, JPEG of quality 60, one of the other seven views, cropped by 5 %
(off one side, evenly off all, or anywhere). Precision counts pairs: what is joined beside the planted copies is drawn
with --montage, for a person to look at, and counts as wrong until --true says how many of them are right.

usage: python -m benchmarks.near_duplicates FOLDER_OR_TABLE [--each 60] [--seed 0] [--size 128] [--montage pairs.png]
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from microscopy_cls.config.schema import Columns, Data
from microscopy_cls.dataset.near_duplicates import near_duplicate_pairs
from microscopy_cls.dataset.sources import list_files
from microscopy_cls.images import fit_square, read_image

Pixels = NDArray[np.uint8]
CROP = 0.05


def halved(pixels: Pixels, _: np.random.Generator) -> Pixels:
    height, width = pixels.shape[:2]
    small = Image.fromarray(pixels).resize((max(1, width // 2), max(1, height // 2)), Image.Resampling.LANCZOS)
    return np.array(small)


def encoded(pixels: Pixels, _: np.random.Generator) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=60)
    return np.array(Image.open(file))


def mirrored(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    view = int(rng.integers(1, 8))
    turned = np.rot90(pixels, view % 4)
    return np.ascontiguousarray(turned[:, ::-1] if view >= 4 else turned)


def cropped(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Off one side, evenly off all sides, or a window anywhere."""
    height, width = pixels.shape[:2]
    down, over = round(CROP * height), round(CROP * width)
    kind, top, left = rng.integers(3), rng.integers(down + 1), rng.integers(over + 1)
    if kind == 0:
        sides = (slice(down, None), slice(None)), (slice(height - down), slice(None)), (slice(None), slice(over, None))
        return pixels[sides[rng.integers(3)]]
    if kind == 1:
        top, left = down // 2, over // 2
    return pixels[top : top + height - down, left : left + width - over]


KINDS: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "half the size": halved,
    "JPEG 60": encoded,
    "mirrored": mirrored,
    "cropped 5 %": cropped,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.near_duplicates", description="recall and precision of copies")
    parser.add_argument("source", type=Path, help="a folder per class, or a CSV with the columns file and label")
    parser.add_argument("--each", type=int, default=60, help="copies planted of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=128, help="side of the cache's squares")
    parser.add_argument("--true", type=int, default=0, help="pairs of the originals that are one picture, as looked at")
    parser.add_argument("--montage", type=Path, help="draws the pairs found among the originals")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)

    is_table = options.source.is_file()
    data = Data(table=options.source, columns=Columns(path="file")) if is_table else Data(root=options.source)
    files = list_files(data).files
    originals = [read_image(path) for path in files["path"]]
    squares = np.stack([fit_square(pixels, options.size, "stretch") for pixels in originals])
    started = time.process_time()
    pairs = near_duplicate_pairs(squares, np.arange(len(squares)))
    seconds = time.process_time() - started
    print(f"{options.source}: {len(pairs)} pairs among {len(squares)} originals in {seconds:.1f} s of one core")
    for first, second in pairs:
        print(f"  {files['image_id'][first]}  {files['image_id'][second]}")
    if options.montage and len(pairs):
        draw(squares, pairs, options.montage)

    sources, kinds, copies = [], [], []
    for kind, make in KINDS.items():
        for source in rng.choice(len(squares), min(options.each, len(squares)), replace=False):
            sources.append(source)
            kinds.append(kind)
            copies.append(fit_square(make(originals[source], rng), options.size, "stretch"))
    measure(squares, np.array(sources), np.array(kinds), np.stack(copies), max(options.true, 0))


def measure(
    squares: Pixels, sources: NDArray[np.int64], kinds: NDArray[np.str_], copies: Pixels, num_true: int
) -> None:
    """Print the recall of each kind, and the precision over all pairs."""
    num = len(squares)
    joined = near_duplicate_pairs(np.concatenate([squares, copies]), np.arange(num + len(copies)))
    origin = np.concatenate([np.arange(num), sources])
    planted = {(int(source), num + row) for row, source in enumerate(sources)}
    found = planted & {(int(first), int(second)) for first, second in joined}
    for kind in KINDS:
        wanted = {(int(source), num + row) for row, source in enumerate(sources) if kinds[row] == kind}
        print(f"  {kind}: {len(found & wanted)} of {len(wanted)} found")
    # A copy of one original of a pair is a copy of the other as well: count pairs of originals.
    others = {tuple(sorted((int(origin[a]), int(origin[b])))) for a, b in joined if origin[a] != origin[b]}
    right = len(found) + min(num_true, len(others))
    print(f"  recall {len(found) / len(planted):.3f}, precision {right / (len(found) + len(others)):.3f}", end=" ")
    print(f"({len(others)} pairs of different originals, {num_true} of them right)")


def draw(squares: Pixels, pairs: NDArray[np.int64], path: Path, columns: int = 5) -> None:
    """The pairs side by side, as an image."""
    tiles = [np.pad(np.hstack(squares[pair]), ((2, 2), (2, 2), (0, 0)), constant_values=255) for pair in pairs]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    Image.fromarray(np.vstack(rows)).save(path)


if __name__ == "__main__":
    main()
