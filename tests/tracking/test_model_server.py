"""MLflow's own server, with a registered bundle behind it, gives the answers of `classify`."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.inference.bundles import make_bundle, squares

from microscopy_cls.inference.classifier import load
from microscopy_cls.tracking import open_tracker

START_S = 90


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, square in enumerate(squares(3)):
        cv2.imwrite(str(folder / f"{number}.png"), square)
    return folder


@pytest.fixture
def address(tmp_path: Path, images: Path) -> Iterator[str]:
    """A server of a freshly registered bundle, which may read the folder of the images."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    bundle = make_bundle(tmp_path / "bundle")
    with open_tracker(enabled=True, uri=uri, experiment="tiny", run_dir=tmp_path) as tracker:
        tracker.start({}, {}, fresh=True)
        tracker.register(bundle, "tiny")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "mlflow", "models", "serve", "-m", "models:/tiny@candidate", "--env-manager", "local"]
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "MICROSCOPY_CLS_SERVED_FOLDER": str(images)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, *command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
            env=environment, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True,
        )  # fmt: skip
        try:
            _wait_until_up(f"http://127.0.0.1:{port}/ping", server, tmp_path / "server.log")
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait_until_up(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + START_S
    while time.monotonic() < limit and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not start: {log.read_text()}")


def ask(address: str, rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    body = json.dumps({"dataframe_records": rows}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        answers: list[dict[str, Any]] = json.load(reply)["predictions"]
    return answers


@pytest.mark.slow
def test_the_server_answers_as_the_model_does_for_bytes_and_for_paths(
    address: str, images: Path, tmp_path: Path
) -> None:
    files = sorted(images.iterdir())
    expected = load(tmp_path / "bundle").predict(files)
    sent = ask(address, [{"image": base64.b64encode(file.read_bytes()).decode()} for file in files])
    named = ask(address, [{"path": file.name} for file in files])
    for answers in (sent, named):
        assert [row["predicted"] for row in answers] == list(expected["predicted"])
        np.testing.assert_allclose([row["prob_light"] for row in answers], expected["prob_light"], atol=1e-6)
    outside, broken = ask(address, [{"path": "../mlflow.db"}, {"path": "none.png"}])
    assert (outside["status"], outside["error"]) == ("failed", "lies outside the served folder")
    assert broken["status"] == "failed"
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(address, [{"picture": "none"}])
    assert refused.value.code == 400
    refused.value.close()
