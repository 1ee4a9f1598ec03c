"""A soup's answers to images that none of its members saw, what is fitted on these, and its bundle."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.config import Config
from microscopy_cls.evaluation.assemble import NUM_CALIBRATION_INPUTS, headline
from microscopy_cls.evaluation.calibration import Calibrated, fit_of
from microscopy_cls.evaluation.conformal import class_thresholds, cross_fitted_sets
from microscopy_cls.evaluation.doubt import Doubt, doubt_of_bundle, doubt_report
from microscopy_cls.evaluation.external_images import ExternalImages
from microscopy_cls.evaluation.held_out import HeldOut
from microscopy_cls.evaluation.intervals import Array
from microscopy_cls.evaluation.metrics import Json, out_of_fold_metrics
from microscopy_cls.evaluation.novelty import fit_experience
from microscopy_cls.images.appearance import appearances
from microscopy_cls.model.answers import torch_answers
from microscopy_cls.model.bundle import BundleInfo, write_bundle
from microscopy_cls.model.graph import Graph, add_openvino
from microscopy_cls.model.members import save_weights
from microscopy_cls.system.progress import progress

OWN = {
    "members", "calibration", "conformal", "novelty", "name", "metrics", "training_data", "config", "positive_class",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Tasted:
    """A soup's answers.

    Attributes:
        images: a row each, `image_id, label, group`.
        held_out: the same images; their folds are the two halves.
        doubt: fitted on each half for the other one; its thresholds and its one scaling on all images.
        config: of the run.
    """

    images: pd.DataFrame
    held_out: HeldOut
    doubt: Doubt
    config: Config

    @property
    def probs(self) -> Array:
        """Calibrated on the other half, (n, classes)."""
        return self.doubt.calibrated.probs

    def report(self) -> Json:
        """The sections `calibration` and `conformal` as `metrics.json` has them, of the halves."""
        found = doubt_report(self.held_out, self.doubt, resamples=self.config.evaluate.bootstrap_samples)
        return {section: found[section] for section in ("calibration", "conformal")}


def taste(graph: Graph, external: ExternalImages, info: BundleInfo, config: Config) -> Tasted:
    """Answer the test images, and fit what a classification needs on halves of whole groups.

    Args:
        graph: the soup.
        external: the test images.
        info, config: of the run.
    """
    logits, features = torch_answers(graph, external.squares, config.runtime.device)
    images, seed, classes = external.images, config.runtime.seed, list(info.classes)
    groups = images["group"].to_numpy(dtype=object)
    truth = pd.Categorical(images["label"], categories=classes).codes.astype(np.int64)
    held_out = HeldOut(truth, logits.astype(np.float64), features, halves(groups, seed), groups, tuple(classes))
    looks = appearances(
        progress((external.squares[row : row + 1][0] for row in range(len(images))), "looking", len(images))
    )
    return Tasted(images, held_out, _doubt(held_out, looks, config.evaluate.target_coverage, seed), config)


def _doubt(held_out: HeldOut, looks: Array, target: float, seed: int) -> Doubt:
    """As `fit_doubt`, with a temperature alone: it changes no answer, and is little to learn from few images."""
    fit = fit_of("temperature")
    calibrated = Calibrated("temperature", held_out.cross_fitted(fit), {0: fit(held_out.logits, held_out.truth)})
    thresholds = class_thresholds(calibrated.probs, held_out.truth, target)
    sets = cross_fitted_sets(held_out, fit, target)
    whole = replace(held_out, folds=np.zeros_like(held_out.folds))  # the soup is one member
    experience, novelty = fit_experience(whole, looks, seed=seed)
    return Doubt(calibrated, target, thresholds, sets, experience, novelty)


def halves(groups: NDArray[np.object_], seed: int) -> NDArray[np.int64]:
    """0 or 1 for each image, whole groups and as many of them in each half, (n,)."""
    codes, names = pd.factorize(groups, sort=True)
    half: NDArray[np.int64] = np.random.default_rng(seed).permutation(len(names))[codes] % 2
    return half


def write_soup(
    folder: Path, name: str, info: BundleInfo, graph: Graph, tasted: Tasted, external: ExternalImages
) -> BundleInfo:
    """Write the soup's bundle; calibration, thresholds and novelty are fitted on all test images.

    Args:
        folder, name: of the soup.
        info: of the run's bundle.
        graph: the soup.
        tasted, external: the test images.
    """
    doubt, config = tasted.doubt, tasted.config
    metrics = _metrics(tasted)
    described = info.model_dump(exclude=OWN) | {
        "name": name,
        **doubt_of_bundle(doubt),
        "positive_class": metrics.get("binary", {}).get("positive_class"),
        "training_data": info.training_data | {"soup_of": info.name, "num_members": len(info.members)},
        "metrics": headline(metrics),
        "config": info.config | {"name": name},
    }
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(temporary, "soup.safetensors")
        save_weights(weights, graph.network.state_dict())
        inputs = _calibration_inputs(external, config.runtime.seed)
        return write_bundle(folder, described, {0: weights}, inputs, add_openvino, doubt.experience)


def _metrics(tasted: Tasted) -> Json:
    """Of the test images, each half calibrated on the other one."""
    held_out, evaluated = tasted.held_out, tasted.config.evaluate
    table = tasted.images[["label"]].assign(fold=held_out.folds).reset_index(drop=True)
    probs = pd.DataFrame(tasted.probs, columns=[f"prob_{label}" for label in held_out.classes])
    return out_of_fold_metrics(
        table.join(probs), pd.Series(held_out.groups), list(held_out.classes),
        resamples=evaluated.bootstrap_samples, positive_class=evaluated.positive_class,
    )  # fmt: skip


def _calibration_inputs(external: ExternalImages, seed: int) -> dict[str, NDArray[Any]]:
    """A seeded choice of the test images, which the soup never saw; see `write_bundle`."""
    order = np.random.default_rng(seed).permutation(len(external.images))
    chosen = np.sort(order[:NUM_CALIBRATION_INPUTS])
    pixels = np.stack([external.squares[row : row + 1][0] for row in chosen.tolist()])
    return {"pixels": pixels, "folds": np.zeros(len(chosen), np.int64)}
