"""From the catalogue to a folder with images and a table, whole and verified, or not there at all."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
from filelock import FileLock, Timeout

from microscopy_cls.dataset.catalogue.entry import Entry
from microscopy_cls.dataset.catalogue.git import FILE, LINK, SUBMODULE, Blob, Store
from microscopy_cls.dataset.catalogue.item import Item
from microscopy_cls.dataset.catalogue.layouts import LAYOUTS, Layout
from microscopy_cls.errors import DataError
from microscopy_cls.images import decode
from microscopy_cls.system.files import atomic_folder, read_json, sha256_of_file, write_csv, write_json
from microscopy_cls.system.progress import progress

TABLE, RECORD = "manifest.csv", "fetched.json"
LFS_POINTER = b"version https://git-lfs"
NUM_SHOWN = 5  # examples in a message

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """A set that lies whole in `folder`; `already` if it did before."""

    folder: Path
    num_images: int
    num_groups: int
    already: bool


def fetch(entry: Entry, out: Path, source: str | None = None, time_limit_s: float = 600) -> Fetched:
    """Fetch the pinned revision of a set, verify it and lay it out: a folder per class, `manifest.csv`, `fetched.json`.

    An interrupted fetch goes on with the next call; what it has lies beside `out` until the set is whole. A set that is
    there already is verified, and never changed.

    Args:
        entry: from the catalogue.
        out: folder of the set, which must not be there yet, or be what an earlier call made.
        source: another address of the same repository.
        time_limit_s: that one request to it may take, of which there is one per 64 files.

    Raises:
        DataError: the set is behind a login, cannot be reached or is not what the catalogue pins, or `out` holds
            something else.
    """
    if entry.revision is None or entry.layout is None:
        raise DataError(_by_hand(entry))
    try:
        if out.exists() or out.is_symlink():
            return verify(entry, out)
        kept = out.with_name(f".{out.name}.git")
        kept.mkdir(parents=True, exist_ok=True)
        with FileLock(kept / "in-use").acquire(timeout=0):
            store = Store(kept, entry.source if source is None else source, time_limit_s)
            _lay_out(entry, entry.revision, LAYOUTS[entry.layout], out, store)
        shutil.rmtree(kept)
    except Timeout:
        raise DataError(f"{out}: another command is fetching this set. Wait for it to end.") from None
    except OSError as error:
        raise DataError(
            f"{error.filename or out}: cannot be written or read ({error.strerror}). What is fetched stays: make room, "
            "or choose another folder with --out, then run it again."
        ) from None
    return _counted(out, already=False)


def verify(entry: Entry, out: Path) -> Fetched:
    """Check that `out` holds the set as it was laid out, every file's bytes included; other files there are nobody's.

    Raises:
        DataError: it holds something else, another revision, or was changed.
    """
    away = "Move it away, or fetch into another folder with --out."
    try:
        record = read_json(out / RECORD)
        name, revision, digests = record["name"], record["revision"], dict(record["files"])
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{out}: is there already, but was not made by this command. {away}") from None
    if (name, revision) != (entry.name, entry.revision):
        raise DataError(f"{out}: holds {name} at {revision}, not {entry.name} at {entry.revision}. {away}")
    changed = [
        file
        for file in progress(sorted(digests), f"verify {entry.name}", unit="file")
        if not (out / file).is_file() or sha256_of_file(out / file) != digests[file]
    ]
    if changed:
        raise DataError(
            f"{out}: {len(changed)} files are not as they were fetched: {', '.join(changed[:NUM_SHOWN])}. {away}"
        )
    return _counted(out, already=True)


def _lay_out(entry: Entry, revision: str, layout: Layout, out: Path, store: Store) -> None:
    tree = store.fetch_tree(revision)
    texts = _contents(store, entry, revision, tree, layout.annotations(sorted(tree)), "annotations of ")
    items = layout.items(sorted(tree), texts)
    if not items:
        raise DataError(f"{entry.name} at {revision}: the tree holds no image where the catalogue expects them")
    _check(items, tree, entry)
    sources = sorted({item.path for item in items})
    store.fetch_blobs(revision, [tree[path].digest for path in sources], f"fetch {entry.name}")
    for left in out.parent.glob(f".{out.name}.*.tmp"):
        shutil.rmtree(left)  # of a process that was killed
    with atomic_folder(out) as folder:
        _write_images(items, tree, store, folder, entry)
        rows = [(item.file, item.label, item.group, item.path) for item in items]
        write_csv(folder / TABLE, pd.DataFrame(rows, columns=["file", "label", "group", "original_path"]))
        write_json(folder / RECORD, _record(entry, folder, [TABLE, *(item.file for item in items)]))


def _contents(
    store: Store, entry: Entry, revision: str, tree: Mapping[str, Blob], paths: Sequence[str], words: str
) -> dict[str, bytes]:
    if not paths:
        return {}
    digests = [tree[path].digest for path in paths]
    store.fetch_blobs(revision, digests, f"{words}{entry.name}")
    return dict(zip(paths, store.read_blobs(digests), strict=True))


def _check(items: Sequence[Item], tree: Mapping[str, Blob], entry: Entry) -> None:
    """Refuse what is no plain file, and names that would not stay in their folder."""
    assert len({item.file for item in items}) == len(items)  # layouts name no two images alike
    kinds = {LINK: "a link", SUBMODULE: "another repository"}
    for item in items:
        mode = tree[item.path].mode
        if not mode.startswith(FILE):
            raise DataError(
                f"{entry.name}: {item.path} is {kinds.get(mode, 'no file')}, not an image. Nothing was laid out."
            )
        if any(_is_hostile(part) for part in (item.label, item.name)):
            raise DataError(f"{entry.name}: {item.path!r} is no name that can be laid out. Nothing was laid out.")


def _is_hostile(part: str) -> bool:
    """Whether a part of a path would hide, leave its folder, or is none that every system can write."""
    return part.startswith(".") or bool(set(part) & set('/\\:*?"<>|')) or not part.isprintable()


def _write_images(items: Sequence[Item], tree: Mapping[str, Blob], store: Store, folder: Path, entry: Entry) -> None:
    by_path: dict[str, list[Item]] = {}
    for item in items:
        by_path.setdefault(item.path, []).append(item)
        (folder / item.label).mkdir(exist_ok=True)
    contents = store.read_blobs([tree[path].digest for path in by_path])
    shown = progress(zip(by_path.items(), contents, strict=True), f"lay out {entry.name}", len(by_path), "file")
    for (path, cut), content in shown:
        if content.startswith(LFS_POINTER):
            raise DataError(f"{entry.name}: {path} is a pointer to git's large-file store, not an image")
        for item in cut:
            (folder / item.file).write_bytes(content if item.box is None else _crop(content, item))


def _crop(content: bytes, item: Item) -> bytes:
    """A part of an image as PNG, so that nothing is lost a second time."""
    assert item.box is not None
    left, top, right, bottom = item.box
    pixels = decode(content, name=item.path).pixels[top:bottom, left:right]
    done, data = cv2.imencode(".png", pixels[..., ::-1])
    assert done
    return data.tobytes()


def _record(entry: Entry, folder: Path, files: Sequence[str]) -> dict[str, Any]:
    known = entry.model_dump(mode="json", include={"name", "title", "source", "revision", "licence", "citation"})
    return known | {"files": {file: sha256_of_file(folder / file) for file in files}}


def _counted(out: Path, *, already: bool) -> Fetched:
    table = pd.read_csv(out / TABLE, dtype=str, keep_default_na=False)
    return Fetched(out, len(table), table.loc[table["group"] != "", "group"].nunique(), already)


def _by_hand(entry: Entry) -> str:
    steps = "".join(f"\n  {number}. {step}" for number, step in enumerate(entry.steps, 1))
    return f"{entry.name}: has to be fetched by hand, from {entry.source}:{steps}"
