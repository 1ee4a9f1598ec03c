"""Bundles on an engine: squares in, probabilities out. Every way of classifying goes through here."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.dataset.cache import Reading
from microscopy_cls.errors import BundleError, ConfigError
from microscopy_cls.inference.engines import Engine, Outputs, open_engine
from microscopy_cls.inference.views import View, views_of
from microscopy_cls.model.bundle import BundleInfo, Member, read_bundle


@dataclass(frozen=True)
class Answers:
    """For b images: `probs` float64 (b, classes), `features` float32 (b, d) of the first model's first member."""

    probs: NDArray[np.float64]
    features: NDArray[np.float32]


@dataclass(frozen=True)
class Model:
    """One bundle, ready: its description, the members in use, and the engine that runs them."""

    info: BundleInfo
    members: tuple[Member, ...]
    engine: Engine
    views: tuple[View, ...]


class Predictor:
    """The mean of all members' probabilities, over all views, then over all models.

    Args:
        models: with equal classes and equal reading.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        first = models[0].info
        for other in models[1:]:
            _check_alike(first, other.info)
        self.models, self.classes = tuple(models), first.classes
        self.reading = reading_of(first)
        self.batch_size = models[0].engine.batch_size

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Answers]:
        """Answers for batches of squares, each uint8 (b, size_px, size_px, 3) with b up to `batch_size`, in order."""
        copies = itertools.tee(batches, len(self.models))
        streams = [_answers(model, copy) for model, copy in zip(self.models, copies, strict=True)]
        for parts in zip(*streams, strict=True):
            yield Answers(np.mean([part.probs for part in parts], axis=0), parts[0].features)

    def run_all(self, squares: Sequence[NDArray[np.uint8]]) -> Answers:
        """Answers for any number of squares at once."""
        starts = range(0, len(squares), self.batch_size)
        parts = list(self.run(np.stack(squares[start : start + self.batch_size]) for start in starts))
        if not parts:
            return Answers(np.empty((0, len(self.classes))), np.empty((0, 0), np.float32))
        return Answers(np.concatenate([p.probs for p in parts]), np.concatenate([p.features for p in parts]))


def open_predictor(
    folders: Sequence[Path], *, engine: str = "auto", precision: str = "auto", members: str = "all", tta: bool = False
) -> Predictor:
    """Load bundles.

    Args:
        tta: average over mirrored views; a bundle whose config sets `evaluate.tta` does it in any case.
        members: `all`, a number (the first so many folds), or the name of one, such as `fold_2`.

    Raises:
        BundleError: a bundle is missing or damaged, or the models do not fit together.
        ConfigError: no such engine, precision or member.
    """
    models = []
    for folder in folders:
        info = read_bundle(folder)
        chosen = choose_members(info, members)
        views = views_of(info.config) if tta or info.config.get("evaluate", {}).get("tta") else views_of({})
        models.append(Model(info, chosen, open_engine(folder, info, chosen, engine, precision), tuple(views)))
    return Predictor(models)


def choose_members(info: BundleInfo, wanted: str) -> tuple[Member, ...]:
    """The members named by `all`, a number, or `fold_<k>`."""
    names = {f"fold_{member.fold}": member for member in info.members}
    if wanted == "all":
        return info.members
    if wanted.isdigit() and 1 <= int(wanted) <= len(info.members):
        return info.members[: int(wanted)]
    if wanted in names:
        return (names[wanted],)
    raise ConfigError(
        f"--members {wanted}: {info.name} has {len(names)}: choose all, 1 to {len(names)}, or {', '.join(names)}"
    )


def reading_of(info: BundleInfo) -> Reading:
    """How the model's images were read."""
    return Reading(**info.preprocessing.model_dump(exclude={"mean", "std"}))


def _check_alike(first: BundleInfo, other: BundleInfo) -> None:
    """Models can be averaged when they answer the same question about the same pixels."""
    if first.classes != other.classes:
        only = [
            f"only {info.name}: {', '.join(sorted(mine))}"
            for info, mine in (
                (first, set(first.classes) - set(other.classes)),
                (other, set(other.classes) - set(first.classes)),
            )
            if mine
        ]
        raise BundleError(
            f"{first.name} and {other.name} cannot be averaged: their classes differ "
            f"({'; '.join(only) or 'in their order'})"
        )
    mine, theirs = reading_of(first), reading_of(other)
    if mine != theirs:
        raise BundleError(
            f"{first.name} and {other.name} cannot be averaged: they read images differently ({mine} and {theirs})"
        )


def _answers(model: Model, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Answers]:
    """Mean over a model's members and views, a batch at a time."""
    viewed = (view(batch) for batch in batches for view in model.views)
    outputs = model.engine.run(viewed)
    while several := list(itertools.islice(outputs, len(model.views))):
        probs = np.mean([_probabilities(model, found) for found in several], axis=0)
        yield Answers(probs, several[0].features)


def _probabilities(model: Model, outputs: Outputs) -> NDArray[np.float64]:
    """Members' logits, each divided by its own temperature where the bundle has one, as mean probabilities."""
    logits = outputs.logits.astype(np.float64)
    calibration = model.info.calibration
    if calibration.method == "temperature":
        by_fold = {m.fold: t for m, t in zip(model.info.members, calibration.temperatures, strict=True)}
        logits /= np.array([by_fold[member.fold] for member in model.members])[:, None, None]
    shifted = np.exp(logits - logits.max(axis=2, keepdims=True))
    probs: NDArray[np.float64] = (shifted / shifted.sum(axis=2, keepdims=True)).mean(axis=0)
    return probs
