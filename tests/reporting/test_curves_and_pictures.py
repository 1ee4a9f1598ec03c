"""Laws of the parts that draw curves, tint pictures and choose what is shown."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from microscopy_cls.reporting.gallery import NUM_BROWSED, NUM_BROWSED_MISTAKES, browsed
from microscopy_cls.reporting.montage import Album, with_evidence
from microscopy_cls.reporting.numbers import Estimate, shown, span
from microscopy_cls.reporting.roc import GRID, NUM_DRAWN, band, class_curves, precision_recall, roc
from microscopy_cls.reporting.tables import ClassRow

RNG = np.random.default_rng(0)
TRUTH = RNG.random(400) < 0.3
SCORE = np.where(TRUTH, RNG.normal(1, 1, 400), RNG.normal(0, 1, 400))


def test_a_perfect_score_finds_all_without_a_false_alarm():
    assert np.all(roc(TRUTH, TRUTH.astype(float)) == 1)
    assert np.all(precision_recall(TRUTH, TRUTH.astype(float)) == 1)


def test_a_score_that_says_nothing_is_the_diagonal_and_the_prevalence():
    same = np.zeros(len(TRUTH))
    np.testing.assert_allclose(roc(TRUTH, same), GRID)
    np.testing.assert_allclose(precision_recall(TRUTH, same), TRUTH.mean())


def test_the_area_under_the_drawn_curve_is_the_auroc():
    assert np.trapezoid(roc(TRUTH, SCORE), GRID) == pytest.approx(roc_auc_score(TRUTH, SCORE), abs=0.005)


def test_precision_at_full_recall_is_that_of_the_last_one_found():
    truth, score = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.1])
    drawn = precision_recall(truth, score)
    assert drawn[0] == drawn[50] == 1
    assert drawn[51] == drawn[-1] == pytest.approx(2 / 3)


@pytest.mark.parametrize("trace", [roc, precision_recall])
def test_the_band_spans_the_folds_and_skips_those_of_one_kind(trace):
    fold = np.arange(400) % 4
    only = np.where(TRUTH, fold % 3, fold)  # fold 3 holds no image of the class
    drawn = band(TRUTH, SCORE, only, trace)
    assert np.all(drawn.low <= drawn.high)
    for one in range(3):
        of_fold = trace(TRUTH[only == one], SCORE[only == one])
        assert np.all((drawn.low <= of_fold) & (of_fold <= drawn.high))


def rows_of(classes, auroc):
    nothing = Estimate("decimal")
    return [
        ClassRow(name, 9, 3, nothing, nothing, nothing, Estimate("decimal", auroc[k])) for k, name in enumerate(classes)
    ]


def predictions(num_classes, num=120):
    classes = [f"c{k}" for k in range(num_classes)]
    oof = pd.DataFrame({"label": [classes[k % num_classes] for k in range(num)], "fold": np.arange(num) // 7 % 3})
    probs = pd.DataFrame(RNG.random((num, num_classes)), columns=[f"prob_{name}" for name in classes])
    return oof.join(probs), classes


def test_of_many_classes_the_worst_are_drawn():
    oof, classes = predictions(9)
    drawn = class_curves(oof, rows_of(classes, np.linspace(0.9, 0.5, 9)))
    assert [one.name for one in drawn] == classes[:2:-1]
    assert len(drawn) == NUM_DRAWN


def test_a_class_without_an_image_has_no_curve():
    oof, classes = predictions(3)
    oof.loc[oof["label"] == "c1", "label"] = "c0"
    assert [one.name for one in class_curves(oof, rows_of(classes, [0.7, None, 0.6]))] == ["c2", "c0"]


def test_points_have_a_sign_and_their_ends_a_word_between():
    assert shown(-0.041, "points") == "−4.1"
    assert shown(-0.041, "percent") == "−4.1\u202f%"
    assert shown(0.1, "points") == "+10.0"
    assert span(-0.041, 0.1, "points") == "−4.1 to +10.0"
    assert Estimate("percent", 0.5).full == "50.0\u202f%"


def test_evidence_tints_where_it_lies_and_leaves_the_rest_grey():
    picture = RNG.integers(0, 255, (40, 60, 3)).astype(np.uint8)
    cam = np.zeros((4, 6), np.uint8)
    cam[:2, :2] = 255
    tinted = with_evidence(picture, cam)
    assert tinted.shape == picture.shape
    assert tinted.dtype == np.uint8
    assert np.all(tinted[30:, 40:].min(-1) == tinted[30:, 40:].max(-1))
    assert np.all(tinted[:8, :8, 0].astype(int) - tinted[:8, :8, 2] > 100)  # yellow: red far above blue


def album(num, num_bytes=10**9, side=32):
    ids = [f"{k:05d}.png" for k in range(num)]
    manifest = pd.DataFrame({"image_id": ids, "label": "a", "pixel_row": range(num), "width_px": 10, "height_px": 10})
    pixels = np.random.default_rng(0).integers(0, 255, (num, side, side, 3)).astype(np.uint8)
    return Album(pixels, manifest, stretched=True, num_bytes=num_bytes), ids


def test_pictures_stop_at_the_budget_and_say_so():
    pages, ids = album(20, num_bytes=50_000, side=128)
    pictures = pages.named(ids)
    assert sum(len(one.uri) for one in pictures) + pages.num_bytes_left == 50_000
    assert pictures[0].uri
    assert pictures[-1].uri == ""
    assert pages.num_bytes_left >= 0


def test_an_unknown_image_has_no_picture_and_no_label():
    pages, _ = album(1)
    assert pages.named(["gone.png"])[0].uri == ""
    assert pages.label_of("gone.png") == ""


def test_the_browser_holds_the_surest_mistakes_and_then_right_answers_up_to_its_limit():
    pages, ids = album(900)
    oof = pd.DataFrame(
        {"image_id": ids, "label": "a", "predicted": ["b"] * 300 + ["a"] * 600, "prob": np.linspace(0, 1, 900)}
    )
    shown_ones = browsed(oof, pages)
    assert len(shown_ones) == NUM_BROWSED
    wrong = [answer.prob for answer in shown_ones if not answer.right]
    assert len(wrong) == NUM_BROWSED_MISTAKES
    assert wrong == sorted(wrong, reverse=True)
    assert [one.picture.image_id for one in browsed(oof, album(900)[0])] == [one.picture.image_id for one in shown_ones]


def test_the_browser_leaves_out_what_the_budget_cannot_show():
    pages, ids = album(50, num_bytes=20_000)
    oof = pd.DataFrame({"image_id": ids, "label": "a", "predicted": "a", "prob": 0.5})
    answers = browsed(oof, pages)
    assert 0 < len(answers) < 50
    assert all(answer.picture.uri for answer in answers)
