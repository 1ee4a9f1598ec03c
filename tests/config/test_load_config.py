"""A config is complete, typed and frozen; what is wrong with one is said by key, with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from microscopy_cls.config import Config, load_config, to_yaml
from microscopy_cls.config.identity import trained_settings
from microscopy_cls.config.load import all_keys
from microscopy_cls.errors import ConfigError

SMALLEST = "name: cells\ndata: {root: raw}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cells.yaml"
    path.write_text(SMALLEST, encoding="utf-8")
    return path


def load_text(path: Path, text: str) -> Config:
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def message_of(path: Path, text: str, *overrides: str) -> str:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        load_config(path, overrides)
    return str(raised.value)


def sections(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section's prefix ("" or "data." ...) and class."""
    yield prefix, model
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from sections(field.annotation, f"{prefix}{name}.")


def test_a_name_and_a_source_are_enough_and_all_else_has_a_default(file: Path) -> None:
    config = load_config(file)
    assert (config.name, config.data.root) == ("cells", Path("raw"))
    assert config.finetune.strategy == "full"
    assert config.folds.num == 5
    assert config.data.max_unreadable == 0.01


@pytest.mark.parametrize("prefix", [prefix for prefix, _ in sections()])
def test_every_section_is_frozen(file: Path, prefix: str) -> None:
    section: Any = load_config(file)
    for name in prefix.split(".")[:-1]:
        section = getattr(section, name)
    for key in type(section).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, key, getattr(section, key))


def test_every_key_is_described() -> None:
    for _, model in sections():
        for name, field in model.model_fields.items():
            is_section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
            assert is_section or field.description, name


def test_yaml_of_a_config_names_every_key_and_loads_to_the_same_config(file: Path) -> None:
    text = """
name: Zellen-2
data: {table: t.csv, columns: {path: file, group: slide}, intensity: [0, 4095.5], metadata: [day, lamp], notice: Größe}
finetune: {batch_size: 8, learning_rate: 2.5e-4}
runtime: {workers: 3, device: "cuda:1"}
"""
    config = load_text(file, text)
    written = to_yaml(config)
    assert load_text(file, written) == config
    assert to_yaml(load_text(file, written)) == written
    assert "Größe" in written
    values = yaml.safe_load(written)
    assert {key.split(".")[0] for key in all_keys(Config)} == set(values)
    assert set(values["data"]) == {key.split(".")[1] for key in all_keys(Config) if key.startswith("data.")}


# Overrides


def test_overrides_are_yaml_and_the_last_one_wins(file: Path) -> None:
    config = load_config(
        file,
        ["finetune.epochs=3", "finetune.epochs=7", "data.intensity=[0, 4095]", "tracking.mlflow=no",
         "data.columns.group=slide", "data.group_regex=(a=b)", "finetune.learning_rate=1e-4"],
    )  # fmt: skip
    assert config.finetune.epochs == 7
    assert config.data.intensity == (0.0, 4095.0)
    assert config.tracking.mlflow is False
    assert config.data.columns.group == "slide"
    assert config.data.group_regex == "(a=b)"  # only the first equals sign divides
    assert config.finetune.learning_rate == 1e-4


def test_an_override_wins_over_the_file_and_leaves_its_neighbours(file: Path) -> None:
    file.write_text(SMALLEST + "finetune: {epochs: 3, mixup: 0.2}\n", encoding="utf-8")
    config = load_config(file, ["finetune.epochs=9"])
    assert (config.finetune.epochs, config.finetune.mixup) == (9, 0.2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("finetune.epochs", "--set finetune.epochs: write it as section.key=value, for example finetune.epochs=5"),
        ("name.first=3", "--set name.first=3: name is a value, not a section"),
        ("data.root=[", r"--set data.root=\[: the value is not valid YAML; quote it"),
        ("finetune.epoch=3", r"cells.yaml: unknown key finetune.epoch \(did you mean finetune.epochs\?\)"),
        ("finetune.epochs=", "cells.yaml: finetune.epochs: Input should be a valid integer"),
    ],
)
def test_an_override_that_cannot_be_used_is_named(file: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(file, [override])


# Unknown keys


@pytest.mark.parametrize(
    ("text", "suggested"),
    [
        ("finetune: {epoch: 3}", "unknown key finetune.epoch (did you mean finetune.epochs?)"),
        ("finetune: {batchsize: 3}", "unknown key finetune.batchsize (did you mean finetune.batch_size?)"),
        ("finetuning: {epochs: 3}", "unknown key finetuning (did you mean finetune?)"),
        ("epochs: 3", "unknown key epochs (did you mean finetune.epochs?)"),
        ("image_size: 224", "unknown key image_size (did you mean model.image_size_px?)"),
        ("model: {epochs: 3}", "unknown key model.epochs (did you mean finetune.epochs?)"),
    ],
)
def test_an_unknown_key_suggests_the_nearest_one(file: Path, text: str, suggested: str) -> None:
    assert suggested in message_of(file, SMALLEST + text)


def test_an_unknown_key_deep_inside_suggests_its_sibling(file: Path) -> None:
    text = "name: cells\ndata: {root: raw, columns: {lable: y}}"
    assert "unknown key data.columns.lable (did you mean data.columns.label?)" in message_of(file, text)


def test_an_unknown_key_like_no_other_lists_what_is_known_there(file: Path) -> None:
    assert "unknown key zzz (known here: augment, data, evaluate, finetune" in message_of(file, SMALLEST + "zzz: 1")
    assert "unknown key folds.qqq (known here: group_near_duplicates, num, repeats, scheme, seed)" in message_of(
        file, SMALLEST + "folds: {qqq: 1}"
    )


def test_all_unknown_keys_are_told_at_once(file: Path) -> None:
    message = message_of(file, SMALLEST + "finetune: {epoch: 3}\nfolds: {number: 3}\n5: 1")
    assert "finetune.epoch " in message
    assert "folds.number" in message
    assert "unknown key 5 (" in message


# Values that do not fit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("folds: {num: 1}", "folds.num: Input should be greater than or equal to 2 (given: 1)"),
        ("folds: {seed: -1}", "folds.seed: Input should be greater than or equal to 0"),
        ("model: {image_size_px: 31}", "model.image_size_px: Input should be greater than or equal to 32"),
        ("model: {image_size_px: 2048}", "model.image_size_px: Input should be less than or equal to 1024"),
        ("model: {resize: squeeze}", "model.resize: Input should be 'stretch', 'pad' or 'crop' (given: 'squeeze')"),
        ("model: {drop_path: 1}", "model.drop_path: Input should be less than 1"),
        ("finetune: {strategy: half}", "finetune.strategy: Input should be 'full', 'probe', 'head_then_full'"),
        ("finetune: {stage_epochs: 0}", "finetune.stage_epochs: Input should be greater than or equal to 1"),
        ("finetune: {effective_beta: 1}", "finetune.effective_beta: Input should be less than 1"),
        ("finetune: {logit_adjustment: -1}", "finetune.logit_adjustment: Input should be greater than or equal to 0"),
        ("finetune: {sampling: even}", "finetune.sampling: Input should be 'none' or 'balanced'"),
        ("finetune: {loss: hinge}", "finetune.loss: Input should be 'cross_entropy' or 'focal'"),
        ("finetune: {epochs: 0}", "finetune.epochs: Input should be greater than or equal to 1"),
        ("finetune: {epochs: 1.5}", "finetune.epochs: Input should be a valid integer"),
        ("finetune: {batch_size: 0}", "finetune.batch_size: Input should be greater than or equal to 1 (given: 0) or "),
        ("finetune: {batch_size: many}", "or Input should be 'auto' (given: 'many')"),
        ("finetune: {learning_rate: 0}", "finetune.learning_rate: Input should be greater than 0"),
        ("finetune: {learning_rate: .inf}", "finetune.learning_rate: Input should be a finite number"),
        ("finetune: {weight_decay: .nan}", "finetune.weight_decay: Input should be"),
        ("finetune: {layer_decay: 1.1}", "finetune.layer_decay: Input should be less than or equal to 1"),
        ("finetune: {validation_fraction: 0.6}", "validation_fraction: Input should be less than or equal to 0.5"),
        ("finetune: {class_weights: even}", "class_weights: Input should be 'none', 'balanced' or 'effective'"),
        ("finetune: {patience: -1}", "finetune.patience: Input should be greater than or equal to 0"),
        ("augment: {preset: xrays}", "augment.preset: Input should be 'brightfield', 'fluorescence', 'xray', 'ct' or"),
        ("evaluate: {target_coverage: 1}", "evaluate.target_coverage: Input should be less than 1"),
        ("evaluate: {bootstrap_samples: 9}", "bootstrap_samples: Input should be greater than or equal to 100"),
        ("runtime: {device: gpu}", "runtime.device: String should match pattern"),
        ("runtime: {workers: -1}", "runtime.workers: Input should be greater than or equal to 0 (given: -1) or "),
        ("runtime: {precision: fp16}", "runtime.precision: Input should be 'auto', 'fp32' or 'bf16'"),
        ("finetune: 3", "finetune: should be a section, with its keys below it (given: 3)"),
        ("finetune:", "finetune: should be a section, with its keys below it (given: None)"),
    ],
)  # fmt: skip
def test_a_value_out_of_its_limits_is_refused_by_key(file: Path, text: str, message: str) -> None:
    told = message_of(file, SMALLEST + text)
    assert told.startswith(f"{file}: ")
    assert message in told
    assert "pydantic" not in told


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("sampling: balanced, class_weights: effective", "sampling and class_weights each make up for rare classes"),
        ("sampling: balanced, logit_adjustment: 1", "sampling and logit_adjustment each make up for rare classes"),
        ("class_weights: balanced, logit_adjustment: 1", "together too much: keep one"),
        ("loss: focal", "loss focal needs certain labels, to tell easy from hard: set label_smoothing to 0"),
        ("loss: focal, label_smoothing: 0, mixup: 0.1, cutmix: 1", "set mixup, cutmix to 0"),
        (
            "batch_size: 7, mixup: 0.1, cutmix: 1",
            "mixup and cutmix mix images in pairs: make batch_size even (given: 7)",
        ),
        ("batch_size: 1, cutmix: 1", "or set cutmix to 0"),
        (
            "strategy: probe, sampling: balanced",
            "strategy probe knows no sampling: weigh rare classes by class_weights",
        ),
        ("strategy: probe, loss: focal, label_smoothing: 0", "strategy probe knows no loss"),
        ("strategy: probe, logit_adjustment: 0.5", "strategy probe knows no logit_adjustment"),
    ],
)
def test_keys_that_undo_or_ignore_each_other_are_refused(file: Path, keys: str, message: str) -> None:
    told = message_of(file, f"{SMALLEST}finetune: {{{keys}}}")
    assert f"{file}: finetune: " in told
    assert message in told


@pytest.mark.parametrize("keys", ["strategy: probe, class_weights: effective", "loss: focal, label_smoothing: 0"])
def test_ways_of_balancing_go_with_what_knows_them(file: Path, keys: str) -> None:
    load_text(file, f"{SMALLEST}finetune: {{{keys}}}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{}", "data: give data.root (a folder per class) or data.table (a CSV or Parquet file)"),
        ("{root: raw, max_unreadable: 1}", "data.max_unreadable: Input should be less than 1"),
        ("{root: raw, page: -1}", "data.page: Input should be greater than or equal to 0"),
        ("{root: raw, channels: []}", "data.channels: give one to three channel numbers, counted from 0 (given: [])"),
        ("{root: raw, channels: [0, 1, 2, 3]}", "data.channels: give one to three channel numbers"),
        ("{root: raw, channels: [-1]}", "data.channels: give one to three channel numbers"),
        ("{root: raw, max_pixels: 0}", "data.max_pixels: Input should be greater than 0"),
        ("{root: raw, intensity: bright}", "data.intensity: Input should be 'percentile' or 'full' (given: 'bright')"),
        ("{root: raw, intensity: [1]}", "data.intensity: Input should be 'percentile' or 'full' (given: [1]) or Field"),
        ("{root: raw, intensity: [5, 1]}", "data.intensity: a window [low, high] needs low below high (given: [5.0"),
        ("{root: raw, intensity: [5, 5]}", "data.intensity: a window [low, high] needs low below high"),
        ("{root: raw, intensity: [0, .inf]}", "data.intensity: Input should be 'percentile' or 'full'"),
    ],
)  # fmt: skip
def test_a_source_that_cannot_be_used_is_refused_by_key(file: Path, data: str, message: str) -> None:
    assert message in message_of(file, f"name: cells\ndata: {data}\n")


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "two words", '"x\\n"', "-o"])
def test_a_name_that_is_no_folder_name_is_refused(file: Path, name: str) -> None:
    assert "name: " in message_of(file, f"name: {name}\ndata: {{root: raw}}\n")


def test_every_fault_is_told_at_once_and_each_key_once(file: Path) -> None:
    told = message_of(file, "data: {root: raw, page: -1}\nfinetune: {batch_size: many, epochs: 0}\n")
    assert "name: Field required" in told
    assert [told.count(f"{key}: ") for key in ("data.page", "finetune.batch_size", "finetune.epochs")] == [1, 1, 1]


# Files that are no config


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.yaml: there is no such file. `microscopy-cls init DIR` writes"):
        load_config(tmp_path / "none.yaml")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: .*directory"):
        load_config(tmp_path)


def test_bytes_that_are_no_utf8_are_refused(file: Path) -> None:
    file.write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(ConfigError, match=r"cannot be read: .*utf-8"):
        load_config(file)


@pytest.mark.parametrize("text", ["name: other\n", "folds: {num: 3, num: 4}\n"])
def test_a_key_that_stands_twice_is_refused_with_its_line(file: Path, text: str) -> None:
    told = message_of(file, SMALLEST + text)
    assert "stands there twice" in told
    assert "line" in told


def test_text_that_is_no_yaml_is_refused_with_its_line(file: Path) -> None:
    assert "is not valid YAML" in (told := message_of(file, SMALLEST + "finetune: [\n"))
    assert "line" in told


@pytest.mark.parametrize("text", ["", "5", "- name", "just words"])
def test_yaml_that_is_no_mapping_is_refused(file: Path, text: str) -> None:
    assert "should be a mapping of sections (name, data, folds, ...), see configs/" in message_of(file, text)


def test_metadata_without_a_table_are_refused(file: Path) -> None:
    told = "data.metadata names columns of a table: give data.table too, or remove data.metadata"
    assert told in message_of(file, "name: cells\ndata: {root: raw, metadata: [scanner]}\n")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.layers=[1, 2]", "model.layers: Tuple should have at least 4 items after validation, not 2"),
        ("model.layers=[1, 2, 3, 4, 5]", "model.layers: Tuple should have at most 4 items after validation"),
        ("model.layers=[1, 2, 0, 4]", "model.layers: Input should be greater than or equal to 1 (given: 0)"),
        ("model.cardinality=0", "model.cardinality: Input should be greater than or equal to 1 (given: 0)"),
        ("model.base_width=wide", "model.base_width: Input should be a valid integer"),
    ],
)
def test_a_shape_of_ones_own_is_four_stages_and_positive_numbers(file: Path, override: str, message: str) -> None:
    assert message in message_of(file, SMALLEST, override)


def test_leaving_one_group_out_cannot_be_repeated(file: Path) -> None:
    folds = "folds: {scheme: leave_one_group_out, repeats: 3}"
    assert (
        "folds: leave_one_group_out divides the images in one way only: set repeats to 1 (given: 3) or scheme to "
        "stratified" in message_of(file, SMALLEST + folds)
    )


def test_the_number_of_repeats_and_the_refit_are_no_part_of_what_a_run_is(file: Path) -> None:
    file.write_text(SMALLEST)
    plain, more = load_config(file, []), load_config(file, ["folds.repeats=3", "evaluate.bundle=refit"])
    assert trained_settings(plain) == trained_settings(more)
    other = load_config(file, ["folds.scheme=leave_one_group_out"])
    assert trained_settings(plain) != trained_settings(other)
