"""Two runs on the same images: differences are paired by group, and nothing is called better without evidence."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from microscopy_cls.cli import compare as _  # noqa: F401  registers it
from microscopy_cls.cli.main import app
from microscopy_cls.cli.text import WIDTH
from microscopy_cls.config import Paths
from microscopy_cls.dataset.manifest import manifest_digest
from microscopy_cls.errors import DataError
from microscopy_cls.evaluation import compare as module
from microscopy_cls.evaluation.compare import WORDS, compare, verdict
from microscopy_cls.system.files import write_json

CLASSES = ["alga", "yeast"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "RESAMPLES", 200)


def images(num: int = 120, num_groups: int = 40) -> pd.DataFrame:
    """Manifest rows: groups of neighbours, four folds that divide none."""
    rows = np.arange(num)
    groups = rows * num_groups // num
    return pd.DataFrame(
        {
            "image_id": [f"{row:03d}.png" for row in rows],
            "label": np.array(CLASSES, dtype=object)[rows % 2],
            "split_group": [f"slide{group:02d}" for group in groups],
            "fold": groups % 4,
            "sha256": [f"{row:064x}" for row in rows],
            "pixel_digest": [f"{row:032x}" for row in rows],
        }
    )


def finish(name: str, manifest: pd.DataFrame, wrong: Any = (), settings: dict[str, Any] | None = None) -> None:
    """A finished run that errs on the rows `wrong`."""
    right = ~np.isin(np.arange(len(manifest)), np.array(wrong))
    prob = np.where((manifest["label"] == "alga") == right, 0.9, 0.1)
    oof = manifest[["image_id", "fold", "label"]].assign(prob_alga=prob, prob_yeast=1 - prob)
    paths = Paths(name)
    for path, table in ((paths.manifest, manifest), (paths.oof, oof.sample(frac=1, random_state=0))):
        path.parent.mkdir(parents=True)
        table.to_parquet(path, index=False)
    write_json(paths.runs / "run_state.json", {"identity": (settings or {}) | {"manifest": manifest_digest(manifest)}})


def repeat(name: str, folds: pd.Series, wrong: Any = ()) -> None:
    """A second repeat of a finished run, under other folds."""
    paths = Paths(name)
    manifest = pd.read_parquet(paths.manifest).assign(fold_1=folds)
    manifest.to_parquet(paths.manifest, index=False)
    right = ~np.isin(np.arange(len(manifest)), np.array(wrong))
    prob = np.where((manifest["label"] == "alga") == right, 0.9, 0.1)
    oof = manifest[["image_id", "label"]].assign(fold=folds, prob_alga=prob, prob_yeast=1 - prob)
    oof.to_parquet(paths.oof_of(1), index=False)


def test_the_folds_of_all_repeats_that_both_have_alike_are_tested_together() -> None:
    finish("a", images(), range(0, 120, 5))
    finish("b", images(), range(0, 120, 11))
    alone = compare("a", "b")
    assert (alone["num_repeats"], alone["metrics"]["accuracy"]["t_test"]["num_folds"]) == (1, 4)
    group = images()["split_group"].str[-2:].astype(int)
    repeat("a", group // 10, range(0, 120, 6))
    assert compare("a", "b") == alone, "only one of them was repeated"
    repeat("b", group // 10, range(0, 120, 13))
    both = compare("a", "b")
    assert (both["num_repeats"], both["metrics"]["accuracy"]["t_test"]["num_folds"]) == (2, 8)
    assert both["metrics"]["accuracy"]["difference"] == alone["metrics"]["accuracy"]["difference"]
    repeat("b", (group + 5) // 10 % 4, range(0, 120, 13))
    assert compare("a", "b") == alone, "they were divided otherwise"


def test_a_repeat_of_other_folds_than_the_manifest_names_is_refused() -> None:
    finish("a", images())
    finish("b", images())
    repeat("b", images()["fold"])
    manifest = pd.read_parquet(Paths("b").manifest)
    manifest.assign(fold_1=0).to_parquet(Paths("b").manifest)
    with pytest.raises(DataError, match=r"b/oof_1\.parquet: is of other images or folds than"):
        compare("a", "b")


def test_the_difference_of_two_runs_is_that_of_their_metrics() -> None:
    finish("a", images(), range(0, 120, 5), {"finetune": {"epochs": 5}})
    finish("b", images(), range(0, 120, 10), {"finetune": {"epochs": 9}})
    found = compare("a", "b")
    assert (found["num_images"], found["num_groups"]) == (120, 40)
    assert found["settings"] == ["finetune.epochs 5 -> 9"]
    accuracy = found["metrics"]["accuracy"]
    assert (accuracy["a"], accuracy["b"]) == (0.8, 0.9)
    assert accuracy["difference"]["value"] == pytest.approx(0.1)
    assert list(found["metrics"]) == list(WORDS)
    for row in found["metrics"].values():
        assert row["difference"]["value"] == pytest.approx(row["b"] - row["a"], abs=2e-6)
        assert row["difference"]["ci_low"] <= row["difference"]["value"] <= row["difference"]["ci_high"]
    assert found["discordant"]["only_a_right"] == 0
    assert found["discordant"]["only_b_right"] == 12
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_better_run_is_the_same_whichever_is_named_first_and_a_smaller_log_loss_is_better() -> None:
    finish("good", images(), [0])
    finish("bad", images(), range(0, 120, 3))
    for names in itertools.permutations(["good", "bad"]):
        found = compare(*names)
        assert {row["better"] for row in found["metrics"].values()} == {"good"}
        assert found["verdict"].startswith("good is better: its accuracy is higher by 32.5 percentage points")
    assert found["metrics"]["log_loss"]["difference"]["value"] < 0


def test_runs_that_err_equally_often_give_no_evidence_of_a_difference() -> None:
    finish("a", images(), range(0, 120, 10))
    finish("b", images(), range(4, 120, 10))
    found = compare("a", "b")
    assert {row["better"] for row in found["metrics"].values()} == {None}
    assert found["verdict"].startswith("No evidence of a difference in accuracy: b - a is +0.0 percentage points")


def test_a_difference_within_few_groups_is_no_evidence_though_images_alone_would_make_it_one() -> None:
    finish("a", images(num_groups=12), range(20))  # two groups of ten
    finish("b", images(num_groups=12))
    found = compare("a", "b")
    assert found["metrics"]["accuracy"]["better"] is None
    assert found["discordant"]["mcnemar_p_value"] < 1e-5


def test_pairing_sees_a_small_difference_between_runs_that_err_on_the_same_images() -> None:
    shared = list(range(0, 120, 3))
    finish("a", images(num_groups=120), [*shared, 1, 4, 7, 10, 13, 16])
    finish("b", images(num_groups=120), shared)
    assert compare("a", "b")["metrics"]["accuracy"]["better"] == "b"


def test_groups_that_the_manifests_divide_otherwise_are_joined_and_it_is_said() -> None:
    finish("a", images(num_groups=40))
    finish("b", images(num_groups=30), [0])
    found = compare("a", "b")
    assert found["num_groups"] == 10
    assert (
        "group the images differently (40 and 30 groups); those that share an image are joined into 10"
        in (found["cautions"][1])
    )


def test_groups_of_other_names_are_the_same_groups() -> None:
    finish("a", images())
    finish("b", images().assign(split_group=lambda rows: "x" + rows["split_group"]))
    found = compare("a", "b")
    assert found["num_groups"] == 40
    assert len(found["cautions"]) == 1


def test_every_answer_cautions_that_one_training_stands_behind_each_run() -> None:
    finish("a", images())
    finish("b", images(), [0])
    assert compare("a", "b")["cautions"][0].startswith("One training stands behind each run")


def test_few_groups_are_cautioned_of() -> None:
    finish("a", images(num_groups=6))
    finish("b", images(num_groups=6), [0])
    assert (
        compare("a", "b")["cautions"][1]
        == "There are only 6 groups: what the next one will be like, so few hardly tell."
    )


def test_runs_with_other_folds_are_compared_without_a_test_over_folds() -> None:
    finish("a", images())
    finish("b", images().assign(fold=lambda rows: 3 - rows["fold"]), range(0, 120, 7))
    renamed = compare("a", "b")
    assert renamed["t_test_reason"] is None  # other numbers, the same folds
    assert renamed["metrics"]["accuracy"]["t_test"]["num_folds"] == 4
    finish("c", images().assign(fold=lambda rows: (rows["fold"] + (rows.index > 60)) % 4), range(0, 120, 7))
    found = compare("a", "c")
    assert found["t_test_reason"] == "the two runs have other folds"
    assert {row["t_test"] for row in found["metrics"].values()} == {None}
    assert found["metrics"]["accuracy"]["difference"] == renamed["metrics"]["accuracy"]["difference"]


def test_the_verdict_names_metrics_that_say_otherwise() -> None:
    def row(value: float, better: str | None) -> dict[str, Any]:
        return {"difference": {"value": value, "ci_low": value - 0.01, "ci_high": value + 0.01}, "better": better}

    metrics = {"accuracy": row(-0.05, "a"), "f1_macro": row(0.0, None), "log_loss": row(-0.2, "b")}
    assert verdict(metrics, "a", "b") == (
        "a is better: its accuracy is higher by 5.0 percentage points, 95 % interval 4.0 to 6.0. "
        "There is no evidence of a difference in macro F1. But b is better in log loss."
    )


# what cannot be compared ----------------------------------------------------------------------------------------------


def test_runs_on_other_images_are_refused_with_counts_and_an_example_of_each_kind() -> None:
    finish("a", images())
    other = images().iloc[2:].reset_index(drop=True)
    other.loc[0, "label"] = "yeast"
    other.loc[1, "sha256"] = "f" * 64
    finish("b", other)
    with pytest.raises(DataError) as caught:
        compare("a", "b")
    assert str(caught.value) == (
        "a and b are not of the same images: 118 names in common, 2 only in a (000.png), 1 under another label "
        "(002.png: alga, yeast), 1 of the same name with other bytes (003.png). "
        "Prepare and train both from the same data."
    )


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"there is no finished run of that name\. Run `microscopy-cls train` first"):
        compare("a", "b")
    finish("a", images())
    with pytest.raises(DataError, match=r"data/runs/b/oof.parquet: .* of that name\. Finished here: a\."):
        compare("a", "b")


@pytest.mark.parametrize(
    "changed",
    [
        {"fold": lambda rows: (rows["fold"] + 1) % 4},
        {"pixel_digest": lambda rows: rows["pixel_digest"].where(rows.index > 0, "f" * 32)},
    ],
    ids=lambda changed: next(iter(changed)),
)
@pytest.mark.parametrize(("settings", "again"), [({}, "train"), ({"ensemble": {}}, "ensemble")])
def test_predictions_of_other_images_than_the_manifest_names_are_refused(
    changed: dict[str, Any], settings: dict[str, Any], again: str
) -> None:
    finish("a", images())
    finish("b", images(), settings=settings)
    images().assign(**changed).to_parquet(Paths("b").manifest)
    with pytest.raises(DataError) as raised:
        compare("a", "b")
    assert str(raised.value) == (
        f"data/runs/b: was trained on other images than data/prepared/b/manifest.parquet names. Run {again} again."
    )


def test_a_single_group_gives_no_interval_and_is_refused() -> None:
    finish("a", images(num_groups=1).assign(fold=0))
    finish("b", images(num_groups=1).assign(fold=0))
    with pytest.raises(DataError, match="a, b: all images are one group, so there is no interval"):
        compare("a", "b")


# the command ----------------------------------------------------------------------------------------------------------


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["compare", *words])


def test_the_command_prints_a_table_and_ends_with_the_verdict() -> None:
    finish("scratch", images(), range(0, 120, 5), {"model": {"weights": "none"}})
    finish("started", images(), range(0, 120, 10), {"model": {"weights": "imagenet"}})
    answer = run("scratch", "started")
    assert answer.exit_code == 0, answer.output
    lines = answer.stdout.splitlines()
    assert lines[:3] == ["A  scratch", "B  started", "120 images in 40 groups, each predicted out of fold by both"]
    assert "A -> B: model.weights none -> imagenet" in lines
    rows = {line[:19].strip(): line[19:].split() for line in lines if line[:19].strip() in WORDS.values()}
    assert list(rows) == list(WORDS.values())
    assert rows["accuracy"][:3] == ["0.800", "0.900", "+0.100"]
    assert rows["accuracy"][-3:-1] == ["p", "="]
    assert "started is better" in answer.stdout
    assert max(map(len, lines)) <= WIDTH


def test_of_an_ensemble_the_runs_are_named_and_no_settings() -> None:
    finish("alone", images(), [0], {"finetune": {"epochs": 5}, "runtime": {"seed": 1}})
    finish("both", images(), [1], {"ensemble": {"y": "digest", "x": "digest"}})
    found = compare("alone", "both")
    assert "settings" not in found
    assert found["ensembles"] == {"b": ["x", "y"]}
    assert compare("both", "alone")["ensembles"] == {"a": ["x", "y"]}
    text = run("alone", "both").stdout
    assert "B is an ensemble of x, y" in text.splitlines()
    assert "A -> B" not in text


def test_the_table_says_why_there_is_no_test_over_folds() -> None:
    finish("a", images())
    finish("b", images().assign(fold=lambda rows: rows.index % 4))
    assert "No test over folds: the two runs have other folds." in run("a", "b").stdout


def test_the_command_gives_the_same_as_json() -> None:
    finish("a", images())
    finish("b", images(), range(0, 120, 10))
    assert json.loads(run("a", "b", "--json").stdout) == compare("a", "b")


def test_what_cannot_be_compared_is_exit_code_2_with_one_message() -> None:
    answer = run("a", "b")
    assert answer.exit_code == 2
    assert answer.stderr.startswith("error: data/runs/a/oof.parquet: there is no finished run of that name.")
