"""Bundles on an engine: squares in, probabilities out. Every way of classifying goes through here."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.dataset.cache import Reading
from microscopy_cls.errors import BundleError, ConfigError
from microscopy_cls.inference.engines import Engine, Outputs, open_engine
from microscopy_cls.inference.rows import Judge
from microscopy_cls.inference.views import View, mirrors_of, views_of
from microscopy_cls.model.bundle import BundleInfo, Member, known_of, read_bundle, scaling_of
from microscopy_cls.model.doubt import Known, Scaling, softmax


@dataclass(frozen=True)
class Answers:
    """What is said of b images.

    Attributes:
        probs: calibrated, float64 (b, classes).
        features: float32 (b, d), of the first model's first member and the first view.
        novelty: float64 (b,), of these features: from 1 on they are unlike all that this member was tried on. NaN for
            a bundle that does not say what its members know.
    """

    probs: NDArray[np.float64]
    features: NDArray[np.float32]
    novelty: NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """One bundle, ready.

    Attributes:
        info: its description.
        members: those in use.
        engine: runs them.
        views: of each image.
        scalings: of the members' logits.
        known: to the first of the members; None where the bundle does not say.
    """

    info: BundleInfo
    members: tuple[Member, ...]
    engine: Engine
    views: tuple[View, ...]
    scalings: tuple[Scaling, ...]
    known: Known | None


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
        self.judge = Judge(first.classes, _thresholds([model.info for model in models]))
        self.batch_size = models[0].engine.batch_size

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Answers]:
        """Answers for batches of squares, each uint8 (b, size_px, size_px, 3) with b up to `batch_size`, in order."""
        copies = itertools.tee(batches, len(self.models))
        streams = [_answers(model, copy) for model, copy in zip(self.models, copies, strict=True)]
        for parts in zip(*streams, strict=True):
            yield replace(parts[0], probs=np.mean([part.probs for part in parts], axis=0))

    def run_all(self, squares: Sequence[NDArray[np.uint8]]) -> Answers:
        """Answers for any number of squares at once."""
        starts = range(0, len(squares), self.batch_size)
        parts = list(self.run(np.stack(squares[start : start + self.batch_size]) for start in starts))
        if not parts:
            return Answers(np.empty((0, len(self.classes))), np.empty((0, 0), np.float32), np.empty(0))
        return Answers(
            np.concatenate([part.probs for part in parts]),
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.novelty for part in parts]),
        )


def open_predictor(
    folders: Sequence[Path],
    *,
    engine: str = "auto",
    precision: str = "auto",
    members: str = "all",
    tta: bool = False,
    num_images: int = 0,
) -> Predictor:
    """Load bundles.

    Args:
        num_images: to be answered, where it is known: very many repay a compiler.
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
        views = views_of(mirrors_of(info.config, tta=tta))
        ready = open_engine(folder, info, chosen, engine, precision, num_images)
        scalings = tuple(scaling_of(info, member) for member in chosen)
        models.append(Model(info, chosen, ready, views, scalings, known_of(folder, info, chosen[0])))
    return Predictor(models)


def choose_members(info: BundleInfo, wanted: str) -> tuple[Member, ...]:
    """The members named by `all`, a number, or `fold_<k>`."""
    names = {member.name.replace(" ", "_"): member for member in info.members}
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
        features = several[0].features
        novelty = np.full(len(features), np.nan) if model.known is None else model.known.novelty(features)
        yield Answers(probs, features, novelty)


def _probabilities(model: Model, outputs: Outputs) -> NDArray[np.float64]:
    """Members' logits, each scaled as its own held-out fold asks for, as mean probabilities."""
    each = [softmax(scaling.scaled(logits)) for scaling, logits in zip(model.scalings, outputs.logits, strict=True)]
    probs: NDArray[np.float64] = np.mean(each, axis=0)
    return probs


def _thresholds(infos: Sequence[BundleInfo]) -> NDArray[np.float64] | None:
    """Of several models the lower one for each class: a set holds what any of them would have put into it.

    None where a model has none.
    """
    known = [info.conformal.thresholds for info in infos if info.conformal is not None]
    return np.min(known, axis=0) if len(known) == len(infos) else None
