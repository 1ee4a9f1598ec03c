"""A bundle gives the training's own answers, a row an image."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import microscopy_cls as mc
from microscopy_cls.errors import BundleError, ImageError
from microscopy_cls.inference.classifier import load
from microscopy_cls.model import get_model
from microscopy_cls.model.bundle import read_bundle, write_bundle
from microscopy_cls.model.members import save_weights

INFO = {
    "name": "tiny",
    "classes": ("dark", "light"),
    "architecture": "test_resnet",
    "weights": {},
    "preprocessing": {
        "size_px": 32, "resize": "stretch", "intensity": "percentile", "page": 0, "max_pixels": 10_000,
        "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25),
    },
    "training_data": {},
    "metrics": {},
    "config": {},
    "versions": {},
}  # fmt: skip


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Two members with random weights."""
    files = {}
    for fold in range(2):
        torch.manual_seed(fold)
        files[fold] = tmp_path / f"{fold}.safetensors"
        save_weights(files[fold], get_model("test_resnet", 2, "none").state_dict())
    write_bundle(tmp_path / "bundle", INFO, files, {"pixels": np.zeros((3, 32, 32, 3), np.uint8)})
    return tmp_path / "bundle"


def image(seed: int, shape: tuple[int, int] = (40, 50)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def test_a_row_an_image_in_order_whatever_happens(bundle: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "good.png"), image(0)[..., ::-1])
    (tmp_path / "bad.png").write_bytes(b"")
    table = mc.load(bundle).predict([tmp_path / "good.png", tmp_path / "bad.png", image(0)])
    assert list(table["status"]) == ["ok", "failed", "ok"]
    assert "empty" in table.loc[1, "error"]
    assert np.isnan(table.loc[1, "confidence"])
    probs = table[["prob_dark", "prob_light"]].to_numpy()
    np.testing.assert_array_equal(probs[0], probs[2], "a file and its pixels get the same answer")
    np.testing.assert_allclose(probs[0].sum(), 1)
    assert table.loc[0, "predicted"] == ("dark", "light")[probs[0].argmax()]


def test_the_columns_are_those_of_the_table(bundle: Path) -> None:
    table = load(bundle).predict([image(0, (40, 50))])
    assert list(table.columns) == [
        "path", "status", "error", "predicted", "confidence", "prob_dark", "prob_light", "prediction_set", "refer",
        "novelty", "width_px", "height_px",
    ]  # fmt: skip
    assert (table.loc[0, "width_px"], table.loc[0, "height_px"]) == (50, 40)


def test_members_are_averaged_as_probabilities(bundle: Path) -> None:
    whole = load(bundle)
    alone = [load(bundle, members=name).predict([image(1)]) for name in ("fold_0", "fold_1")]
    mean = np.mean([table["prob_dark"].item() for table in alone])
    assert whole.predict([image(1)])["prob_dark"].item() == pytest.approx(mean)


def test_an_answer_does_not_depend_on_the_other_images(bundle: Path) -> None:
    classifier = load(bundle)
    many = classifier.predict([image(seed) for seed in range(20)])
    for seed in (0, 15, 19):
        alone = classifier.predict([image(seed)])
        assert alone["prob_dark"].item() == pytest.approx(many.loc[seed, "prob_dark"], abs=1e-6)


def test_one_image_may_be_given_alone(bundle: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "one.png"), image(0)[..., ::-1])
    model = mc.load(bundle)
    for one in (str(tmp_path / "one.png"), tmp_path / "one.png", image(0)):
        assert len(model.predict(one)) == len(model.extract_features(one)) == 1
    assert len(model.predict(np.stack([image(0), image(1)]))) == 2
    assert repr(model).startswith("Classifier(tiny: dark, light; test_resnet on ")


def test_the_package_lists_what_there_is_to_use() -> None:
    assert {"load", "get_model", "read_image"} <= set(dir(mc))


def test_no_images_give_no_rows(bundle: Path) -> None:
    table = load(bundle).predict([])
    assert len(table) == 0
    assert "prob_light" in table


def test_features_are_one_vector_an_image_and_a_bad_file_is_an_error(bundle: Path, tmp_path: Path) -> None:
    features = load(bundle).extract_features([image(0), image(1)])
    assert features.dtype == np.float32
    assert features.shape[0] == 2
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(ImageError, match="empty"):
        load(bundle).extract_features([tmp_path / "bad.png"])


def test_a_missing_damaged_or_foreign_bundle_is_told_apart(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"holds no bundle\.json"):
        mc.load(tmp_path)
    member = bundle / "member_0.safetensors"
    content = bytearray(member.read_bytes())
    content[-1] ^= 1
    member.write_bytes(content)
    with pytest.raises(BundleError, match="missing or damaged"):
        mc.load(bundle)
    values = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(values | {"format_version": 99}))
    with pytest.raises(BundleError, match=r"cannot be read by this version \(format_version\)"):
        mc.load(bundle)


def test_a_bundle_of_before_is_read_without_the_threshold_that_nothing_followed(bundle: Path) -> None:
    file = bundle / "bundle.json"
    info = read_bundle(bundle)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"decision_threshold": 0.3}))
    assert read_bundle(bundle) == info
    file.write_text(json.dumps(json.loads(file.read_text()) | {"threshold": 0.3}))
    with pytest.raises(BundleError, match=r"cannot be read by this version \(threshold\)"):
        read_bundle(bundle)


def test_a_bundle_replaces_an_earlier_one_as_a_whole(bundle: Path, tmp_path: Path) -> None:
    write_bundle(
        bundle,
        INFO | {"name": "second"},
        {0: tmp_path / "0.safetensors"},
        {"pixels": np.zeros((1, 32, 32, 3), np.uint8)},
    )
    assert read_bundle(bundle).name == "second"
    assert not (bundle / "member_1.safetensors").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
