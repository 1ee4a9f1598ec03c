"""What is made of runs takes no name that cannot name a folder, or that something of another kind has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from microscopy_cls.config import Paths
from microscopy_cls.errors import ConfigError, DataError
from microscopy_cls.evaluation.names import Kind, check_name, check_name_of_run
from microscopy_cls.model.bundle import BundleInfo
from microscopy_cls.system.files import write_json, write_text

RUN, ENSEMBLE, SOUP = "a run", "an ensemble", "a soup"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_of(**identity: Any) -> None:
    write_json(Paths("x").runs / "run_state.json", {"identity": identity})


def bundle_of(*parts: str, **training_data: Any) -> None:
    preprocessing = {
        "size_px": 32, "resize": "pad", "intensity": "full", "page": 0, "max_pixels": 1, "mean": (0, 0, 0),
        "std": (1, 1, 1),
    }  # fmt: skip
    info = {
        "name": "x", "classes": ("a", "b"), "architecture": "n", "weights": {}, "preprocessing": preprocessing,
        "members": (), "parts": parts, "training_data": training_data, "metrics": {}, "config": {}, "versions": {},
    }  # fmt: skip
    write_text(Paths("x").bundle / "bundle.json", BundleInfo.model_validate(info).model_dump_json())


def leave(there: str) -> None:
    """What each kind leaves behind."""
    if there == SOUP:
        bundle_of(soup_of="a")
    else:
        run_of(**({"ensemble": {}} if there == ENSEMBLE else {"finetune": {}}))


@pytest.mark.parametrize("kind", [ENSEMBLE, SOUP])
@pytest.mark.parametrize("name", ["../../x", "", ".x", "a/b", "x\n"])
def test_what_names_no_folder_is_refused(name: str, kind: Kind) -> None:
    with pytest.raises(ConfigError) as raised:
        check_name(name, kind)
    assert str(raised.value) == (f"--name {name}: names folders: letters, digits, dots, dashes and underscores only.")


@pytest.mark.parametrize("kind", [ENSEMBLE, SOUP])
@pytest.mark.parametrize("there", [RUN, ENSEMBLE, SOUP])
def test_only_an_earlier_one_of_the_same_kind_is_overwritten(there: str, kind: Kind) -> None:
    check_name("x", kind)
    leave(there)
    if there == kind:
        check_name("x", kind)
        return
    with pytest.raises(DataError) as raised:
        check_name("x", kind)
    assert str(raised.value) == f"--name x: is the name of {there}, which would be overwritten. Choose another."


@pytest.mark.parametrize("there", [RUN, ENSEMBLE, SOUP])
def test_a_config_takes_no_name_of_an_ensemble_or_a_soup(there: str) -> None:
    check_name_of_run("x")
    leave(there)
    if there == RUN:
        check_name_of_run("x")
        return
    with pytest.raises(DataError) as raised:
        check_name_of_run("x")
    assert str(raised.value) == (
        f"name x: is the name of {there}, which would be overwritten. Give the config another name, or remove "
        "data/runs/x and data/models/x."
    )


def test_a_soup_is_not_overwritten_by_a_run_that_shares_its_name_already() -> None:
    run_of(finetune={})
    bundle_of(soup_of="a")
    with pytest.raises(DataError, match=r"^name x: is the name of a soup, which"):
        check_name_of_run("x")


def test_what_is_damaged_keeps_no_run_from_being_written_anew() -> None:
    write_text(Paths("x").bundle / "bundle.json", "{}")
    check_name_of_run("x")
    write_text(Paths("x").runs / "run_state.json", "{")
    check_name_of_run("x")


@pytest.mark.parametrize(("parts", "there"), [((), RUN), (("a", "b"), ENSEMBLE)])
def test_a_bundle_alone_says_what_it_is(parts: tuple[str, ...], there: str) -> None:
    bundle_of(*parts)
    with pytest.raises(DataError, match=f"^--name x: is the name of {there}, which"):
        check_name("x", "a soup")
