"""A member's answers are those of a classification by it alone, whatever computes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.inference.bundles import SIZE_PX, make_bundle, squares

from microscopy_cls.errors import BundleError
from microscopy_cls.inference.predictor import open_predictor
from microscopy_cls.model.answers import member_answers
from microscopy_cls.model.bundle import read_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("models") / "bundle", graphs=True)


@pytest.mark.parametrize("library", ["openvino", "torch"])
def test_answers_are_those_of_a_classification_by_this_member(
    bundle: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microscopy_cls.model.answers.has_openvino", lambda: library == "openvino")
    info, images = read_bundle(bundle), squares(20)
    logits, features = member_answers(bundle, info, info.members[1], images)
    assert (logits.shape, logits.dtype, features.dtype) == ((20, 2), np.float32, np.float32)
    alone = open_predictor([bundle], engine="torch", precision="fp32", members="fold_1").run_all(images)
    odds = np.log(alone.probs[:, 0] / alone.probs[:, 1])
    np.testing.assert_allclose(logits[:, 0] - logits[:, 1], odds, atol=1e-4)
    np.testing.assert_allclose(features, alone.features, atol=1e-4)


@pytest.mark.parametrize("wanted", ["cpu", "cuda:1"])
def test_the_config_of_the_bundle_decides_on_which_device(
    bundle: Path, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def chosen(device: str) -> str:
        asked.append(device)
        return "cpu"

    monkeypatch.setattr("microscopy_cls.model.answers.answering_device", chosen)
    info = read_bundle(bundle).model_copy(update={"config": {"runtime": {"device": wanted}}})
    member_answers(bundle, info, info.members[0], squares(1))
    assert asked == [wanted]


def test_an_answer_does_not_depend_on_the_other_squares(bundle: Path) -> None:
    info, images = read_bundle(bundle), squares(20)
    logits, features = member_answers(bundle, info, info.members[0], images)
    for part in (slice(17, 18), slice(3, 20)):
        again = member_answers(bundle, info, info.members[0], images[part])
        np.testing.assert_array_equal(again[0], logits[part])
        np.testing.assert_array_equal(again[1], features[part])


def test_no_squares_give_no_answers_of_the_right_shape(bundle: Path) -> None:
    info = read_bundle(bundle)
    logits, features = member_answers(bundle, info, info.members[0], np.empty((0, SIZE_PX, SIZE_PX, 3), np.uint8))
    assert logits.shape == (0, 2)
    assert features.shape[0] == 0
    assert features.shape[1] > 0


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle", 1, graphs=True)
    (folder / "openvino_0.bin").write_bytes(b"else")
    info = read_bundle(folder)
    with pytest.raises(BundleError, match=r"openvino_0.bin: is missing or damaged"):
        member_answers(folder, info, info.members[0], squares(1))
