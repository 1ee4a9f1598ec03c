"""Python for readers of the note: what `fit_square` and `classify` do, with common libraries alone."""

from __future__ import annotations

from microscopy_cls.config.schema import Resize
from microscopy_cls.model.export import Format

RULE: dict[Resize, str] = {
    "stretch": "Both axes are resized to it; proportions are given up (`stretch`).",
    "pad": "The longer axis is resized to it, proportions are kept, and what is missing on both sides is filled with "
    "the median colour of the image's outermost frame of one pixel (`pad`).",
    "crop": "The central square, as large as the shorter axis, is cut out and resized to it (`crop`).",
}

_SQUARE: dict[Resize, str] = {
    "stretch": """\
    return resized(read(path), SIZE, SIZE)""",
    "pad": """\
    pixels = read(path)
    height, width = pixels.shape[:2]
    scale = SIZE / max(height, width)
    fitted = resized(pixels, max(1, round(width * scale)), max(1, round(height * scale)))
    top, left = (SIZE - fitted.shape[0]) // 2, (SIZE - fitted.shape[1]) // 2
    frame = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    whole = np.tile(np.rint(np.median(frame, axis=0)).astype(np.uint8), (SIZE, SIZE, 1))
    whole[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return whole""",
    "crop": """\
    pixels = read(path)
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resized(pixels[top : top + side, left : left + side], SIZE, SIZE)""",
}

_RUN: dict[Format, tuple[str, str, str]] = {
    "onnx": (
        "import onnxruntime",
        'session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])',
        'probabilities, features = session.run(["probabilities", "features"], {"image": images})',
    ),
    "openvino": (
        "import openvino",
        'model = openvino.Core().compile_model("model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})',
        'probabilities, features = (model({"image": images})[name] for name in ("probabilities", "features"))',
    ),
}

LIBRARIES: dict[Format, str] = {
    "onnx": "numpy opencv-python-headless pillow onnxruntime",
    "openvino": "numpy opencv-python-headless pillow openvino",
}

HINT: dict[Format, str] = {
    "onnx": "",
    "openvino": "\n\nThe hint matters: on CPUs with bf16 OpenVINO would compute in that, and move probabilities by up "
    "to a hundredth or so.",
}


def resizing(size_px: int, resize: Resize) -> str:
    """A function `square` of a path, and what it needs."""
    return f"""\
import cv2
import numpy as np
from PIL import Image, ImageOps

SIZE = {size_px}


def read(path):
    return np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))


def resized(pixels, width, height):
    small = min(pixels.shape[1], width), min(pixels.shape[0], height)
    pixels = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)


def square(path):
{_SQUARE[resize]}"""


def usage(kind: Format) -> str:
    """Ten lines from images named on the command line to classes."""
    library, opened, answered = _RUN[kind]
    return f"""\
import sys
from pathlib import Path
{library}

classes = Path("classes.txt").read_text(encoding="utf-8").splitlines()
images = np.stack([square(path) for path in sys.argv[1:]])
{opened}
{answered}
for path, row in zip(sys.argv[1:], probabilities):
    print(path, classes[row.argmax()], f"{{row.max():.4f}}")"""


SETS = """\
import json

thresholds = json.loads(Path("prediction_sets.json").read_text(encoding="utf-8"))["thresholds"]
for path, row in zip(sys.argv[1:], probabilities):
    print(path, [name for name, prob in zip(classes, row) if prob >= thresholds[name]])"""
