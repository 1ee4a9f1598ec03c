"""Files of one commit, out of a git repository, without ever checking it out.

Nothing is written but a bare store of git's own: no hooks, filters, links or submodules of a foreign repository come
into play, and no name in it becomes a path here. Git checks every object that arrives against its digest, and a
commit's own name is a digest over its whole tree.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from microscopy_cls.errors import DataError
from microscopy_cls.system.progress import bar

# Files of one request, and what an interruption loses at most: 1,000 radiographs in 16 requests of about 30 MB.
BATCH = 64
NETWORK = "https:http:ssh:file"
FILE, LINK, SUBMODULE = "100", "120000", "160000"  # how modes of trees begin
# What a foreign repository or the user's settings might start, and prompts that nobody would answer.
SETTINGS = {
    "core.hooksPath": os.devnull, "core.fsmonitor": "false", "core.askPass": "", "credential.helper": "",
    "gc.auto": "0", "maintenance.auto": "false", "fetch.negotiationAlgorithm": "noop",
    "http.lowSpeedLimit": "1000", "http.lowSpeedTime": "60",
}  # fmt: skip
ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS": "", "GCM_INTERACTIVE": "never",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes", "GIT_NO_REPLACE_OBJECTS": "1", "LC_ALL": "C",
}  # fmt: skip
# Set where this runs inside a hook of another repository.
INHERITED = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_NAMESPACE"}
# What git says, and what to do about it; the first that fits.
ADVICE = (
    (r"not our ref|unadvertised object|couldn't find remote ref",
     "The pinned revision is not there: the repository was rewritten, or --source names another one. Nothing else is "
     "taken in its place; a mirror that has it can be named with --source."),
    (r"[Nn]o space left|[Dd]isk quota", "Make room, then run the same command again: it goes on."),
    (r"could not read Username|[Aa]uthentication failed|Permission denied \(publickey|[Rr]epository not found",
     "It asks for a login, which repositories that are gone do too. Name a mirror with --source."),
    (r"does not appear to be a git repository|does not exist", "Name a git repository with --source."),
    (r"transport '.*' not allowed", "Name a source that begins with https://, ssh:// or file://."),
    (r"unknown (option|switch)|^usage: git", "This git is too old: install 2.29 or newer."),
    (r"", "Check the network, then run the same command again: it goes on where it stopped."),
)  # fmt: skip


@dataclass(frozen=True)
class Blob:
    """A file of a tree: git's digest of its content (SHA-1, 40 hex digits) and its mode."""

    digest: str
    mode: str


class Store:
    """A bare repository at `folder` that takes from `source`; what it has, it keeps over interruptions.

    One process at a time may use a store.
    """

    def __init__(self, folder: Path, source: str, time_limit_s: float) -> None:
        """Open or make it.

        Raises:
            DataError: git is missing, or `source` is no address.
        """
        git = shutil.which("git")
        if git is None:
            raise DataError(
                "git is not installed, and public sets are fetched with it. Install git, then run it again."
            )
        if source.startswith("-") or not source.isprintable() or not source:
            raise DataError(f"{source!r}: is no address of a git repository")
        self._git, self._folder, self._source, self._time_limit_s = git, folder, source, time_limit_s
        folder.mkdir(parents=True, exist_ok=True)
        for left in (*folder.glob("*.lock"), *folder.glob("objects/pack/tmp_*")):
            left.unlink()  # of a process that was killed; git would wait for it
        self._run("init", "--bare", "--quiet", "--template=", "--object-format=sha1")
        self._run("config", "remote.origin.url", source)

    def fetch_tree(self, revision: str) -> dict[str, Blob]:
        """Every file of a commit by its path, the commit being fetched if it is not here yet; no content.

        The paths are as the repository has them, whatever they are: none may become a path here unchecked.

        Raises:
            DataError: the source does not have it, or cannot be reached.
        """
        if self._try("cat-file", "-e", f"{revision}^{{tree}}").returncode:
            self._fetch("--depth=1", "origin", revision)
        listed = self._run("ls-tree", "-r", "-z", "--full-tree", revision)
        rows = [row.partition(b"\t") for row in listed.split(b"\0") if row]
        return {
            path.decode("utf-8", "surrogateescape"): Blob(
                digest=head.split()[2].decode(), mode=head.split()[0].decode()
            )
            for head, _, path in rows
        }

    def fetch_blobs(self, revision: str, digests: Sequence[str], description: str) -> None:
        """Fetch the contents that are not here yet, a batch at a time.

        Raises:
            DataError: the source does not have them or cannot be reached; batches before that one are kept.
        """
        present = self._run("rev-list", "--objects", "--missing=print", "--no-object-names", revision)
        missing = {line[1:] for line in present.decode().splitlines() if line.startswith("?")}
        wanted = sorted(missing.intersection(digests))
        with bar(description, len(set(digests)), "file") as shown:
            shown.update(len(set(digests)) - len(wanted))
            for batch in _batches(wanted):
                self._fetch("--stdin", "origin", stdin="\n".join(batch).encode())
                shown.update(len(batch))

    def read_blobs(self, digests: Sequence[str]) -> Iterator[bytes]:
        """The contents, in the order given, each checked against its digest.

        Raises:
            DataError: a content is missing or damaged.
        """
        for batch in _batches(digests):
            answer, place = self._run("cat-file", "--batch", stdin="\n".join(batch).encode()), 0
            for digest in batch:
                head, _, _ = answer[place:].partition(b"\n") if place < len(answer) else (b"", b"", b"")
                size = int(head.rsplit(b" ", 1)[1]) if head.startswith(f"{digest} blob ".encode()) else -1
                place += len(head) + 1
                content = answer[place : place + size]
                if size < 0 or git_digest(content) != digest:
                    raise DataError(f"{self._folder}: content {digest} is damaged. Remove this folder and fetch again.")
                place += size + 1
                yield content

    def _fetch(self, *arguments: str, stdin: bytes = b"") -> None:
        # The server sends names without contents (or, where it does not know how to, everything at once).
        options = ("--quiet", "--filter=blob:none", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
        done = self._try("fetch", *options, *arguments, stdin=stdin, protocols=NETWORK)
        if done.returncode:
            told = _explained(done.stderr)
            raise DataError(f"{self._source}: cannot be reached: {told} A copy will do as well (--source).")

    def _run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        done = self._try(*arguments, stdin=stdin)
        if done.returncode:
            raise DataError(f"{self._folder}: git {arguments[0]} failed: {_explained(done.stderr)}")
        return done.stdout

    def _try(self, *arguments: str, stdin: bytes = b"", protocols: str = "none") -> subprocess.CompletedProcess[bytes]:
        settings = [part for key, value in SETTINGS.items() for part in ("-c", f"{key}={value}")]
        environment = {key: value for key, value in os.environ.items() if key not in INHERITED}
        try:
            return subprocess.run(  # noqa: S603  git alone, its arguments ours or checked
                [self._git, "-C", str(self._folder), *settings, *arguments],
                input=stdin, capture_output=True, check=False, timeout=self._time_limit_s,
                env={**environment, **ENVIRONMENT, "GIT_ALLOW_PROTOCOL": protocols},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise DataError(
                f"{self._source}: git {arguments[0]} took longer than {self._time_limit_s:g} s. Run the same command "
                "again, it goes on where it stopped; --time-limit allows more."
            ) from None


def git_digest(content: bytes) -> str:
    """What git calls a file of this content: 40 hex digits."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _batches(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


def _explained(stderr: bytes) -> str:
    """Git's first complaint and what to do about it."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "no reason")
    advice = next(advice for pattern, advice in ADVICE if re.search(pattern, "\n".join(lines), re.MULTILINE))
    return f"{re.sub(r'^(fatal|error): ', '', told).rstrip('.')}. {advice}"
