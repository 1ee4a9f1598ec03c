"""A pool of reading processes that survives what it reads."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microscopy_cls.inference.batch.frames import Header, Opening
from microscopy_cls.inference.batch.inputs import Input
from microscopy_cls.inference.batch.worker import work

START_LIMIT_S = 120.0  # a process may need long to start on a busy machine; that is not its input's time
Target = Callable[[Connection, Opening], None]
QUEUE_SIZE = 128  # squares waiting for the engine: a few batches, some 20 MB at 224 px


@dataclass(frozen=True)
class Event:
    """Something that a reader said of an input: its header, a square, that it is done, or why it failed."""

    index: int
    header: Header | None = None
    square: NDArray[np.uint8] | None = None
    error: str | None = None

    @property
    def is_last(self) -> bool:
        """Whether nothing more comes of this input."""
        return self.header is None and self.square is None


class _Reader:
    """One process and the input it is at."""

    def __init__(self, opening: Opening, target: Target) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a threaded process can hang
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=target, args=(theirs, opening), daemon=True)
        self.process.start()
        theirs.close()
        self.index, self.is_ready = -1, False
        self.since = time.monotonic()

    def start(self, index: int, item: Input) -> None:
        self.index, self.since = index, time.monotonic()
        self.connection.send((str(item.file), item.um_per_px))

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


class ReaderPool:
    """Reads inputs in several processes, a few squares ahead of the engine.

    Args:
        opening: how files are opened for the model.
        num_readers: processes.
        target: what the processes run.
        time_limit_s: how long an input may take without giving anything; then its reader is ended.
    """

    def __init__(self, opening: Opening, num_readers: int, time_limit_s: float, target: Target = work) -> None:
        self._opening, self._time_limit_s, self._target = opening, time_limit_s, target
        self._readers = [_Reader(opening, target) for _ in range(num_readers)]
        self._events: queue.Queue[Event | BaseException | None] = queue.Queue(QUEUE_SIZE)
        self._stopped = threading.Event()

    def read(self, inputs: Sequence[tuple[int, Input]]) -> Iterator[Event]:
        """Events of all inputs, those of one input in order, its last one always there. May be called once."""
        thread = threading.Thread(target=self._run, args=(deque(inputs),), name="readers", daemon=True)
        thread.start()
        try:
            while (event := self._events.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            self._stopped.set()
            while thread.is_alive():
                self._drain()
                thread.join(0.05)

    def _drain(self) -> None:
        """Make room, so that the thread sees that it should stop."""
        while not self._events.empty():
            self._events.get_nowait()

    def _run(self, todo: deque[tuple[int, Input]]) -> None:
        """Keep the readers busy and pass on what they say; runs in a thread, so that the engine never waits for it."""
        try:
            idle, busy = list(self._readers), dict[Connection, _Reader]()
            while (todo or busy) and not self._stopped.is_set():
                while todo and idle:
                    reader = idle.pop()
                    reader.start(*todo.popleft())
                    busy[reader.connection] = reader
                for connection in wait(list(busy), timeout=0.5):
                    reader = busy[connection]  # type: ignore[index]  # only connections were given
                    if self._receive(reader):
                        del busy[reader.connection]
                        idle.append(self._alive(reader))
                for reader in [reader for reader in busy.values() if self._is_overdue(reader)]:
                    del busy[reader.connection]
                    reader.end()
                    self._pass_on(Event(reader.index, error=f"could not be read within {self._time_limit_s:g} s"))
                    idle.append(self._alive(reader))
            self._pass_on(None)
        except BaseException as error:  # noqa: BLE001  the other thread raises it
            self._pass_on(error)
        finally:
            for reader in [*idle, *busy.values()]:
                reader.end()

    def _receive(self, reader: _Reader) -> bool:
        """Take one message; whether it was the input's last."""
        try:
            kind, value = reader.connection.recv()
            if kind == "ready":
                reader.is_ready, reader.since = True, time.monotonic()
                return False
            event = self._event(reader, kind, value)
        except (EOFError, ConnectionError):
            event = Event(reader.index, error=_how_it_ended(reader.process))
        reader.since = time.monotonic()
        self._pass_on(event)
        return event.is_last

    def _event(self, reader: _Reader, kind: str, value: Any) -> Event:
        if kind == "header":
            return Event(reader.index, header=value)
        if kind == "square":
            size_px = self._opening.reading.size_px
            pixels = np.frombuffer(reader.connection.recv_bytes(), np.uint8).reshape(size_px, size_px, 3)
            return Event(reader.index, square=pixels)
        return Event(reader.index, error=value)

    def _pass_on(self, event: Event | BaseException | None) -> None:
        """Queue an event; time spent waiting for room is not the readers'."""
        before = time.monotonic()
        while not self._stopped.is_set():
            try:
                self._events.put(event, timeout=0.2)
                break
            except queue.Full:
                continue
        waited = time.monotonic() - before
        for reader in self._readers:
            reader.since += waited

    def _is_overdue(self, reader: _Reader) -> bool:
        limit_s = self._time_limit_s if reader.is_ready else max(self._time_limit_s, START_LIMIT_S)
        return time.monotonic() - reader.since > limit_s

    def _alive(self, reader: _Reader) -> _Reader:
        """The reader, or a new one in its place where it has ended."""
        if not reader.connection.closed and reader.process.is_alive():
            return reader
        reader.end()
        self._readers.remove(reader)
        self._readers.append(_Reader(self._opening, self._target))
        return self._readers[-1]


def _how_it_ended(process: SpawnProcess) -> str:
    """Why a reader went away, in words."""
    process.join()
    code = process.exitcode or 0
    if code == -signal.SIGKILL:
        return "its reader was ended by the system, as happens when memory runs out"
    if code < 0:
        return f"its reader crashed ({signal.Signals(-code).name})"
    return f"its reader ended with an unexpected fault (exit code {code}; its traceback stands in the log)"
