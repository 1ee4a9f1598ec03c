"""Laws of the page as a whole, on a tiny experiment written the way the other stages write theirs."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from microscopy_cls.config import Config, Paths
from microscopy_cls.dataset.manifest import manifest_digest, read_manifest
from microscopy_cls.errors import DataError
from microscopy_cls.reporting import write_report
from microscopy_cls.reporting.inputs import read_inputs

SIDE_PX = 16
NUM_FOLDS = 3
SECTIONS = ["result", "claims", "data", "classes", "confusion", "curves", "examples", "set-aside", "reproduce"]
SCORES = ("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "precision_macro", "recall_macro", "auroc_macro",
          "log_loss", "ece")  # fmt: skip
HOSTILE_CLASSES = ("<script>alert(1)</script>", "$x_1$ & \"y\" 'z'", "café 藻 \u202egpj", "n" * 300)
VOID = {"meta", "img", "br", "link", "input", "hr"}


def write_manifest(paths, classes, per_class, *, grouped=True, bad=()):
    """Files of every class in turn; `bad` gives (status, reason) for the first ones."""
    num = per_class * len(classes)
    labels = [classes[i % len(classes)] for i in range(num)]
    ids = [f"{label.replace('/', '_')}/{i:05d} <b>.png" for i, label in enumerate(labels)]
    groups = [f"slide {i // (2 * len(classes))}" for i in range(num)] if grouped else ids
    manifest = pd.DataFrame(
        {
            "image_id": ids, "path": [f"raw/{name}" for name in ids], "label": labels, "group": groups,
            "split_group": groups, "split": "train", "fold": [i // (2 * len(classes)) % NUM_FOLDS for i in range(num)],
            "sha256": "0" * 64, "status": "ok", "error": "", "width_px": 40, "height_px": 20, "channels": 3,
            "bit_depth": 8, "format": "PNG", "num_bytes": 100, "brightness": 120.0, "contrast": 30.0,
            "pixel_digest": "",
        }
    )  # fmt: skip
    for row, (status, reason) in enumerate(bad):
        manifest.loc[row, ["status", "error", "fold"]] = [status, reason, -1]
    paths.prepared.mkdir(parents=True, exist_ok=True)
    manifest.to_parquet(paths.manifest, index=False)
    pixels = np.random.default_rng(0).integers(0, 255, (num, SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
    np.save(paths.prepared / "pixels.npy", pixels)
    return manifest


def write_run(paths, manifest, classes, *, validated=True, num_wrong=5):
    """Predictions, curves and circumstances; the first `num_wrong` answers are the next class."""
    used = manifest[(manifest["status"] == "ok") & (manifest["split"] == "train")].reset_index(drop=True)
    truth = pd.Categorical(used["label"], categories=classes).codes
    picked = (truth + (np.arange(len(used)) < num_wrong)) % len(classes)
    probs = np.full((len(used), len(classes)), 0.3 / (len(classes) - 1))
    probs[np.arange(len(used)), picked] = 0.7
    oof = used[["image_id", "fold", "label"]].assign(predicted=np.array(classes, dtype=object)[picked])
    oof = oof.join(pd.DataFrame(probs, columns=[f"prob_{name}" for name in classes]))
    paths.runs.mkdir(parents=True, exist_ok=True)
    oof.to_parquet(paths.oof, index=False)
    value = 0.5 if validated else float("nan")
    rows = [
        {"fold": fold, "epoch": epoch, "train_loss": 1 / (1 + epoch), "val_loss": value, "val_accuracy": value,
         "val_f1_macro": value, "learning_rate": 1e-3, "images_per_second": 9.0, "chosen": int(epoch == 2)}
        for fold in range(NUM_FOLDS) for epoch in range(4)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(paths.curves, index=False)
    state = {"fingerprint": "ab" * 32, "device": "cpu", "precision": "fp32", "batch_size": 8, "num_threads": 2,
             "started": "2026-01-02T03:04:05+00:00", "seconds": 125.0, "versions": {"torch": "2.9"}, "git_commit": None,
             "weights": {"tag": "a1_in1k", "licence": "apache-2.0"},
             "identity": {"manifest": manifest_digest(read_manifest(paths.manifest))}}  # fmt: skip
    (paths.runs / "run_state.json").write_text(json.dumps(state))
    return truth, picked


def write_metrics(paths, classes, truth, picked, **changed):
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (truth, picked), 1)
    one = {"value": 0.8, "ci_low": 0.7, "ci_high": 0.9}
    figure = one | {"fold_values": [0.75, 0.8, 0.85]}
    metrics = {
        "name": paths.name, "classes": list(classes), "num_images": len(truth), "num_groups": 7, "num_folds": NUM_FOLDS,
        "interval": {"level": 0.95, "resamples": 1000, "unit": "group"}, "majority_accuracy": 0.4,
        **dict.fromkeys(SCORES, figure),
        "per_class": {
            name: {"num_images": int(counts[k].sum()), "num_groups": 5,
                   **dict.fromkeys(("precision", "recall", "f1", "auroc"), one)}
            for k, name in enumerate(classes)
        },
        "confusion_matrix": counts.tolist(),
    }  # fmt: skip
    if len(classes) == 2:
        rates = dict.fromkeys(("sensitivity", "specificity", "average_precision"), figure)
        metrics["binary"] = {"positive_class": classes[1], "threshold": 0.42, **rates}
    paths.metrics.parent.mkdir(parents=True, exist_ok=True)
    paths.metrics.write_text(json.dumps(metrics | changed))


def experiment(classes=("alga", "ciliate", "diatom"), per_class=8, *, validated=True, num_wrong=5, **manifest_options):
    """Write a whole experiment into the working directory."""
    paths, classes = Paths("tiny"), list(classes)
    manifest = write_manifest(paths, classes, per_class, **manifest_options)
    truth, picked = write_run(paths, manifest, classes, validated=validated, num_wrong=num_wrong)
    write_metrics(paths, classes, truth, picked)
    return paths


def config(**sections):
    data = {"root": "raw"} | sections.pop("data", {})
    return Config.model_validate({"name": "tiny", "data": data} | sections)


class Page(HTMLParser):
    """The parsed page: fails on an unbalanced tag, collects elements and text."""

    def __init__(self, text):
        super().__init__()
        self.text, self.open, self.elements, self.words = text, [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def shown(self):
        return re.sub(r"[\s\u202f]+", " ", " ".join(self.words))

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def report(paths, settings=None):
    return Page(write_report(settings or config(), paths).read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


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
    assert [attrs["href"] for attrs in tiny_page.all("a")] == [f"#{name}" for name in SECTIONS]


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
    assert len(tiny_page.all("svg")) == 2 + 1 + NUM_FOLDS


def test_scrolling_regions_can_be_reached_by_keyboard(tiny_page):
    regions = [attrs for _, attrs in tiny_page.elements if "scroll" in attrs.get("class", "").split()]
    assert regions
    assert all(attrs["tabindex"] == "0" and attrs["aria-label"] for attrs in regions)


def test_sortable_numbers_carry_their_value_and_the_table_needs_no_script(tiny_page):
    table = tiny_page.text.split('<table class="sortable">')[1].split("</table>")[0]
    assert table.count('data-value="0.8"') == 3 * 4
    assert "<button" not in tiny_page.text.split("<script>")[0]


def test_the_headline_says_value_interval_folds_and_what_it_is_compared_to(tiny_page):
    assert "80.0 % 95 % interval 70.0–90.0 % folds 75.0–85.0 %" in tiny_page.shown
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
    assert "4 usable images (the test split) took no part" in report(paths).shown


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
