"""Laws of the page when every stage has said its part: the verdict, and the sections that not every run has."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiment import complete, config, experiment, figure, report, write_complete
from safetensors.numpy import load_file, save_file

from microscopy_cls.errors import DataError
from microscopy_cls.reporting import abstain, gallery, write_report
from microscopy_cls.reporting.abstain import referral
from microscopy_cls.reporting.external import outside_tests
from microscopy_cls.reporting.montage import MAX_NUM_BYTES
from microscopy_cls.reporting.numbers import Estimate
from microscopy_cls.reporting.reliability import calibration
from microscopy_cls.reporting.tables import ClassRow
from microscopy_cls.reporting.verdict import class_sizes

SECTIONS = [
    "verdict", "result", "data", "classes", "confusion", "roc", "calibration", "referral", "sets", "novelty",
    "examples", "browser", "labels", "shortcuts", "leakage", "duplicates", "quality", "curves", "test-split",
    "external", "set-aside", "method", "card", "reproduce",
]  # fmt: skip
HOSTILE_CLASSES = ("<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "{{ 7 * 7 }}")


@pytest.fixture(scope="module")
def whole_page(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        return report(write_complete(experiment(bad=[("excluded", "")])))


def sections(page):
    return [attrs["id"] for attrs in page.all("section")]


def told(page, name):
    """The words of one section."""
    start = page.text.index(f'<section id="{name}"')
    section = page.text[start : page.text.index("</section>", start)]
    return re.sub(r"(<[^>]*>|[\s\u202f])+", " ", section.replace("\u2068", "").replace("\u2069", ""))


def test_every_section_is_there_in_order_and_the_contents_lead_to_each(whole_page):
    assert sections(whole_page) == SECTIONS
    assert [attrs["href"] for attrs in whole_page.all("a")][: len(SECTIONS)] == [f"#{name}" for name in SECTIONS]


@pytest.mark.parametrize(
    "gone",
    [
        {"calibration": ["calibration"], "conformal": ["sets"], "label_errors": ["labels"]},
        {"risk_coverage": ["referral"], "novelty": ["novelty"], "external_test": ["external"],
         "test_split": ["test-split"],
         "audit": ["shortcuts", "leakage", "duplicates", "quality"]},
    ],
)  # fmt: skip
def test_what_the_metrics_file_does_not_say_is_left_out_whole(gone):
    page = report(write_complete(experiment(), **dict.fromkeys(gone)))
    absent = {name for names in gone.values() for name in names}
    assert sections(page) == [name for name in SECTIONS if name not in absent]
    assert {attrs["href"][1:] for attrs in page.all("a")} <= set(sections(page))


def test_an_audit_that_found_only_a_part_shows_that_part():
    paths = experiment()
    audit = complete(paths)["audit"]
    page = report(write_complete(paths, audit={key: audit[key] for key in ("verdicts", "reasons", "leakage")}))
    assert {"leakage"} == set(sections(page)) & {"shortcuts", "leakage", "duplicates", "quality"}


def test_the_verdict_names_each_check_its_state_and_reason_and_the_worst_decides(whole_page):
    text = told(whole_page, "verdict")
    for light in ("Leakage : Pass No leak.", "Shortcuts : Warning Size tells.", "Duplicates : Fail Copies.",
                  "Image quality : Pass Fine.", "Calibration : Pass Honest.", "Class sizes : Warning"):  # fmt: skip
        assert light in text
    assert "3 of 6 checks passed. Failed: duplicates. Warnings: shortcuts, class sizes." in text
    assert '<section id="verdict" class="fail">' in whole_page.text


def test_a_state_is_told_by_shape_and_word_and_not_by_colour_alone(whole_page):
    lights = [attrs for attrs in whole_page.all("svg") if "light" in attrs.get("class", "")]
    words = {"pass": "Pass", "warn": "Warning", "fail": "Fail", "unknown": "Not checked"}
    assert lights
    assert all(attrs["aria-label"] == words[attrs["class"].removeprefix("light ")] for attrs in lights)
    shapes = dict(re.findall(r'<svg class="light (\w+)".*?>(.*?)</svg>', whole_page.text, re.DOTALL))
    assert len(set(shapes.values())) == len(shapes) == 4


def test_what_failed_may_not_be_claimed_and_what_warns_only_with_care(whole_page):
    text = told(whole_page, "verdict")
    denied = text[text.index("What they may not") :]
    assert "That every image counts once" in denied
    assert "Only with care: that the model recognises the subject" in denied
    assert "stated confidence" not in denied
    assert "laboratories; the external test set speaks for its own alone." in denied
    assert "What became of them on an external test set stands under External test" in denied
    assert "On a test split of the same data it names 75.0 % (65.0–85.0 %) correctly." in text
    assert "On an external test set it names 60.0 % (50.0–70.0 %) correctly." in text


def test_a_test_split_and_an_external_set_have_their_own_figures(whole_page):
    assert "6 images ( split test of the data ), never trained on" in told(whole_page, "test-split")
    assert "75.0 % 65.0–85.0" in told(whole_page, "test-split")
    assert "60.0 %" not in told(whole_page, "test-split")
    assert "12 images in 4 groups ( other &lt;lab&gt; ), never trained on" in told(whole_page, "external")
    method = told(whole_page, "method")
    assert "On a test split of the same data (6 images) the mean of all models had an accuracy of 75.0 %" in method
    assert "On an external test set (12 images in 4 groups) the mean of all models had an accuracy of 60.0 %" in method


def test_a_split_of_the_same_table_says_nothing_of_other_places():
    page = report(write_complete(experiment(), external_test=None))
    text = told(page, "verdict")
    assert "other instruments, preparations or laboratories; the test split is of the same source." in text
    assert "only an external test set would" in text
    assert "New images of the same source, so it says nothing about another one." in told(page, "test-split")


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (0.1, 0.3, "The accuracy is lower than in cross-validation (a drop of +20.0 points, +10.0 to +30.0)."),
        (-0.1, 0.3, "No difference in accuracy from cross-validation is shown (a drop of +20.0 points, −10.0 to"),
        (-0.3, -0.1, "The accuracy is higher than in cross-validation (a drop of +20.0 points, −30.0 to −10.0)."),
    ],
)  # fmt: skip
def test_a_drop_is_told_as_its_interval_allows(low, high, sentence):
    metrics = {"per_class": {}, "external_test": {"drop": {"accuracy": figure(0.2, low, high)}}}
    assert outside_tests(metrics)[0].told.startswith(sentence)


@pytest.mark.parametrize(("high", "is_told"), [(0.89, True), (0.9, False)])
def test_sets_that_are_shown_to_hold_the_truth_too_seldom_are_called_so(high, is_told):
    paths = experiment()
    found = complete(paths)["conformal"] | {"coverage": figure(0.85, 0.8, high)}
    text = told(report(write_complete(paths, conformal=found)), "sets")
    assert ("That is less than aimed at , perhaps because the groups differ more from one another" in text) is is_told


@pytest.mark.parametrize(("method", "is_told"), [("temperature", True), ("vector", True), ("none", False)])
def test_a_kind_of_scaling_that_was_chosen_on_all_folds_is_said_to_be(method, is_told):
    paths = experiment()
    metrics = complete(paths)
    metrics["calibration"]["method"] = method
    told_here = "Only the kind of scaling, one of two, was chosen on all folds at once" in told(
        report(write_complete(paths, calibration=metrics["calibration"])), "calibration"
    )
    assert told_here is is_told
    of_ensemble = calibration(metrics | {"ensemble": {"runs": []}})
    assert of_ensemble is not None
    assert not of_ensemble.was_chosen


def test_temperatures_are_shown_where_they_are_the_whole_scaling():
    paths = experiment()
    found = complete(paths)["calibration"]
    assert "Temperatures of the folds' models" in told(report(write_complete(paths)), "calibration").replace(
        "&#39;", "'"
    )
    text = told(report(write_complete(paths, calibration=found | {"method": "vector"})), "calibration")
    assert "Vector scaling" in text
    assert "emperature" not in text


def test_outside_calibrated_answers_are_compared_with_calibrated_answers(whole_page):
    text = told(whole_page, "external")
    assert "Calibration error 0.150 0.050–0.250 0.200 0.100–0.300" in text
    assert "Accuracy 81.0 % 71.0–91.0 60.0 % 50.0–70.0" in text
    assert "alga 4 83.0 % 73.0–93.0 60.0 %" in text
    assert "Figure Cross-validation, calibrated External test Drop" in text
    assert "the figures at the top of the page are of the answers as they come from the networks" in text


def test_a_drop_of_older_files_is_said_to_be_from_answers_without_calibration(whole_page):
    text = told(whole_page, "test-split")
    assert "Figure Cross-validation, not calibrated Test split Drop" in text
    assert "Both are of calibrated answers" not in text
    assert "Accuracy 80.0 % 70.0–90.0 75.0 %" in text


def test_an_external_test_says_which_classes_and_images_it_lacks():
    paths = experiment()
    external = complete(paths)["external_test"] | {"set_aside": {"copy": 2, "duplicate": 1, "conflict": 0}}
    external["per_class"]["alga"] = {"recall": {"value": None, "ci_low": None, "ci_high": None}, "num_images": 0}
    text = told(report(write_complete(paths, external_test=external)), "external")
    assert "Not counted: 3 copies and contradictions; 1 unreadable file." in text
    assert "Without an image here: alga." in text


def test_without_an_audit_the_verdict_says_which_command_to_run():
    page = report(experiment())
    text = told(page, "verdict")
    assert text.count("Not checked: run `microscopy-cls audit`, then `evaluate` and `report`") == 4
    assert "Calibration: Not checked Not checked: run `microscopy-cls evaluate`, then `report`" in text
    assert "no external set was tested" in text


@pytest.mark.parametrize(("num_groups", "state"), [(4, "fail"), (5, "warn"), (29, "warn"), (30, "pass")])
def test_class_sizes_count_the_independent_images_of_the_smallest_class(num_groups, state):
    nothing = (Estimate("decimal"),) * 4
    light = class_sizes(
        [ClassRow("large", 500, 100, *nothing), ClassRow("small", 90, num_groups, *nothing)], grouped=True
    )
    assert light.state == state
    assert f"The smallest class, \u2068small\u2069, has {num_groups} groups: " in light.reason


def test_hostile_names_stay_text_in_every_section():
    page = report(write_complete(experiment(HOSTILE_CLASSES)))
    assert sections(page) == SECTIONS
    assert len(page.all("script")) == 1
    assert "{{ 7 * 7 }}" in page.shown
    assert "49" not in told(page, "sets")
    assert not [attrs for _, attrs in page.elements if any(name.startswith("on") for name in attrs)]
    assert all(attrs["src"].startswith("data:image/jpeg") for attrs in page.all("img"))
    assert "other <lab>" in page.shown
    assert "<b>.png" in page.shown


def test_missing_numbers_become_dashes_everywhere():
    def emptied(value):
        if isinstance(value, dict):
            return {key: emptied(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [emptied(entry) for entry in value]
        return None if isinstance(value, float) else value

    paths = experiment()
    added = {key: emptied(value) for key, value in complete(paths).items() if key not in ("per_class", "accuracy")}
    page = report(write_complete(paths, **added))
    assert "None" not in page.shown.replace("None: ", "")
    assert "nan" not in page.shown
    assert "referral" in sections(page)


def test_referral_is_a_sentence_with_its_price(whole_page):
    text = told(whole_page, "referral")
    assert "Refer 12.0 % (2.0–22.0 %) of the images to an expert, and 98.0 % (90.0–100.0 %) of the rest" in text
    assert "Of those referred the model would have named 50.0 %" in text


@pytest.mark.parametrize(
    ("share", "kept", "sent", "sentence"),
    [
        (0.0, 0.8, None, "Refer 0.0 % of the images to an expert, and 80.0 % of the rest are named correctly."),
        (1.0, None, 0.8, "Refer 100.0 % of the images to an expert: none is left. Of those referred the model would "
                         "have named 80.0 % correctly."),
    ],
)  # fmt: skip
def test_referral_of_none_or_of_all_has_no_rest(share, kept, sent, sentence):
    values = {"share": share, "accuracy_kept": kept, "accuracy_referred": sent}
    referred = {name: {"value": value, "ci_low": None, "ci_high": None} for name, value in values.items()}
    found = referral({"risk_coverage": {"points": [], "referred": referred}})
    assert found.sentence.replace("\u202f", " ") == sentence


def test_prediction_sets_promise_nothing_of_the_mean_of_models(whole_page):
    assert "for the mean of several models" in told(whole_page, "sets")


def test_prediction_sets_name_target_coverage_and_coarse_classes(whole_page):
    text = told(whole_page, "sets")
    assert "holds the truth in 90.0 % of the cases" in text
    assert "88.0 % (78.0–98.0 %)" in text
    assert text.index("0 classes 2") < text.index("1 class 20") < text.index("2 classes 2")
    assert "hangs on a single one: alga." in text
    assert whole_page.text.count('<i class="tick dash" style="left:90.0%">') == 3


def test_artefacts_stand_against_chance_and_the_model_and_unjudged_ones_have_no_verdict(whole_page):
    text = told(whole_page, "shortcuts")
    assert "names 50.0 % (40.0–60.0 %) correctly, where chance gives 33.0 % and the model 80.0 %" in text
    assert "artefact (size, at telling alga) has 45.0 % (35.0–55.0 %) of the model's skill" in text.replace(
        "&#39;", "'"
    )
    assert "width (size, importance 0.300) wider in alga." in text
    assert "Shown only" in text
    assert "Centre hidden 40.0 %" in text
    for tick in ('class="tick dots" style="left:33.0%"', 'class="tick dash" style="left:80.0%"'):
        assert tick in whole_page.text


def test_leakage_and_the_external_drop_are_in_points(whole_page):
    assert "gains +10.0 points of accuracy (−2.0 to +15.0)" in told(whole_page, "leakage")
    assert "+20.0 +10.0 to +30.0" in told(whole_page, "external")
    assert "Not counted: 1 unreadable file." in told(whole_page, "external")


def test_a_gain_that_may_be_chance_is_not_called_recognition(whole_page):
    assert "A gain is not shown; the figures" in told(whole_page, "leakage")
    paths = experiment(grouped=False)
    audit = complete(paths)["audit"]
    audit["leakage"]["inflation"] = figure(0.1, 0.02, 0.15)
    text = told(report(write_complete(paths, audit=audit)), "leakage")
    assert text.startswith(" Leakage No groups were declared, so this tells only what copies give away")
    assert "That much would be recognition of the group" in text


def test_near_copies_that_folds_may_divide_are_not_said_to_be_kept_apart():
    text = told(report(experiment(), config(folds={"group_near_duplicates": False})), "method")
    assert "with no group or exact copy in two folds" in text


def test_clusters_conflicts_and_mixed_groups_are_shown(whole_page):
    text = told(whole_page, "duplicates")
    assert "alga or ciliate?" in text
    assert text.index("Cluster of 9") < text.index("Cluster of 2")
    assert "and 3 more" in text
    assert "slide 0 alga (2), ciliate (2), diatom (2)" in text


def test_an_image_that_the_manifest_does_not_know_is_named_without_a_picture(whole_page):
    assert "no picture" in told(whole_page, "quality")
    assert "gone.png" in told(whole_page, "quality")
    assert "dark" not in told(whole_page, "quality")


def test_suspected_labels_say_where_the_list_is_and_how_to_act(whole_page):
    text = told(whole_page, "labels")
    assert "30 images whose label" in text
    assert "reports/tiny/label_errors.csv" in text
    assert "data.exclude" in text
    assert "labelled alga 10.0 %" in text
    assert "more images in the CSV" in text


def test_files_left_out_on_purpose_are_counted(whole_page):
    assert "excluded 1 left out on purpose (data.exclude)" in told(whole_page, "data")


def test_evidence_lies_beside_each_picture_that_has_a_map(whole_page):
    start = whole_page.text.index('id="examples"')
    examples = whole_page.text[start : whole_page.text.index("</section>", start)]
    assert examples.count("Where the evidence for") == 3
    assert examples.count('<ul class="gallery paired">') == 3


def write_no_cams(paths):
    """What `evaluate` leaves of a network without evidence maps."""
    nothing = np.empty(0, np.int64)
    save_file(
        {"rows": nothing, "cam": np.empty((0, 1, 1), np.uint8), "kind": nothing}, paths.reports / "cams.safetensors"
    )


@pytest.mark.parametrize("write", [lambda _: None, write_no_cams])
def test_without_maps_the_pictures_stand_alone(write):
    paths = write_complete(experiment(), cams=False)
    write(paths)
    page = report(paths)
    assert "evidence" not in told(page, "examples")
    assert "Right answers, chosen at random" in told(page, "examples")


def test_the_most_doubtful_answers_lead_by_the_least_whether_right_or_wrong():
    rows = [("a", "x", 0.9), ("a", "x", 0.8), ("x", "x", 0.51), ("a", "x", 0.52), ("x", "x", 0.99)]
    oof = pd.DataFrame(rows, columns=["label", "predicted", "prob"]).assign(
        image_id=list("01234"), prob_x=lambda table: table["prob"], prob_a=lambda table: 1 - table["prob"]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gallery, "NUM_EXAMPLES", 2)
        chosen = gallery._chosen(oof)
    assert list(chosen["errors"]["image_id"]) == ["0", "1"]
    assert list(chosen["doubtful"]["image_id"]) == ["2", "3"]


def test_maps_of_another_state_of_the_data_are_refused():
    paths = write_complete(experiment())
    cams = load_file(paths.reports / "cams.safetensors")
    save_file(cams | {"rows": cams["rows"] + 1000}, paths.reports / "cams.safetensors")
    with pytest.raises(
        DataError, match=r"cams.safetensors: belongs to another state of the data than the manifest of 24"
    ):
        write_report(config(), paths)


@pytest.mark.parametrize(("content", "message"), [(b"", "cannot be read"), (None, "lacks rows")])
def test_broken_maps_are_named_with_the_command_to_run(content, message):
    paths = write_complete(experiment())
    file = paths.reports / "cams.safetensors"
    if content is None:
        save_file({"cam": np.zeros((1, 2, 2), np.uint8), "kind": np.zeros(1, np.int64)}, file)
    else:
        Path(file).write_bytes(content)
    with pytest.raises(DataError, match=rf"cams.safetensors: {message}.*Run `microscopy-cls evaluate`"):
        write_report(config(), paths)


def test_the_method_paragraph_says_data_protocol_figures_and_software(whole_page):
    text = told(whole_page, "method")
    for words in (
        "We classified 23 images from 7 groups into 3 classes; 1 further file was set aside.",
        "fine-tuned from a1_in1k weights", "stratified 3-fold cross-validation with no group or cluster of copies",
        "chosen on about 15 % of its training images, never on the fold reported", "Accuracy was 80.0 % (70.0–90.0 %)",
        "1,000 bootstrap resamples of groups", "from 0.200 (0.100–0.300) to 0.150", "aimed at 90 % coverage",
        "(12 images in 4 groups) the mean of all models had an accuracy of 60.0 %", "torch 2.9",
    ):  # fmt: skip
        assert words in text


def test_the_method_paragraph_names_a_file_of_weights_without_its_folder():
    paths = write_complete(experiment())
    file = paths.runs / "run_state.json"
    start = {"kind": "file", "location": "/home/jo/secret/pollen.safetensors", "licence": None}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"weights": start}))
    assert "fine-tuned from pollen.safetensors weights" in told(report(paths), "method")


def test_a_run_without_groups_and_weights_claims_neither():
    settings = config(model={"weights": "none"}, finetune={"validation_fraction": 0})
    page = report(experiment(grouped=False), settings)
    assert "no groups were declared" in told(page, "verdict")
    text = told(page, "method")
    assert "images into 3 classes" in text
    assert "trained from random weights" in text
    assert "no cluster of copies in two folds" in text
    assert "chosen beforehand" in text
    assert "resamples of images" in text


def test_the_model_card_says_use_figures_limits_and_that_it_is_no_medical_device(whole_page):
    text = told(whole_page, "card")
    assert "Intended use" in text
    assert "no medical device" in text
    assert "apache-2.0" in text
    assert "Duplicates: Fail. Copies." in text


def test_a_large_page_stays_below_three_megabytes_beside_its_pictures_and_these_in_their_budget():
    classes = [f"class {k:02d}" for k in range(40)]
    paths = experiment(classes, 250, num_wrong=2000, bad=[("unreadable", "x" * 5000)] * 500)
    ids = list(pd.read_parquet(paths.oof)["image_id"])
    audit = complete(paths)["audit"] | {
        "duplicates": [ids[k : k + 3] for k in range(0, 9000, 3)], "quality": {"blurred": ids[:5000]},
        "conflicts": [{"image_ids": ids[k : k + 2], "labels": classes[:2]} for k in range(2000)],
        "mixed_groups": [{"group": f"g{k}", "labels": {"a": 1, "b": 2}} for k in range(3000)],
    }  # fmt: skip
    page = report(write_complete(paths, audit=audit))
    pictures = [attrs["src"] for attrs in page.all("img")]
    assert len(page.text) - sum(map(len, pictures)) < 3e6
    assert sum(map(len, pictures)) < MAX_NUM_BYTES < 12e6
    assert len(page.all("li")) < 1200
    assert "2,988 more clusters in the audit file." in page.shown


@pytest.mark.parametrize(("blank", "warned"), [(0.75, True), (0.95, False), (None, False)])
def test_a_model_that_lets_easy_strangers_pass_is_not_to_be_relied_on(blank, warned):
    metrics = {"novelty": {"flagged": {"noise": 0.99, "blank": blank}, "auroc": {"noise": 0.5}}}
    assert abstain.novelty(metrics).unreliable is warned
