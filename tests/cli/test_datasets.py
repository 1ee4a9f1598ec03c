"""`datasets`: a table for people, a list of objects for programs, and what is printed after a fetch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.dataset.upstream import entry_of, pollen_files, repository
from typer.testing import CliRunner, Result

from microscopy_cls.cli import datasets  # noqa: F401  registers it
from microscopy_cls.cli.main import app
from microscopy_cls.dataset import catalogue
from microscopy_cls.dataset.catalogue import load_catalogue

KEYS = [
    "name", "title", "source", "revision", "config", "licence", "citation", "num_images", "num_classes", "groups",
    "published", "cautions", "steps", "fetchable",
]  # fmt: skip


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["datasets", *words])


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tiny pollen23e, to which the catalogue's pin is moved."""
    monkeypatch.chdir(tmp_path)
    address, revision = repository(tmp_path / "up.git", pollen_files())
    monkeypatch.setattr(catalogue, "load_catalogue", lambda: (entry_of("pollen23e", revision),))
    return address


def test_objects_have_every_fact() -> None:
    answer = run("list", "--json")
    assert answer.exit_code == 0
    found = json.loads(answer.stdout)
    assert [one["name"] for one in found] == [entry.name for entry in load_catalogue()]
    assert all(list(one) == KEYS for one in found)
    assert [one["name"] for one in found if not one["fetchable"]] == ["covidx", "rsna-pneumonia", "nct-crc-he"]


def test_the_table_has_a_line_a_set_and_fits_a_terminal() -> None:
    lines = run("list").stdout.splitlines()
    assert lines[0].split() == ["set", "images", "classes", "how", "config"]
    assert lines[1].split() == ["pollen23e", "801", "23", "fetch", "configs/pollen23e.yaml"]
    assert lines[7].split() == ["covidx", "30,034", "3", "by", "hand", "configs/covid.yaml"]
    assert max(len(line) for line in lines if "://" not in line) <= 100  # addresses stay whole
    text = " ".join(" ".join(lines).split())
    for entry in load_catalogue():
        for fact in (entry.title, entry.source, entry.revision or "", entry.licence, entry.citation, entry.groups):
            assert fact in text


def test_a_fetch_names_the_next_command_the_licence_and_the_citation(source: str) -> None:
    answer = run("fetch", "pollen23e", "--source", source)
    assert answer.exit_code == 0, answer.output
    lines = answer.stdout.splitlines()
    assert lines[0] == "data/raw/pollen23e: fetched and verified: 12 images, no groups known, 23 classes"
    assert lines[-1] == "next: microscopy-cls prepare -c configs/pollen23e.yaml"
    assert "licence           MIT" in answer.stdout
    assert "doi:10.1371/journal.pone.0157044" in answer.stdout
    again = run("fetch", "pollen23e", "--source", source)
    assert again.stdout.splitlines()[0].startswith("data/raw/pollen23e: is there already and whole: 12 images")


def test_a_fetch_elsewhere_says_how_the_config_finds_it(source: str) -> None:
    answer = run("fetch", "pollen23e", "--source", source, "--out", "my sets/pollen")
    assert answer.stdout.splitlines()[-1] == (
        "next: microscopy-cls prepare -c configs/pollen23e.yaml --set 'data.root=my sets/pollen' "
        "--set 'data.table=my sets/pollen/manifest.csv'"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fetch", "polen23e"), "error: 'polen23e': the catalogue has no set of this name. Did you mean pollen23e?"),
        (("fetch", "covidx"), "error: covidx: has to be fetched by hand, from https://www.kaggle.com/"),
    ],
)
def test_what_cannot_be_fetched_is_one_message(words: tuple[str, ...], message: str) -> None:
    answer = run(*words)
    assert answer.exit_code == 2
    assert answer.stderr.startswith(message)
    assert "Traceback" not in answer.output


def test_a_source_that_is_not_there_is_one_message(source: str) -> None:
    answer = run("fetch", "pollen23e", "--source", f"{source}-gone")
    assert answer.exit_code == 2
    assert "Name a git repository with --source." in answer.stderr
    assert not Path("data/raw/pollen23e").exists()
