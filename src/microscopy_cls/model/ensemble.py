"""Several runs on the same folds as one bundle: an average that can be scored out of fold.

No run's member of a fold saw that fold, so neither did their mean. The members are therefore averaged fold by fold: the
calibrated probabilities of all runs' members of fold f, scaled as that fold's images ask for, are the ensemble's member
of fold f. Over folds these are averaged as in every bundle.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from microscopy_cls.model.answers import Squares, member_answers
from microscopy_cls.model.bundle import BundleInfo, read_bundle, scaling_at, scaling_of
from microscopy_cls.model.doubt import Array, Scaling, softmax
from microscopy_cls.system.files import atomic_folder, write_text

PARTS = "parts"
SMALLEST_PROB = 1e-15  # whose logarithm is still a number


def mean_logits(probs: Sequence[Array]) -> Array:
    """Logits of the mean of several networks' probabilities, each (..., classes)."""
    logits: Array = np.log(np.maximum(np.mean(probs, axis=0), SMALLEST_PROB))
    return logits


def averaged(parts: Sequence[Array], scalings: Sequence[Scaling]) -> Array:
    """The ensemble's members.

    Args:
        parts: each run's calibrated probabilities, (members, n, classes).
        scalings: of the means, a member each.

    Returns:
        Calibrated probabilities (members, n, classes).
    """
    scaled = [one.scaled(logits) for one, logits in zip(scalings, mean_logits(parts), strict=True)]
    return softmax(np.stack(scaled))


def scalings_of(info: BundleInfo) -> tuple[Scaling, ...]:
    """Of an ensemble's members, in the order of the folds."""
    return tuple(scaling_at(info, place) for place in range(len(info.calibration.temperatures)))


def part_folders(folder: Path, info: BundleInfo) -> list[Path]:
    """Where an ensemble's bundles lie."""
    return [folder / PARTS / name for name in info.parts]


def member_probs(folder: Path, info: BundleInfo, squares: Squares) -> Array:
    """Each member's calibrated probabilities, of a bundle or an ensemble, (members, n, classes).

    Args:
        folder, info: the bundle.
        squares: uint8 (n, size_px, size_px, 3).

    Raises:
        BundleError: a file of the bundle is missing or damaged.
    """
    if info.parts:
        parts = [member_probs(part, read_bundle(part), squares) for part in part_folders(folder, info)]
        return averaged(parts, scalings_of(info))
    scaled = [
        scaling_of(info, member).scaled(member_answers(folder, info, member, squares)[0]) for member in info.members
    ]
    return softmax(np.stack(scaled))


def write_ensemble(folder: Path, info: Mapping[str, Any], parts: Mapping[str, Path]) -> BundleInfo:
    """Write bundles as one; an earlier bundle in `folder` is replaced as a whole.

    Args:
        folder: of the ensemble.
        info: the fields of `BundleInfo` but for `members` and `parts`.
        parts: folder of each run's bundle by name, in order; they are copied, but for what int8 has left there.
    """
    with atomic_folder(folder) as temporary:
        for name, source in parts.items():
            shutil.copytree(source, temporary / PARTS / name, ignore=shutil.ignore_patterns("int8", ".*"))
        written = BundleInfo(**info, members=(), parts=tuple(parts))
        write_text(temporary / "bundle.json", written.model_dump_json(indent=2) + "\n")
    return written
