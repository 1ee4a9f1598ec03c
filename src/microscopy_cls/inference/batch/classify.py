"""Classify a list of inputs into a folder, going on where an earlier command stopped."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from microscopy_cls.errors import DataError
from microscopy_cls.inference.batch.frames import Header, Kind, Opening
from microscopy_cls.inference.batch.inputs import Input
from microscopy_cls.inference.batch.journal import Journal, unwritable
from microscopy_cls.inference.batch.page import write_page
from microscopy_cls.inference.batch.readers import ReaderPool
from microscopy_cls.inference.batch.results import FOLDERS, folder_of, num_referred, write_results
from microscopy_cls.inference.batch.scoring import Score, score
from microscopy_cls.inference.batch.thumbnails import choose_thumbnails, make_thumbnails
from microscopy_cls.inference.batch.watch import Watch
from microscopy_cls.inference.predictor import Predictor
from microscopy_cls.inference.rows import rounded, table
from microscopy_cls.inference.slides.aggregate import aggregate
from microscopy_cls.inference.slides.outputs import SlideResult, write_slide_outputs
from microscopy_cls.system.files import write_parquet
from microscopy_cls.system.hardware import num_cores

MAX_READERS = 8
DECIDING = {
    "name", "classes", "preprocessing", "calibration", "conformal", "novelty", "slide_rule", "field_um", "field_px",
}  # fmt: skip
INPUTS_A_READER = 8  # a reader takes half a second to start

Floats = NDArray[np.float64]
Joiner = Callable[[Input, Header, Floats, Floats], Floats]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What to classify and how.

    Attributes:
        inputs: in the order of the rows.
        out: the folder of the results.
        um_per_px: microns per pixel of all slides, whatever they say.
        time_limit_s: how long an input may take without giving anything.
        overwrite: begin anew where the folder holds earlier results.
        arguments: of the command, for the record.
    """

    inputs: Sequence[Input]
    out: Path
    um_per_px: float | None = None
    time_limit_s: float = 300.0
    overwrite: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """What came of it: the rows, how long it took, and the score where inputs have labels."""

    rows: pd.DataFrame
    num_before: int
    seconds: float
    score: Score | None = None

    @property
    def num_failed(self) -> int:
        """Inputs without an answer."""
        return int((self.rows["status"] == "failed").sum())

    @property
    def num_referred(self) -> int | None:
        """Inputs that a person should look at; None where the model does not say."""
        return num_referred(self.rows)

    def lines(self) -> list[str]:
        """Counts a class, failures by reason, how many are referred, the rate, and the score, to be printed."""
        rows = self.rows
        counts = rows.loc[rows["status"] == "ok", "predicted"].value_counts()
        reasons = rows.loc[rows["status"] == "failed", "error"].value_counts()
        num_now = len(rows) - self.num_before
        lines = [f"{count:>8}  {name}" for name, count in counts.items()]
        lines += [f"{count:>8}  failed: {reason}" for reason, count in reasons.items()]
        referred = "" if self.num_referred is None else f", {self.num_referred} referred to a person"
        lines.append(f"{len(rows)} inputs, {self.num_failed} failed{referred}; {num_now} now in {self.seconds:.1f} s")
        return lines + (self.score.lines() if self.score else [])


@dataclass
class _Pending:
    """An input whose squares are under way."""

    header: Header | None = None
    num_read: int = 0
    probs: list[Floats] = field(default_factory=list)
    novelty: list[float] = field(default_factory=list)
    error: str | None = None
    is_read: bool = False


def classify(request: Request, predictor: Predictor) -> Summary:
    """Classify every input; write `predictions.csv`, `predictions.parquet`, `run.json`, `index.html`, a folder a slide.

    Raises:
        DataError: another process works in the folder, or it cannot be written.
    """
    started = time.monotonic()
    try:
        request.out.mkdir(parents=True, exist_ok=True)
        with FileLock(request.out / ".lock").acquire(timeout=0):
            keys = [item.key() for item in request.inputs]
            with Journal(request.out, _settings(request, predictor), overwrite=request.overwrite) as journal:
                num_before = sum(key in journal.records for key in keys)
                if num_before:
                    log.info("%s: %d of %d inputs are done already", request.out, num_before, len(keys))
                _Run(request, predictor, journal, keys).run()
                records = [journal.records[key] for key in keys]
            rows = table(records, [item.carried for item in request.inputs], predictor.classes)
            found = score(rows, predictor.classes)
            run = write_results(
                request.out, request.arguments, predictor, rows, found, num_before, time.monotonic() - started
            )
            _write_page(request, predictor, rows, records, found, run)
    except Timeout:
        raise DataError(
            f"{request.out}: another classification works there. Wait for it, or name another folder."
        ) from None
    except OSError as error:
        raise unwritable(request.out, error) from None
    return Summary(rows, num_before, run["seconds"], found)


class _Run:
    """One pass over the inputs that are not done."""

    def __init__(self, request: Request, predictor: Predictor, journal: Journal, keys: Sequence[str]) -> None:
        self._request, self._predictor, self._journal, self._keys = request, predictor, journal, keys
        self._rule = predictor.models[0].info.slide_rule
        self._pending: dict[int, _Pending] = {}
        self._under_way: deque[list[int]] = deque()  # the inputs of each batch that the engine has
        first = {key: index for index, key in reversed(list(enumerate(keys)))}  # an input given twice is read once
        self._todo = [(index, request.inputs[index]) for key, index in first.items() if key not in journal.records]
        self._todo.sort(key=lambda pair: pair[0])
        self._watch = Watch(len(self._todo))

    def run(self) -> None:
        """Read, answer, record."""
        if not self._todo:
            return
        info = self._predictor.models[0].info
        opening = Opening(
            self._predictor.reading, info.field_um, info.field_px or info.preprocessing.size_px, self._request.um_per_px
        )
        num_readers = min(num_cores(), MAX_READERS, 1 + len(self._todo) // INPUTS_A_READER)
        pool = ReaderPool(opening, num_readers, self._request.time_limit_s)
        with self._watch, closing(self._predictor.run(self._batches(pool))) as answered:
            for answers in answered:
                for index, *found in zip(self._under_way.popleft(), answers.probs, answers.novelty, strict=True):
                    self._pending[index].probs.append(found[0])
                    self._pending[index].novelty.append(found[1])
                    self._finish(index)

    def _batches(self, pool: ReaderPool) -> Iterator[NDArray[np.uint8]]:
        """Squares of whatever input comes, as full batches but for the last."""
        indices: list[int] = []
        squares: list[NDArray[np.uint8]] = []
        for event in pool.read(self._todo):
            pending = self._pending.setdefault(event.index, _Pending())
            if event.header is not None:
                pending.header = event.header
            elif event.square is not None:
                pending.num_read += 1
                indices.append(event.index)
                squares.append(event.square)
            else:
                pending.error, pending.is_read = event.error, True
                self._finish(event.index)
            if len(squares) == self._predictor.batch_size:
                self._under_way.append(indices)
                yield np.stack(squares)
                indices, squares = [], []
        if squares:
            self._under_way.append(indices)
            yield np.stack(squares)

    def _finish(self, index: int) -> None:
        """Record an input once all its squares are read and answered."""
        pending = self._pending[index]
        if not pending.is_read or len(pending.probs) < pending.num_read:
            return  # also after a fault: squares that were read before it are still under way
        del self._pending[index]
        record = self._record(self._request.inputs[index], pending)
        self._journal.add(self._keys[index], record)
        self._watch.count(failed=record["status"] == "failed")

    def _record(self, item: Input, pending: _Pending) -> dict[str, Any]:
        header = pending.header
        if pending.error is not None or header is None:
            return {"path": item.path, "status": "failed", "error": pending.error or "gave no pixels"}
        size = {"width_px": header.width_px, "height_px": header.height_px}
        probs, novelty = np.stack(pending.probs), np.array(pending.novelty)
        joiners: dict[Kind, Joiner] = {"image": _only, "stack": self._stack, "slide": self._slide}
        joined = joiners[header.kind](item, header, probs, novelty)
        return {
            "path": item.path,
            "status": "ok",
            "error": "",
            "kind": header.kind,
            **rounded(self._predictor.judge.answer(joined, float(np.median(novelty)))),
            **size,
        }

    def _stack(self, item: Input, _: Header, probs: Floats, novelty: Floats) -> Floats:
        """The stack's own answer; its frames' answers are written."""
        judged = (self._predictor.judge.answer(*one) for one in zip(probs, novelty, strict=True))
        frames = pd.DataFrame([{"frame": number, **rounded(one)} for number, one in enumerate(judged)])
        write_parquet(folder_of(self._request.out, "stack", item.path) / "frames.parquet", frames)
        return aggregate(probs, np.ones(len(probs)), self._rule)

    def _slide(self, item: Input, header: Header, probs: Floats, novelty: Floats) -> Floats:
        """The slide's own answer; its files are written."""
        weights: Floats = header.details["grid"]["tissue"].to_numpy()
        joined = aggregate(probs, weights, self._rule)
        result = SlideResult(
            path=item.path, width_px=header.width_px, height_px=header.height_px, probs=probs, novelty=novelty,
            classes=self._predictor.classes, rule=self._rule, answer=joined, **header.details,
        )  # fmt: skip
        write_slide_outputs(folder_of(self._request.out, "slide", item.path), result)
        return joined


def _only(_: Input, __: Header, probs: Floats, ___: Floats) -> Floats:
    """An image's answer is that of its one square."""
    one: Floats = probs[0]
    return one


def _settings(request: Request, predictor: Predictor) -> dict[str, Any]:
    """What the answers depend on, but for the inputs."""
    return {
        "models": [[member.sha256 for member in model.members] for model in predictor.models],
        "bundles": [model.info.model_dump(mode="json", include=DECIDING) for model in predictor.models],
        "engine": predictor.models[0].engine.name,
        "precision": predictor.models[0].engine.precision,
        "views": [len(model.views) for model in predictor.models],
        "um_per_px": request.um_per_px,
    }


def _write_page(
    request: Request,
    predictor: Predictor,
    rows: pd.DataFrame,
    records: Sequence[dict[str, Any]],
    found: Score | None,
    run: dict[str, Any],
) -> None:
    """Write `index.html`, with pictures of some of the images."""
    out, inputs = request.out, request.inputs
    folders = {
        number: folder_of(out, record["kind"], record["path"])
        for number, record in enumerate(records)
        if record.get("kind") in FOLDERS
    }
    chosen = choose_thumbnails(rows.drop(index=list(folders)))
    pictures = make_thumbnails({number: inputs[number].file for number in chosen}, predictor.reading)
    write_page(out, rows, predictor.classes, run, pictures, inputs=inputs, folders=folders, score=found)
