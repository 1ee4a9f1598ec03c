"""A public set lies whole, as pinned and as its config expects, or not at all."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from tests.dataset.upstream import LINK, UPSTREAM, entry_of, pollen_files, repository

from microscopy_cls.config import load_config
from microscopy_cls.dataset.catalogue import Entry, fetch, find_entry, load_catalogue
from microscopy_cls.dataset.catalogue import git as git_module
from microscopy_cls.dataset.catalogue.git import Store, git_digest
from microscopy_cls.dataset.sources import list_files
from microscopy_cls.errors import DataError

ROOT = Path(__file__).parents[2]
HIDDEN = ".pollen23e.git"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has its own working directory and no settings of the person who runs it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))


@pytest.fixture
def pollen(tmp_path: Path) -> tuple[Entry, str]:
    """A set of twelve images in three classes, and where it is."""
    source, revision = repository(tmp_path / "up.git", pollen_files())
    return entry_of("pollen23e", revision), source


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(entry: Entry, source: str, message: str, out: Path = Path("out"), time_limit_s: float = 60) -> None:
    with pytest.raises(DataError, match=message):
        fetch(entry, out, source, time_limit_s)


def git(folder: str | Path, *words: str, stdin: bytes = b"") -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, input=stdin)
    return done.stdout.decode().strip()


# What lies there


@pytest.mark.parametrize("name", UPSTREAM)
def test_a_set_lies_as_its_shipped_config_reads_it(name: str, tmp_path: Path) -> None:
    make, num_images, num_groups = UPSTREAM[name]
    source, revision = repository(tmp_path / "up.git", make())
    entry = entry_of(name, revision)
    done = fetch(entry, entry.folder, source)
    listing = list_files(load_config(ROOT / entry.config_path).data)
    assert (done.num_images, done.already) == (num_images, False)
    assert len(listing.files) == num_images
    assert all(Path(path).is_file() for path in listing.files["path"])
    assert listing.grouped == (num_groups != 0)
    if num_groups:
        assert done.num_groups == listing.files["group"].nunique() == num_groups
    assert names(entry.folder.parent) == [name], "nothing else is left"


def test_files_are_those_of_the_repository_to_the_byte_with_their_origin_in_the_table(
    pollen: tuple[Entry, str],
) -> None:
    fetch(pollen[0], Path("out"), pollen[1])
    table = pd.read_csv("out/manifest.csv", dtype=str)
    assert list(table.columns) == ["file", "label", "group", "original_path"]
    assert list(table["file"]) == sorted(table["file"])
    for row in table.itertuples():
        assert Path("out", row.file).read_bytes() == pollen_files()[row.original_path]
    record = json.loads(Path("out/fetched.json").read_text(encoding="utf-8"))
    assert {"name", "title", "source", "revision", "licence", "citation", "files"} == set(record)


def test_a_cell_is_its_box_of_the_smear(tmp_path: Path) -> None:
    files = UPSTREAM["bccd-cells"][0]()
    source, revision = repository(tmp_path / "up.git", files)
    fetch(entry_of("bccd-cells", revision), Path("out"), source)
    smear = cv2.imdecode(np.frombuffer(files["BCCD/JPEGImages/BloodImage_00003.jpg"], np.uint8), cv2.IMREAD_COLOR)
    cell = cv2.imread("out/WBC/BloodImage_00003_obj00.png")
    assert cell.shape == (70, 50, 3)
    assert np.abs(cell.astype(int) - smear[20:90, 10:60].astype(int)).max() <= 3  # two JPEG decoders


def test_two_fetches_give_the_same_bytes(pollen: tuple[Entry, str]) -> None:
    for out in ("a", "b"):
        fetch(pollen[0], Path(out), pollen[1])
    assert contents(Path("a")) == contents(Path("b"))


def test_a_server_that_cannot_leave_contents_out_serves_as_well(pollen: tuple[Entry, str], tmp_path: Path) -> None:
    fetch(pollen[0], Path("a"), pollen[1])
    git(tmp_path / "up.git", "config", "uploadpack.allowFilter", "false")
    fetch(pollen[0], Path("b"), pollen[1])
    assert contents(Path("a")) == contents(Path("b"))


def test_a_commit_that_the_branch_left_behind_is_the_one_that_is_fetched(
    pollen: tuple[Entry, str], tmp_path: Path
) -> None:
    tree = git(tmp_path / "up.git", "mktree")
    newer = git(tmp_path / "up.git", "-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", tree, "-m", "empty")
    git(tmp_path / "up.git", "update-ref", "refs/heads/master", newer)
    assert fetch(pollen[0], Path("out"), pollen[1]).num_images == 12


# Again


def test_a_second_fetch_verifies_without_the_network_and_changes_nothing(
    pollen: tuple[Entry, str], tmp_path: Path
) -> None:
    fetch(pollen[0], Path("out"), pollen[1])
    before = contents(Path("out"))
    shutil.rmtree(tmp_path / "up.git")
    done = fetch(pollen[0], Path("out"), pollen[1])
    assert (done.already, done.num_images) == (True, 12)
    assert contents(Path("out")) == before


@pytest.mark.parametrize(
    ("change", "file"),
    [
        (lambda file: file.write_bytes(b"other"), "type_0/grain_00.png"),
        (lambda file: file.unlink(), "type_1/grain_01.png"),
        (lambda file: file.write_text(file.read_text().replace("type_0,", "type_1,")), "manifest.csv"),
    ],
)
def test_a_set_changed_since_is_refused_and_left_alone(
    pollen: tuple[Entry, str], change: Callable[[Path], None], file: str
) -> None:
    fetch(pollen[0], Path("out"), pollen[1])
    change(Path("out", file))
    before = contents(Path("out"))
    refused(
        pollen[0], pollen[1], f"out: 1 files are not as they were fetched: {file}. Move it away, or fetch into anoth"
    )
    assert contents(Path("out")) == before


def test_a_persons_own_files_beside_the_set_are_nobodys_business(pollen: tuple[Entry, str]) -> None:
    fetch(pollen[0], Path("out"), pollen[1])
    Path("out/notes.txt").write_text("mine")
    assert fetch(pollen[0], Path("out"), pollen[1]).already


def test_a_folder_that_fetch_did_not_make_is_refused_and_left_alone(pollen: tuple[Entry, str]) -> None:
    Path("out").mkdir()
    Path("out/mine.png").write_bytes(b"mine")
    refused(pollen[0], pollen[1], "out: is there already, but was not made by this command. Move it away")
    assert contents(Path("out")) == {"mine.png": b"mine"}


def test_another_revision_in_the_folder_is_refused(pollen: tuple[Entry, str]) -> None:
    fetch(pollen[0], Path("out"), pollen[1])
    other = entry_of("pollen23e", "0" * 40)
    refused(other, pollen[1], rf"out: holds pollen23e at {pollen[0].revision}, not pollen23e at 0{{40}}\. Move it away")


# Interruptions


def test_an_interrupted_fetch_leaves_no_set_and_goes_on_with_what_is_missing(
    pollen: tuple[Entry, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_module, "BATCH", 5)
    asked: list[int] = []
    real = Store._fetch

    def counted(self: Store, *arguments: str, stdin: bytes = b"") -> None:
        if stdin and len(asked) == 1:
            asked.clear()
            raise KeyboardInterrupt
        real(self, *arguments, stdin=stdin)
        asked.append(len(stdin.split()))

    monkeypatch.setattr(Store, "_fetch", counted)
    with pytest.raises(KeyboardInterrupt):
        fetch(pollen[0], Path("out"), pollen[1])
    assert not Path("out").exists()
    asked[:] = [0, 0]  # from here on nothing is interrupted
    fetch(pollen[0], Path("first"), pollen[1])
    assert asked[2:] == [0, 5, 5, 2], "the tree, then all twelve"
    asked[:] = [0, 0]
    fetch(pollen[0], Path("out"), pollen[1])
    assert asked[2:] == [5, 5, 2], "the tree was there already"
    assert contents(Path("out")) == contents(Path("first"))


def test_batches_before_a_failure_are_not_fetched_again(
    pollen: tuple[Entry, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_module, "BATCH", 5)
    asked: list[int] = []
    real = Store._fetch

    def fails_once(self: Store, *arguments: str, stdin: bytes = b"") -> None:
        if len(asked) == 2:
            asked.append(-1)
            raise DataError("the line is dead")
        real(self, *arguments, stdin=stdin)
        asked.append(len(stdin.split()))

    monkeypatch.setattr(Store, "_fetch", fails_once)
    refused(*pollen, "the line is dead")
    fetch(pollen[0], Path("out"), pollen[1])
    assert asked == [0, 5, -1, 5, 2]


def test_what_a_killed_process_left_is_cleared_away(pollen: tuple[Entry, str]) -> None:
    pack = Path(HIDDEN.replace("pollen23e", "out"), "objects", "pack")
    pack.mkdir(parents=True)
    (pack / "tmp_pack_x").write_bytes(b"torn")
    (pack.parents[1] / "shallow.lock").write_bytes(b"")
    Path(".out.123.tmp/type_0").mkdir(parents=True)
    assert fetch(pollen[0], Path("out"), pollen[1]).num_images == 12
    assert names(Path()) == ["out", "up.git"]


def test_two_fetches_of_one_set_do_not_meet(pollen: tuple[Entry, str]) -> None:
    Path(".out.git").mkdir()
    with FileLock(".out.git/in-use"):
        refused(*pollen, "out: another command is fetching this set. Wait for it to end.")


def test_a_full_disk_is_told_and_leaves_no_set(pollen: tuple[Entry, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, _: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    refused(
        *pollen, r"grain_00.png: cannot be written or read \(No space left on device\). What is fetched stays: make"
    )
    assert not Path("out").exists()


# Sources that are not what is pinned


def test_a_source_without_the_pinned_revision_is_refused(pollen: tuple[Entry, str]) -> None:
    refused(
        entry_of("pollen23e", "1" * 40), pollen[1], "The pinned revision is not there: the repository was rewritten"
    )
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("file:///nowhere/at/all", "does not appear to be a git repository. Name a git repository with --source."),
        ("ext::sh -c touch% pwned", "transport 'ext' not allowed. Name a source that begins with https://"),
        ("git://localhost/x", "transport 'git' not allowed"),
        ("--upload-pack=touch pwned", "is no address of a git repository"),
        ("", "'': is no address of a git repository"),
        ("https://127.0.0.1:9/x", "Check the network, then run the same command again"),
    ],
)
def test_a_source_that_cannot_be_used_is_told(source: str, message: str) -> None:
    entry = entry_of("pollen23e", "1" * 40)
    with pytest.raises(DataError) as raised:
        fetch(entry, Path("out"), source)
    assert message in str(raised.value)
    assert not Path("pwned").exists()
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        (b"fatal: could not read Username for 'https://x': terminal prompts disabled\n", "It asks for a login"),
        (b"remote: Repository not found.\nfatal: repository 'https://x/' not found\n", "It asks for a login"),
        (b"error: file write error: No space left on device\nfatal: fetch-pack failed\n", "Make room, then run"),
        (b"fatal: unable to access 'https://x/': Could not resolve host: x\n", "resolve host: x. Check the network"),
        (b"", "no reason. Check the network"),
        (
            b"error: unknown option `stdin'\nusage: git fetch [<options>]\n",
            "This git is too old: install 2.29 or newer.",
        ),
    ],
)
def test_what_git_says_is_followed_by_what_to_do(stderr: bytes, message: str) -> None:
    assert message in git_module._explained(stderr)


def test_a_tree_without_the_expected_folders_is_refused(tmp_path: Path) -> None:
    source, revision = repository(tmp_path / "up.git", {"other/x.png": b"x"})
    entry = entry_of("pollen23e", revision)
    refused(entry, source, f"pollen23e at {revision}: the tree holds no image where the catalogue expects them")


def test_links_are_refused_where_images_are_expected_and_ignored_elsewhere(tmp_path: Path) -> None:
    path = "Data/Raw/pollen23e/type_0/passwd.png"
    files = pollen_files() | {path: b"/etc/passwd", "elsewhere": b"/etc"}
    source, revision = repository(tmp_path / "up.git", files, {path: LINK, "elsewhere": LINK})
    refused(entry_of("pollen23e", revision), source, f"{path} is a link, not an image. Nothing was laid out")
    source, revision = repository(tmp_path / "2.git", pollen_files() | {"elsewhere": b"/etc"}, {"elsewhere": LINK})
    assert fetch(entry_of("pollen23e", revision), Path("out"), source).num_images == 12


@pytest.mark.parametrize("name", ["..", ".git", "a\\b", "a\nb", "a:b"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    git_dir = tmp_path / "up.git"
    source, _ = repository(git_dir, pollen_files())
    blob = git(git_dir, "hash-object", "-w", "--stdin", stdin=b"evil")
    below = raw_tree(git_dir, [("100644", "x.png", blob)])
    for part in (name, "pollen23e", "Raw", "Data"):
        below = raw_tree(git_dir, [("40000", part, below)])
    revision = git(git_dir, "-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", below, "-m", "x")
    refused(entry_of("pollen23e", revision), source, "is no name that can be laid out. Nothing was laid out.")
    assert names(tmp_path) == [".out.git", "up.git"]


def test_another_repository_in_place_of_an_image_is_refused(tmp_path: Path) -> None:
    git_dir = tmp_path / "up.git"
    source, commit = repository(git_dir, pollen_files())
    below = raw_tree(git_dir, [("160000", "x.png", commit)])
    for part in ("type_0", "pollen23e", "Raw", "Data"):
        below = raw_tree(git_dir, [("40000", part, below)])
    revision = git(git_dir, "-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", below, "-m", "x")
    refused(entry_of("pollen23e", revision), source, "type_0/x.png is another repository, not an image")


def raw_tree(folder: Path, rows: list[tuple[str, str, str]]) -> str:
    """Write a tree object as it is, without the checks of `git mktree`."""
    content = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(digest) for mode, name, digest in rows)
    return git(folder, "hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=content)


def test_a_pointer_to_large_files_is_no_image(tmp_path: Path) -> None:
    path = "Data/Raw/pollen23e/type_0/big.png"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    source, revision = repository(tmp_path / "up.git", {path: pointer})
    refused(entry_of("pollen23e", revision), source, f"{path} is a pointer to git's large-file store, not an image")
    assert not Path("out").exists()


def test_a_content_that_was_damaged_here_is_noticed(pollen: tuple[Entry, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_module, "git_digest", lambda content: git_digest(content + b"!"))
    refused(*pollen, r"\.out\.git: content [0-9a-f]{40} is damaged. Remove this folder and fetch again.")


def test_settings_of_the_user_start_nothing(pollen: tuple[Entry, str], tmp_path: Path) -> None:
    hook = tmp_path / "hooks" / "reference-transaction"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/pwned\n")
    hook.chmod(0o755)
    Path("gitconfig").write_text(f"[core]\nhooksPath = {hook.parent}\n[init]\ntemplateDir = {hook.parent}\n")
    fetch(pollen[0], Path("out"), pollen[1])
    assert not (tmp_path / "pwned").exists()


# Means


def test_without_git_it_says_what_to_install(pollen: tuple[Entry, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    refused(*pollen, "git is not installed, and public sets are fetched with it. Install git")


def test_a_request_that_takes_too_long_ends_with_how_to_go_on(pollen: tuple[Entry, str]) -> None:
    refused(*pollen, "took longer than 1e-06 s. Run the same command again, it goes on where", time_limit_s=1e-6)


def test_a_set_behind_a_login_tells_the_steps() -> None:
    entry = find_entry("rsna-pneumonia", load_catalogue())
    with pytest.raises(DataError) as raised:
        fetch(entry, Path("out"))
    told = str(raised.value)
    assert told.startswith("rsna-pneumonia: has to be fetched by hand, from https://www.kaggle.com/")
    assert all(f"\n  {number}. {step}" in told for number, step in enumerate(entry.steps, 1))
    assert not Path("out").exists()


def test_the_digest_is_gits() -> None:
    assert git_digest(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
