"""The way to MLflow: imported late, quiet, without telemetry, and never waited for longer than some seconds."""

from __future__ import annotations

import logging
import os
import re
import socket
import sqlite3
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from microscopy_cls.errors import MissingDependencyError
from microscopy_cls.tracking.names import shorten

Client: TypeAlias = Any  # mlflow.MlflowClient, which type checkers cannot see

TIMEOUT_S = "3"
UPLOAD_TIMEOUT_S = "300"  # one answer for a whole file of weights that the server may have to pass on
KNOCK_TIMEOUT_S = 2.0

# With MLflow's own settings one refused call takes minutes, and every start contacts the vendor.
_ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": TIMEOUT_S,
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # results alone go to stdout
}
_NOISY_LOGGERS = ("mlflow", "alembic", "urllib3.connectionpool")
_SQL_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}

# What MLflow and the libraries beneath it raise besides OSError, ValueError and ImportError (a missing driver). Most of
# them are never loaded; one that is not loaded raises nothing.
_ERRORS = (
    ("mlflow.exceptions", "MlflowException"),
    ("sqlalchemy.exc", "SQLAlchemyError"),
    ("alembic.util.exc", "CommandError"),
    ("google.protobuf.json_format", "Error"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("boto3.exceptions", "Boto3Error"),
    ("google.api_core.exceptions", "GoogleAPIError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"),
)
_REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST"}


class RefusedError(Exception):
    """The store answers, but does not take this one record."""


class Store:
    """One tracking store, connected to at first use.

    Attributes:
        shown: its address for people and files, without a password.
    """

    def __init__(self, uri: str) -> None:
        self.shown = without_password(uri)
        self._uri = _absolute(uri)
        self._password = _password(uri)
        self._client: Client = None

    @contextmanager
    def session(self) -> Iterator[Client]:
        """A client whose library keeps quiet.

        Raises:
            store_errors(): the store does not answer.
        """
        prepare_environment()
        from mlflow import MlflowClient  # noqa: TID251

        with quiet():  # after the import, which sets the levels of MLflow's loggers
            knock(self._uri)
            if self._client is None:
                self._client = MlflowClient(tracking_uri=self._uri)
            yield self._client

    @property
    def is_missing(self) -> bool:
        """Whether this is a local database that nobody has written yet; a session would create it."""
        path = _sqlite_path(self._uri)
        return path is not None and not path.exists()

    def download(self, location: str, folder: Path) -> None:
        """Bring artifacts from wherever they are into `folder`."""
        import mlflow.artifacts  # noqa: TID251

        with patience():
            mlflow.artifacts.download_artifacts(location, dst_path=str(folder), tracking_uri=self._uri)

    def reason(self, error: BaseException) -> str:
        """What an error says, in one line without passwords."""
        text = " ".join(str(error).split()) or type(error).__name__
        cause = re.search(r"\(Caused by (.+)\)$", text)  # the end of a long story of urllib3
        text = cause[1] if cause else text
        if self._password:
            text = text.replace(self._password, "***")
        return shorten(text.rstrip("."), 400)


def require_mlflow(purpose: str) -> None:
    """Say how to get it.

    Raises:
        MissingDependencyError: MLflow is not installed.
    """
    if find_spec("mlflow") is None:
        raise MissingDependencyError("mlflow", extra="mlops", purpose=purpose)


def prepare_environment() -> None:
    """Settings that MLflow reads from the environment, where the user has set none."""
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)


def store_errors() -> tuple[type[BaseException], ...]:
    """What a store that is away, broken or of another version raises, of the libraries loaded by now."""
    loaded = (getattr(sys.modules.get(module), name, None) for module, name in _ERRORS)
    return (RefusedError, OSError, ValueError, ImportError, sqlite3.Error, *(kind for kind in loaded if kind))


def is_refusal(error: BaseException) -> bool:
    """Whether the store is well, but this request is not: asking again would not help."""
    return isinstance(error, RefusedError) or getattr(error, "error_code", None) in _REFUSALS


def knock(uri: str) -> None:
    """Fail at once where MLflow would not: it opens a database ten times (100 s) and waits 20 s for a lock.

    Raises:
        OSError, sqlite3.Error: the database cannot be reached or written.
    """
    path = _sqlite_path(uri)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=KNOCK_TIMEOUT_S, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        return
    address = urlsplit(uri)
    port = _SQL_PORTS.get(address.scheme.partition("+")[0])
    if port and address.hostname:
        socket.create_connection((address.hostname, address.port or port), timeout=float(TIMEOUT_S)).close()


@contextmanager
def patience() -> Iterator[None]:
    """Time enough for whole files, where the user has set no time of their own."""
    key = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    before = os.environ.get(key)
    if before == TIMEOUT_S:
        os.environ[key] = UPLOAD_TIMEOUT_S
    try:
        yield
    finally:
        if before == TIMEOUT_S:
            os.environ[key] = TIMEOUT_S


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' own reports: migrations, retries and tracebacks of what is told in one sentence here."""
    levels = {logger: logger.level for logger in map(logging.getLogger, _NOISY_LOGGERS)}
    try:
        for logger in levels:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            # MLflow imports warn of MLflow's own type hints and of its use of SQLAlchemy; nobody here can change that.
            # FutureWarning stays: with it MLflow tells its callers what they must change.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def without_password(uri: str) -> str:
    """The address with `***` in place of a password."""
    password = _password(uri)
    return uri.replace(f":{password}@", ":***@") if password else uri


def _password(uri: str) -> str | None:
    try:
        return urlsplit(uri).password
    except ValueError:  # no address at all, as the first session will tell
        return None


def _sqlite_path(uri: str) -> Path | None:
    address, _, _ = uri.partition("?")
    scheme, found, path = address.partition(":///")
    is_file = found and scheme.partition("+")[0] == "sqlite" and path not in {"", ":memory:"}
    return Path(path) if is_file else None


def _absolute(uri: str) -> str:
    """A relative database file bound to the present directory: MLflow keeps engines by address for a whole process."""
    path = _sqlite_path(uri)
    if path is None:
        return uri
    scheme = uri.partition(":")[0]
    _, mark, options = uri.partition("?")
    return f"{scheme}:///{path.absolute().as_posix()}{mark}{options}"
