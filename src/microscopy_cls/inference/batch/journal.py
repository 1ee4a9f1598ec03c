"""What is done already: a line an input, appended as it finishes, so that nothing is lost whatever happens."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from microscopy_cls.errors import DataError
from microscopy_cls.system.files import sha256_of_json

FILE = "journal.jsonl"
SECONDS_BETWEEN_FLUSHES = 1.0  # to disk: a power cut costs the inputs since then, a killed process none

log = logging.getLogger(__name__)
Record = dict[str, Any]


class Journal:
    """The records of one output folder.

    Args:
        folder: of the outputs.
        settings: what the answers depend on: models and how they are run. Others start anew.
        overwrite: start anew in any case.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], *, overwrite: bool = False) -> None:
        self._path = folder / FILE
        self.records: dict[str, Record] = {}
        head, size = (None, 0) if overwrite else self._load()
        if head is not None and head != settings:
            log.warning("%s: starting anew (changed: %s)", folder, ", ".join(_changed(head, settings)))
            self.records, head = {}, None
        self._handle = self._path.open("ab" if head is not None else "wb")
        self._flushed = time.monotonic()
        if head is None:
            self._write({"settings": settings, "digest": sha256_of_json(settings)})
        else:
            self._handle.truncate(size)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._handle.close()

    def add(self, key: str, record: Record) -> None:
        """Record a finished input.

        Raises:
            DataError: the disk is full, or the folder cannot be written any more. What was recorded stays.
        """
        self.records[key] = record
        self._write({"key": key, **record})

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._handle.write((json.dumps(line, allow_nan=False) + "\n").encode())
            self._handle.flush()
            if time.monotonic() - self._flushed > SECONDS_BETWEEN_FLUSHES:
                os.fsync(self._handle.fileno())
                self._flushed = time.monotonic()
        except OSError as error:
            raise unwritable(self._path, error) from None

    def _load(self) -> tuple[dict[str, Any] | None, int]:
        """Read the records; returns the settings they belong to and where the last whole line ends."""
        if not self._path.is_file():
            return None, 0
        head, size = None, 0
        with self._path.open("rb") as handle:
            for line in handle:
                try:
                    record = json.loads(line)
                except ValueError:
                    break  # torn by a kill or a full disk: what follows is done again
                if not line.endswith(b"\n"):
                    break
                size += len(line)
                if head is None:
                    head = record["settings"]
                else:
                    self.records[record.pop("key")] = record
        return head, size


def unwritable(path: Path, error: OSError) -> DataError:
    """A full disk, or a folder that may not be written."""
    return DataError(
        f"{path}: cannot be written ({error.strerror}). What is done stays done: make room, then run the same command "
        "again."
    )


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
