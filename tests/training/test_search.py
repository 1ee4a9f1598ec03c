"""Laws of a search inside the folds, on eighteen tiny pictures a class and timm's test network."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from tests.training.tiny import draw_tiny, tiny_config

from microscopy_cls.config import Config, Paths
from microscopy_cls.dataset.prepare import prepare
from microscopy_cls.errors import FoldError, MissingDependencyError, TrainingError
from microscopy_cls.tracking import NullTracker
from microscopy_cls.training import fold_search as fold_search_module
from microscopy_cls.training import member as member_module
from microscopy_cls.training import search as search_module
from microscopy_cls.training.cross_validation import CrossValidation
from microscopy_cls.training.fold_data import Images
from microscopy_cls.training.fold_search import inner_part
from microscopy_cls.training.parts import Part, fold_parts
from microscopy_cls.training.run_state import load_state
from microscopy_cls.training.search import next_trial
from microscopy_cls.training.trials import Trial, best_of, load_trials, save_trials

SPACE: dict[str, Any] = {
    "finetune.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "finetune.weight_decay": {"choices": [0.0, 0.05]},
    "augment.strength": {"low": 0, "high": 1},
}


def config(search: dict[str, Any] | None = None, bundle: str = "folds", **finetune: Any) -> Config:
    searched = {"trials": 3, "validation_fraction": 0.34, "space": SPACE} | (search or {})
    return tiny_config(finetune, search=searched, evaluate={"bundle": bundle})


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A prepared set of two classes, six groups each, three images a group."""
    monkeypatch.chdir(tmp_path)
    draw_tiny(18, 3)
    found = Paths("tiny")
    prepare(config(), found)
    return found


def train(settings: Config, paths: Paths, fold: int | None = None, **options: bool) -> pd.DataFrame | None:
    return CrossValidation(settings, paths, NullTracker(), **options).run(fold)


def kept(paths: Paths, fold: int = 0) -> dict[str, Any]:
    """`search.json`, without the times."""
    found = json.loads((paths.runs / f"fold_{fold}" / "search.json").read_text())
    for trial in found["trials"]:
        trial.pop("seconds")
    return dict(found)


def test_each_fold_chooses_the_best_of_its_own_trials_and_keeps_them(paths: Paths) -> None:
    assert train(config(), paths) is not None
    for fold in range(2):
        found = kept(paths, fold)
        assert len(found["trials"]) == 3
        best = min(found["trials"], key=lambda trial: trial["score"])
        assert found["chosen"] == {"values": best["values"], "score": best["score"]}
        assert not list((paths.runs / f"fold_{fold}").glob("trial_*"))
    state = load_state(paths.runs)
    assert state is not None
    chosen = {"values": kept(paths)["chosen"]["values"], "score": kept(paths)["chosen"]["score"]}
    assert state.searches["0"] == {**chosen, "trials": 3, "pruned": 0, "diverged": 0}
    assert set(state.searches) == {"0", "1"}


def test_the_configured_values_are_tried_first_and_all_lie_in_the_space(paths: Paths) -> None:
    train(config(), paths, 0)
    trials = kept(paths)["trials"]
    assert trials[0]["values"] == {
        "finetune.learning_rate": 1e-3, "finetune.weight_decay": 0.05, "augment.strength": 1.0,
    }  # fmt: skip
    for trial in trials:
        assert 1e-4 <= trial["values"]["finetune.learning_rate"] <= 1e-2
        assert trial["values"]["finetune.weight_decay"] in (0.0, 0.05)
    assert len({json.dumps(trial["values"]) for trial in trials}) == 3


def test_the_labels_of_the_test_fold_never_change_the_choice(paths: Paths) -> None:
    train(config({"trials": 2}), paths, 0)
    before = kept(paths)
    manifest = pd.read_parquet(paths.manifest)
    tested = manifest["fold"] == 0
    manifest.loc[tested, "label"] = manifest.loc[tested, "label"].map({"dark": "light", "light": "dark"})
    manifest.to_parquet(paths.manifest, index=False)
    train(config({"trials": 2}), paths, 0)
    assert kept(paths) == before
    manifest["fold"] = 1 - manifest["fold"]
    manifest.to_parquet(paths.manifest, index=False)
    train(config({"trials": 2}), paths, 0)
    assert kept(paths) != before, "those of the training folds do"


def test_trials_are_judged_on_whole_groups_of_the_training_images(paths: Paths) -> None:
    images = Images.load(paths)
    groups = images.manifest["split_group"]
    for fold in range(2):
        data = inner_part(images, config(), Part(fold))
        parts = [set(groups[rows]) for rows in (data.train, data.validation, data.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 6
        assert all(parts)
        assert (images.manifest.loc[data.test, "fold"] == fold).all()


def test_the_member_is_the_one_that_the_chosen_values_give_without_a_search(paths: Paths) -> None:
    train(config({"trials": 2}), paths, 0)
    searched, values = load_file(paths.members / "fold_0.safetensors"), kept(paths)["chosen"]["values"]
    train(config({"trials": 0}).with_values(values), paths, 0)
    plain = load_file(paths.members / "fold_0.safetensors")
    assert all(np.array_equal(plain[name], tensor) for name, tensor in searched.items())


@pytest.mark.parametrize(("stop_after", "validation_fraction"), [(1, 0), (4, 0.34)])
def test_a_search_that_was_stopped_ends_as_if_it_had_not_been(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, stop_after: int, validation_fraction: float
) -> None:
    settings = config({"trials": 2}, epochs=2, validation_fraction=validation_fraction)
    train(settings, paths, 0)
    whole = kept(paths)
    save = member_module.MemberTrainer._save
    saved = 0

    def failing(self: member_module.MemberTrainer) -> None:
        nonlocal saved
        save(self)
        saved += 1
        if saved == stop_after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(member_module.MemberTrainer, "_save", failing)
        with pytest.raises(KeyboardInterrupt):
            train(settings, paths, 0, restart=True)
    train(settings, paths, 0)
    assert kept(paths) == whole


def test_a_trial_that_is_done_is_not_lost_before_it_is_kept(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fold_search_module, "save_trials", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config({"trials": 1}), paths, 0)
    assert list((paths.runs / "fold_0" / "trial_0").iterdir())
    train(config({"trials": 1}), paths, 0)
    assert not (paths.runs / "fold_0" / "trial_0").exists()


def test_finished_trials_are_not_done_again(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    train(config({"trials": 1}), paths, 0)
    (paths.runs / "fold_0" / "oof.safetensors").unlink()
    monkeypatch.setattr(fold_search_module, "attempt", lambda *_, **__: pytest.fail("tried again"))
    train(config({"trials": 1}), paths, 0)


def test_the_search_of_a_refit_has_a_seed_of_its_own(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def spied(*arguments: Any) -> Trial:
        seeds.append(arguments[3])
        return next_trial(*arguments)

    monkeypatch.setattr(fold_search_module, "next_trial", spied)
    train(config({"trials": 1}, bundle="refit"), paths)
    assert seeds == [0, 1, 2]


def test_a_damaged_file_of_trials_starts_the_search_over(paths: Paths, caplog: pytest.LogCaptureFixture) -> None:
    save_trials(paths.runs / "fold_0", [done({"finetune.learning_rate": 0.01}, 1.0)])
    assert len(load_trials(paths.runs / "fold_0")) == 1
    (paths.runs / "fold_0" / "search.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert load_trials(paths.runs / "fold_0") == []
    assert "cannot be read, so this search starts over" in caplog.text


def test_another_space_is_another_run(paths: Paths, caplog: pytest.LogCaptureFixture) -> None:
    train(config({"trials": 1}), paths, 0)
    other = {"trials": 1, "space": SPACE | {"augment.strength": {"low": 0, "high": 2}}}
    with caplog.at_level(logging.WARNING):
        train(config(other), paths, 0)
    assert "starting anew (changed: search.space.augment.strength.high 1.0 -> 2.0)" in caplog.text


@pytest.mark.parametrize("strategy", ["head_then_full", "gradual"])
def test_a_search_goes_with_the_strategies_that_have_epochs(paths: Paths, strategy: str) -> None:
    space = {key: values for key, values in SPACE.items() if not key.startswith("augment.")}
    train(config({"trials": 1, "space": space}, strategy=strategy), paths, 0)
    assert len(kept(paths)["trials"]) == 1


def test_trials_that_diverge_are_told_and_not_chosen(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    backward = member_module.MemberTrainer.backward

    def fragile(self: member_module.MemberTrainer, batch: Any) -> Any:
        return backward(self, batch) * (float("nan") if self.settings.weight_decay else 1)

    monkeypatch.setattr(member_module.MemberTrainer, "backward", fragile)
    space = {"finetune.weight_decay": {"choices": [0.05, 0.0]}}
    train(config({"trials": 3, "space": space}), paths, 0)
    found = kept(paths)
    assert found["chosen"]["values"] == {"finetune.weight_decay": 0.0}
    assert {trial["values"]["finetune.weight_decay"]: trial["state"] for trial in found["trials"]} == {
        0.05: "diverged", 0.0: "complete",
    }  # fmt: skip
    monkeypatch.setattr(member_module.MemberTrainer, "backward", lambda self, batch: backward(self, batch) * np.nan)
    with pytest.raises(TrainingError, match=r"fold 0: none of the 3 trials of its search kept a finite loss. Lower"):
        train(config({"trials": 3, "space": space}), paths, 0, restart=True)


def test_answers_that_are_no_longer_finite_stop_a_training(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = member_module.predict

    def broken(*arguments: Any) -> Any:
        found = predict(*arguments)
        found.logits[0, 0] = np.nan
        return found

    monkeypatch.setattr(member_module, "predict", broken)
    with pytest.raises(TrainingError, match=r"fold 0, epoch 0: the network's answers are no longer finite. Lower"):
        train(config({"trials": 0}, validation_fraction=0.34), paths, 0)


def test_the_progress_ends_where_it_was_to_end(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    cross = CrossValidation(config({"trials": 1}, epochs=2), paths, NullTracker())
    planned, seen = cross._num_images_to_see(fold_parts(2, 0)), 0
    images = fold_search_module.Telling.images

    def counted(self: Any, num: int) -> None:
        nonlocal seen
        seen += num
        images(self, num)

    monkeypatch.setattr(fold_search_module.Telling, "images", counted)
    cross.run()
    assert seen == pytest.approx(planned, rel=0.2)


def test_what_is_chosen_is_told(paths: Paths, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        train(config({"trials": 1}), paths, 0)
    values = "finetune.learning_rate 0.001, finetune.weight_decay 0.05, augment.strength 1"
    assert f"fold 0 (1 of 1), trial 1/1: {values}: validation loss " in caplog.text
    assert f"fold 0 (1 of 1): chose {values} (validation loss " in caplog.text


def test_a_part_that_cannot_be_spared_is_refused(paths: Paths) -> None:
    manifest = pd.read_parquet(paths.manifest)
    manifest["split_group"] = manifest["label"] + manifest["fold"].astype(str)
    manifest.to_parquet(paths.manifest, index=False)
    with pytest.raises(
        FoldError, match=r"fold 0: none of its training images can be spared to judge the trials .* Set"
    ):
        train(config(), paths, 0)


def test_without_optuna_a_search_says_how_to_get_it(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"search.trials: 0\) needs optuna, .*microscopy-cls\[search\]"):
        train(config(), paths, 0)


# The sampler alone


def done(values: dict[str, Any], score: float, curve: tuple[float, ...] = ()) -> Trial:
    return Trial(values, list(curve or (score,)), "complete", score, 1.0)


def searched(settings: Config, num: int, value_of: Any, start: dict[str, Any]) -> list[Trial]:
    trials: list[Trial] = []
    for _ in range(num):
        trials.append(
            next_trial(settings.search, start, 4, 0, trials, lambda _, values, __: done(values, value_of(values)))
        )
    return trials


def test_a_search_finds_better_values_than_it_began_with() -> None:
    key = "finetune.learning_rate"
    settings = config({"trials": 24, "space": {key: SPACE[key]}})
    trials = searched(settings, 24, lambda values: abs(np.log10(values[key]) + 2.5), {key: 1e-4})
    assert trials[0].values == {key: 1e-4}
    best = best_of(trials, highest=False, name="fold 0")
    assert abs(np.log10(best.values[key]) + 2.5) < 0.2
    assert best_of(trials, highest=True, name="fold 0").values == {key: 1e-4}, "the farthest"


def test_whole_numbers_stay_whole_and_words_words() -> None:
    space = {
        "finetune.epochs": {"low": 1, "high": 9},
        "finetune.freeze_batch_norm": {"choices": [True, False]},
        "finetune.class_weights": {"choices": ["none", "balanced"]},
    }
    settings = config({"trials": 8, "space": space})
    start = {"finetune.epochs": 20, "finetune.freeze_batch_norm": False, "finetune.class_weights": "none"}
    trials = searched(settings, 8, lambda values: values["finetune.epochs"], start)
    assert all(type(trial.values["finetune.epochs"]) is int for trial in trials)
    assert {trial.values["finetune.freeze_batch_norm"] for trial in trials} == {True, False}
    assert all(isinstance(trial.values["finetune.class_weights"], str) for trial in trials)
    assert trials[0].values != start, "which lies outside the space"


def test_the_same_values_again_are_not_trained_again() -> None:
    key = "finetune.weight_decay"
    settings, calls = config({"trials": 6, "space": {key: SPACE[key]}}), []
    trials = searched(settings, 6, lambda values: calls.append(values) or values[key], {key: 0.05})
    assert len(trials) == 6
    assert len(calls) == 2
    assert sum(trial.seconds for trial in trials) == 2


def test_a_trial_behind_the_median_is_given_up_but_not_in_its_first_half() -> None:
    key = "finetune.learning_rate"
    settings = config({"trials": 9, "space": {key: SPACE[key]}})
    earlier = [done({key: 1e-4 * k}, 0.1, (0.4, 0.3, 0.2, 0.1)) for k in range(1, 5)]
    given_up = []

    def hopeless(_: int, values: dict[str, Any], is_hopeless: Any) -> Trial:
        curve: list[float] = []
        for value in (9.0, 9.0, 9.0):
            curve.append(value)
            given_up.append(is_hopeless(curve))
        return Trial(values, curve, "pruned", None, 0.0)

    last = next_trial(settings.search, {key: 1e-3}, 4, 0, earlier, hopeless)
    assert given_up == [False, False, True]
    next_trial(settings.search, {key: 1e-3}, 4, 0, [*earlier, last], lambda _, values, __: done(values, 0.0))


def test_nothing_is_given_up_where_epochs_are_searched() -> None:
    key = "finetune.epochs"
    settings = config({"trials": 9, "space": {key: {"low": 2, "high": 9}}})
    earlier = [done({key: k}, 0.1, (0.1,) * 4) for k in range(2, 7)]
    told = []
    next_trial(
        settings.search, {key: 9}, 4, 0, earlier,
        lambda _, values, is_hopeless: (told.append(is_hopeless([9.0] * 4)), done(values, 9.0))[1],
    )  # fmt: skip
    assert told == [False]
