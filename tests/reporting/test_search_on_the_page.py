"""What a search inside the folds chose stands on the page, and in the method's paragraph."""

import json

from experiment import config, experiment, report

SPACE = {"finetune.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}


def with_searches(paths):
    file = paths.runs / "run_state.json"
    state = json.loads(file.read_text())
    one = {"score": 0.4321, "trials": 5, "pruned": 0, "diverged": 0}
    state["searches"] = {
        "10": one | {"values": {"finetune.learning_rate": 0.0012345}},
        "2": one | {"values": {"finetune.learning_rate": 0.01, "augment.preset": "none"}, "pruned": 2, "diverged": 1},
    }
    file.write_text(json.dumps(state))
    return paths


def test_the_page_shows_what_each_fold_chose_in_the_order_of_folds():
    page = report(with_searches(experiment()), config(search={"trials": 5, "space": SPACE}))
    assert "2 finetune.learning_rate 0.01, augment.preset none 5 (2 given up early, 1 diverged) 0.432" in page.shown
    assert "10 finetune.learning_rate 0.00123 5 0.432" in page.shown
    assert page.shown.index("augment.preset none 5") < page.shown.index("finetune.learning_rate 0.00123 5")
    assert "Inner score: loss on the part" in page.shown
    assert "so folds may choose otherwise" in page.shown


def test_the_method_says_that_values_were_searched_and_how():
    page = report(experiment(), config(search={"trials": 5, "space": SPACE, "score": "f1_macro"}))
    told = "finetune.learning_rate was chosen by 5 trials (tree-structured Parzen estimator, macro F1 on 20"
    assert f"Within each fold {told}" in page.shown


def test_without_a_search_nothing_is_said_of_one():
    page = report(experiment())
    assert "Settings that each fold chose" not in page.shown
    assert "Parzen" not in page.shown
