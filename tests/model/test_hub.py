"""The hub is asked over real HTTP: a small server speaks its protocol, a fresh process with an empty cache asks it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import timm  # noqa: TID251
from safetensors.torch import save

from microscopy_cls.errors import WeightsError
from microscopy_cls.model.hub import fetch_url

COMMIT = "c" * 40
CONTENT = bytes(range(256)) * 20
REFUSALS = {
    "absent": (404, {"X-Error-Code": "RepoNotFound"}),
    "private": (401, {"X-Error-Code": "RepoNotFound"}),
    "gated": (403, {"X-Error-Code": "GatedRepo"}),
    "forbidden": (403, {}),
    "token": (401, {"X-Error-Message": "Invalid credentials in Authorization header"}),
    "revision": (404, {"X-Error-Code": "RevisionNotFound"}),
    "broken": (500, {}),
    "elsewhere": (404, {}),
}


class Hub(ThreadingHTTPServer):
    """Answers `/OWNER/NAME/resolve/REVISION/FILE`; NAME decides how well."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        model = timm.create_model("test_resnet", num_classes=1000)
        weights = save(model.state_dict())
        published = {"architecture": "test_resnet", "pretrained_cfg": {"mean": [0.1] * 3, "std": [0.2] * 3}}
        self.files = {
            "test_resnet.r160_in1k/model.safetensors": weights,
            "own/model.safetensors": weights,
            "own/config.json": json.dumps(published | {"license": "mit"}).encode(),
            "other/config.json": json.dumps({"architecture": "resnet18"}).encode(),
            "foreign/config.json": json.dumps({"architectures": ["Bert"]}).encode(),
        } | {f"{name}/model.safetensors": CONTENT for name in ("good", "short", "flaky", "portal", "silent")}
        self.files["bin/pytorch_model.bin"] = CONTENT
        self.files["plain/w-0123.pth"] = self.files["plain/cut.pth"] = CONTENT
        self.requests: list[str] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *arguments: Any) -> None:
        """Nothing on the terminal."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        if self.path == "/stop":
            self.server.shutdown()
            self.server.server_close()
            self.reply(200, {}, b"")
        else:
            self.answer()

    def answer(self) -> None:
        parts = self.path.strip("/").split("/")
        name, file = parts[1], parts[-1]
        self.server.requests.append(f"{self.command} {name}/{file}")
        content = self.server.files.get(f"{name}/{file}")
        if name in REFUSALS:
            self.reply(*REFUSALS[name], b"")
        elif content is None:
            self.reply(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b"")
        else:
            self.send_file(name, file, content)

    def send_file(self, name: str, file: str, content: bytes) -> None:
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        if name == "silent":
            self.server.closing.wait(60)
        elif self.command == "GET" and (name == "flaky" or file == "cut.pth"):
            self.cut(content, headers)
        elif self.command == "GET" and name == "short":
            self.reply(200, headers, content[:1000])
        else:
            self.reply(200, {} if name == "portal" else headers, content)

    def cut(self, content: bytes, headers: dict[str, str]) -> None:
        """Break off half-way, but not the second time."""
        is_first = self.server.requests.count(self.server.requests[-1]) == 1
        self.reply(200, headers, content, send=len(content) // 2 if is_first else None)

    def reply(self, status: int, headers: dict[str, str], content: bytes, send: int | None = None) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[:send])


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()


def ask(code: str, endpoint: str, home: Path, **environment: str) -> tuple[Any, str]:
    """Run Python in a fresh process (the endpoint is read when the hub's library is imported)."""
    clean = {key: value for key, value in os.environ.items() if "proxy" not in key.lower() and key[:3] != "HF_"}
    places = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home / "hf"), "TORCH_HOME": str(home / "torch")}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(PRELUDE) + textwrap.dedent(code)],
        env=clean | places | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout), ran.stderr


PRELUDE = """
    import hashlib, json, time
    from microscopy_cls.errors import WeightsError
    from microscopy_cls.model.hub import fetch_from_hub

    def attempt(call, *arguments):
        start = time.perf_counter()
        try:
            outcome = hashlib.sha256(call(*arguments).read_bytes()).hexdigest()
        except WeightsError as error:
            outcome = str(error)
        return outcome, time.perf_counter() - start
"""


@pytest.fixture(scope="module")
def answers(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[Any]], str]:
    """Outcome and seconds of one attempt for each repository, and what stood on stderr."""
    names = [*REFUSALS, "good", "bin", "empty", "short", "flaky", "portal"]
    code = f"""
        files = ("model.safetensors", "pytorch_model.bin")
        print(json.dumps({{name: attempt(fetch_from_hub, "lab/" + name, files, None) for name in {names}}}))
    """
    return ask(code, hub.url, tmp_path_factory.mktemp("hub"), HF_TOKEN="hf_of_no_use")


def test_safetensors_come_first_and_torchs_format_where_there_are_none(answers: Any, hub: Hub) -> None:
    assert answers[0]["good"][0] == answers[0]["bin"][0] == hashlib.sha256(CONTENT).hexdigest()
    assert "GET good/pytorch_model.bin" not in hub.requests


def test_a_transfer_that_breaks_off_is_repeated_or_refused_but_never_used_in_part(answers: Any) -> None:
    outcome, _ = answers[0]["flaky"]  # older versions of the hub's library do not repeat it
    assert outcome == hashlib.sha256(CONTENT).hexdigest() or "broke off (" in outcome


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("absent", "does not exist or is private (404): check the spelling of OWNER/NAME; for a private one log in"),
        ("private", "does not exist or is private (401): check the spelling"),
        ("gated", "is gated (403): accept its terms there, then log in with `hf auth login`"),
        ("forbidden", "the hub refuses access (403): your account or network may not read it"),
        ("token", "the hub does not accept your token (401): renew it with `hf auth login`, or unset HF_TOKEN"),
        ("revision", "has no revision main (404)"),
        ("broken", "the hub answers 500. Try again later, or give a local file or directory as model.weights"),
        ("empty", "has no model.safetensors or pytorch_model.bin (404): check the spelling of OWNER/NAME"),
        ("elsewhere", "has no model.safetensors or pytorch_model.bin (404): check the spelling of OWNER/NAME"),
        ("short", "the download of model.safetensors broke off (Consistency check failed"),
        ("portal", "is not a hub (a proxy, or the network's login page?). Three ways out: (1)"),
    ],
)
def test_each_refusal_has_its_own_message_and_comes_at_once(answers: Any, name: str, sentence: str) -> None:
    outcome, seconds = answers[0][name]
    assert f"lab/{name}" in outcome
    assert sentence in outcome
    assert seconds < 10


def test_no_progress_bar_appears_away_from_a_terminal(answers: Any) -> None:
    assert "%" not in answers[1]
    assert "B/s" not in answers[1]


def test_a_silent_host_is_given_up_at_the_hubs_time_limit(hub: Hub, tmp_path: Path) -> None:
    code = 'print(json.dumps(attempt(fetch_from_hub, "lab/silent", ("model.safetensors",))))'
    (outcome, seconds), _ = ask(code, hub.url, tmp_path, HF_HUB_ETAG_TIMEOUT="1")
    assert f"{hub.url} does not answer" in outcome
    assert seconds < 10


def test_no_token_is_blamed_where_there_is_none(hub: Hub, tmp_path: Path) -> None:
    code = 'print(json.dumps(attempt(fetch_from_hub, "lab/token", ("model.safetensors",))))'
    (outcome, _), _ = ask(code, hub.url, tmp_path)
    assert "lab/token does not exist or is private (401)" in outcome


def test_a_plain_address_is_fetched_once_and_a_cut_one_is_refused(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    root = f"{hub.url}/lab/plain"
    hub.requests.clear()
    assert fetch_url(f"{root}/w-0123.pth").read_bytes() == fetch_url(f"{root}/w-0123.pth").read_bytes() == CONTENT
    assert hub.requests == ["GET plain/w-0123.pth"]
    with pytest.raises(
        WeightsError, match=r"cut.pth: the transfer was cut short \(2560 of 5120 bytes\)\. Nothing of it"
    ):
        fetch_url(f"{root}/cut.pth")
    with pytest.raises(WeightsError, match=r"no.pth: the server answers 404 \(Not Found\)\. Three ways out: \(1\)"):
        fetch_url(f"{root}/no.pth")
    with pytest.raises(WeightsError, match=r"no.pth: not in the cache .* it cannot be fetched .*Three ways out"):
        fetch_url("http://127.0.0.1:9/no.pth")
    assert [path.name for path in tmp_path.rglob("*.pth")] == ["w-0123.pth"]


def test_models_start_from_the_hub_and_afterwards_without_it(tmp_path: Path) -> None:
    hub = Hub()
    threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    code = f"""
        import urllib.request

        from microscopy_cls.model import get_model, resolve_weights, weights_digest

        def first_tensor(weights):
            return float(get_model("test_resnet", 5, weights).get_parameter("conv1.0.weight").detach().sum())

        def message(call, *arguments):
            start = time.perf_counter()
            try:
                call(*arguments)
            except WeightsError as error:
                return str(error), time.perf_counter() - start

        source = resolve_weights("test_resnet", "hf-hub:lab/own")
        online = [first_tensor("imagenet"), first_tensor("hf-hub:lab/own")]
        refused = [message(get_model, "test_resnet", 5, "hf-hub:lab/" + name) for name in ("other", "foreign")]
        urllib.request.urlopen("{hub.url}/stop").close()
        print(json.dumps({{
            "source": [source.kind, source.location, source.mean[0], source.std[0]],
            "digest": weights_digest(source),
            "online": online,
            "refused": refused,
            "offline": [first_tensor("imagenet"), first_tensor("hf-hub:lab/own")],
            "uncached": message(get_model, "resnext50_32x4d", 5),
        }}))
    """
    found, _ = ask(code, hub.url, tmp_path)
    assert found["source"] == ["hub", "hf-hub:lab/own", 0.1, 0.2]
    assert found["digest"] == hashlib.sha256(hub.files["own/model.safetensors"]).hexdigest()
    assert found["online"][0] == found["online"][1] == found["offline"][0] == found["offline"][1]
    (other, _), (foreign, _) = found["refused"]
    assert other == "hf-hub:lab/other: holds a resnet18, but model.name is test_resnet: make them the same"
    assert foreign == "hf-hub:lab/foreign: is not a timm model: its config.json names no architecture"
    message, seconds = found["uncached"]
    assert f"{hub.url} does not answer" in message
    assert "Three ways out: (1) on a machine with network run `hf download timm/resnext50_32x4d.a1h_in1k`" in message
    assert seconds < 10
