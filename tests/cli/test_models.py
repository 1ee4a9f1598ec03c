"""`models`: a table for people, a list of objects for programs."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from microscopy_cls.cli import models  # noqa: F401  registers it
from microscopy_cls.cli.main import app

KEYS = ["name", "params_m", "gflops", "image_size_px", "top1", "weights", "licence", "gmacs"]


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["models", *words])


def test_objects_have_the_promised_keys_at_the_size_asked_for() -> None:
    answer = run("resnext*_32x8d", "--size", "96", "--json")
    assert answer.exit_code == 0
    (found,) = json.loads(answer.stdout)
    assert list(found) == KEYS
    assert (found["name"], found["image_size_px"], found["weights"]) == ("resnext101_32x8d", 96, "tv2_in1k")
    assert found["gflops"] == pytest.approx(16.5 * (96 / 224) ** 2, rel=0.01)


def test_the_table_has_a_line_a_model_and_says_what_is_counted() -> None:
    answer = run("*resnext26ts")
    lines = answer.stdout.splitlines()
    assert lines[0].split() == ["at", "224", "px", "params", "M", "GFLOPs", "GMACs", "top-1", "weights", "licence"]
    assert [line.split()[0] for line in lines[1:6]] == [
        "bat_resnext26ts", "eca_resnext26ts", "gcresnext26ts", "resnext26ts", "seresnext26ts",
    ]  # fmt: skip
    assert lines[4].split() == ["resnext26ts", "10.30", "1.87", "1.84", "77.18", "ra2_in1k", "apache-2.0"]
    assert lines[1].split()[2:4] == ["-", "-"]
    assert lines[-1] == "Not for images of 224 x 224 pixels: bat_resnext26ts."
    assert "GFLOPs: these, plus" in answer.stdout


def test_a_model_without_free_weights_shows_none() -> None:
    assert run("resnext101_32x16d").stdout.splitlines()[1].split()[-3:] == ["-", "-", "-"]


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("resnext50", 'resnext50: no model has this name; write "*resnext50*" for cspresnext50 and others'),
        ("zzz", 'zzz: no model has this name; "*resnext*" lists the family'),
    ],
)
def test_a_pattern_without_models_says_what_to_write(pattern: str, hint: str) -> None:
    answer = run(pattern)
    assert answer.exit_code == 2
    assert hint in answer.stderr


def test_a_size_that_no_config_allows_is_refused() -> None:
    assert run("--size", "20").exit_code == 2
