"""Laws of the linear head on a frozen network's features."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import nn

from microscopy_cls.errors import ConfigError
from microscopy_cls.model import get_model
from microscopy_cls.model.forward import features_and_logits
from microscopy_cls.training import probe as probe_module
from microscopy_cls.training.probe import Probe, fit_probe, write_head
from microscopy_cls.training.scores import mean_loss

Features = NDArray[np.float32]


def clouds(num_classes: int, d: int, spread: float, num: int = 20) -> tuple[Features, NDArray[np.int64]]:
    """`num` points a class around centres, on scales that differ by column; one column is constant."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(num_classes), num)
    points = rng.normal(0, 1, (num_classes, d))[labels] + rng.normal(0, spread, (len(labels), d))
    points = points * rng.uniform(0.01, 10, d) + 3
    points[:, 0] = 7
    return points.astype(np.float32), labels


def own(labels: NDArray[np.int64]) -> NDArray[np.object_]:
    """Each image its own group."""
    return np.array([f"g{number:03}" for number in range(len(labels))], dtype=object)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    return torch.from_numpy(logits).double().softmax(1).numpy()


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("d", [6, 200])
def test_the_head_is_scikit_learns_regression_of_standardised_features(num_classes: int, d: int) -> None:
    features, labels = clouds(num_classes, d, 1.5)
    head = fit_probe(features, labels, own(labels), None, 0)
    columns = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    columns /= np.where(columns.std(0) > 1e-6, columns.std(0), 1)
    model = LogisticRegression(C=1 / head.strength, max_iter=5000, tol=1e-6).fit(columns, labels)
    np.testing.assert_allclose(softmax(head.logits(features)), model.predict_proba(columns), atol=5e-3)
    assert head.weight.dtype == head.bias.dtype == np.float32
    assert head.weight.shape == (num_classes, d)


def test_noise_is_met_with_a_stronger_penalty_than_signal() -> None:
    clear, noisy = (
        fit_probe(features, labels, own(labels), None, 0) for features, labels in (clouds(3, 30, 0.5), clouds(3, 30, 9))
    )
    assert clear.strength < noisy.strength


def test_the_penalty_is_the_one_with_the_least_loss_on_groups_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds(3, 30, 3)
    best = fit_probe(features, labels, own(labels), None, 0)
    chosen = mean_loss(best.held_out, labels)
    for strength in probe_module.STRENGTHS:
        with monkeypatch.context() as patched:
            patched.setattr(probe_module, "STRENGTHS", (strength,))
            alone = fit_probe(features, labels, own(labels), None, 0)
        assert mean_loss(alone.held_out, labels) >= chosen - 1e-3


def test_inner_folds_never_divide_a_group() -> None:
    """Copies of a point under random labels: whoever has seen a copy knows its label, others cannot."""
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(0, 1, (30, 40)).astype(np.float32), 4, axis=0)
    labels = np.repeat(np.arange(30) % 2, 4)
    groups = np.repeat(own(np.arange(30)), 4)
    divided = fit_probe(features, labels, own(labels), None, 0)
    together = fit_probe(features, labels, groups, None, 0)
    assert (divided.held_out.argmax(1) == labels).mean() > 0.95
    assert (together.held_out.argmax(1) == labels).mean() < 0.75


def test_weights_are_worth_copies() -> None:
    features, labels = clouds(2, 5, 3)
    weights = np.array([1.0, 3.0])
    weighted = fit_probe(features, labels, own(labels), weights, 0)
    plain = fit_probe(features, labels, own(labels), None, 0)
    assert (weighted.logits(features).argmax(1) == 1).sum() > (plain.logits(features).argmax(1) == 1).sum()


def test_the_same_images_give_the_same_head() -> None:
    features, labels = clouds(3, 30, 2)
    first, second = (fit_probe(features, labels, own(labels), None, 0) for _ in range(2))
    np.testing.assert_array_equal(first.weight, second.weight)
    np.testing.assert_array_equal(first.held_out, second.held_out)


def test_without_an_image_to_spare_a_penalty_is_taken_and_told(caplog: pytest.LogCaptureFixture) -> None:
    features, labels = clouds(3, 5, 1, num=1)
    with caplog.at_level(logging.WARNING):
        head = fit_probe(features, labels, own(labels), None, 0)
    assert "too few groups to choose the probe's penalty by, so 1 is taken" in caplog.text
    assert head.strength == 1
    assert np.isnan(head.held_out).all()


def a_head(num_classes: int, d: int) -> Probe:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(0, 1, (num_classes, d)), rng.normal(0, 1, num_classes)
    return Probe(weight.astype(np.float32), bias.astype(np.float32), 1.0, np.zeros((1, num_classes), np.float32))


def test_a_network_with_the_head_written_into_it_answers_as_the_head_does() -> None:
    network = get_model("test_resnet", 3, "none").eval()
    with torch.inference_mode():
        features, _ = features_and_logits(network, torch.randn(4, 3, 32, 32))
        head = a_head(3, features.shape[1])
        write_head(network, head)
        logits = network.get_classifier()(features)
    np.testing.assert_allclose(logits.numpy(), head.logits(features.numpy()), rtol=1e-4, atol=1e-4)


def test_a_network_without_one_linear_layer_at_its_end_takes_no_head() -> None:
    class Convolutional(nn.Module):
        def get_classifier(self) -> nn.Module:
            return nn.Conv2d(8, 3, 1)

    with pytest.raises(ConfigError, match="Convolutional ends in Conv2d, not in one linear layer with a bias, so it"):
        write_head(Convolutional(), a_head(3, 8))
