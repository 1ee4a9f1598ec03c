"""From a folder or a table to images, classes and groups, with the columns and patterns guessed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from microscopy_cls.config.schema import Columns, Data
from microscopy_cls.dataset.intake.columns import (
    find_label,
    find_paths,
    group_candidates,
    metadata_columns,
    split_candidates,
)
from microscopy_cls.dataset.intake.layouts import check_table, list_class_folders, tables_in
from microscopy_cls.dataset.intake.name_groups import guess_name_groups
from microscopy_cls.dataset.intake.notes import NUM_SHOWN, Notes, count, group_sizes
from microscopy_cls.dataset.sources import list_files, read_table
from microscopy_cls.errors import DataError

MAX_FOLDS = 5
FEW_IMAGES = 20  # in a class, below which its own figures say little


def find_inputs(source: Path, notes: Notes) -> tuple[Data, pd.DataFrame]:
    """The `data` section for a folder per class or a table, and its training images.

    Returns:
        The section, and a row per image: `image_id, path, label, group, split` (all str). Images without a declared
        or guessed group have their own.

    Raises:
        DataError: there is nothing to train on, or it is laid out in another way; says what to do.
    """
    if source.is_dir():
        data, train = _folder(source, notes)
    elif source.exists():
        check_table(source)
        data, train = _table(source, notes)
    else:
        raise DataError(f"{source}: there is no such folder or table")
    _tell_classes(train["label"], notes)
    return (data, train) if data.columns.group else _group_by_name(data, train, notes)


def _folder(root: Path, notes: Notes) -> tuple[Data, pd.DataFrame]:
    listing = list_class_folders(root)
    if listing.num_ignored:
        files = count(listing.num_ignored, "file")
        notes.find("ignored", f"{files} without an image's ending, or in no class folder")
    for table in tables_in(root):
        columns = group_candidates(_texts(table), taken=[])
        command = shlex.join(["microscopy-cls", "init", table.as_posix()])
        if columns:
            notes.caution(f"{table} has a column {columns[0]}. To keep its groups together:\n{command}")
            break
        notes.caution(f"{table} was not read. If it describes these images, name it instead of the folder:\n{command}")
    return Data(root=root), listing.files


def _table(table: Path, notes: Notes) -> tuple[Data, pd.DataFrame]:
    frame = _texts(table)
    if frame.empty:
        raise DataError(f"{table}: has no rows")
    paths = find_paths(frame, table)
    label = find_label(frame, table, [paths.name])
    notes.find("columns", f"{paths.name} names the images, {label} their class")
    split = _split_column(frame, [paths.name, label], notes)
    taken = [paths.name, label, *([split] if split else [])]
    groups = group_candidates(frame, taken)
    metadata = metadata_columns(frame, label, [*taken, *groups])
    if metadata:
        told = "these columns say how an image came about, and should not tell its class"
        notes.find("metadata", f"{', '.join(metadata)}: {told}", "data.metadata")
        for name, why in metadata.items():
            notes.explain("data.metadata", f"column {name}: {why}")
    columns = Columns(path=paths.name, label=label, split=split)
    data = Data(root=paths.root, table=table, columns=columns, metadata=tuple(metadata))
    return _group_by_column(data, groups, notes)


def _texts(table: Path) -> pd.DataFrame:
    """All cells as text without surrounding blanks, "" where there is none."""
    frame = read_table(table)
    texts = {str(name): frame[name].astype("string").fillna("").astype(str).str.strip() for name in frame.columns}
    return pd.DataFrame(texts)


def _split_column(frame: pd.DataFrame, taken: Sequence[str], notes: Notes) -> str | None:
    for name in split_candidates(frame, taken):
        odd = sorted(set(frame[name]) - {"train", "test", ""})
        if not odd:
            num_test = count(int((frame[name] == "test").sum()), "image")
            notes.find("split", f"column {name}: {num_test} to test with, never trained on", "data.columns.split")
            return name
        notes.caution(
            f"Column {name} looks like a split, but holds {', '.join(odd[:NUM_SHOWN])}: only train and test are known. "
            "It is not used, and all images go into the folds. To keep a test part apart, write train or test.",
            "data.columns.split",
        )
    return None


def _group_by_column(data: Data, candidates: Sequence[str], notes: Notes) -> tuple[Data, pd.DataFrame]:
    """The first column that leaves every class in two groups or more."""
    for name in candidates:
        grouped = data.model_copy(update={"columns": data.columns.model_copy(update={"group": name})})
        train = _training_part(grouped)
        per_class = train.groupby("label")["group"].nunique()
        if per_class.min() >= 2:
            sizes = train["group"].value_counts().tolist()
            num_alone = int((train["group"] == train["image_id"]).sum())
            alone = f"; {count(num_alone, 'image')} without a value, each its own" if num_alone else ""
            notes.find("groups", f"{group_sizes(sizes)}, by column {name}{alone}", "data.columns.group")
            return grouped, train
        notes.caution(
            f"Column {name} looks like a group, but all images of {per_class.idxmin()} have the same one, so that no "
            "folds can keep its groups apart. It is not used: what the numbers say of that class may be that group.",
            "data.columns.group",
        )
    return data, _training_part(data)


def _training_part(data: Data) -> pd.DataFrame:
    files = list_files(data).files
    train = files[files["split"] == "train"]
    if train.empty:
        raise DataError(f"{data.table}: all images are test in column {data.columns.split}: none is left to learn from")
    return train


def _group_by_name(data: Data, train: pd.DataFrame, notes: Notes) -> tuple[Data, pd.DataFrame]:
    num_folds = min(MAX_FOLDS, int(train["label"].value_counts().min()))
    guess = guess_name_groups(train["image_id"], train["label"], num_folds)
    if guess is None or not _fits_all(data, guess.regex):
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
        f"{group_sizes(guess.groups.value_counts().tolist())}, by {guess.meaning}, such as {guess.groups.iloc[0]}. A "
        "guess: check that it names what must stay together (patient, slide, culture, day)",
        "data.group_regex",
    )
    return data.model_copy(update={"group_regex": guess.regex}), train.assign(group=guess.groups)


def _fits_all(data: Data, group_regex: str) -> bool:
    """Whether a pattern that fits the training images fits the test images too, as it must."""
    if data.columns.split is None:
        return True
    try:
        list_files(data.model_copy(update={"group_regex": group_regex}))
    except DataError:
        return False
    return True


def _tell_classes(labels: pd.Series, notes: Notes) -> None:
    counts = labels.value_counts()
    if len(counts) < 2:
        raise DataError(f"there is only one class, {counts.index[0]}: a classifier needs two or more")
    single = counts[counts < 2].index.tolist()
    if single:
        raise DataError(
            f"one image each of {', '.join(single)}: a class needs two, to be learnt from one and tested on the "
            "other, and many more to be believed. Add images, or merge or leave out these classes."
        )
    extremes = f"smallest {counts.index[-1]} ({counts.iloc[-1]}), largest {counts.index[0]} ({counts.iloc[0]})"
    notes.find("images", f"{len(labels)} in {len(counts)} classes: {extremes}")
    notes.explain("data", f"{len(labels)} images to train on, in {len(counts)} classes: {extremes}")
    few = counts[counts < FEW_IMAGES]
    if len(few):
        listed = ", ".join(f"{label} ({num})" for label, num in few.tail(NUM_SHOWN).items())
        notes.caution(
            f"Classes with fewer than {FEW_IMAGES} images: {listed}{', ...' if len(few) > NUM_SHOWN else ''}. "
            "What the numbers say of such a class alone is little."
        )
