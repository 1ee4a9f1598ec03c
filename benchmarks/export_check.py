"""Whether exports answer as torch does on real images, fed as raw uint8.

usage: python -m benchmarks.export_check BUNDLE FOLDER [--num 200] [--seed 0]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.images import IMAGE_SUFFIXES, ending, fit_square
from microscopy_cls.inference.portable import FORMATS, export_bundle
from microscopy_cls.inference.portable.check import BATCH_SIZE, open_portable
from microscopy_cls.inference.predictor import Predictor, open_predictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--num", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    predictor = open_predictor([asked.bundle], engine="torch", precision="fp32")
    pixels = real_images(predictor, asked.folder, asked.num, asked.seed)
    expected = predictor.run_all(list(pixels)).probs
    print(f"{len(pixels)} images of {asked.folder}, {len(predictor.classes)} classes")
    for kind in FORMATS:
        with tempfile.TemporaryDirectory() as place:
            run = open_portable(export_bundle(asked.bundle, Path(place) / kind, kind).model)
            parts = [run(pixels[start : start + BATCH_SIZE])[0] for start in range(0, len(pixels), BATCH_SIZE)]
        probs = np.concatenate(parts)
        differing = int((probs.argmax(1) != expected.argmax(1)).sum())
        print(f"{kind}: largest difference of a probability {np.abs(probs - expected).max():.1e}, labels {differing}")


def real_images(predictor: Predictor, folder: Path, num: int, seed: int) -> NDArray[np.uint8]:
    """A seeded choice, (num, size_px, size_px, 3), read as the bundle reads."""
    reading = predictor.reading
    files = sorted(path for path in folder.rglob("*") if ending(path) in IMAGE_SUFFIXES)
    chosen = np.random.default_rng(seed).permutation(len(files))[:num]
    return np.stack([fit_square(reading.decode(files[k]).pixels, reading.size_px, reading.resize) for k in chosen])


if __name__ == "__main__":
    main()
