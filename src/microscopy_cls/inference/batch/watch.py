"""How far a classification is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import ExitStack
from types import TracebackType

from microscopy_cls.system.progress import bar

SECONDS_BETWEEN_LINES = 30.0

log = logging.getLogger(__name__)


class Watch:
    """Counts inputs."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._failed = total, 0, 0
        self._started = self._told = time.monotonic()
        self._stack = ExitStack()

    def __enter__(self) -> Watch:
        self._bar = self._stack.enter_context(bar("classifying", self._total, unit="input"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def count(self, *, failed: bool) -> None:
        """One more input is done."""
        self._done += 1
        self._failed += failed
        self._bar.update(1)
        if failed:
            self._bar.set_postfix(failed=self._failed, refresh=False)
        now = time.monotonic()
        if not sys.stderr.isatty() and now - self._told > SECONDS_BETWEEN_LINES:
            self._told = now
            rate = self._done / (now - self._started)
            left = (self._total - self._done) / rate
            log.info(
                "%d of %d inputs, %.1f a second, %s left, %d failed",
                self._done, self._total, rate, _words(left), self._failed,
            )  # fmt: skip


def _words(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
