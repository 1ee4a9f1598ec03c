"""Silence around the decoders: what they have to say about a bad file is its reason, not a line on stderr."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
if hasattr(os, "register_at_fork"):  # a worker forked while another thread held the lock would wait for ever
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)

_DECODERS = r"(PIL|pydicom|pylibjpeg|openjpeg|nibabel)\."
# A filter holds for one logger, not for those below it. pydicom's lines quote values of the file.
_LOGGERS = (
    "nibabel.global",
    "openjpeg.utils",
    "pydicom",
    "pydicom.pixels.decoders.base",
    "pydicom.pixels.utils",
    "pylibjpeg.utils",
    "tifffile",
)
_muted = threading.local()


class _Filters:
    """Python's warning filters belong to the process: the first to enter changes them, the last to leave restores."""

    def __init__(self) -> None:
        self._num_inside, self._saved = 0, warnings.catch_warnings()

    def enter(self) -> None:
        with _lock:
            if self._num_inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=_DECODERS)
            self._num_inside += 1

    def leave(self) -> None:
        with _lock:
            self._num_inside -= 1
            if self._num_inside == 0:
                self._saved.__exit__(None, None, None)


_filters = _Filters()


def _is_audible(_record: logging.LogRecord) -> bool:
    return not getattr(_muted, "is_on", False)


for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_is_audible)


@contextmanager
def muted_warnings() -> Iterator[None]:
    """Ignore the decoders' warnings, also where warnings are errors, in any number of threads at a time.

    Filters that somebody else sets meanwhile are lost: hold this around one file, not around a batch.
    """
    _filters.enter()
    try:
        yield
    finally:
        _filters.leave()


@contextmanager
def muted_logs() -> Iterator[None]:
    """Drop the decoders' log records that come from this thread."""
    _muted.is_on = True
    try:
        yield
    finally:
        _muted.is_on = False
