"""Laws of batches that several requests answer side by side, on a graph of three operations."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import openvino  # noqa: TID251  graphs are made here
import pytest
from numpy.typing import NDArray
from openvino import opset13 as ops  # noqa: TID251

from microscopy_cls.model.pipeline import Pipeline

BATCH_SIZE = 4
SIZE_PX = 2


def graph_of_sums() -> Any:
    """Of each square: the sum of its pixels in float32, and its first pixel in int64."""
    pixels = ops.parameter([-1, SIZE_PX, SIZE_PX, 3], np.uint8, name="pixels")
    flat = ops.reshape(pixels, np.array([0, -1]), special_zero=True)
    sums = ops.reduce_sum(ops.convert(flat, "f32"), np.array([1]), keep_dims=True)
    first = ops.convert(ops.gather(flat, np.array([0]), np.array(1)), "i64")
    return openvino.Model([sums, first], [pixels], "sums")


@pytest.fixture(scope="module")
def graph() -> Any:
    return graph_of_sums()


@pytest.fixture
def pipeline(graph: Any) -> Pipeline:
    return Pipeline(graph, "fp32", BATCH_SIZE)


def batches(*sizes: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (size, SIZE_PX, SIZE_PX, 3), np.uint8) for size in sizes]


def check(answers: list[Any], asked: list[NDArray[np.uint8]]) -> None:
    """Each batch was answered by its own sums and first pixels, in its turn."""
    assert len(answers) == len(asked)
    for (sums, first), pixels in zip(answers, asked, strict=True):
        np.testing.assert_array_equal(sums[:, 0], pixels.sum((1, 2, 3)))
        np.testing.assert_array_equal(first[:, 0], pixels[:, 0, 0, 0])


def num_ahead(pipeline: Pipeline) -> int:
    """Batches that it takes before it gives an answer."""
    return len(pipeline._idle)


def test_answers_come_in_the_order_of_the_batches_and_are_not_written_over(pipeline: Pipeline) -> None:
    asked = batches(*[BATCH_SIZE] * (3 * num_ahead(pipeline) + 2))
    check(list(pipeline.run(asked)), asked)


def test_smaller_batches_have_an_answer_an_image(pipeline: Pipeline) -> None:
    asked = batches(BATCH_SIZE, 0, 3, 1)
    check(list(pipeline.run(asked)), asked)


def test_outputs_keep_their_types(pipeline: Pipeline) -> None:
    (answer,) = pipeline.run(batches(2))
    assert [output.dtype for output in answer] == [np.float32, np.int64]


def test_no_batch_has_no_answer(pipeline: Pipeline) -> None:
    assert list(pipeline.run([])) == []


def test_the_callers_graph_keeps_its_shape(graph: Any) -> None:
    Pipeline(graph, "fp32", BATCH_SIZE)
    assert graph.input(0).partial_shape[0].is_dynamic


@pytest.mark.parametrize("num_taken", [0, 1, 3])
def test_after_stopping_early_nothing_runs_and_all_is_free_for_the_next_pass(
    pipeline: Pipeline, num_taken: int
) -> None:
    num, asked = num_ahead(pipeline), batches(*[BATCH_SIZE] * 20)
    found = pipeline.run(asked)
    for _ in range(num_taken):
        next(found)
    found.close()
    assert num_ahead(pipeline) == num
    assert num_taken == 0 or all(request.wait_for(0) for request in pipeline._idle)
    check(list(pipeline.run(asked)), asked)


@pytest.mark.parametrize("fault", [OSError("the disk is gone"), KeyboardInterrupt(), "a batch that is too large"])
def test_after_a_fault_among_the_batches_all_is_free_for_the_next_pass(
    pipeline: Pipeline, fault: BaseException | str
) -> None:
    num, asked = num_ahead(pipeline), batches(*[BATCH_SIZE] * 5)

    def failing() -> Iterator[NDArray[np.uint8]]:
        yield asked[0]
        if isinstance(fault, BaseException):
            raise fault
        yield from batches(BATCH_SIZE + 1)

    with pytest.raises(ValueError if isinstance(fault, str) else type(fault)):
        list(pipeline.run(failing()))
    assert num_ahead(pipeline) == num
    check(list(pipeline.run(asked)), asked)


SIGNALLED = """
import os, signal, sys, threading
import numpy as np
from tests.model.test_pipeline import graph_of_sums
from microscopy_cls.model.pipeline import Pipeline

pipelines = [Pipeline(graph_of_sums(), "fp32", 4)]
list(pipelines[0].run([np.zeros((4, 2, 2, 3), np.uint8)]))
dropper = threading.Thread(target=pipelines.clear)
dropper.start()
dropper.join()
signal.signal(signal.SIGCHLD, lambda *_: print("told"))
os.kill(os.getpid(), signal.SIGCHLD)
print("alive")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="signals of child processes as Linux has them")
def test_a_signal_does_no_harm_after_another_thread_dropped_the_last_graph() -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, ["told", "alive"]), done.stderr
