"""A study is complete and typed; what is wrong with one is said by key, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from microscopy_cls.config.study import load_study, study_config, variant_configs
from microscopy_cls.errors import ConfigError
from microscopy_cls.model import check_shape
from microscopy_cls.model.cost import Cost, cost_of

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "configs/studies").glob("*.yaml"))
STUDY: dict[str, Any] = {
    "name": "width",
    "question": "Is wider better?",
    "source": "somebody",
    "claim": {"sentence": "Wide is better.", "better": "wide", "than": ["slim"]},
    "set": {"model.image_size_px": 64, "finetune.epochs": 3},
    "variants": [
        {"name": "slim", "set": {"model.base_width": 2}},
        {"name": "wide", "set": {"model.base_width": 4, "finetune.learning_rate": 1e-5}},
    ],
}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a config, and a study with some keys changed; gives the study's path."""
    (tmp_path / "cells.yaml").write_text("name: cells\ndata: {root: raw}\nfinetune: {epochs: 9, mixup: 0.1}\n")

    def written(**changed: Any) -> Path:
        values = {key: value for key, value in (STUDY | changed).items() if value is not None}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(values))
        return tmp_path / "study.yaml"

    return written


def refusal(file: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        variant_configs(load_study(file), file.with_name("cells.yaml"), overrides)
    return str(raised.value)


def test_a_variant_is_the_config_changed_by_the_study_then_by_itself_then_by_the_caller(write: Write) -> None:
    file = write()
    configs = variant_configs(load_study(file), file.with_name("cells.yaml"), ["finetune.mixup=0.5"])
    assert [config.name for config in configs.values()] == ["cells-width-slim", "cells-width-wide"]
    assert [config.model.base_width for config in configs.values()] == [2, 4]
    assert [config.finetune.learning_rate for config in configs.values()] == [1e-3, 1e-5]
    assert {config.finetune.epochs for config in configs.values()} == {3}
    assert {config.finetune.mixup for config in configs.values()} == {0.5}
    shared = study_config(load_study(file), file.with_name("cells.yaml"), ["name=other"])
    assert (shared.name, shared.model.image_size_px, shared.model.base_width) == ("other-width", 64, None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"question": None}, "question: Field required"),
        ({"name": "a/b"}, "name: String should match pattern"),
        ({"set": 3}, "set: Input should be a valid dictionary (given: 3)"),
        ({"claim": 3}, "claim: should be a section, with its keys below it (given: 3)"),
        ({"colour": 3}, "colour: Extra inputs are not permitted (given: 3)"),
        ({"variants": STUDY["variants"][:1]}, "variants: Tuple should have at least 2 items"),
        ({"variants": [STUDY["variants"][0]] * 2}, "slim stands there twice: give each variant a name of its own"),
        ({"claim": STUDY["claim"] | {"better": "broad"}}, "claim names broad, but the variants are slim, wide"),
        ({"claim": STUDY["claim"] | {"than": ["wide"]}}, "claim says that wide is better than itself"),
        ({"claim": STUDY["claim"] | {"than": []}}, "claim.than: Tuple should have at least 1 item"),
        ({"set": {"model.wights": 4}}, "set: unknown key model.wights (did you mean model.weights?)"),
        ({"set": {"model": {"base_width": 4}}}, "set: model: would replace the whole section; write its keys with a"),
        (
            {"variants": [STUDY["variants"][0], {"name": "wide", "set": {"model.width": 4}}]},
            "variants: wide: unknown key model.width (did you mean model.base_width?)",
        ),
        (
            {"variants": [STUDY["variants"][0], {"name": "wide", "set": {"folds.num": 4}}]},
            "study width: wide has images or folds of its own. Set data, folds, evaluate, model.image_size_px and",
        ),
        (
            {"variants": [STUDY["variants"][0], {"name": "wide", "set": {"model.base_width": 2}}]},
            "study width: slim and wide are trained alike. Check what the variants set, and --set",
        ),
    ],
)
def test_a_study_that_cannot_be_run_is_refused(write: Write, changed: dict[str, Any], message: str) -> None:
    assert message in refusal(write(**changed))


def test_an_override_that_makes_variants_equal_is_told(write: Write) -> None:
    overrides = ["model.base_width=8", "finetune.learning_rate=1e-3"]
    assert "slim and wide are trained alike" in refusal(write(), *overrides)


def test_no_variant_is_refitted_whatever_the_config_or_the_caller_asks_for(write: Write) -> None:
    file = write(set=STUDY["set"] | {"evaluate.bundle": "refit"})
    configs = variant_configs(load_study(file), file.with_name("cells.yaml"), ["evaluate.bundle=refit"])
    assert {config.evaluate.bundle for config in configs.values()} == {"folds"}


def test_files_that_are_no_study_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent.yaml: there is no such file. configs/studies/ has some."):
        load_study(tmp_path / "absent.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ConfigError, match=r"list.yaml: should be a mapping of keys \(name, question, source, claim"):
        load_study(tmp_path / "list.yaml")


# Those that are shipped


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_each_shipped_study_says_its_command_and_builds_every_variant(path: Path) -> None:
    study = load_study(path)
    assert study.name == path.stem
    assert f"microscopy-cls study configs/studies/{path.name} -c " in path.read_text()
    for config in variant_configs(study, ROOT / "configs/pollen23e.yaml").values():
        check_shape(config.model.name, config.model.weights, config.model.shape)
        assert config.model.weights == "none"


def costs(name: str) -> dict[str, Cost]:
    study = load_study(ROOT / f"configs/studies/{name}.yaml")
    configs = variant_configs(study, ROOT / "configs/pollen23e.yaml")
    return {
        variant: cost_of(config.model.name, config.model.image_size_px, num_classes=23, **config.model.shape)
        for variant, config in configs.items()
    }


def furthest_from_mean(values: list[int | None]) -> float:
    known = [value for value in values if value is not None]
    mean = sum(known) / len(values)
    return max(abs(value / mean - 1) for value in known)


def test_the_cardinality_study_is_at_constant_cost() -> None:
    found = list(costs("cardinality").values())
    assert len(found) == 5
    assert furthest_from_mean([cost.num_params for cost in found]) < 0.05
    assert furthest_from_mean([cost.num_flops for cost in found]) < 0.05


def test_deeper_wider_and_more_cardinality_cost_alike_and_more_than_the_base() -> None:
    base, *others = costs("deeper-wider-cardinality").values()
    for name in ("num_params", "num_flops"):
        assert furthest_from_mean([getattr(cost, name) for cost in others]) < 0.05
        assert all(1.55 < getattr(cost, name) / getattr(base, name) < 1.75 for cost in others)
