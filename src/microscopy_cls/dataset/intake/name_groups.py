"""Groups (patient, slide, day) guessed from the names of files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

MIN_MEAN_GROUP_SIZE = 1.5  # below it nearly every image would be its own group: a running number, not a group
MIN_REPEATS = 1.1  # images of one class in a group, on average; a number that starts anew in each class gives 1

# From coarse to fine: the images of a patient lie on slides. One image a class and person still is a group of images
# that belong together; one sample or slide number in each class folder is a running number.
PEOPLE = ("patient", "subject", "person", "donor", "animal", "mouse", "case")
THINGS = (
    "specimen", "biopsy", "tissue", "culture", "colony", "strain", "batch", "session", "visit", "day", "plate",
    "dish", "well", "slide", "wsi", "section", "sample", "series", "scan", "movie", "video", "stack",
)  # fmt: skip
# Then what carries no word: folders of the path, a date, and the parts of a name, the coarser first.
ANONYMOUS = (
    (r"^([^/]+)/", "the first folder of the path"),
    (r"^[^/]+/([^/]+)/", "the folder inside the class folder"),
    (r"((?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01]))(?!\d)", "a date in the file name"),
    (r"([^-_ /]+)[-_ ][^/]*$", "the file name up to its first separator"),
    (r"([^-_ /]+[-_ ][^-_ /]+)[-_ ][^/]*$", "the file name up to its second separator"),
    (r"([^-_ /]+(?:[-_ ][^-_ /]+){2})[-_ ][^/]*$", "the file name up to its third separator"),
    (r"([^/]+)[-_ ][^-_ /]*$", "the file name up to its last separator"),
)


@dataclass(frozen=True)
class NameGroups:
    """A pattern that groups images.

    Attributes:
        regex: for `data.group_regex`.
        meaning: what its capture group is, in words.
        groups: of each image, in the order given.
    """

    regex: str
    meaning: str
    groups: pd.Series


def guess_name_groups(image_ids: pd.Series, labels: pd.Series, num_folds: int) -> NameGroups | None:
    """The coarsest pattern that fits all names, or None.

    It makes at least twice as many groups as folds, groups of several images, and leaves each class in at least two
    groups. A pattern without a telling word must also leave as many folds as there are without groups.

    Args:
        image_ids: POSIX paths, the class folder first.
        labels: class of each image, same index.
        num_folds: that are possible without groups.
    """
    for regex, meaning in _named(image_ids.iloc[0]):
        found = _capture(image_ids, regex)
        person = meaning.split()[0] in PEOPLE
        if found is not None and is_grouping(found, labels, 2) and (person or _repeats_within_class(found, labels)):
            return NameGroups(regex, meaning, found)
    for regex, meaning in ANONYMOUS:
        found = _capture(image_ids, regex)
        if found is not None and is_grouping(found, labels, num_folds) and _repeats_within_class(found, labels):
            return NameGroups(regex, meaning, found)
    return None


def is_grouping(groups: pd.Series, labels: pd.Series, min_folds: int) -> bool:
    """Whether these groups hold several images each and allow at least `min_folds` folds of every class."""
    fewest = int(groups.groupby(labels).nunique().min())
    num_groups = groups.nunique()
    return fewest >= min_folds and 2 * min_folds <= num_groups <= len(groups) / MIN_MEAN_GROUP_SIZE


def _named(example: str) -> Iterator[tuple[str, str]]:
    """Patterns of a telling word and a number, spelled as in one image id: slide07, Patient_12, plate-B3."""
    for word in (*PEOPLE, *THINGS):
        spelled = re.search(rf"({word}(?:[-_ ]?id)?[-_ ]?)([a-z]?)\d", example, re.IGNORECASE)
        if spelled:
            yield f"({spelled[1]}{'[A-Za-z]' if spelled[2] else ''}\\d+)", f"{word} in the file name"


def _capture(image_ids: pd.Series, regex: str) -> pd.Series | None:
    """The capture group of each image id; None as soon as one does not match."""
    pattern, found = re.compile(regex), []
    for image_id in image_ids:
        match = pattern.search(image_id)
        if match is None:
            return None
        found.append(match[1])
    return pd.Series(found, index=image_ids.index)


def _repeats_within_class(groups: pd.Series, labels: pd.Series) -> bool:
    """Whether groups hold several images of one class, unlike a number that starts anew in each class folder."""
    return len(groups) >= MIN_REPEATS * len(set(zip(groups, labels, strict=True)))
