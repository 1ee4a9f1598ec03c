"""The arithmetic of doubt: scaled logits, sets of classes, distances to what is known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.inference.bundles import make_bundle

from microscopy_cls.errors import BundleError
from microscopy_cls.model.bundle import experience_of, read_bundle, scaling_of
from microscopy_cls.model.doubt import Experience, Known, Scaling, Usual, distance, points, prediction_sets, softmax

VECTOR = {
    "method": "vector", "temperatures": (0.5, 2.0), "scales": ((1.0, 2.0), (3.0, 1.0)),
    "biases": ((0.0, 1.0), (-1.0, 0.0)),
}  # fmt: skip


def axes(num: int = 3, dim: int = 8, length: float = 1.0, seed: int = 0) -> np.ndarray:
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, num)))[0].T
    return (length * basis).astype(np.float32)


def test_no_scaling_leaves_logits_as_they_are() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_array_equal(Scaling.none(3).scaled(logits), logits.astype(np.float64))
    assert Scaling.none(3).scaled(logits).dtype == np.float64


def test_probabilities_sum_to_one_however_large_the_logits() -> None:
    probs = softmax(np.array([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(probs, [[1, 0, 0], [1 / 3] * 3])


def test_a_class_is_in_the_set_from_its_own_threshold_on() -> None:
    sets = prediction_sets(np.array([[0.5, 0.5], [0.9, 0.1], [0.3, 0.7]]), np.array([0.5, 0.6]))
    assert sets.tolist() == [[True, False], [True, False], [False, True]]


def test_known_directions_are_near_and_others_far() -> None:
    known = axes()
    assert distance(known, 5 * known[0] + known[1]) == pytest.approx(0, abs=2e-3)
    other = np.linalg.svd(known)[2][-1]
    assert distance(known, other) == pytest.approx(1, abs=1e-6)
    assert distance(known, 3 * other + known[0]) == pytest.approx(3, abs=1e-5)


def test_rarer_directions_are_farther() -> None:
    assert distance(axes(length=0.5), axes()[0]) > distance(axes(length=0.9), axes()[0])


def test_a_point_is_as_long_as_the_root_of_its_features_and_ends_with_one() -> None:
    features = np.array([[3.0, 4.0], [0.0, 20.0]], np.float32)
    np.testing.assert_allclose(points(features, 5.0), [[0.6, 0.8, 1], [0, 2, 1]])


@pytest.mark.parametrize("features", [np.zeros(8), np.full(8, np.nan), np.full(8, np.inf)])
@pytest.mark.parametrize("length", [0.0, 2.0])
def test_features_without_a_direction_are_the_origin(features: np.ndarray, length: float) -> None:
    np.testing.assert_array_equal(points(features.astype(np.float32)[None], length), [[0.0] * 8 + [1.0]])


def test_a_novelty_does_not_depend_on_the_other_images_to_the_last_bit() -> None:
    known = Known(axes(32, 513), 20.0, 0.3)
    features = np.random.default_rng(1).normal(size=(40, 512)).astype(np.float32)
    whole = known.novelty(features)
    np.testing.assert_array_equal(known.novelty(features[::-1])[::-1], whole)
    assert all(known.novelty(features[place : place + 1])[0] == whole[place] for place in range(40))


def test_the_bundle_gives_each_member_its_own_scaling(tmp_path: Path) -> None:
    info = read_bundle(make_bundle(tmp_path / "bundle", calibration=VECTOR))
    logits = np.array([[2.0, 4.0]])
    np.testing.assert_allclose(scaling_of(info, info.members[0]).scaled(logits), [[4.0, 17.0]])
    np.testing.assert_allclose(scaling_of(info, info.members[1]).scaled(logits), [[2.0, 2.0]])


def usual(num: int = 31, threshold: float = 4.0) -> Usual:
    rng = np.random.default_rng(0)
    return Usual(rng.normal(size=num), rng.normal(size=(num, num)), threshold)


def test_a_look_is_as_strange_as_it_is_far_from_the_mean_in_units_of_the_spread() -> None:
    found = Usual(np.array([1.0, 2.0]), np.diag([1.0, 0.5]), 2.0).novelty(
        np.array([[1.0, 2.0], [3.0, 2.0], [1.0, 6.0]])
    )
    np.testing.assert_allclose(found, [0, 1, 1])


def test_strange_is_what_is_strange_to_either_witness() -> None:
    known = Known(axes(), 1.0, 0.25)
    features, looks = np.random.default_rng(0).normal(size=(9, 7)).astype(np.float32), np.zeros((9, 31))
    looks[5:] = 100
    both = Experience(known, usual()).novelty(features, looks)
    np.testing.assert_array_equal(both, np.maximum(known.novelty(features), usual().novelty(looks)))


def test_the_bundle_gives_each_member_what_it_has_seen(tmp_path: Path) -> None:
    known = {0: Known(axes(seed=0), 2.0, 0.25), 1: Known(axes(seed=1), 3.0, 0.5)}
    folder = make_bundle(tmp_path / "bundle", experience={k: Experience(one, usual()) for k, one in known.items()})
    info = read_bundle(folder)
    for fold, member in enumerate(info.members):
        found = experience_of(folder, info, member)
        assert found is not None
        assert (found.known.length, found.known.threshold) == ((2.0, 0.25), (3.0, 0.5))[fold]
        np.testing.assert_array_equal(found.known.axes, axes(seed=fold))
        np.testing.assert_array_equal(found.usual.mean, usual().mean)
        np.testing.assert_array_equal(found.usual.whitening, usual().whitening)
        assert found.usual.threshold == 4.0


def test_an_older_bundle_knows_nothing_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    old = make_bundle(tmp_path / "old", 1)
    info = read_bundle(old)
    assert experience_of(old, info, info.members[0]) is None
    damaged = make_bundle(tmp_path / "new", 1, experience={0: Experience(Known(axes(), 2.0, 0.5), usual())})
    (damaged / "novelty.safetensors").write_bytes(b"else")
    info = read_bundle(damaged)
    with pytest.raises(BundleError, match=r"novelty.safetensors: is missing or damaged"):
        experience_of(damaged, info, info.members[0])


def test_nothing_heavy_is_imported() -> None:
    code = """
import sys
import microscopy_cls.model.bundle, microscopy_cls.inference.predictor, microscopy_cls.inference.rows
print([name for name in ("scipy", "sklearn", "torch") if name in sys.modules])
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "[]"
