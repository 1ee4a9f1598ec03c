"""Bundles on an engine: squares in, probabilities out. Every way of classifying goes through here."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.dataset.cache import Reading
from microscopy_cls.errors import BundleError, ConfigError
from microscopy_cls.images.appearance import appearances
from microscopy_cls.inference.engines import Engine, Outputs, open_engine
from microscopy_cls.inference.rows import Judge
from microscopy_cls.inference.views import View, mirrors_of, views_of
from microscopy_cls.model.bundle import BundleInfo, Member, experience_of, read_bundle, scaling_of
from microscopy_cls.model.doubt import Array, Experience, Scaling, softmax
from microscopy_cls.model.ensemble import PARTS, averaged, part_folders, scalings_of


@dataclass(frozen=True)
class Answers:
    """What is said of b images.

    Attributes:
        probs: calibrated, float64 (b, classes).
        features: float32 (b, d), of the first model's first member and the first view.
        novelty: float64 (b,), of these features and of how the images look: from 1 on they are unlike all that this
            member was tried on. NaN for a bundle that does not say what its members have seen.
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
        experience: of the first of the members; None where the bundle does not say.
    """

    info: BundleInfo
    members: tuple[Member, ...]
    engine: Engine
    views: tuple[View, ...]
    scalings: tuple[Scaling, ...]
    experience: Experience | None

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Answers]:
        """The mean over members and views, a batch at a time."""
        asked, seen = itertools.tee(batches)  # the engine reads some batches ahead of its answers
        for squares, (probs, features) in zip(seen, _member_answers(self, asked), strict=True):
            yield _joined(probs, features, squares, self.experience)


@dataclass(frozen=True)
class Ensemble:
    """Bundles of several runs that answer as one, ready; see `model.ensemble`.

    Attributes:
        info: its description.
        parts: in their order, with members of the same folds.
        scalings: of the mean of each fold's members.
    """

    info: BundleInfo
    parts: tuple[Model, ...]
    scalings: tuple[Scaling, ...]

    @property
    def members(self) -> tuple[Member, ...]:
        """Those of all parts, their files named from the ensemble's folder."""
        return tuple(
            member.model_copy(update={"file": f"{PARTS}/{name}/{member.file}"})
            for name, part in zip(self.info.parts, self.parts, strict=True)
            for member in part.members
        )

    @property
    def engine(self) -> Engine:
        """The first part's; the others have the like."""
        return self.parts[0].engine

    @property
    def views(self) -> tuple[View, ...]:
        """The first part's."""
        return self.parts[0].views

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Answers]:
        """The mean over folds of what the parts say together; features and novelty are the first part's."""
        seen, *copies = itertools.tee(batches, len(self.parts) + 1)
        streams = [_member_answers(part, copy) for part, copy in zip(self.parts, copies, strict=True)]
        for squares, *found in zip(seen, *streams, strict=True):
            probs = averaged([probs for probs, _ in found], self.scalings)
            yield _joined(probs, found[0][1], squares, self.parts[0].experience)


class Predictor:
    """The mean of all members' probabilities, over all views, then over all models.

    Args:
        models: with equal classes and equal reading.
    """

    def __init__(self, models: Sequence[Model | Ensemble]) -> None:
        first = models[0].info
        for other in models[1:]:
            _check_alike(first, other.info)
        self.models, self.classes = tuple(models), first.classes
        self.reading = reading_of(first)
        self.judge = Judge(first.classes, _thresholds([model.info for model in models]))
        self.batch_size = models[0].engine.batch_size

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Generator[Answers, None, None]:
        """Answers for batches of squares, each uint8 (b, size_px, size_px, 3) with b up to `batch_size`, in order."""
        copies = itertools.tee(batches, len(self.models))
        streams = [model.run(copy) for model, copy in zip(self.models, copies, strict=True)]
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

    def ready(folder: Path) -> Model:
        info = read_bundle(folder)
        chosen = choose_members(info, members)
        views = views_of(mirrors_of(info.config, tta=tta))
        scalings = tuple(scaling_of(info, member) for member in chosen)
        running = open_engine(folder, info, chosen, engine, precision, num_images)
        return Model(info, chosen, running, views, scalings, experience_of(folder, info, chosen[0]))

    def opened(folder: Path) -> Model | Ensemble:
        info = read_bundle(folder)
        if not info.parts:
            return ready(folder)
        folds = read_bundle(part_folders(folder, info)[0])
        places = [folds.members.index(member) for member in choose_members(folds, members)]
        parts = tuple(ready(part) for part in part_folders(folder, info))
        return Ensemble(info, parts, tuple(scalings_of(info)[place] for place in places))

    return Predictor([opened(folder) for folder in folders])


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


def _member_answers(model: Model, batches: Iterable[NDArray[np.uint8]]) -> Iterator[tuple[Array, NDArray[np.float32]]]:
    """Each member's probabilities, the mean over the views, (members, b, classes), and the first one's features."""
    viewed = (view(batch) for batch in batches for view in model.views)
    outputs = model.engine.run(viewed)
    while several := list(itertools.islice(outputs, len(model.views))):
        yield np.mean([_probabilities(model, found) for found in several], axis=0), several[0].features


def _joined(
    probs: Array, features: NDArray[np.float32], squares: NDArray[np.uint8], experience: Experience | None
) -> Answers:
    """The mean over members (members, b, classes), with what features and squares say."""
    strange = np.full(len(features), np.nan)
    if experience is not None:
        strange = experience.novelty(features, appearances(squares))
    return Answers(probs.mean(axis=0), features, strange)


def _probabilities(model: Model, outputs: Outputs) -> Array:
    """Members' logits, each scaled as its own held-out fold asks for, as probabilities (members, b, classes)."""
    each = [scaling.scaled(logits) for scaling, logits in zip(model.scalings, outputs.logits, strict=True)]
    return softmax(np.stack(each))


def _thresholds(infos: Sequence[BundleInfo]) -> NDArray[np.float64] | None:
    """Of several models the lower one for each class: a set holds what any of them would have put into it.

    None where a model has none.
    """
    known = [info.conformal.thresholds for info in infos if info.conformal is not None]
    return np.min(known, axis=0) if len(known) == len(infos) else None
