"""Every way of classifying says which classes fit, how strange the input is, and whether a person should look."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.inference.bundles import make_bundle, squares

import microscopy_cls as mc
from microscopy_cls.evaluation.novelty import fit_known
from microscopy_cls.evaluation.usual import fit_usual
from microscopy_cls.images.appearance import appearances
from microscopy_cls.inference.batch.classify import Request, Summary, classify
from microscopy_cls.inference.batch.inputs import find_inputs
from microscopy_cls.inference.predictor import Predictor, open_predictor
from microscopy_cls.inference.pyfunc import ServedClassifier
from microscopy_cls.inference.rows import Judge
from microscopy_cls.model.answers import member_answers
from microscopy_cls.model.bundle import experience_of, read_bundle
from microscopy_cls.model.doubt import Experience

CONFORMAL = {"target_coverage": 0.9, "thresholds": (0.45, 0.48)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two members that know images like `squares`, each by its own features."""
    folder = tmp_path_factory.mktemp("models")
    plain = make_bundle(folder / "plain")
    info, images = read_bundle(plain), squares(60)
    groups = np.arange(60).astype(str).astype(object)
    usual, _ = fit_usual(appearances(images), groups, 0.99, seed=0)
    seen: dict[int, Experience] = {}
    for member in info.members:
        known, _ = fit_known(member_answers(plain, info, member, images)[1], groups, seed=0)
        seen[member.fold] = Experience(known, usual)
    return make_bundle(folder / "bundle", experience=seen, conformal=CONFORMAL, graphs=True)


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Predictor:
    return open_predictor([bundle], engine="openvino", precision="fp32")


@pytest.mark.parametrize(
    ("probs", "novelty", "names", "refer"),
    [
        ((0.9, 0.05, 0.05), 0.5, "a", False),
        ((0.9, 0.05, 0.05), 1.0, "a", True),
        ((0.5, 0.45, 0.05), 0.5, "a|b", True),
        ((0.25, 0.3, 0.45), 0.5, "", True),
        ((0.9, 0.05, 0.05), np.nan, "a", False),
    ],
)
def test_referred_is_what_has_not_one_class_or_is_new(
    probs: tuple[float, ...], novelty: float, names: str, refer: bool
) -> None:
    found = Judge(("a", "b", "c"), np.array([0.4, 0.4, 0.5])).answer(np.array(probs), novelty)
    assert (found["prediction_set"], found["refer"]) == (names, refer)
    assert found["novelty"] == (None if np.isnan(novelty) else novelty)


def test_a_bundle_without_thresholds_says_nothing_of_doubt(tmp_path: Path) -> None:
    (row,) = mc.load(make_bundle(tmp_path / "old")).predict(squares(1)).to_dict("records")
    assert pd.isna([row["prediction_set"], row["refer"], row["novelty"]]).all()
    assert Judge(("a", "b")).answer(np.array([0.5, 0.5]), 2.0)["novelty"] == 2.0


def test_a_bundle_without_novelty_refers_by_the_set_alone(tmp_path: Path) -> None:
    rows = mc.load(make_bundle(tmp_path / "sets", conformal=CONFORMAL)).predict(squares(30))
    sizes = [len(names.split("|")) if names else 0 for names in rows["prediction_set"]]
    assert list(rows["refer"]) == [size != 1 for size in sizes]
    assert rows["novelty"].isna().all()
    assert rows["refer"].nunique() == 2, "both occur, or equality would show nothing"


def test_sets_hold_the_classes_whose_probability_reaches_the_threshold(predictor: Predictor) -> None:
    answers = predictor.run_all(squares(30))
    for probs, novelty in zip(answers.probs, answers.novelty, strict=True):
        names = predictor.judge.answer(probs, novelty)["prediction_set"]
        assert ("dark" in names, "light" in names) == (probs[0] >= 0.45, probs[1] >= 0.48)


def test_what_is_like_the_known_images_is_no_novelty(predictor: Predictor) -> None:
    assert (predictor.run_all(squares(40, seed=5)).novelty < 1).mean() > 0.9


def test_an_image_that_looks_like_none_is_a_novelty_whatever_its_features(predictor: Predictor) -> None:
    stripes = np.zeros((1, *squares(1).shape[1:]), np.uint8)
    stripes[:, ::2] = 255
    assert (predictor.run_all(np.concatenate([stripes, np.full_like(stripes, 128)])).novelty >= 1).all()


def test_a_novelty_does_not_depend_on_the_neighbours_to_the_last_bit(predictor: Predictor) -> None:
    images = squares(20)
    whole = predictor.run_all(images).novelty
    np.testing.assert_array_equal(predictor.run_all(images[::-1]).novelty[::-1], whole)
    np.testing.assert_array_equal(predictor.run_all(images[17:18]).novelty, whole[17:18])


@pytest.mark.parametrize(("members", "fold"), [("all", 0), ("1", 0), ("fold_1", 1)])
def test_novelty_is_that_of_the_first_member_in_use_and_the_first_view(
    bundle: Path, members: str, fold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, images = read_bundle(bundle), squares(3)
    seen = experience_of(bundle, info, info.members[fold])
    assert seen is not None
    expected = seen.novelty(member_answers(bundle, info, info.members[fold], images)[1], appearances(images))
    found = open_predictor([bundle], engine="openvino", precision="fp32", members=members, tta=True).run_all(images)
    np.testing.assert_allclose(found.novelty, expected, rtol=1e-3)


def test_of_several_models_a_class_is_in_by_the_lower_threshold(bundle: Path, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "other", 1, conformal={"target_coverage": 0.9, "thresholds": (0.6, 0.2)})
    both = open_predictor([bundle, other], engine="torch", precision="fp32")
    assert both.judge.thresholds is not None
    assert both.judge.thresholds.tolist() == [0.45, 0.2]
    old = make_bundle(tmp_path / "old", 1)
    assert open_predictor([bundle, old], engine="torch", precision="fp32").judge.thresholds is None


def classified(predictor: Predictor, *inputs: str) -> Summary:
    return classify(Request(find_inputs(inputs), Path("out")), predictor)


def test_the_table_the_python_interface_and_the_server_agree(
    bundle: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    texts = []
    for number, pixels in enumerate(squares(12)):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        Path(f"images/{number:02}.png").write_bytes(buffer.getvalue())
        texts.append(base64.b64encode(buffer.getvalue()).decode())
    Path("images/bad.png").touch()
    summary = classified(predictor, "images")
    rows = pd.read_parquet("out/predictions.parquet")
    good = rows[rows["status"] == "ok"]
    classifier = mc.load(bundle, engine="openvino", precision="fp32")
    expected = classifier.predict(sorted(map(str, Path("images").glob("[0-9]*.png"))))
    for name in ("prediction_set", "refer"):
        assert list(good[name]) == list(expected[name])
    np.testing.assert_allclose(good["novelty"], expected["novelty"], atol=1e-6)
    served = ServedClassifier(classifier).predict(pd.DataFrame({"image": [*texts, "no base64"]}))
    assert list(served["prediction_set"]) == [*expected["prediction_set"], None]
    assert list(served["refer"]) == [*expected["refer"], None]
    failed = rows[rows["status"] == "failed"].iloc[0]
    assert pd.isna([failed["prediction_set"], failed["refer"], failed["novelty"]]).all()
    num = int(expected["refer"].sum())
    assert summary.num_referred == num == json.loads(Path("out/run.json").read_text())["num_referred"] > 0
    assert f"13 inputs, 1 failed, {num} referred to a person; 13 now in" in summary.lines()[-1]
    assert set(pd.read_csv("out/predictions.csv")["refer"].dropna()) <= {True, False}


def test_a_volume_is_judged_by_its_joined_answer_and_the_median_novelty(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nibabel = pytest.importorskip("nibabel")
    monkeypatch.chdir(tmp_path)
    nibabel.save(
        nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(20, 24, 5)).astype(np.float32), np.eye(4)), "v.nii.gz"
    )
    row = classified(predictor, "v.nii.gz").rows.iloc[0]
    (folder,) = Path("out/stacks").iterdir()
    frames = pd.read_parquet(folder / "frames.parquet")
    assert row["novelty"] == pytest.approx(frames["novelty"].median(), abs=1e-6)
    judged = predictor.judge.answer(row[["prob_dark", "prob_light"]].to_numpy(float), row["novelty"])
    assert (row["prediction_set"], row["refer"]) == (judged["prediction_set"], judged["refer"])
    assert frames["refer"].notna().all()
