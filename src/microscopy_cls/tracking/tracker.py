"""What a stage may ask of tracking, and the tracker that does nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

Status = Literal["FINISHED", "FAILED", "KILLED"]


class FoldLog(Protocol):
    """The curves of one fold, and the trials of its search."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Params of the fold's run, as its search chose them."""

    def trial(
        self,
        number: int,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        seconds: float,
    ) -> None:
        """A finished trial, as a run nested within the fold's; it ended now, after so many seconds."""  # fmt: skip

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to each curve. A point that is there already stays as it is."""


class Tracker(ABC):
    """One cross-validation: a parent run and a nested run a fold.

    No method raises because of the store: tracking never ends a training. Used as a context manager, it gives the
    parent the state in which the block was left.
    """

    @abstractmethod
    def start(self, params: Mapping[str, Any], tags: Mapping[str, str], *, fresh: bool) -> None:
        """Begin (or, unless `fresh`, continue) the parent run; `params` may be nested and are logged once."""

    @abstractmethod
    def resume(self) -> None:
        """Add to the parent run of an earlier stage; a new one when the store does not know it."""

    @abstractmethod
    def fold(self, k: int | str) -> AbstractContextManager[FoldLog]:
        """The nested run of fold `k`, or of a training of another name, ended in the state in which it is left."""

    @abstractmethod
    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Metrics of the parent run, in place of earlier ones of the same name."""

    @abstractmethod
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags of the parent run."""

    @abstractmethod
    def log_artifact(self, path: Path, folder: str = "") -> None:
        """A copy of one file, in `folder` of the parent run."""

    @abstractmethod
    def log_artifacts(self, directory: Path, folder: str) -> None:
        """A copy of a directory's content, in `folder` of the parent run."""

    @abstractmethod
    def register(self, bundle_dir: Path, name: str) -> str | None:
        """Make the bundle the candidate of the registered model `name`; its version, or None without a store."""

    @abstractmethod
    def finish(self, status: Status) -> None:
        """End the parent run. Later calls do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(status_of(kind))


class NullTracker(Tracker):
    """Logs nothing."""

    def start(self, params: Mapping[str, Any], tags: Mapping[str, str], *, fresh: bool) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""

    def fold(self, k: int | str) -> AbstractContextManager[FoldLog]:  # noqa: ARG002
        """A log that does nothing."""
        return nullcontext(_NullFoldLog())

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Do nothing."""

    def log_artifacts(self, directory: Path, folder: str) -> None:
        """Do nothing."""

    def register(self, bundle_dir: Path, name: str) -> str | None:  # noqa: ARG002
        """No registry, no version."""
        return None

    def finish(self, status: Status) -> None:
        """Do nothing."""


class _NullFoldLog:
    def params(self, values: Mapping[str, Any]) -> None:
        """Do nothing."""

    def trial(
        self,
        number: int,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        seconds: float,
    ) -> None:
        """Do nothing."""  # fmt: skip

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Do nothing."""


def status_of(kind: type[BaseException] | None) -> Status:
    """The run state that stands for leaving a block by an exception of this kind, or by none."""
    if kind is None:
        return "FINISHED"
    return "FAILED" if issubclass(kind, Exception) else "KILLED"
