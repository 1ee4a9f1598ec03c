"""A declared space holds only what a fold may choose for itself, and only values that the schema takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from microscopy_cls.config import Config, load_config, to_yaml
from microscopy_cls.config.search import configured
from microscopy_cls.errors import ConfigError

SMALLEST = "name: cells\ndata: {root: raw}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cells.yaml"


def load_text(file: Path, text: str) -> Config:
    file.write_text(SMALLEST + text, encoding="utf-8")
    return load_config(file)


def space(text: str) -> str:
    return f"search: {{trials: 3, space: {{{text}}}}}"


def test_without_the_section_nothing_is_searched(file: Path) -> None:
    search = load_text(file, "").search
    assert search.trials == 0
    assert search.space == {}


def test_values_take_the_type_of_their_key_whatever_yaml_makes_of_them(file: Path) -> None:
    text = (
        "finetune.learning_rate: {low: 1e-4, high: 1, log: true}, finetune.epochs: {low: 2, high: 5}, "
        "finetune.weight_decay: {choices: [0, 1e-2]}, finetune.freeze_batch_norm: {choices: [no, yes]}, "
        "augment.preset: {choices: [none, xray]}, model.drop_path: {low: 0, high: 0.2}"
    )
    found = load_text(file, space(text)).search.space
    ends = {key: dimension.ends for key, dimension in found.items()}
    assert ends == {
        "finetune.learning_rate": (1e-4, 1.0),
        "finetune.epochs": (2, 5),
        "finetune.weight_decay": (0.0, 0.01),
        "finetune.freeze_batch_norm": (False, True),
        "augment.preset": ("none", "xray"),
        "model.drop_path": (0.0, 0.2),
    }
    assert [type(end) for end in ends["finetune.epochs"]] == [int, int]
    assert [type(end) for end in ends["finetune.weight_decay"]] == [float, float]
    assert [type(end) for end in ends["finetune.learning_rate"]] == [float, float]


def test_yaml_of_a_search_loads_to_the_same_and_shows_one_form_a_key(file: Path) -> None:
    text = space(
        "finetune.learning_rate: {low: 1e-4, high: 0.1, log: true}, finetune.loss: {choices: [cross_entropy, focal]}"
    )
    config = load_text(file, text + "\nfinetune: {label_smoothing: 0}")
    written = to_yaml(config)
    file.write_text(written)
    assert load_config(file) == config
    assert "null" not in written.split("search:")[1].split("evaluate:")[0]


def test_a_search_can_be_set_on_the_command_line(file: Path) -> None:
    load_text(file, "")
    overrides = ["search.trials=4", "search.space={finetune.mixup: {low: 0, high: 0.4}}"]
    search = load_config(file, overrides).search
    assert search.trials == 4
    assert search.space["finetune.mixup"].ends == (0.0, 0.4)


@pytest.mark.parametrize(("value", "held"), [(1e-4, True), (1e-3, True), (0.1, True), (0.2, False), (1e-5, False)])
def test_a_range_holds_its_ends(file: Path, value: float, held: bool) -> None:
    search = load_text(file, space("finetune.learning_rate: {low: 1e-4, high: 0.1}")).search
    assert search.space["finetune.learning_rate"].holds(value) is held


def test_values_replace_those_of_the_config_and_nothing_else(file: Path) -> None:
    config = load_text(file, "finetune: {epochs: 7}")
    values = {"finetune.learning_rate": 0.01, "model.drop_path": 0.1, "augment.strength": 0.5}
    changed = config.with_values(values)
    assert configured(values, changed.trained) == values
    assert changed.with_values(configured(values, config.trained)) == config
    assert changed.finetune.epochs == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search: {trials: 3}", "search: trials without a space: say which keys to search, or set search.trials to 0"),
        ("search: {trails: 3}", "unknown key search.trails (did you mean search.trials?)"),
        ("search: {trials: -1}", "search.trials: Input should be greater than or equal to 0"),
        ("search: {validation_fraction: 0}", "search.validation_fraction: Input should be greater than 0"),
        ("search: {score: accuracy}", "search.score: Input should be 'loss' or 'f1_macro' (given: 'accuracy')"),
        ("search: {space: 3}", "search.space: Input should be a valid dictionary (given: 3)"),
        (
            space("finetune.learning_rte: {low: 1, high: 2}"),
            "search: space: unknown key finetune.learning_rte (did you mean finetune.learning_rate?)",
        ),
        (
            space("model.name: {choices: [a, b]}"),
            "search: space model.name: cannot be searched. Keys of finetune and augment can, and "
            "model.drop_path; others change the network or the data",
        ),
        (space("data.page: {low: 0, high: 1}"), "search: space data.page: cannot be searched. Keys of finetune and"),
        (space("runtime.seed: {low: 0, high: 1}"), "search: space runtime.seed: cannot be searched."),
        (
            space("finetune.strategy: {choices: [full, gradual]}"),
            "space finetune.strategy: cannot be searched, because each strategy is an experiment of its own: run both",
        ),
        (
            space("finetune.batch_size: {choices: [8, 16]}"),
            "space finetune.batch_size: cannot be searched, because it is fixed for the whole run when that begins",
        ),
        (
            space("finetune.validation_fraction: {low: 0, high: 0.2}"),
            "cannot be searched, because it decides what the values are judged on",
        ),
        (
            space("finetune.mixup: {lo: 0, high: 1}"),
            "search.space.finetune.mixup: give low and high (and log: true) or choices, not lo",
        ),
        (space("finetune.mixup: 0.2"), "finetune.mixup: give low and high (and log: true) or choices, not 0.2"),
        (space("finetune.mixup: {low: 0}"), "search.space.finetune.mixup: give either low and high or choices"),
        (space("finetune.mixup: {choices: [0, 1], high: 1}"), "give either low and high or choices"),
        (space("finetune.mixup: {}"), "give either low and high or choices"),
        (space("finetune.mixup: {low: 2, high: 1}"), "search.space.finetune.mixup: low (2) should be below high (1)"),
        (space("finetune.mixup: {low: 0, high: 1, log: true}"), "search.space.finetune.mixup: log needs low above 0"),
        (space("finetune.mixup: {low: x, high: 1}"), "search.space.finetune.mixup: Input should be a valid"),
        (space("finetune.mixup: {choices: [0.1, 1e-1]}"), "finetune.mixup: choices should be two or more different"),
        (space("finetune.mixup: {choices: [0.1]}"), "finetune.mixup: choices should be two or more different"),
        (
            space("finetune.learning_rate: {low: 0, high: 1}"),
            "search: space finetune.learning_rate: Input should be greater than 0 (given: 0)",
        ),
        (space("finetune.ema_decay: {low: 0.9, high: 1}"), "space finetune.ema_decay: Input should be less than 1"),
        (space("finetune.epochs: {low: 1.5, high: 3}"), "space finetune.epochs: Input should be a valid integer"),
        (space("augment.preset: {choices: [none, xrays]}"), "space augment.preset: Input should be 'brightfield'"),
        (
            space("finetune.freeze_batch_norm: {low: 0, high: 1}"),
            "search: space finetune.freeze_batch_norm: takes no range, give choices",
        ),
        (
            space("finetune.loss: {choices: [cross_entropy, focal]}, finetune.label_smoothing: {choices: [0, 0.1]}"),
            "space: finetune.loss focal, finetune.label_smoothing 0.1: loss focal needs certain labels",
        ),
        (
            space(", ".join(f"finetune.{key}: {{low: 0.1, high: 0.2}}" for key in (
                "learning_rate", "min_learning_rate", "warmup_epochs", "layer_decay", "weight_decay", "label_smoothing",
                "mixup", "cutmix", "effective_beta", "focal_gamma", "clip_grad_norm", "ema_decay",
            )) + ", augment.strength: {low: 0, high: 1}"),
            "search: space: its 13 keys have more than 5000 combinations of ends and choices, too many for a small",
        ),
        (
            space("finetune.class_weights: {choices: [none, balanced]}") + "\nfinetune: {strategy: probe}",
            "search: finetune.strategy probe chooses its penalty inside each fold by itself: set search.trials to 0",
        ),
    ],
)  # fmt: skip
def test_a_space_that_cannot_be_searched_is_refused_by_key(file: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_text(file, text)
    told = str(raised.value)
    assert told.startswith(f"{file}: ")
    assert message in told


LONGER = "finetune.epochs: {low: 2, high: 5}"
STRONGER = (
    "augment.strength: {low: 0, high: 1}, finetune.mixup: {low: 0, high: 1}, augment.preset: {choices: [none, ct]}"
)


def test_a_refit_needs_folds_whose_schedules_are_of_one_length(file: Path) -> None:
    refit = "\nevaluate: {bundle: refit}"
    with pytest.raises(ConfigError) as raised:
        load_text(file, space(LONGER) + refit)
    assert str(raised.value) == (
        f"{file}: evaluate: bundle refit trains as long as the folds' median best epoch, which says nothing where "
        "their schedules differ in length: take finetune.epochs out of search.space, or set evaluate.bundle to folds"
    )
    load_text(file, space(LONGER))
    load_text(file, space("finetune.mixup: {low: 0, high: 1}") + refit)
    load_text(file, space(LONGER).replace("3", "0") + refit)


def test_a_head_that_is_fitted_once_goes_with_one_augmentation(file: Path) -> None:
    strategy = "\nfinetune: {strategy: head_then_full}"
    with pytest.raises(ConfigError) as raised:
        load_text(file, space(STRONGER) + strategy)
    assert str(raised.value) == (
        f"{file}: search: space augment.strength, augment.preset: cannot be searched with finetune.strategy "
        "head_then_full, whose head is fitted under the configured augmentation: leave it out, or choose strategy full "
        "or gradual"
    )
    load_text(file, space(STRONGER) + strategy.replace("head_then_full", "gradual"))
    load_text(file, space("finetune.mixup: {low: 0, high: 1}") + strategy)
    load_text(file, space(STRONGER).replace("3", "0") + strategy)


def test_keys_that_refuse_each_other_alone_may_be_right_together(file: Path) -> None:
    load_text(file, space("finetune.loss: {choices: [cross_entropy, focal]}") + "\nfinetune: {label_smoothing: 0}")
    load_text(file, space("finetune.focal_gamma: {low: 1, high: 3}") + "\nfinetune: {loss: focal, label_smoothing: 0}")


def test_faults_of_other_sections_are_told_without_a_word_on_the_search(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"finetune.epochs: Input should be greater .*: 0\)$"):
        load_text(file, space("finetune.mixup: {low: 0, high: 1}") + "\nfinetune: {epochs: 0}")
