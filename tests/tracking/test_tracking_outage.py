"""A store that is away, slow or broken never ends, and hardly slows, a training."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from microscopy_cls.errors import MissingDependencyError, TrackingError
from microscopy_cls.tracking import NullTracker, bundle_dir_of, open_tracker, outbox, promote, store
from microscopy_cls.tracking.store import Store, without_password


@pytest.fixture(autouse=True)
def _needs_mlflow(request):
    if "without_mlflow" not in request.node.name:
        pytest.importorskip("mlflow")


@pytest.fixture
def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def train(tracker, num_epochs=3):
    """What `train` asks of a tracker."""
    with tracker:
        tracker.start({"epochs": num_epochs}, {"git_commit": "abc"}, fresh=True)
        for k in range(2):
            with tracker.fold(k) as fold:
                for epoch in range(num_epochs):
                    fold.log({"loss": 1.0}, epoch)


def warnings_in(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


class Server(ThreadingHTTPServer):
    """As much of an MLflow server as a training needs.

    Attributes:
        mood: `well`, `failing` (answers 503) or `proxy` (answers with a page, as a login does).
        calls: (method, endpoint, body) of each request answered.
    """

    daemon_threads = True

    def __init__(self):
        self.mood = "well"
        self.calls = []
        self.num_requests = 0
        super().__init__(("127.0.0.1", 0), _Handler)
        self.uri = f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, endpoint, body):
        if endpoint == "experiments/get-by-name":
            return {"experiment": {"experiment_id": "1", "name": "demo", "lifecycle_stage": "active"}}
        if endpoint in {"runs/create", "runs/get"}:
            info = {"run_id": f"run{len(self.calls)}", "experiment_id": "1", "lifecycle_stage": "active"}
            return {"run": {"info": info | {"status": "RUNNING", "start_time": 1}, "data": {}}}
        if endpoint == "runs/update":
            return {"run_info": {"run_id": body["run_id"], "status": body["status"], "lifecycle_stage": "active"}}
        return {}

    def points(self):
        batches = [body for _, endpoint, body in self.calls if endpoint == "runs/log-batch" and body.get("metrics")]
        return [(point["key"], int(point.get("step", 0))) for batch in batches for point in batch["metrics"]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer

    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.num_requests += 1
        endpoint = urlsplit(self.path).path.removeprefix("/api/2.0/mlflow/")
        if self.server.mood == "failing":
            return self.reply(503, b"down for maintenance")
        if self.server.mood == "proxy":
            return self.reply(200, b"<html>Log in</html>")
        body = json.loads(text or "{}")
        self.server.calls.append((self.command, endpoint, body))
        return self.reply(200, json.dumps(self.server.answer(endpoint, body)).encode())

    def reply(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_refused_port_is_told_once_and_costs_nothing_more(closed_port, tmp_path, caplog, capfd):
    uri = f"http://127.0.0.1:{closed_port}"
    tracker = open_tracker(enabled=True, uri=uri, experiment="demo", run_dir=tmp_path)
    with tracker:
        tracker.start({}, {}, fresh=True)
        begun = time.monotonic()
        with tracker.fold(0) as fold:
            for epoch in range(2000):
                fold.log({"loss": 1.0}, epoch)
        assert time.monotonic() - begun < 3
        assert tracker.register(tmp_path, "demo") is None
    told = warnings_in(caplog)
    assert told[0].startswith(f"MLflow at {uri} cannot be used: ")
    assert "Connection refused" in told[0]
    assert "Work goes on without it" in told[0]
    assert "correct tracking.uri" in told[0]
    assert "tracking.mlflow: false" in told[0]
    assert told[1:] == [
        f"Registering {tmp_path} was left out: MLflow at {uri} does not answer. Do it again later.",
        f"MLflow at {uri} never took 2006 records of this run (metrics, tags, files): they are lost there. "
        "All results stand on disk.",
    ]
    assert capfd.readouterr() == ("", ""), "MLflow and urllib3 keep quiet"
    assert not (tmp_path / "mlflow.json").exists()


def test_a_healthy_server_gets_everything_in_order(server, tmp_path, caplog):
    train(open_tracker(enabled=True, uri=server.uri, experiment="demo", run_dir=tmp_path))
    assert server.points() == [("loss", epoch) for _ in range(2) for epoch in range(3)]
    ends = [body["status"] for _, endpoint, body in server.calls if endpoint == "runs/update"]
    assert ends == ["FINISHED"] * 3
    assert not caplog.records


def test_a_server_that_fails_in_mid_run_gets_what_it_missed_when_it_is_back(server, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "microscopy_cls")
    monkeypatch.setattr(outbox, "RECENT_S", 0.0)
    tracker = open_tracker(enabled=True, uri=server.uri, experiment="demo", run_dir=tmp_path)
    with tracker:
        tracker.start({}, {}, fresh=True)
        with tracker.fold(0) as fold:
            fold.log({"loss": 3.0}, 0)
            server.mood = "failing"
            fold.log({"loss": 2.0}, 1)
            num_requests = server.num_requests
            for epoch in range(2, 100):
                fold.log({"loss": 1.0}, epoch)
            assert server.num_requests == num_requests, "a paused tracker asks nothing"
            server.mood = "well"
            monkeypatch.setattr(outbox, "monotonic", lambda: time.monotonic() + 60)
            fold.log({"loss": 0.5}, 100)
            assert server.points() == [("loss", epoch) for epoch in range(101)]
    assert len(warnings_in(caplog)) == 1
    assert "503" in warnings_in(caplog)[0]
    assert caplog.messages[-1] == f"MLflow at {server.uri} answers again and has received what was kept for it."
    assert [body["status"] for _, endpoint, body in server.calls if endpoint == "runs/update"] == ["FINISHED"] * 2


def test_a_server_that_comes_and_goes_is_warned_of_once(server, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(outbox, "RECENT_S", 0.0)
    monkeypatch.setattr(outbox, "PAUSE_S", 0.0)
    monkeypatch.setattr(outbox, "PAUSE_RATIO", 0)
    tracker = open_tracker(enabled=True, uri=server.uri, experiment="demo", run_dir=tmp_path)
    with tracker:
        tracker.start({}, {}, fresh=True)
        with tracker.fold(0) as fold:
            for epoch in range(6):
                server.mood = ("failing", "well")[epoch % 2]
                fold.log({"loss": 1.0}, epoch)
    assert server.points() == [("loss", epoch) for epoch in range(6)]
    assert len(warnings_in(caplog)) == 1


def test_what_is_kept_is_bounded_but_for_the_runs_themselves(server, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(outbox, "MAX_WAITING", 10)
    monkeypatch.setattr(outbox, "RECENT_S", 0.0)
    server.mood = "failing"
    tracker = open_tracker(enabled=True, uri=server.uri, experiment="demo", run_dir=tmp_path)
    with tracker:
        tracker.start({}, {}, fresh=True)
        for k in range(2):
            with tracker.fold(k) as fold:
                for epoch in range(50):
                    fold.log({"loss": 1.0}, epoch)
        server.mood = "well"
    assert len([endpoint for _, endpoint, _ in server.calls if endpoint == "runs/create"]) == 3
    assert 0 < len(server.points()) < 10
    assert "are lost there" in warnings_in(caplog)[-1]


def test_a_page_in_place_of_mlflow_is_an_outage_too(server, tmp_path, caplog):
    server.mood = "proxy"
    train(open_tracker(enabled=True, uri=server.uri, experiment="demo", run_dir=tmp_path))
    assert "not in a valid JSON format" in warnings_in(caplog)[0]


def test_the_pause_after_a_slow_failure_is_long_enough_to_be_cheap(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(outbox, "monotonic", lambda: clock[0])
    attempts = []

    class Slow:
        shown = "somewhere"

        def session(self):
            attempts.append(clock[0])
            clock[0] += 6
            raise OSError("timed out")

        def reason(self, error):
            return str(error)

    waiting = outbox.Outbox(Slow())
    for _ in range(1000):
        waiting.post(outbox.Delivery("metrics", lambda client: None))
        clock[0] += 1
    assert len(attempts) <= 1000 / (outbox.PAUSE_RATIO * 6) + 1


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("sqlite:///{folder}", "unable to open database file"),
        ("sqlite:///{folder}/text.txt", "file is not a database"),
        ("sqlite:////proc/nowhere/mlflow.db", "No such file"),
        ("postgresql://lab:hush@127.0.0.1:{port}/runs", "Connection refused"),
        ("odd://place", "unsupported URI"),
        ("http://[::1/runs", "Invalid IPv6 URL"),
        ("{folder}/mlruns", "mlflow.db"),
    ],
)
def test_whatever_is_wrong_with_a_store_training_goes_on_at_once(uri, reason, closed_port, tmp_path, caplog):
    (tmp_path / "text.txt").write_text("no database" * 100)
    begun = time.monotonic()
    train(
        open_tracker(
            enabled=True,
            uri=uri.format(folder=tmp_path, port=closed_port),
            experiment="demo",
            run_dir=tmp_path / "run",
        )
    )
    assert time.monotonic() - begun < 20  # MLflow alone would try for 100 s
    told = warnings_in(caplog)
    assert reason in told[0]
    assert "hush" not in " ".join(told)
    assert len(told) == 2


def test_asking_the_registry_of_a_store_that_is_away_is_an_error_with_its_address(closed_port):
    uri = f"http://lab:hush@127.0.0.1:{closed_port}"
    for call in (lambda: promote(uri, "demo"), lambda: bundle_dir_of("models:/demo@champion", uri)):
        with pytest.raises(TrackingError) as error:
            call()
        assert str(error.value).startswith(f"MLflow at http://lab:***@127.0.0.1:{closed_port} cannot be used: ")
        assert str(error.value).endswith('Connection refused"). Start the server or correct tracking.uri.')


def test_passwords_are_shown_nowhere():
    assert without_password("postgresql://lab:hush@host/db") == "postgresql://lab:***@host/db"
    assert without_password("sqlite:///mlflow.db") == "sqlite:///mlflow.db"
    assert Store("http://lab:hush@host").reason(ValueError("no http://lab:hush@host")) == "no http://lab:***@host"


def test_what_the_user_has_set_for_mlflow_is_kept(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    store.prepare_environment()
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    with store.patience():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", store.TIMEOUT_S)
    with store.patience():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == store.UPLOAD_TIMEOUT_S
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == store.TIMEOUT_S


def test_a_relative_database_stays_where_it_was_when_the_directory_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bound = Store("sqlite:///./mlflow.db?timeout=5")
    monkeypatch.chdir("/")
    assert bound.is_missing
    (tmp_path / "mlflow.db").touch()
    assert not bound.is_missing
    assert bound.shown == "sqlite:///./mlflow.db?timeout=5"


def test_the_null_tracker_takes_every_call_without_mlflow(tmp_path):
    with open_tracker(enabled=False, uri="odd://place", experiment="demo", run_dir=tmp_path) as tracker:
        assert isinstance(tracker, NullTracker)
        tracker.start({"a": 1}, {}, fresh=True)
        tracker.resume()
        with tracker.fold(0) as fold:
            fold.log({"loss": 1.0}, 0)
        tracker.log_metrics({"accuracy": 1.0})
        tracker.set_tags({"a": "b"})
        tracker.log_artifact(tmp_path / "gone")
        tracker.log_artifacts(tmp_path, "all")
        assert tracker.register(tmp_path, "demo") is None
        tracker.finish("FINISHED")
    assert not list(tmp_path.iterdir())


def test_what_to_do_without_mlflow_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingDependencyError) as error:
        open_tracker(enabled=True, uri="sqlite:///mlflow.db", experiment="demo", run_dir=tmp_path)
    assert str(error.value) == (
        "Logging to MLflow (switched off with tracking.mlflow: false) needs mlflow, which is not installed. "
        "Install it with: pip install 'microscopy-cls[mlops]'"
    )
    with pytest.raises(MissingDependencyError, match=r"^A model's address in MLflow needs mlflow"):
        promote("sqlite:///mlflow.db", "demo")


def test_importing_the_room_imports_no_mlflow():
    program = "import sys, microscopy_cls.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
