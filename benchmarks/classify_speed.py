"""Classifying a folder of JPEGs: the plain way, and this project's command, as whole processes.

The plain way is what most scripts do: PIL, torchvision's transforms, a DataLoader with two workers, the network eager
in fp32. Both run the same random resnext50_32x4d at 224 px on the same drawn JPEGs. `engine alone` feeds the engine
ready tensors; its rate is what reading and writing must keep up with.

usage: python -m benchmarks.classify_speed [--images 1024] [--precision auto] [--bundle a trained one, for int8]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from microscopy_cls.inference.predictor import open_predictor
from microscopy_cls.model import get_model
from microscopy_cls.model.bundle import write_bundle
from microscopy_cls.model.graph import add_openvino
from microscopy_cls.model.members import save_weights

MODEL, SIZE_PX, CLASSES = "resnext50_32x4d", 224, tuple("abcdefghij")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def draw(folder: Path, num: int, size_px: tuple[int, int]) -> None:
    """JPEGs, about as many bytes as photographs of that size have."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(num):
        coarse = rng.integers(0, 256, (24, 32, 3), np.uint8)
        pixels = cv2.resize(coarse, size_px, interpolation=cv2.INTER_CUBIC).astype(np.int16)
        pixels += rng.integers(-12, 13, pixels.shape, np.int16)
        cv2.imwrite(
            str(folder / f"{number:05d}.jpg"), np.clip(pixels, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 88]
        )


def make_bundle(folder: Path) -> None:
    """One member with random weights."""
    weights = folder.with_suffix(".safetensors")
    torch.manual_seed(0)
    save_weights(weights, get_model(MODEL, len(CLASSES), "none").state_dict())
    preprocessing = {
        "size_px": SIZE_PX, "resize": "stretch", "intensity": "percentile", "page": 0, "max_pixels": 300_000_000,
        "mean": MEAN, "std": STD,
    }  # fmt: skip
    info = {
        "name": "speed", "classes": CLASSES, "architecture": MODEL, "weights": {}, "preprocessing": preprocessing,
        "training_data": {}, "metrics": {}, "config": {}, "versions": {},
    }  # fmt: skip
    write_bundle(folder, info, {0: weights}, {"pixels": np.zeros((1, SIZE_PX, SIZE_PX, 3), np.uint8)}, add_openvino)


class Folder(Dataset[torch.Tensor]):
    """A folder of images, as tutorials read them."""

    def __init__(self, folder: Path) -> None:
        from torchvision import transforms

        self.paths = sorted(folder.iterdir())
        self.transform = transforms.Compose(
            [transforms.Resize((SIZE_PX, SIZE_PX)), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        from PIL import Image

        with Image.open(self.paths[index]) as image:
            found: torch.Tensor = self.transform(image.convert("RGB"))
        return found


def plain(images: Path) -> None:
    """The plain way, a table at the end."""
    network = get_model(MODEL, len(CLASSES), "none").eval()
    rows = []
    with torch.inference_mode():
        for batch in DataLoader(Folder(images), batch_size=32, num_workers=2):
            rows += network(batch).softmax(1).tolist()
    (images.parent / "plain.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))


def timed(command: list[str], **environment: str) -> float:
    """Seconds of a whole process, its output hidden unless it fails."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **environment})
    return time.perf_counter() - started


def engine_alone(bundle: Path, precision: str, num: int) -> float:
    """Images per second of the engine on ready tensors."""
    predictor = open_predictor([bundle], precision=precision, members="1")
    batch = np.random.default_rng(0).integers(0, 256, (predictor.batch_size, SIZE_PX, SIZE_PX, 3), np.uint8)
    list(predictor.run([batch] * 2))
    started = time.perf_counter()
    num_batches = max(1, num // len(batch))
    list(predictor.run([batch] * num_batches))
    return num_batches * len(batch) / (time.perf_counter() - started)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--bundle", type=Path, help="a trained resnext50_32x4d of 224 px; random weights have no int8")
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)  # the process that is timed
    asked = parser.parse_args(arguments)
    if asked.plain:
        plain(asked.plain)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "images", asked.images, (asked.width, asked.height))
        bundle = asked.bundle or folder / "bundle"
        if not asked.bundle:
            make_bundle(bundle)
        one = sorted((folder / "images").iterdir())[0]
        command = [sys.executable, "-m", "microscopy_cls", "--log-level", "warning", "classify"]
        model = ["-m", str(bundle), "--precision", asked.precision, "--members", "1"]
        cold = timed([*command, str(one), *model, "-o", str(folder / "one")])
        ours = timed([*command, str(folder / "images"), *model, "-o", str(folder / "out")])
        alone = engine_alone(bundle, asked.precision, asked.images)
        slow = timed([sys.executable, "-m", "benchmarks.classify_speed", "--plain", str(folder / "images")])
    print(f"{asked.images} JPEGs of {asked.width} x {asked.height} px, {MODEL} at {SIZE_PX} px, {asked.precision}")
    print(f"  the plain way       {slow:7.1f} s")
    print(f"  microscopy-cls      {ours:7.1f} s   {slow / ours:5.1f} x")
    print(f"  one image, cold     {cold:7.1f} s")
    steady = (asked.images - 1) / (ours - cold)
    print(f"  steady {steady:.1f} images/s, engine alone {alone:.1f} images/s: {steady / alone:.2f}")


if __name__ == "__main__":
    main()
