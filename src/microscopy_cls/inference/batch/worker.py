"""The process that reads: decoders are C code that may hang or crash, and then cost one input, not the night."""

from __future__ import annotations

import ctypes
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from microscopy_cls.errors import ImageError
from microscopy_cls.inference.batch.frames import Opening, open_input

PR_SET_PDEATHSIG = 1  # prctl(2)


def work(connection: Connection, opening: Opening) -> None:
    """Read inputs until the connection closes.

    Sends `("ready", None)` when it has started. Receives `(file, um_per_px)`. Sends `("header", Header)`, then for each
    square `("square", None)` and its bytes, then `("done", None)`; or at any point `("failed", reason)`.
    """
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends its readers
    connection.send(("ready", None))
    while True:
        try:
            file, um_per_px = connection.recv()
        except EOFError:
            return
        connection.send(_read(connection, Path(file), um_per_px, opening))


def _read(connection: Connection, file: Path, um_per_px: float | None, opening: Opening) -> tuple[str, Any]:
    try:
        with open_input(file, opening, um_per_px) as (header, squares):
            connection.send(("header", header))
            for square in squares:
                connection.send(("square", None))
                connection.send_bytes(square.tobytes())
    except ImageError as error:
        return "failed", error.reason
    except MemoryError:
        return "failed", "needs more memory than there is"
    return "done", None


def _end_with_parent() -> None:
    """Have the kernel end this process with its parent, however that ends; elsewhere the closed connection does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
