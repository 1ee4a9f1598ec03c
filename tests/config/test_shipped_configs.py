"""The shipped configs load, and the pipeline's two files agree with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from microscopy_cls.config import Paths, load_config
from microscopy_cls.config.identity import trained_settings
from microscopy_cls.config.load import all_keys
from microscopy_cls.config.schema import Config
from microscopy_cls.dataset.intake.commented import commented_yaml

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SHIPPED = {"demo-organisms", "demo-covid", "organisms", "covid"}


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


DATASETS: dict[str, dict[str, str]] = read("params.yaml")["datasets"]
STAGES: dict[str, Any] = read("dvc.yaml")["stages"]


def test_the_promised_configs_are_there() -> None:
    assert {path.stem for path in CONFIGS} >= SHIPPED


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_shipped_config_loads_under_the_name_of_its_file(path: Path) -> None:
    assert load_config(path).name == path.stem


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_shipped_config_says_its_command_and_what_to_expect_first(path: Path) -> None:
    header = [line for line in path.read_text(encoding="utf-8").split("name:")[0].splitlines() if line]
    assert all(line.startswith("#") for line in header)
    assert re.search(r"microscopy-cls|make demo", "\n".join(header))


@pytest.mark.parametrize("name", ["demo-organisms", "demo-covid"])
def test_the_demo_downloads_nothing_and_allows_for_its_planted_faults(name: str) -> None:
    config = load_config(ROOT / "configs" / f"{name}.yaml")
    assert config.model.weights == "none"
    assert config.data.max_unreadable == 0.05
    assert config.data.notice


# params.yaml and dvc.yaml


@pytest.mark.parametrize("name", DATASETS)
def test_params_maps_each_config_to_its_own_raw_data(name: str) -> None:
    data = load_config(ROOT / "configs" / f"{name}.yaml").data
    assert set(DATASETS[name]) == {"data"}
    assert data.root == Path(DATASETS[name]["data"])
    assert data.table is None or data.table.is_relative_to(data.root)


@pytest.mark.parametrize("name", DATASETS)
def test_dvc_sees_all_files_that_a_config_of_params_names(name: str) -> None:
    data = load_config(ROOT / "configs" / f"{name}.yaml").data
    assert data.exclude is None or data.exclude.is_relative_to(DATASETS[name]["data"])
    assert data.test is None


def test_params_names_the_configs_of_the_demo() -> None:
    assert {"demo-organisms", "demo-covid"} <= set(DATASETS)


@pytest.mark.parametrize("stage", ["prepare", "audit", "train", "evaluate", "report"])
def test_each_stage_runs_its_command_for_each_entry_of_params(stage: str) -> None:
    assert STAGES[stage]["foreach"] == "${datasets}"
    assert STAGES[stage]["do"]["cmd"] == f"microscopy-cls {stage} -c configs/${{key}}.yaml"


def params_of(stage: str) -> list[str]:
    return [key for part in STAGES[stage]["do"].get("params", []) for keys in part.values() for key in keys]


def check_spelt_out(keys: list[str], values: Any) -> None:
    """DVC stops on a key that the file does not spell out."""
    for key in keys:
        found = values
        for part in key.split("."):
            assert part in found, key
            found = found[part]


def test_dvc_trains_again_where_the_code_would() -> None:
    space = {"finetune.weight_decay": {"choices": [0.0, 0.1]}}
    config = Config.model_validate({"name": "x", "data": {"root": "raw"}, "search": {"trials": 1, "space": space}})
    settings = {f"{section}.{key}" for section, keys in trained_settings(config).items() for key in keys}
    named = params_of("train")
    assert not [key for key in settings if key not in named and key.split(".")[0] not in named]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_keys_that_stand_in_what_init_writes(stage: str) -> None:
    written = commented_yaml(Config.model_validate({"name": "x", "data": {"root": "raw"}}))
    check_spelt_out(params_of(stage), yaml.safe_load(written))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_keys_that_a_config_may_have(stage: str) -> None:
    assert set(params_of(stage)) <= set(all_keys(Config))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_keys_that_stand_in_each_shipped_config(stage: str, path: Path) -> None:
    check_spelt_out(params_of(stage), read(str(path)))


def test_each_section_that_decides_a_result_is_a_dependency_of_some_stage() -> None:
    named = {key.split(".")[0] for stage in STAGES for key in params_of(stage)}
    assert named >= {"data", "folds", "model", "finetune", "augment", "evaluate"}


@pytest.mark.parametrize("name", DATASETS)
def test_stages_read_and_write_where_the_code_does(name: str) -> None:
    paths = Paths(name)

    def declared(stage: str, *kinds: str) -> set[Path]:
        found = [item for kind in kinds for item in STAGES[stage]["do"].get(kind, [])]
        texts = [next(iter(item)) if isinstance(item, dict) else item for item in found]
        return {Path(text.replace("${key}", name).replace("${item.data}", DATASETS[name]["data"])) for text in texts}

    assert declared("prepare", "deps") == {Path(DATASETS[name]["data"])}
    assert declared("prepare", "outs") == {paths.prepared}
    assert declared("audit", "deps") == {paths.prepared}
    assert declared("audit", "outs") == {paths.audit}
    assert declared("train", "outs") >= {paths.runs / "run_state.json", paths.oof, paths.curves, paths.members}
    assert declared("evaluate", "deps") >= {paths.prepared, paths.oof, paths.curves, paths.members}
    assert declared("evaluate", "deps") >= {paths.audit}
    written = {paths.metrics, paths.bundle, paths.label_errors, paths.cams}
    assert declared("evaluate", "metrics", "outs") == written
    assert {path.parent for path in declared("evaluate", "plots")} == {paths.plots}
    assert declared("report", "outs") == {paths.page}
    assert declared("report", "deps") >= {paths.metrics, paths.oof, paths.cams}


def test_all_paths_are_relative_so_that_dvc_and_people_see_the_same_tree() -> None:
    paths = Paths("cells")
    found = [getattr(paths, name) for name, member in vars(Paths).items() if isinstance(member, property)]
    assert all(not path.is_absolute() and "cells" in path.parts for path in found)
    assert len(set(found)) == len(found)
    assert paths.manifest == Path("data/prepared/cells/manifest.parquet")
