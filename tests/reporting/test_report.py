"""Laws of the page as a whole, on a tiny experiment written the way the other stages write theirs."""

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiment import NUM_FOLDS, SCORES, SIDE_PX, config, experiment, report, write_complete, write_metrics, write_run

from microscopy_cls.errors import DataError
from microscopy_cls.reporting import write_report
from microscopy_cls.reporting.inputs import read_inputs

SECTIONS = ["verdict", "result", "data", "classes", "confusion", "roc", "examples", "browser", "curves", "set-aside",
            "method", "card", "reproduce"]  # fmt: skip
HOSTILE_CLASSES = ("<script>alert(1)</script>", "$x_1$ & \"y\" 'z'", "café 藻 \u202egpj", "n" * 300)


@pytest.fixture(scope="module")
def tiny_page(tmp_path_factory):
    """The page of the plain experiment, drawn once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("tiny"))
        return report(experiment(bad=[("unreadable", "ends early"), ("conflict", "two labels")]))


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory):
    """The page of an experiment whose class and file names are markup."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("hostile"))
        paths = experiment(HOSTILE_CLASSES, bad=[("unreadable", "<img src=x onerror=alert(1)>")])
        return report(paths, config(data={"notice": "<script>alert(2)</script>"}))


def test_every_section_is_there_in_order_and_the_contents_lead_to_each(tiny_page):
    assert [attrs["id"] for attrs in tiny_page.all("section")] == SECTIONS
    assert [attrs["href"] for attrs in tiny_page.all("a")][: len(SECTIONS)] == [f"#{name}" for name in SECTIONS]


@pytest.mark.parametrize("page", ["tiny_page", "hostile_page"])
def test_ids_are_unique_and_references_stay_inside_the_page(page, request):
    page = request.getfixturevalue(page)
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = re.findall(r"url\(#([^)]+)\)", page.text)
    for _, attrs in page.elements:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            address = attrs.get(name, "data:")
            assert address.startswith(("#", "data:"))
            targets += [address[1:]] if address.startswith("#") else []
    assert set(targets) <= set(ids)


@pytest.mark.parametrize("page", ["tiny_page", "hostile_page"])
def test_nothing_is_loaded_from_elsewhere(page, request):
    text = request.getfixturevalue(page).text
    assert not re.search(r"https?://|@import|url\((?!#)|<link|<iframe", text)
    assert "default-src 'none'" in text


def test_the_policy_admits_the_pages_own_script_alone(hostile_page):
    script = re.search(r"<script>(.*?)</script>", hostile_page.text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in hostile_page.text


def test_hostile_names_are_shown_as_text(hostile_page):
    assert len(hostile_page.all("script")) == 1
    assert not [attrs for _, attrs in hostile_page.elements if any(name.startswith("on") for name in attrs)]
    for text in ("<script>alert(1)</script>", "<script>alert(2)</script>", "<img src=x onerror=alert(1)>", "$x_1$ &"):
        assert text in hostile_page.shown


def test_dollars_in_class_names_are_no_formulas_and_foreign_letters_no_warnings(hostile_page):
    figure = hostile_page.text.split('id="confusion"')[1].split("</figure>")[0]
    assert "$x_1$" in figure
    assert "藻" in figure


def test_every_picture_has_an_alternative_text(tiny_page):
    assert all(attrs["alt"] for attrs in tiny_page.all("img"))
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in tiny_page.all("svg"))
    drawings = [attrs for attrs in tiny_page.all("svg") if "light" not in attrs.get("class", "")]
    assert len(drawings) == 2 + 1 + 3 + NUM_FOLDS  # two strips, the matrix, a pair of curves a class, learning curves


def test_scrolling_regions_can_be_reached_by_keyboard(tiny_page):
    regions = [attrs for _, attrs in tiny_page.elements if "scroll" in attrs.get("class", "").split()]
    assert regions
    assert all(attrs["tabindex"] == "0" and attrs["aria-label"] for attrs in regions)


def test_sortable_numbers_carry_their_value_and_the_table_needs_no_script(tiny_page):
    table = tiny_page.text.split('<table class="sortable">')[1].split("</table>")[0]
    assert table.count('data-value="0.8"') == 3 * 4
    assert "<button" not in tiny_page.text.split("<script>")[0]


def test_the_headline_says_value_interval_folds_and_what_it_is_compared_to(tiny_page):
    assert "80.0 % 95 % interval 70.0–90.0 % lowest to highest fold 75.0–85.0 %" in tiny_page.shown
    assert "3 folds, no group in two of them; 22 images in 7 groups." in tiny_page.shown
    assert "1,000 bootstrap resamples over groups" in tiny_page.shown
    assert "would be right for 40.0 %" in tiny_page.shown
    assert "not shown to be better" not in tiny_page.shown


def test_an_interval_that_reaches_the_largest_class_is_called_so():
    paths = experiment()
    metrics = json.loads(paths.metrics.read_text()) | {"majority_accuracy": 0.75}
    paths.metrics.write_text(json.dumps(metrics))
    assert "the model is not shown to be better" in report(paths).shown


def test_the_notice_stands_above_all_numbers():
    page = report(experiment(), config(data={"notice": "All pictures are drawn."}))
    assert page.text.index("All pictures are drawn.") < page.text.index('id="result"')


def test_files_set_aside_are_listed_with_their_reason(tiny_page):
    assert "2 files were found but not used" in tiny_page.shown
    assert "ends early" in tiny_page.shown
    assert "two labels" in tiny_page.shown


def test_a_clean_faultless_run_without_validation_says_so():
    page = report(experiment(validated=False, num_wrong=0), config(finetune={"validation_fraction": 0}))
    assert "None: every file found was used." in page.shown
    assert "No image was named wrongly." in page.shown
    assert "The schedule was fixed (20 epochs, the last one taken)" in page.shown
    assert "validation part" not in page.shown


def test_declared_groups_and_their_absence_are_told_apart(tiny_page):
    assert "Groups are kept apart." in tiny_page.shown
    page = report(experiment(grouped=False))
    assert "No groups were declared." in page.shown
    assert "bootstrap resamples over images" in page.shown


def test_images_of_the_test_split_are_said_to_be_kept_out():
    paths = experiment()
    manifest = pd.read_parquet(paths.manifest)
    manifest.loc[:3, "split"] = "test"
    manifest.to_parquet(paths.manifest, index=False)
    write_metrics(paths, ["alga", "ciliate", "diatom"], *write_run(paths, manifest, ["alga", "ciliate", "diatom"]))
    kept_out = "4 usable images (the test split) took no part in training and cross-validation; "
    assert kept_out + "it has no figures." in report(paths).shown
    write_complete(paths, cams=False)
    assert kept_out + "its own figures stand under Test split." in report(paths).shown


def test_the_block_for_two_classes_names_the_positive_one():
    page = report(experiment(("healthy", "sick")))
    assert [attrs["id"] for attrs in page.all("section")] == [*SECTIONS[:5], "binary", *SECTIONS[5:]]
    assert "Positive is sick , 50.0 % of the images" in page.shown
    assert "on all images it is 0.420" in page.shown


def test_null_figures_become_dashes():
    paths = experiment(("healthy", "sick"))
    metrics = json.loads(paths.metrics.read_text())
    nothing = {"value": None, "ci_low": None, "ci_high": None, "fold_values": [None, None]}
    metrics |= dict.fromkeys(SCORES, nothing) | {"majority_accuracy": None, "interval": None, "log_loss": None}
    metrics["per_class"]["sick"] |= {"f1": nothing, "auroc": None}
    metrics["binary"] |= {"threshold": None, "sensitivity": nothing, "specificity": None}
    paths.metrics.write_text(json.dumps(metrics))
    page = report(paths)
    assert "None" not in page.shown.replace("None: every file", "")
    assert "nan" not in page.shown
    assert 'data-value=""' in page.text


def test_commands_configuration_and_circumstances_are_given(tiny_page):
    for stage in ("prepare", "train", "evaluate", "report"):
        assert f"microscopy-cls {stage} -c tiny.yaml" in tiny_page.shown
    for text in ("image_size_px: 224", "2 min 05 s", "8 images", "ab" * 32, "torch", "apache-2.0"):
        assert text in tiny_page.shown


def test_the_page_stands_at_its_path_and_the_same_inputs_give_the_same_bytes():
    paths = experiment()
    assert write_report(config(), paths) == paths.page
    first = paths.page.read_bytes()
    assert write_report(config(), paths).read_bytes() == first


def test_twenty_thousand_files_stay_far_below_fifteen_megabytes():
    classes = [f"class {k:02d}" for k in range(40)]
    bad = [("unreadable", "x" * 5000)] * 1000
    page = report(experiment(classes, 500, num_wrong=2000, bad=bad))
    assert len(page.text) < 8e6
    assert "800 more files; the manifest lists every one." in page.shown


def test_a_hundred_and_ten_classes_are_drawn_as_one_picture():
    page = report(experiment([f"class {k:03d}" for k in range(110)], 2))
    figure = page.text.split('id="confusion"')[1].split("</figure>")[0]
    assert figure.count("<image") == 1
    assert len(figure) < 60_000


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        ("data/prepared/tiny/manifest.parquet", "prepare"),
        ("data/prepared/tiny/pixels.npy", "prepare"),
        ("data/runs/tiny/oof.parquet", "train"),
        ("data/runs/tiny/curves.csv", "train"),
        ("data/runs/tiny/run_state.json", "train"),
        ("reports/tiny/metrics.json", "evaluate"),
    ],
)
def test_a_missing_or_broken_input_is_named_with_the_command_to_run(missing, command):
    paths = experiment()
    Path(missing).write_bytes(b"")
    with pytest.raises(DataError, match=rf"{missing}: cannot be read .*microscopy-cls {command}` with the same config"):
        write_report(config(), paths)
    Path(missing).unlink()
    with pytest.raises(DataError, match=rf"{missing}: there is no such file.*microscopy-cls {command}` with the same"):
        write_report(config(), paths)
    assert not paths.page.exists()


def test_a_table_without_a_needed_column_is_refused():
    paths = experiment()
    pd.read_csv(paths.curves).drop(columns="chosen").to_csv(paths.curves, index=False)
    with pytest.raises(DataError, match=r"curves.csv: lacks chosen. Run `microscopy-cls train`"):
        write_report(config(), paths)


def test_pixels_of_another_state_of_the_data_are_refused():
    paths = experiment(bad=[("unreadable", "broken")])
    np.save(paths.prepared / "pixels.npy", np.zeros((5, SIDE_PX, SIDE_PX, 3), np.uint8))
    with pytest.raises(DataError, match=r"holds 5 images, the manifest beside it 24 files, 23 of them usable"):
        write_report(config(), paths)


def test_predictions_of_unknown_images_are_refused():
    paths = experiment()
    pd.read_parquet(paths.oof).assign(image_id="gone.png").to_parquet(paths.oof, index=False)
    with pytest.raises(DataError, match=r"holds images that .*manifest.parquet does not know"):
        write_report(config(), paths)


def test_metrics_of_other_classes_are_refused():
    paths = experiment()
    metrics = json.loads(paths.metrics.read_text()) | {"classes": ["alga", "rotifer"]}
    paths.metrics.write_text(json.dumps(metrics))
    with pytest.raises(DataError, match=r"speaks of other classes than .*oof.parquet. Run `microscopy-cls evaluate`"):
        write_report(config(), paths)


def test_metrics_of_another_training_are_refused():
    paths = experiment()
    metrics = json.loads(paths.metrics.read_text())
    paths.metrics.write_text(json.dumps(metrics | {"fingerprint": "cd" * 32}))
    with pytest.raises(DataError) as raised:
        write_report(config(), paths)
    assert str(raised.value) == (
        "reports/tiny/metrics.json: holds the figures of another training than the one in data/runs/tiny. "
        "Run `microscopy-cls evaluate` again."
    )
    paths.metrics.write_text(json.dumps(metrics | {"fingerprint": "ab" * 32}))
    write_report(config(), paths)


def test_metrics_of_an_earlier_run_are_refused():
    paths = experiment()
    metrics = json.loads(paths.metrics.read_text()) | {"num_images": 99}
    paths.metrics.write_text(json.dumps(metrics))
    with pytest.raises(DataError, match=r"speaks of 99 images, .*oof.parquet holds 24. Run `microscopy-cls evaluate`"):
        write_report(config(), paths)


@pytest.mark.parametrize("only_usable", [False, True])
def test_each_image_is_shown_with_its_own_pixels(only_usable):
    paths = experiment(bad=[("ok", ""), ("unreadable", "broken")])
    usable = pd.read_parquet(paths.manifest)["status"] == "ok"
    grey = np.arange(len(usable), dtype=np.uint8)[:, None, None, None] * np.ones((1, SIDE_PX, SIDE_PX, 3), np.uint8)
    np.save(paths.prepared / "pixels.npy", grey[usable] if only_usable else grey)
    inputs = read_inputs(paths)
    assert [inputs.pixels[row, 0, 0, 0] for row in inputs.usable["pixel_row"]] == list(np.flatnonzero(usable))


def test_a_probe_is_told_as_one_and_no_epochs_are_claimed():
    paths = experiment()
    curves = pd.read_csv(paths.curves)
    curves[curves["epoch"] == 0].assign(penalty=10.0, chosen=1).to_csv(paths.curves, index=False)
    page = report(paths, config(finetune={"strategy": "probe"}))
    for sentence in (
        "classified by multinomial logistic regression with an L2 penalty (seed 0)",
        "The penalty was chosen by inner folds of its training images, never on the fold reported",
        "Each fold’s penalty was chosen by inner folds of its training images",
        "Fold 2: penalty 10; in inner folds loss 0.500, macro F1 0.500.",
    ):
        assert sentence in page.shown
    assert "20 epochs" not in page.shown.replace("epochs: 20", "")
    assert "AdamW" not in page.shown


@pytest.mark.parametrize(
    ("strategy", "words"),
    [("head_then_full", "beginning with the classifier of a linear probe"), ("gradual", "stage by stage from the")],
)
def test_the_method_says_how_much_of_the_network_learned(strategy, words):
    assert words in report(experiment(), config(finetune={"strategy": strategy})).shown
