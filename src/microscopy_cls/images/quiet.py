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

_muted = threading.local()


def _is_audible(_record: logging.LogRecord) -> bool:
    return not getattr(_muted, "is_on", False)


logging.getLogger("tifffile").addFilter(_is_audible)


@contextmanager
def muted_warnings() -> Iterator[None]:
    """Ignore Pillow's warnings, also where warnings are errors.

    Python's filters belong to the process, so that only one thread at a time may change and restore them: hold
    this around the parsing of headers, where Pillow warns, not around the decoding of pixels.
    """
    with _lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


@contextmanager
def muted_logs() -> Iterator[None]:
    """Drop the log records of tifffile that come from this thread."""
    _muted.is_on = True
    try:
        yield
    finally:
        _muted.is_on = False
