"""Files that are either whole or absent, and digests that identify them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_UMASK = os.umask(0)  # it can only be read by setting it; at import, before threads write files
os.umask(_UMASK)


@contextmanager
def atomic_path(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success flush it to disk and rename it, on failure remove it.

    The temporary name keeps the suffix, because many writers choose the format by it. Without `durable` nothing is
    flushed: a killed process still leaves the old file or the new one, but a power cut may leave a torn one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as handle:
                os.fsync(handle.fileno())
        _open_to_the_umask(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text atomically; bytes of a file name that are no text become escapes, which JSON reads back."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(target: Path, value: Any) -> None:
    """Write `value` as indented JSON atomically. NaN and infinity are refused (they are not JSON)."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_parquet(target: Path, table: pd.DataFrame) -> None:
    """Write a table atomically, without its index."""
    with atomic_path(target) as temporary:
        table.to_parquet(temporary, index=False)


def write_csv(target: Path, table: pd.DataFrame) -> None:
    """Write a table atomically, without its index, full precision."""
    with atomic_path(target) as temporary:
        table.to_csv(temporary, index=False)


def read_json(path: Path) -> Any:
    """Read a JSON file (UTF-8)."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_of_json(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys), 64 hex digits."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `target`; on success it takes the place of `target`.

    Two renames cannot be one step: whatever happens between them, the earlier folder is put back.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    earlier = target.with_name(f".{target.name}.{os.getpid()}.old")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():  # a folder without the right to enter it would be shut
                _open_to_the_umask(file)
        if target.exists():
            target.rename(earlier)
        temporary.rename(target)
    finally:
        if earlier.exists() and not target.exists():
            earlier.rename(target)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(earlier, ignore_errors=True)


def _open_to_the_umask(file: Path) -> None:
    """Give a file the usual mode: safetensors writes for the owner alone, which colleagues and servers cannot read."""
    file.chmod(0o666 & ~_UMASK)
