"""Sets of annotated smears: each annotated cell becomes an image, its smear the group."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from xml.etree import ElementTree

from microscopy_cls.dataset.catalogue.item import Item
from microscopy_cls.errors import DataError

WIDTH_PX, HEIGHT_PX = 640, 480  # of every smear of both sets
MAX_PER_CLASS = 400  # red cells are ten times as many as all others
MIN_SIDE_PX = 16
CELL_PX = 64  # Chula marks centres only, 45 to 50 px apart where cells touch
BCCD_CLASSES = frozenset({"Platelets", "RBC", "WBC"})
CHULA_CLASSES = {
    "0": "normal", "1": "macrocyte", "2": "microcyte", "3": "spherocyte", "4": "target", "5": "stomatocyte",
    "6": "ovalocyte", "7": "teardrop", "8": "burr", "9": "schistocyte", "11": "hypochromia", "12": "elliptocyte",
}  # fmt: skip
CHULA_UNCATEGORISED = "10"

log = logging.getLogger(__name__)


def bccd_cells(paths: Sequence[str], texts: Mapping[str, bytes]) -> list[Item]:
    """The boxes of BCCD's XML files, clipped to the image; those under 16 px on a side are left out."""
    present, items = set(paths), []
    for annotation, text in sorted(texts.items()):
        stem = PurePosixPath(annotation).stem
        image = f"BCCD/JPEGImages/{stem}.jpg"
        if image not in present:
            continue
        for number, (label, box) in enumerate(_bccd_boxes(annotation, text)):
            if label in BCCD_CLASSES and min(box[2] - box[0], box[3] - box[1]) >= MIN_SIDE_PX:
                items.append(Item(image, label, f"{stem}_obj{number:02d}.png", stem, box))
    return at_most(items, MAX_PER_CLASS)


def chula_cells(paths: Sequence[str], texts: Mapping[str, bytes]) -> list[Item]:
    """Squares about the centres that Chula's label files give (a line each: x, y, class).

    Those that the border would cut are left out. Class 10 is uncategorised and no class here.
    """
    present, items, odd = set(paths), [], 0
    for annotation, text in sorted(texts.items()):
        stem = PurePosixPath(annotation).stem
        image = f"Dataset/{stem}.jpg"
        if image not in present:
            continue
        for number, line in enumerate(text.decode("utf-8", "replace").splitlines()):
            words = line.split()
            if len(words) != 3 or not all(word.isascii() and word.isdigit() for word in words):
                odd += bool(words)
            elif (label := CHULA_CLASSES.get(words[2])) and (box := _square(int(words[0]), int(words[1]))):
                items.append(Item(image, label, f"{stem}_cell{number:03d}.png", f"smear_{stem}", box))
            else:
                odd += words[2] not in {*CHULA_CLASSES, CHULA_UNCATEGORISED}
    if odd:
        log.warning("%d lines of the label files are not x, y and a class, and were left out", odd)
    return at_most(items, MAX_PER_CLASS)


def at_most(items: Sequence[Item], limit: int) -> list[Item]:
    """Of each class at most `limit`, sorted by file: those whose names have the lowest digests, so always the same."""
    taken: Counter[str] = Counter()
    chosen = []
    for item in sorted(items, key=lambda item: hashlib.sha256(item.name.encode()).digest()):
        taken[item.label] += 1
        if taken[item.label] <= limit:
            chosen.append(item)
    return sorted(chosen, key=lambda item: item.file)


def _bccd_boxes(annotation: str, text: bytes) -> list[tuple[str, tuple[int, int, int, int]]]:
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  its bytes are pinned by the commit
        return [
            (
                found.findtext("name", "").strip(),
                (
                    max(0, int(found.findtext("bndbox/xmin", ""))),
                    max(0, int(found.findtext("bndbox/ymin", ""))),
                    min(WIDTH_PX, int(found.findtext("bndbox/xmax", ""))),
                    min(HEIGHT_PX, int(found.findtext("bndbox/ymax", ""))),
                ),
            )
            for found in root.iter("object")
        ]
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{annotation}: is no annotation that can be read: {error}") from None


def _square(x: int, y: int) -> tuple[int, int, int, int] | None:
    left, top = x - CELL_PX // 2, y - CELL_PX // 2
    fits = left >= 0 and top >= 0 and left + CELL_PX <= WIDTH_PX and top + CELL_PX <= HEIGHT_PX
    return (left, top, left + CELL_PX, top + CELL_PX) if fits else None
