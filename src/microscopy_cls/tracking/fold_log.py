"""One fold's run in MLflow: its curves, what its search chose, and a nested run for each trial of that."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from microscopy_cls.tracking.names import MAX_PARAM_VALUE, flatten, safe_keys, shorten
from microscopy_cls.tracking.store import Client

BATCH = 100  # MLflow takes 1000 metrics, but only 100 params or tags in one request
Post = Callable[[Callable[[Client], object]], None]


@dataclass
class Run:
    """A run as far as the store has told of it.

    Attributes:
        id: empty until the store has answered.
        logged: points (metric, step) that the store had before this process.
    """

    id: str = ""
    logged: set[tuple[str, int]] = field(default_factory=set)


class MlflowFoldLog:
    """Posts what is logged; nothing is waited for.

    Args:
        post: puts a delivery into the outbox.
        run: of the fold.
        experiment_id: told when a delivery is sent, for before that nobody may know it.
    """

    def __init__(self, post: Post, run: Run, experiment_id: Callable[[], str]) -> None:
        self._post, self._run, self._experiment_id = post, run, experiment_id

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to each curve, unless the store has it."""
        values, run, now = safe_keys({name: float(value) for name, value in metrics.items()}), self._run, now_ms()

        def send(client: Client) -> None:
            new = {name: value for name, value in values.items() if (name, step) not in run.logged}
            send_points(client, run.id, new, now, step)

        self._post(send)

    def params(self, values: Mapping[str, Any]) -> None:
        """Params of the fold's run; the same ones again change nothing."""
        texts, run = param_texts(values), self._run
        self._post(lambda client: send_params(client, run.id, texts))

    def trial(
        self, number: int, params: Mapping[str, Any], metrics: Mapping[str, float], tags: Mapping[str, str],
        seconds: float,
    ) -> None:  # fmt: skip
        """A finished trial as a run of its own; sent whole, so it has no state to go on from."""
        texts, values = param_texts(params), safe_keys(metrics)
        self._post(partial(self._send_trial, number, Run(), texts, values, dict(tags), now_ms(), seconds))

    def _send_trial(
        self, number: int, run: Run, params: Mapping[str, str], metrics: Mapping[str, float], tags: Mapping[str, str],
        end_ms: int, seconds: float, client: Client,
    ) -> None:  # fmt: skip
        if not run.id:  # sent once more after an outage, it is the same run
            known = {"mlflow.parentRunId": self._run.id, "trial": str(number)} | dict(tags) | user()
            start_ms = end_ms - round(1000 * seconds)
            created = client.create_run(
                self._experiment_id(), start_time=start_ms, tags=known, run_name=f"trial-{number}"
            )
            run.id = created.info.run_id
        send_params(client, run.id, params)
        send_points(client, run.id, metrics, end_ms, step=0)
        client.set_terminated(run.id, "FINISHED", end_time=end_ms)


def param_texts(params: Mapping[str, Any]) -> dict[str, str]:
    """Params, nested or not, as every store accepts them."""
    return safe_keys({key: shorten(value, MAX_PARAM_VALUE) for key, value in flatten(params).items()})


def send_params(client: Client, run_id: str, texts: Mapping[str, str]) -> None:
    """Log params; a value that stands there already must be the same."""
    from mlflow.entities import Param  # noqa: TID251

    for part in batches([Param(key, value) for key, value in texts.items()]):
        client.log_batch(run_id, params=part, synchronous=True)


def send_points(client: Client, run_id: str, values: Mapping[str, float], time_ms: int, step: int) -> None:
    """Log a point of each metric."""
    from mlflow.entities import Metric  # noqa: TID251

    for part in batches([Metric(name, value, time_ms, step) for name, value in values.items()]):
        client.log_batch(run_id, metrics=part, synchronous=True)


def batches(items: Sequence[Any]) -> list[Sequence[Any]]:
    """In parts that one request takes."""
    return [items[first : first + BATCH] for first in range(0, len(items), BATCH)]


def user() -> dict[str, str]:
    """The tag behind MLflow's column `Created by`; none where the system does not name the user."""
    with suppress(OSError, KeyError, ImportError):  # what getpass raises, by system and Python version
        return {"mlflow.user": getpass.getuser()}
    return {}


def now_ms() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)
