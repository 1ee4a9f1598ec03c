"""Members in 8-bit integers, by post-training quantisation, where that does not change their answers.

NNCF finds the ranges on the bundle's calibration inputs (Jacob et al. 2018, arXiv:1712.05877). It takes a minute or so
a member, so that it is done when it is first asked for and kept in the bundle's folder.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import io
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from microscopy_cls.errors import BundleError, MissingDependencyError
from microscopy_cls.model.answers import BATCH_SIZE, graph_answers
from microscopy_cls.model.bundle import CALIBRATION_INPUTS, WITHOUT_FOLD, BundleInfo, Member
from microscopy_cls.model.vino import import_openvino, member_graph
from microscopy_cls.system.files import atomic_folder, read_json, sha256_of_file, write_json

MIN_AGREEMENT = 0.995  # of the likeliest class with fp32's, on images that the member never saw; a refit saw them all
RECORD = "int8.json"

log = logging.getLogger(__name__)
Json = dict[str, Any]


def int8_graphs(folder: Path, info: BundleInfo, members: Sequence[Member]) -> list[Path]:
    """The int8 graphs of some members; made now where the bundle has none yet.

    Raises:
        BundleError: they answer otherwise than fp32 too often; says how often.
        MissingDependencyError: NNCF is not installed.
    """
    kept = folder / "int8"
    record = _read(kept, info)
    if record is None:
        if not os.access(folder, os.W_OK):
            kept = Path(tempfile.mkdtemp(prefix="microscopy-cls-")) / "int8"
            atexit.register(shutil.rmtree, kept.parent, ignore_errors=True)
            log.warning("%s: cannot be written, so that int8 is made anew each time", folder)
        with atomic_folder(kept) as temporary:
            record = _make(folder, info, temporary)
    if record["agreement"] < MIN_AGREEMENT:
        raise BundleError(
            f"{folder}: in int8 its answers agree with fp32 on {record['agreement']:.1%} of {record['num_images']} "
            f"{_images_of(info)}, and at least {MIN_AGREEMENT:.1%} are wanted. Use --precision bf16 or fp32."
        )
    return [kept / f"int8_{member.key}.xml" for member in members]


def _images_of(info: BundleInfo) -> str:
    """What int8 is tried on: a refit has no image that it was not trained on."""
    is_refit = any(member.fold == WITHOUT_FOLD for member in info.members)
    return "images that it was trained on" if is_refit else "images held out"


def _read(kept: Path, info: BundleInfo) -> Json | None:
    """What was found when the int8 graphs were made; None where there are none of these members, or damaged ones."""
    try:
        record: Json = read_json(kept / RECORD)
        is_whole = all(sha256_of_file(kept / name) == digest for name, digest in record["files"].items())
    except (OSError, ValueError, KeyError):
        return None
    return record if is_whole and record["members"] == [member.sha256 for member in info.members] else None


def _make(folder: Path, info: BundleInfo, target: Path) -> Json:
    """Quantise every member into `target` and see how often each agrees with fp32 on the images of its own fold."""
    inputs = load_file(folder / CALIBRATION_INPUTS)
    pixels, folds = inputs["pixels"], inputs.get("folds")
    openvino, num_same, num_images = import_openvino(), 0, 0
    for member in info.members:
        log.info("making %s of %s int8", member.name, info.name)
        graph = member_graph(folder, info, member)
        own = pixels if folds is None else pixels[folds == member.fold]
        expected = _classes(graph, own, "fp32")
        quantised = _quantise(graph, pixels)
        path = target / f"int8_{member.key}.xml"
        openvino.save_model(quantised, path, compress_to_fp16=False)
        num_same += int((_classes(quantised, own, "int8") == expected).sum())
        num_images += len(own)
    files = {path.name: sha256_of_file(path) for path in sorted(target.iterdir())}
    record = {
        "agreement": num_same / max(1, num_images), "num_images": num_images, "files": files,
        "members": [member.sha256 for member in info.members],
    }  # fmt: skip
    write_json(target / RECORD, record)
    return record


def _quantise(graph: Any, pixels: NDArray[np.uint8]) -> Any:
    if importlib.util.find_spec("nncf") is None:
        raise MissingDependencyError("nncf", "cpu", "The precision int8")
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)  # its own setter would silence others' handlers as well
    shown = sys.stderr if sys.stderr.isatty() else io.StringIO()  # its progress bars go to stdout
    batches = [pixels[start : start + BATCH_SIZE] for start in range(0, len(pixels), BATCH_SIZE)]
    with contextlib.redirect_stdout(shown):
        return nncf.quantize(
            graph,
            nncf.Dataset(batches),
            subset_size=len(batches),
            preset=nncf.QuantizationPreset.MIXED,  # keeps the sign of what activations such as SiLU give
            fast_bias_correction=False,  # twice the time for half the differences (RESULTS.md)
        )


def _classes(graph: Any, pixels: NDArray[np.uint8], precision: str) -> NDArray[np.int64]:
    """The likeliest class of each image, int64 (n,)."""
    classes: NDArray[np.int64] = graph_answers(graph, pixels, precision)[0].argmax(1)
    return classes
