"""Records on their way to a store that may be away: kept in order, sent again later, never waited for."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

from microscopy_cls.tracking.store import Client, Store, is_refusal, store_errors

PAUSE_S = 30.0  # at least so long between two attempts
PAUSE_RATIO = 20  # and so many times what the failed attempt took: an outage costs a training at most 5 %
RECENT_S = 10.0  # a failure so fresh is believed, even where an attempt is due
MAX_WAITING = 10_000  # records kept in memory

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Delivery:
    """One thing to tell the store.

    Attributes:
        what: in words, for messages.
        send: does it; doing it twice does no harm.
        needed: others depend on it, so it is kept even when the store refuses it.
    """

    what: str
    send: Callable[[Client], object]
    needed: bool = False


class Outbox:
    """First in, first out. While the store is away, posting costs nothing but an attempt now and then."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[Delivery] = deque()
        self._num_lost = 0
        self._is_away = False
        self._has_warned = False
        self._attempt_at = 0.0
        self._failed_at = -RECENT_S

    def post(self, delivery: Delivery) -> None:
        """Send at once, or keep for later. Beyond `MAX_WAITING` what is not needed by others is lost."""
        if len(self._waiting) < MAX_WAITING or delivery.needed:
            self._waiting.append(delivery)
        else:
            self._num_lost += 1
        if monotonic() >= self._attempt_at:
            self.flush()

    def flush(self) -> bool:
        """Send what waits, unless that failed a moment ago; whether the store has it all."""
        begun = monotonic()
        if begun < self._failed_at + RECENT_S:
            return False
        try:
            with self._store.session() as client:
                while self._waiting:
                    self._deliver(self._waiting[0], client)
                    self._waiting.popleft()
        except store_errors() as error:
            self._pause(error, begun)
            return False
        if self._is_away:
            self._is_away = False
            log.info("MLflow at %s answers again and has received what was kept for it.", self._store.shown)
        return True

    def ask(self, what: str, question: Callable[[Client], Answer]) -> Answer | None:
        """The store's answer, after all that waits has been sent; None, with a warning, when it gives none."""
        if self.flush():
            try:
                with self._store.session() as client:
                    return question(client)
            except store_errors() as error:
                self._warn("%s failed in MLflow at %s: %s", what, self._store.shown, self._store.reason(error))
                return None
        log.warning("%s was left out: MLflow at %s does not answer. Do it again later.", what, self._store.shown)
        return None

    def close(self) -> None:
        """A last attempt, and the plain truth about what is lost."""
        if self._waiting:
            self.flush()
        num_lost = len(self._waiting) + self._num_lost
        if num_lost:
            log.warning(
                "MLflow at %s never took %d records of this run (metrics, tags, files): they are lost there. "
                "All results stand on disk.",
                self._store.shown,
                num_lost,
            )
        self._waiting.clear()
        self._num_lost = 0

    def _deliver(self, delivery: Delivery, client: Client) -> None:
        try:
            delivery.send(client)
        except store_errors() as error:
            if delivery.needed or not is_refusal(error):
                raise
            self._num_lost += 1
            self._warn("MLflow at %s refused %s: %s", self._store.shown, delivery.what, self._store.reason(error))

    def _pause(self, error: BaseException, begun: float) -> None:
        self._failed_at = monotonic()
        self._attempt_at = self._failed_at + max(PAUSE_S, PAUSE_RATIO * (self._failed_at - begun))
        if not self._is_away:
            self._is_away = True
            self._warn(
                "MLflow at %s cannot be used: %s. Work goes on without it; what is to be logged is kept in memory and "
                "sent when it answers again. Start the server, free the database or correct tracking.uri; "
                "tracking.mlflow: false does without MLflow.",
                self._store.shown,
                self._store.reason(error),
            )

    def _warn(self, message: str, *values: object) -> None:
        """Warn the first time; a store that comes and goes is then told of at lower levels."""
        log.log(logging.INFO if self._has_warned else logging.WARNING, message, *values)
        self._has_warned = True
