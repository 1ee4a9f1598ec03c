"""A configuration for data never seen before, and the reason for each choice that the data decided."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from microscopy_cls.config import Config
from microscopy_cls.config.schema import Columns, Data, Preset
from microscopy_cls.dataset.columns import find_label, find_paths, group_candidates, metadata_columns, split_candidates
from microscopy_cls.dataset.commented import commented_yaml
from microscopy_cls.dataset.folds import assign_folds
from microscopy_cls.dataset.layouts import check_table, list_class_folders, tables_in
from microscopy_cls.dataset.name_groups import guess_name_groups
from microscopy_cls.dataset.sources import Listing, _read_table, list_files
from microscopy_cls.dataset.survey import Survey, survey_images
from microscopy_cls.errors import ConfigError, DataError, FoldError

MAX_FOLDS = 5
IMAGE_SIZES_PX = (96, 128, 160, 224)
MAX_IMBALANCE = 3.0  # largest class to smallest, above which the loss is weighted
MIN_GROUPS_TO_VALIDATE = 9  # of a class: a seventh of the training groups validates, so that seven must be there
FEW_IMAGES = 20  # in a class, below which its own figures say little
NUM_SHOWN = 3  # examples in a sentence
CPU_IMAGES_PER_S = 20.0  # training resnext50_32x4d at 224 px on two cores in bf16: measured

TOPICS = (
    "columns", "images", "ignored", "split", "groups", "folds", "balance", "metadata", "sample", "intensity", "size",
    "modality",
)  # fmt: skip
GENERIC_NAMES = {
    "annotations", "class", "classes", "data", "dataset", "image", "images", "img", "index", "label", "labels",
    "manifest", "meta", "metadata", "raw", "table", "test", "train", "training",
}  # fmt: skip
CHEST_WORDS = {
    "chest", "covid", "cxr", "effusion", "lung", "lungs", "pneumonia", "radiograph", "tb", "thorax", "tuberculosis",
    "xray", "ct",
}  # fmt: skip


@dataclass(frozen=True)
class Proposal:
    """A configuration and why it is as it is.

    Attributes:
        config: what was chosen.
        yaml: the same with all comments, as it is written.
        findings: topic and sentence, for a person.
        cautions: sentences about what the person should look at.
        dvc_data: the file or folder on which the pipeline depends.
    """

    config: Config
    yaml: str
    findings: tuple[tuple[str, str], ...]
    cautions: tuple[str, ...]
    dvc_data: Path


@dataclass
class _Notes:
    """What is said about the choices, collected while they are made."""

    findings: list[tuple[str, str]] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)
    reasons: dict[str, list[str]] = field(default_factory=dict)

    def find(self, topic: str, sentence: str, key: str | None = None) -> None:
        """Tell on the terminal and, with a key, above it in the file."""
        assert topic in TOPICS
        self.findings.append((topic, sentence))
        if key:
            self.explain(key, sentence)

    def caution(self, sentence: str, key: str | None = None) -> None:
        """Tell on the terminal as something to look at and, with a key, above it in the file."""
        self.cautions.append(sentence)
        if key:
            self.explain(key, sentence)

    def explain(self, key: str, sentence: str) -> None:
        """Tell above a key in the file."""
        self.reasons.setdefault(key, []).append(f"{sentence[0].upper()}{sentence[1:].rstrip('.')}.")


def config_name(source: Path, given: str | None) -> str:
    """The name asked for, or one made from the folder or table.

    Raises:
        ConfigError: it holds other characters than letters, digits, dot, hyphen and underscore.
    """
    if given is not None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", given):
            raise ConfigError(f"--name {given}: use letters, digits, dots, hyphens and underscores, a letter first")
        return given
    whole = Path(os.path.abspath(source))
    names = [whole.stem if whole.is_file() else whole.name, *(parent.name for parent in whole.parents)]
    telling = next((name for name in names if name and name.lower() not in GENERIC_NAMES), names[0])
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "-", telling).strip("-_")
    if not cleaned:
        raise ConfigError(f"{source}: gives no name for the config; choose one with --name")
    return cleaned


def propose(source: Path, name: str) -> Proposal:
    """Look at a folder per class or at a table, and choose.

    Raises:
        DataError: there is nothing to train on, or it is laid out in another way; says what to do.
    """
    source = _from_working_directory(source)
    notes = _Notes()
    if source.is_dir():
        data, listing = _folder(source, notes)
    elif source.exists():
        check_table(source)
        data, listing = _table(source, notes)
    else:
        raise DataError(f"{source}: there is no such folder or table")
    train = listing.files[listing.files["split"] == "train"]
    _tell_classes(train, notes)
    if not listing.grouped:
        data, train = _group_by_name(data, train, notes)
    survey = survey_images(train["path"].tolist())
    config = _config(name, source, data, train, survey, notes)
    return Proposal(
        config,
        _text(config, train, source, notes),
        tuple(sorted(notes.findings, key=lambda finding: TOPICS.index(finding[0]))),
        tuple(notes.cautions),
        _dvc_data(config.data),
    )


def _from_working_directory(source: Path) -> Path:
    """Relative where possible: the config is used from the working directory, also on other machines."""
    here = Path.cwd()
    return source.relative_to(here) if source.is_absolute() and source.is_relative_to(here) else source


def _folder(root: Path, notes: _Notes) -> tuple[Data, Listing]:
    listing = list_class_folders(root)
    if listing.num_ignored:
        notes.find("ignored", f"{_count(listing.num_ignored, 'file')} without an image's ending, or in no class folder")
    for table in tables_in(root):
        notes.caution(f"{table} was not looked at. If it names patients, slides or a split, run init on it instead.")
    return Data(root=root), listing


def _table(table: Path, notes: _Notes) -> tuple[Data, Listing]:
    frame = _read_table(table)
    if frame.empty:
        raise DataError(f"{table}: has no rows")
    frame = pd.DataFrame({str(name): frame[name].fillna("").astype(str).str.strip() for name in frame.columns})
    paths = find_paths(frame, table)
    label = find_label(frame, table, [paths.name])
    split = _split_column(frame, [paths.name, label], notes)
    taken = [paths.name, label, *([split] if split else [])]
    groups = group_candidates(frame, taken)
    data = Data(
        root=paths.root,
        table=table,
        columns=Columns(path=paths.name, label=label, split=split),
        metadata=metadata_columns(frame, [*taken, *groups]),
    )
    notes.find("columns", f"{paths.name} names the images, {label} their class")
    if data.metadata:
        told = "these columns say how an image came about, and should not tell its class"
        notes.find("metadata", f"{', '.join(data.metadata)}: {told}")
        notes.explain("data.metadata", told)
    return _group_by_column(data, groups, notes)


def _split_column(frame: pd.DataFrame, taken: Sequence[str], notes: _Notes) -> str | None:
    for name in split_candidates(frame, taken):
        odd = sorted(set(frame[name]) - {"train", "test", ""})
        if not odd:
            num_test = int((frame[name] == "test").sum())
            notes.find("split", f"column {name}: {num_test} images are test and never trained on", "data.columns.split")
            return name
        notes.caution(
            f"column {name} looks like a split, but holds {', '.join(odd[:NUM_SHOWN])}: only train and test are known. "
            "It is not used, and all images go into the folds. To keep a test part apart, write train or test.",
            "data.columns.split",
        )
    return None


def _group_by_column(data: Data, candidates: Sequence[str], notes: _Notes) -> tuple[Data, Listing]:
    """The first column that leaves every class in two groups or more."""
    for name in candidates:
        grouped = data.model_copy(update={"columns": data.columns.model_copy(update={"group": name})})
        listing = list_files(grouped)
        train = listing.files[listing.files["split"] == "train"]
        per_class = train.groupby("label")["group"].nunique()
        if per_class.min() >= 2:
            notes.find("groups", f"{_sizes(train['group'])}, by column {name}", "data.columns.group")
            return grouped, listing
        notes.caution(
            f"column {name} looks like a group, but all images of {per_class.idxmin()} have the same one, so that no "
            "folds can keep its groups apart. It is not used: what the numbers say of that class may be that group.",
            "data.columns.group",
        )
    return data, list_files(data)


def _group_by_name(data: Data, train: pd.DataFrame, notes: _Notes) -> tuple[Data, pd.DataFrame]:
    num_folds = min(MAX_FOLDS, int(train["label"].value_counts().min()))
    guess = guess_name_groups(train["image_id"], train["label"], num_folds) if num_folds >= 2 else None
    if guess is None:
        notes.find("groups", "none found: each image counts as its own group")
        notes.caution(
            "Each image counts as its own group. Where several images show one patient, slide, culture or day, folds "
            "share them and the numbers come out too good. Say what must stay together: data.group_regex, a pattern "
            "whose parentheses catch the group in the file name, or a table with a column group.",
            "data.group_regex",
        )
        return data, train
    notes.find(
        "groups",
        f"{_sizes(guess.groups)}, by {guess.meaning}: {guess.regex}. A guess: check that it names what must stay "
        "together (patient, slide, culture, day)",
        "data.group_regex",
    )
    return data.model_copy(update={"group_regex": guess.regex}), train.assign(group=guess.groups)


def _tell_classes(train: pd.DataFrame, notes: _Notes) -> None:
    if train.empty:
        raise DataError("all images are test: none is left to learn from")
    counts = train["label"].value_counts()
    if len(counts) < 2:
        raise DataError(f"there is only one class, {counts.index[0]}: a classifier needs two or more")
    single = counts[counts < 2].index.tolist()
    if single:
        raise DataError(
            f"one image each of {', '.join(single)}: a class needs two, to be learnt from one and tested on the "
            "other, and many more to be believed. Add images, or merge or leave out these classes."
        )
    extremes = f"smallest {counts.index[-1]} ({counts.iloc[-1]}), largest {counts.index[0]} ({counts.iloc[0]})"
    notes.find("images", f"{len(train)} in {len(counts)} classes: {extremes}")
    notes.explain("data", f"{len(train)} images to train on, in {len(counts)} classes: {extremes}")
    few = counts[counts < FEW_IMAGES]
    if len(few):
        listed = ", ".join(f"{label} ({count})" for label, count in few.tail(NUM_SHOWN).items())
        notes.caution(
            f"Classes with fewer than {FEW_IMAGES} images: {listed}{', ...' if len(few) > NUM_SHOWN else ''}. "
            "What the numbers say of such a class alone is little."
        )


def _config(name: str, source: Path, data: Data, train: pd.DataFrame, survey: Survey, notes: _Notes) -> Config:
    counts = train["label"].value_counts()
    fewest = int(train.groupby("label")["group"].nunique().min())
    _tell_survey(survey, data, notes)
    finetune: dict[str, object] = {}
    if counts.iloc[0] > MAX_IMBALANCE * counts.iloc[-1]:
        finetune["class_weights"] = "balanced"
        ratio = f"{counts.index[0]} has {counts.iloc[0] / counts.iloc[-1]:.1f} times the images of {counts.index[-1]}"
        notes.find("balance", f"{ratio}: errors are weighted by class", "finetune.class_weights")
    if fewest < MIN_GROUPS_TO_VALIDATE:
        finetune["validation_fraction"] = 0.0
        notes.explain(
            "finetune.validation_fraction",
            f"The smallest class has {fewest} groups, too few to choose the epoch by: the last one is taken.",
        )
    notes.explain("model.weights", "Fetched once, by the first `train`. On a machine without network give a file.")
    return Config.model_validate({
        "name": name,
        "data": data.model_dump(),
        "folds": {"num": _num_folds(train, fewest, notes)},
        "model": {"image_size_px": _image_size_px(survey, notes)},
        "finetune": finetune,
        "augment": {"preset": _preset(survey, source, counts.index.tolist(), notes)},
    })  # fmt: skip


def _tell_survey(survey: Survey, data: Data, notes: _Notes) -> None:
    colour = "grey" if survey.is_grey else "colour"
    notes.find(
        "sample",
        f"{survey.num_sampled} files opened: {colour}, median short side {survey.median_short_px} px, "
        f"up to {survey.max_bit_depth} bits, " + (f"{len(survey.unreadable)} unreadable" if survey.unreadable else "all readable"),
    )
    if survey.num_deep:
        sentence = f"{survey.num_deep} of {survey.num_sampled} files opened have more than 8 bits a channel"
        notes.explain("data.intensity", f"{sentence}. Set a window [low, high] where brightness has a meaning.")
        notes.find("intensity", f"{sentence}: each image is scaled by its own percentiles")
    if survey.unreadable:
        listed = "; ".join(f"{path}: {reason}" for path, reason in survey.unreadable[:NUM_SHOWN])
        notes.caution(
            f"{len(survey.unreadable)} of {survey.num_sampled} files opened are unreadable ({listed}). `prepare` lists "
            f"all, and stops when more than {data.max_unreadable:.0%} are: repair or remove them, or raise "
            "data.max_unreadable.",
            "data.max_unreadable",
        )


def _num_folds(train: pd.DataFrame, fewest: int, notes: _Notes) -> int:
    names = train[["image_id", "label", "group"]].to_numpy(dtype=object).T
    for num in range(min(MAX_FOLDS, fewest), 1, -1):
        try:
            assign_folds(*names, num_folds=num, seed=0)
        except FoldError:
            continue
        why = f"every class has {fewest} groups or more"
        notes.find("folds", f"{num}: {why}")
        notes.explain("folds.num", f"{why}; {MAX_FOLDS} folds are usual.")
        return num
    raise DataError(
        "no folds can be made that keep groups apart and every class in training. Add images of other groups, or "
        "declare smaller groups in a table's column group."
    )


def _image_size_px(survey: Survey, notes: _Notes) -> int:
    """The smallest usual size that holds the median image without shrinking it; 224 is what ImageNet weights saw."""
    size_px = next((size for size in IMAGE_SIZES_PX if size >= survey.median_short_px), IMAGE_SIZES_PX[-1])
    why = f"the median short side is {survey.median_short_px} px"
    more = "; more than 224 costs time by its square" if survey.median_short_px > IMAGE_SIZES_PX[-1] else ""
    notes.explain("model.image_size_px", f"{why}{more}.")
    notes.find("size", f"{size_px} px: {why}")
    return size_px


def _preset(survey: Survey, source: Path, classes: Sequence[str], notes: _Notes) -> Preset:
    words = set(re.findall(r"[a-z]+", " ".join([source.name, *classes]).lower()))
    chest = sorted(words & CHEST_WORDS)
    preset: Preset
    if survey.is_grey and chest:
        preset = "ct" if "ct" in chest else "xray"
        why = f"the images are grey, and the names speak of {', '.join(chest)}"
    elif survey.is_dark_framed:
        preset, why = "fluorescence", "the background is dark, as in fluorescence and dark field"
    else:
        preset, why = "brightfield", "the background is not dark, and nothing speaks of a chest"
    notes.find("modality", f"{preset}, a guess: {why}")
    notes.explain("augment.preset", f"A guess: {why}")
    return preset


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _sizes(groups: pd.Series) -> str:
    sizes = groups.value_counts()
    return f"{len(sizes)} groups of {sizes.iloc[-1]} to {_count(sizes.iloc[0], 'image')}"


def _dvc_data(data: Data) -> Path:
    """What holds images and table alike, as far as one path can."""
    root = data.root or Path()
    if data.table is not None and root.is_relative_to(data.table.parent):
        return data.table.parent
    return root


def _text(config: Config, train: pd.DataFrame, source: Path, notes: _Notes) -> str:
    counts = train["label"].value_counts()
    hidden = ["data.table", "data.columns", "data.metadata"] if config.data.table is None else []
    hidden += ["data.group_regex"] if config.data.columns.group else []
    examples = {
        "data.columns.group": "patient",
        "data.columns.split": "split",
        "data.group_regex": r"(slide\d+)",
        "data.notice": "One sentence.",
        "data.test": f"data/raw/{config.name}-test",
        "evaluate.positive_class": str(counts.index[-1]) if len(counts) == 2 else None,
    }
    command = f"microscopy-cls prepare -c configs/{config.name}.yaml"
    header = [
        f"{source.as_posix()}: {len(train)} images of {len(counts)} classes. Proposed by `microscopy-cls init`.",
        "",
        f"  {command}      (then train, evaluate, report; or add it to params.yaml)",
        "",
        f"To beat: always answering {counts.index[0]} is right for {counts.iloc[0] / len(train):.1%} of the images.",
        f"Time: roughly {_duration(config, len(train))} on two CPU cores that compute in bf16, minutes on a GPU.",
    ]
    return commented_yaml(config, header, notes.reasons, examples, hidden)


def _duration(config: Config, num_images: int) -> str:
    """Rough training time in words."""
    tuning, folds = config.finetune, config.folds.num
    num_steps = num_images * (folds - 1) * (1 - tuning.validation_fraction) * tuning.epochs
    minutes = num_steps * (config.model.image_size_px / 224) ** 2 / CPU_IMAGES_PER_S / 60
    return f"{np.ceil(minutes):.0f} minutes" if minutes < 90 else f"{minutes / 60:.0f} hours"
