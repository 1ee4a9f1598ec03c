"""One cross-validation in MLflow: a parent run, a nested run a fold."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from microscopy_cls.tracking.fold_log import (
    MlflowFoldLog,
    Run,
    batches,
    now_ms,
    param_texts,
    send_params,
    send_points,
    user,
)
from microscopy_cls.tracking.names import MAX_TAG_VALUE, safe_keys, shorten
from microscopy_cls.tracking.outbox import Delivery, Outbox
from microscopy_cls.tracking.record import RunRecord, forget_record, load_record
from microscopy_cls.tracking.registry import register_bundle
from microscopy_cls.tracking.store import Client, RefusedError, Store, is_refusal, patience, store_errors
from microscopy_cls.tracking.tracker import FoldLog, Status, Tracker, status_of

log = logging.getLogger(__name__)


class MlflowTracker(Tracker):
    """Uses run ids throughout, never MLflow's notion of an active run."""

    def __init__(self, store: Store, experiment: str, run_dir: Path) -> None:
        self._outbox = Outbox(store)
        self._experiment = experiment
        self._run_dir = run_dir
        self._record = RunRecord(store.shown, experiment)
        self._experiment_id = ""
        self._is_new = False
        self._is_open = False
        self._takes_files = True

    def start(self, params: Mapping[str, Any], tags: Mapping[str, str], *, fresh: bool) -> None:
        """Begin or continue the parent run; the params of a continued run stay as they are."""
        if fresh:
            forget_record(self._run_dir)
        self._open(partial(self._begin, start_ms=now_ms(), running=True))
        self._post("params", partial(self._send_params, param_texts(params)))
        self.set_tags(_with_source(tags))

    def resume(self) -> None:
        """Add to the recorded parent run, or to a new one; a known run keeps its state and its duration."""
        self._open(partial(self._begin, start_ms=now_ms(), running=False))

    @contextmanager
    def fold(self, k: int | str) -> Iterator[FoldLog]:
        """The run `fold-k`, or of that name, within the parent; the same one continues its recorded run."""
        run = Run()
        status: Status = "FINISHED"
        self._post(f"the run of {_told(k)}", partial(self._begin_fold, k, run, now_ms()), needed=True)
        try:
            yield MlflowFoldLog(partial(self._post, f"metrics of {_told(k)}"), run, lambda: self._experiment_id)
        except BaseException as error:
            status = status_of(type(error))
            raise
        finally:
            end = now_ms()
            self._post(f"the end of {_told(k)}", lambda client: client.set_terminated(run.id, status, end_time=end))

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Metrics of the parent run; a value that the store has already is not sent again."""
        values = safe_keys({name: float(value) for name, value in metrics.items()})
        self._post("metrics", partial(self._send_metrics, values, now_ms()))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags of the parent run, long values cut."""
        texts = safe_keys({name: shorten(str(value), MAX_TAG_VALUE) for name, value in tags.items()})
        self._post("tags", partial(self._send_tags, texts))

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """A copy of one file."""
        source = str(path.absolute())
        self._post_files(path, lambda client: client.log_artifact(self._record.parent, source, folder or None))

    def log_artifacts(self, directory: Path, folder: str) -> None:
        """A copy of a directory's content."""
        source = str(directory.absolute())
        self._post_files(directory, lambda client: client.log_artifacts(self._record.parent, source, folder or None))

    def register(self, bundle_dir: Path, name: str) -> str | None:
        """The version that holds this bundle, new or not, now the candidate; None, with a warning, if it failed."""
        self._run_dir.mkdir(parents=True, exist_ok=True)
        return self._outbox.ask(
            f"Registering {bundle_dir}",
            lambda client: register_bundle(client, self._record.parent, bundle_dir, name, scratch=self._run_dir),
        )

    def finish(self, status: Status) -> None:
        """End the parent run with `status`, unless it stands there already, and send what still waits."""
        if self._is_open:
            self._is_open = False
            self._post("the end of the run", partial(self._end, status, now_ms()))
            self._outbox.close()

    def _open(self, begin: Callable[[Client], None]) -> None:
        self._record = load_record(self._run_dir, self._record.uri, self._experiment)
        self._is_open = True
        self._post("the run", begin, needed=True)

    def _post(self, what: str, send: Callable[[Client], object], *, needed: bool = False) -> None:
        self._outbox.post(Delivery(what, send, needed))

    def _post_files(self, path: Path, upload: Callable[[Client], object]) -> None:
        if path.exists():
            self._post(str(path), partial(self._send_files, upload))
        else:
            log.warning("%s: is not there, so MLflow gets no copy of it.", path)

    def _begin(self, client: Client, *, start_ms: int, running: bool) -> None:
        known = _known_run(client, self._record.parent)
        if known is None:
            self._create(client, start_ms)
        else:
            self._experiment_id = known.info.experiment_id
            if running:
                client.update_run(self._record.parent, status="RUNNING")

    def _create(self, client: Client, start_ms: int) -> None:
        self._experiment_id = _experiment_id(client, self._experiment)
        name = time.strftime("cv-%Y%m%d-%H%M%S", time.localtime(start_ms / 1000))
        run = client.create_run(self._experiment_id, start_time=start_ms, tags=user(), run_name=name)
        self._record.parent, self._record.folds, self._is_new = run.info.run_id, {}, True
        self._record.save(self._run_dir)

    def _begin_fold(self, k: int | str, run: Run, start_ms: int, client: Client) -> None:
        known = _known_run(client, self._record.folds.get(str(k), ""))
        if known is not None:
            run.id, run.logged = known.info.run_id, _points(client, known)
            client.update_run(run.id, status="RUNNING")
            return
        tags = {"mlflow.parentRunId": self._record.parent, "fold": str(k)} | user()
        name = f"fold-{k}" if isinstance(k, int) else k
        created = client.create_run(self._experiment_id, start_time=start_ms, tags=tags, run_name=name)
        run.id = self._record.folds[str(k)] = created.info.run_id
        self._record.save(self._run_dir)

    def _send_params(self, texts: Mapping[str, str], client: Client) -> None:
        if self._is_new:
            send_params(client, self._record.parent, texts)

    def _send_metrics(self, values: Mapping[str, float], time_ms: int, client: Client) -> None:
        present = client.get_run(self._record.parent).data.metrics
        changed = {name: value for name, value in values.items() if present.get(name) != value}
        send_points(client, self._record.parent, changed, time_ms, step=0)

    def _send_tags(self, texts: Mapping[str, str], client: Client) -> None:
        from mlflow.entities import RunTag  # noqa: TID251

        for part in batches([RunTag(key, value) for key, value in texts.items()]):
            client.log_batch(self._record.parent, tags=part, synchronous=True)

    def _send_files(self, upload: Callable[[Client], object], client: Client) -> None:
        """Files may go to another store than metrics: one that fails must not hold up the rest, nor be asked twice."""
        client.get_run(self._record.parent)  # when MLflow is away, that shows within seconds
        if not self._takes_files:
            raise RefusedError("as the files before")
        try:
            with patience():
                upload(client)
        except store_errors() as error:
            self._takes_files = False
            raise RefusedError(str(error)) from error

    def _end(self, status: Status, end_ms: int, client: Client) -> None:
        if client.get_run(self._record.parent).info.status != status:
            client.set_terminated(self._record.parent, status, end_time=end_ms)


def _known_run(client: Client, run_id: str) -> Any:
    """The run, or None when the store has none of this id or it was deleted."""
    if not run_id:
        return None
    try:
        run = client.get_run(run_id)
    except store_errors() as error:
        if is_refusal(error):
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _points(client: Client, run: Any) -> set[tuple[str, int]]:
    histories = (client.get_metric_history(run.info.run_id, name) for name in run.data.metrics)
    return {(point.key, point.step) for history in histories for point in history}


def _experiment_id(client: Client, name: str) -> str:
    """The experiment's id; it is made if there is none, and brought back if it was deleted (its name stays taken)."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _with_source(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags, and those that MLflow's own columns `Source` and `Version` show."""
    source = {"mlflow.source.name": "microscopy-cls", "mlflow.source.type": "LOCAL"}
    commit = {"mlflow.source.git.commit": tags["git_commit"]} if "git_commit" in tags else {}
    return {**source, **commit, **tags}


def _told(k: int | str) -> str:
    return f"fold {k}" if isinstance(k, int) else k
