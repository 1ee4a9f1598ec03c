"""A reader may hang or crash: that costs the input it was at, and nothing else."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from microscopy_cls.dataset.cache import Reading
from microscopy_cls.inference.batch.frames import Header, Opening
from microscopy_cls.inference.batch.inputs import Input
from microscopy_cls.inference.batch.readers import Event, ReaderPool
from microscopy_cls.inference.batch.worker import work

OPENING = Opening(Reading(4, "stretch", "percentile"), None, 4)
INPUTS = [Input(name, Path(name)) for name in "abcdef"]


def scripted(connection: Connection, _: Opening) -> None:
    """Plays a reader; what it does is the input's name."""
    connection.send(("ready", None))
    while True:
        try:
            file, _um_per_px = connection.recv()
        except EOFError:
            return
        if file.startswith("hang"):
            time.sleep(600)
        if file.startswith("segfault"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if file.startswith("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        if file.startswith("fault"):
            os._exit(1)
        connection.send(("header", Header("image", 1, 1)))
        connection.send(("square", None))
        connection.send_bytes(bytes([ord(file[0])]) * 48)
        if file.startswith("later"):
            os.kill(os.getpid(), signal.SIGSEGV)
        connection.send(("done", None))


def events(names: list[str], num_readers: int = 2, time_limit_s: float = 60) -> dict[str, list[Event]]:
    """All events by input."""
    inputs = [(index, Input(name, Path(name))) for index, name in enumerate(names)]
    found: dict[str, list[Event]] = {name: [] for name in names}
    for event in ReaderPool(OPENING, num_readers, time_limit_s, scripted).read(inputs):
        found[names[event.index]].append(event)
    return found


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("segfault", "its reader crashed (SIGSEGV)"),
        ("killed", "its reader was ended by the system, as happens when memory runs out"),
        ("fault", "its reader ended with an unexpected fault (exit code 1; its traceback stands in the log)"),
        ("hang", "could not be read within 1.5 s"),
        ("later", "its reader crashed (SIGSEGV)"),
    ],
)
def test_a_fault_costs_one_input(name: str, reason: str) -> None:
    names = ["a", "b", name, "c", "d"]
    found = events(names, time_limit_s=1.5 if name == "hang" else 60)
    assert found[name][-1].error == reason
    for good in "abcd":
        header, square, last = found[good]
        assert header.header is not None
        assert square.square is not None
        assert (square.square == ord(good)).all()
        assert last.is_last
        assert last.error is None


def test_one_reader_goes_on_after_every_kind_of_fault() -> None:
    found = events(["segfault1", "a", "segfault2", "fault", "b"], num_readers=1)
    assert [found[name][-1].error is None for name in found] == [False, True, False, False, True]


def test_stopping_early_leaves_no_process() -> None:
    pool = ReaderPool(OPENING, 2, 60, scripted)
    stream = pool.read([(index, Input("a", Path("a"))) for index in range(500)])
    next(stream)
    stream.close()
    assert not any(reader.process.is_alive() for reader in pool._readers if not reader.connection.closed)


def test_a_slow_engine_is_not_taken_for_a_slow_reader() -> None:
    inputs = [(index, Input("a", Path("a"))) for index in range(200)]
    errors = []
    for number, event in enumerate(ReaderPool(OPENING, 2, 0.6, scripted).read(inputs)):
        if number == 20:
            time.sleep(2)
        errors.append(event.error)
    assert len(errors) == 600
    assert not any(errors)


def test_the_real_reader_reads_or_says_why(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((9, 7, 3), 200, np.uint8)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("text")
    inputs = [(0, Input("good", tmp_path / "good.png")), (1, Input("bad", tmp_path / "bad.png"))]
    found = list(ReaderPool(OPENING, 1, 60, work).read(inputs))
    assert [event.index for event in found] == [0, 0, 0, 1]
    assert found[0].header == Header("image", 7, 9)
    assert found[1].square is not None
    assert found[1].square.shape == (4, 4, 3)
    assert found[3].error == "is not an image: it starts like a text"
