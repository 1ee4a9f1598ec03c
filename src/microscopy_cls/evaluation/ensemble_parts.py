"""Runs that an ensemble is made of: read, known to be of the same images and folds, and averaged out of fold.

An image's answer is the mean of what each run's member of its fold says: none of these saw the image's group, so the
mean is as honest as each. (The mean of a run's own members is not: all but one were trained on the image.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from microscopy_cls.config import Config, Paths
from microscopy_cls.config.identity import changes
from microscopy_cls.dataset.duplicates import merge_groups
from microscopy_cls.errors import BundleError, DataError
from microscopy_cls.evaluation.assemble import Bundle, bundle_of_folds
from microscopy_cls.evaluation.calibration import fit_of
from microscopy_cls.evaluation.finished import FinishedRun, check_same_images, read_finished
from microscopy_cls.evaluation.held_out import HeldOut, read_held_out
from microscopy_cls.evaluation.scores import scores_of_answers
from microscopy_cls.model.bundle import BundleInfo, weights_file
from microscopy_cls.model.ensemble import mean_logits
from microscopy_cls.system.files import read_json, sha256_of_file


@dataclass(frozen=True, eq=False)
class EnsemblePart:
    """One run.

    Attributes:
        run: with calibrated probabilities, each fold's fitted on the other folds.
        held_out: the same images in the same order, as the networks answered.
        bundle: of its folds' members.
        state: the content of its `run_state.json`.
    """

    run: FinishedRun
    held_out: HeldOut
    bundle: Bundle
    state: dict[str, Any]

    @property
    def info(self) -> BundleInfo:
        """Of the bundle."""
        return self.bundle.info

    @property
    def name(self) -> str:
        """Of the run."""
        return self.run.name

    @property
    def config(self) -> Config:
        """What it was trained with."""
        return Config.model_validate(self.info.config)

    @property
    def scores(self) -> dict[str, float]:
        """Accuracy and log loss, out of fold and calibrated."""
        found = scores_of_answers(self.run.predicted, np.ones((1, len(self.run.images))))[0]
        return {name: round(float(found[name][0]), 6) for name in ("accuracy", "log_loss")}


def read_part(name: str) -> EnsemblePart:
    """Read a run that was evaluated.

    Raises:
        DataError: there is no such run, or its files do not belong together.
        BundleError: it was not evaluated, by an earlier version, or is an ensemble itself.
    """
    run, paths = read_finished(name), Paths(name)
    bundle = _bundle_of(paths)
    oof = pd.read_parquet(paths.oof)
    groups = oof["image_id"].map(run.images["split_group"])
    held_out = read_held_out(paths, oof, groups, run.classes).rows(np.argsort(oof["image_id"].to_numpy(object)))
    method = bundle.info.calibration.method
    assert method != "none", "bundles with thresholds are calibrated"
    return EnsemblePart(
        with_probs(run, held_out.cross_fitted(fit_of(method))),
        held_out,
        bundle,
        read_json(paths.runs / "run_state.json"),
    )


def with_probs(run: FinishedRun, probs: np.ndarray[Any, Any]) -> FinishedRun:
    """A run with other probabilities (n, classes)."""
    columns = {f"prob_{label}": probs[:, k] for k, label in enumerate(run.classes)}
    return replace(run, images=run.images.assign(**columns))


def _bundle_of(paths: Paths) -> Bundle:
    bundle = bundle_of_folds(paths)
    folder, info = bundle.folder, bundle.info
    if info.parts:
        raise BundleError(f"{folder}: is an ensemble itself. Name its runs: {', '.join(info.parts)}.")
    if info.conformal is None:
        raise BundleError(f"{folder}: was written by an earlier version. Run `microscopy-cls evaluate` again.")
    files = {member.sha256: paths.members / weights_file(member.fold) for member in info.members}
    if not all(file.is_file() and sha256_of_file(file) == digest for digest, file in files.items()):
        raise BundleError(f"{folder}: is not of the run in {paths.runs}. Run `microscopy-cls evaluate` again.")
    return bundle


def check_parts(parts: list[EnsemblePart]) -> None:
    """See that runs can be averaged out of fold and in one bundle.

    Raises:
        DataError: they are not of the same images or folds.
        BundleError: they read images differently.
    """
    first, *others = parts
    for other in others:
        check_same_images(first.run, other.run)
        _check_same_folds(first.run, other.run)
        _check_same_reading(first.info, other.info)


def _check_same_folds(a: FinishedRun, b: FinishedRun) -> None:
    odd = np.flatnonzero(a.folds != b.folds)
    if not len(odd):
        return
    settings = changes({"folds": a.settings.get("folds", {})}, {"folds": b.settings.get("folds", {})})
    told = "; ".join(settings) or "another image size finds other near-duplicates, which changes the folds"
    raise DataError(
        f"{a.name} and {b.name} are not of the same folds: {len(odd)} of {len(a.folds)} images are in another one "
        f"({a.images.index[odd[0]]}: {a.folds[odd[0]]}, {b.folds[odd[0]]}; {told}). Each image must be answered by "
        "members that never saw it: prepare both with the same folds and the same image size, and train again."
    )


def _check_same_reading(a: BundleInfo, b: BundleInfo) -> None:
    """The mean and spread that a network asks for may differ: they are its own."""
    mine, theirs = (info.preprocessing.model_dump(mode="json", exclude={"mean", "std"}) for info in (a, b))
    if mine != theirs:
        raise BundleError(
            f"{a.name} and {b.name} read images differently ({'; '.join(changes(mine, theirs))}), and an ensemble "
            "reads each once. Train both at one size and with the same reading."
        )


def together(parts: list[EnsemblePart]) -> HeldOut:
    """The ensemble's held-out answers: the mean of the calibrated probabilities, as logits.

    Features are the first part's, whose network tells novelties. Groups are joined where the runs' manifests differ.

    The parts' calibration for a fold was fitted on the other folds; where the ensemble's own is then fitted without
    fold f, the parts' scaling of these folds has seen fold f. With a temperature that does not matter: log loss 0.460
    for three runs on pollen, 0.457 with strictly nested fits. A scale and a bias a class undo what the parts' had
    learnt (0.505, nested 0.474) and are not worth it either way: the ensemble is scaled by temperatures alone.
    """
    groups = reduce(merge_groups, [part.run.images["split_group"] for part in parts])
    first = parts[0].held_out
    logits = mean_logits([part.run.predicted.probs for part in parts])
    return replace(first, logits=logits, groups=groups.to_numpy(dtype=object))


def best_of(parts: list[EnsemblePart]) -> EnsemblePart:
    """The most accurate part, of equals the one with the lower log loss, then by name."""
    return min(parts, key=lambda part: (-part.scores["accuracy"], part.scores["log_loss"], part.name))
