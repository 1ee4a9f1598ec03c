"""The values that the data decide: folds, size, modality, weighting."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from microscopy_cls.config import Config
from microscopy_cls.config.schema import Data, Preset
from microscopy_cls.dataset.folds import assign_folds
from microscopy_cls.dataset.intake.inputs import MAX_FOLDS
from microscopy_cls.dataset.intake.notes import NUM_SHOWN, Notes
from microscopy_cls.dataset.intake.survey import Survey
from microscopy_cls.errors import DataError, FoldError

IMAGE_SIZES_PX = (96, 128, 160, 224)
MAX_IMBALANCE = 3.0  # largest class to smallest, above which errors are weighted
MIN_GROUPS_TO_VALIDATE = 9  # of a class: a seventh of the training groups validates, so that seven must be there
CHEST_WORDS = re.compile(
    r"(?<![a-z])(chest|covid|ct|cxr|effusion|lungs?|pneumonia|radiographs?|tb|thorax|tuberculosis|x[-_ ]?ray)(?![a-z])"
)


def choose(name: str, source: Path, data: Data, train: pd.DataFrame, survey: Survey, notes: Notes) -> Config:
    """A whole configuration; what the data do not decide keeps its default.

    Args:
        name: of the configuration.
        source: the folder or table, whose name may tell the modality.
        data: the finished section.
        train: training images, a row each: `image_id, label, group`.
        survey: findings on a sample of them.
        notes: where the reasons go.

    Raises:
        DataError: no folds can be made.
    """
    _tell_survey(survey, data, notes)
    notes.explain("model.weights", "Fetched once, by the first `train`. On a machine without network give a file")
    return Config.model_validate({
        "name": name,
        "data": data.model_dump(),
        "folds": {"num": _num_folds(train, notes)},
        "model": {"image_size_px": _image_size_px(survey, notes)},
        "finetune": _finetune(train, notes),
        "augment": {"preset": _preset(survey, [source.name, *train["label"].unique()], notes)},
    })  # fmt: skip


def _tell_survey(survey: Survey, data: Data, notes: Notes) -> None:
    opened = f"{survey.num_sampled} files opened"
    notes.find(
        "sample",
        f"{opened}: {'grey' if survey.is_grey else 'colour'}, median short side {survey.median_short_px} px, up to "
        f"{survey.max_bit_depth} bits, {len(survey.unreadable) or 'none'} unreadable",
    )
    if survey.num_deep:
        told = f"{survey.num_deep} of {opened} have more than 8 bits a channel"
        notes.find("intensity", f"{told}: each image is scaled by its own percentiles")
        notes.explain("data.intensity", f"{told}. Set a window [low, high] where brightness has a meaning")
    if survey.unreadable:
        listed = "; ".join(f"{path}: {reason}" for path, reason in survey.unreadable[:NUM_SHOWN])
        notes.caution(
            f"{len(survey.unreadable)} of {opened} are unreadable ({listed}). `prepare` lists all, and stops when more "
            f"than {data.max_unreadable:.0%} are: repair or remove them, or raise data.max_unreadable.",
            "data.max_unreadable",
        )


def _num_folds(train: pd.DataFrame, notes: Notes) -> int:
    """As many as are usual and possible."""
    image_ids, labels, groups = train[["image_id", "label", "group"]].to_numpy(dtype=object).T
    fewest = _fewest_groups(train)
    why = f"every class has {fewest} {'images' if len(set(groups)) == len(groups) else 'groups'} or more"
    for num in range(min(MAX_FOLDS, fewest), 1, -1):
        try:
            assign_folds(image_ids, labels, groups, num, seed=0)
        except FoldError:
            continue
        notes.find("folds", f"{num}: {why}")
        notes.explain("folds.num", why)
        return num
    raise DataError(
        "no folds can be made that keep groups apart and every class in training. Add images of other groups, or "
        "declare smaller groups in a table's column group."
    )


def _fewest_groups(train: pd.DataFrame) -> int:
    return int(train.groupby("label")["group"].nunique().min())


def _image_size_px(survey: Survey, notes: Notes) -> int:
    """The smallest usual size that does not shrink the median image; 224 is what ImageNet weights saw."""
    size_px = next((size for size in IMAGE_SIZES_PX if size >= survey.median_short_px), IMAGE_SIZES_PX[-1])
    why = f"the median short side is {survey.median_short_px} px"
    more = "; larger sizes may see more, and cost time by their square" if survey.median_short_px > size_px else ""
    notes.find("size", f"{size_px} px: {why}")
    notes.explain("model.image_size_px", f"{why}{more}")
    return size_px


def _finetune(train: pd.DataFrame, notes: Notes) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    counts = train["label"].value_counts()
    ratio = counts.iloc[0] / counts.iloc[-1]
    if ratio > MAX_IMBALANCE:
        chosen["class_weights"] = "balanced"
        told = f"{counts.index[0]} has {ratio:.1f} times the images of {counts.index[-1]}"
        notes.find("balance", f"{told}: errors are weighted by class", "finetune.class_weights")
    fewest = _fewest_groups(train)
    if fewest < MIN_GROUPS_TO_VALIDATE:
        chosen["validation_fraction"] = 0.0
        told = f"a class has {fewest} groups only, too few to choose the epoch by: the last one is taken"
        notes.explain("finetune.validation_fraction", told)
    return chosen


def _preset(survey: Survey, names: Sequence[str], notes: Notes) -> Preset:
    chest = sorted(set(CHEST_WORDS.findall(" ".join(names).lower())))
    preset: Preset = "brightfield"
    why = "the background is not dark, and nothing speaks of a chest"
    if survey.is_grey and chest:
        preset = "ct" if "ct" in chest else "xray"
        why = f"the images are grey, and the names speak of {', '.join(chest)}"
    elif survey.is_dark_framed:
        preset, why = "fluorescence", "the background is dark, as in fluorescence and dark field"
    notes.find("modality", f"{preset}, a guess: {why}")
    notes.explain("augment.preset", f"A guess: {why}")
    return preset
