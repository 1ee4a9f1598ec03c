"""Laws of the ways to make up for rare classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from microscopy_cls.config.schema import Finetune
from microscopy_cls.training.loss import FocalLoss, LogitAdjusted, class_weights, log_frequencies, make_loss
from microscopy_cls.training.sampling import balanced

LABELS = np.repeat(np.arange(3), [90, 25, 5])
ROWS = np.arange(1000, 1000 + len(LABELS), dtype=np.int64)
LOGITS = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(12) % 3


# Sampling


def test_a_balanced_epoch_has_as_many_images_and_each_class_equally_often() -> None:
    rows = balanced(ROWS, LABELS, 0, 0)
    assert len(rows) == len(ROWS)
    assert np.bincount(LABELS[rows - 1000]).tolist() == [40, 40, 40]
    of_rare = np.unique(rows[LABELS[rows - 1000] == 2], return_counts=True)[1]
    assert of_rare.tolist() == [8] * 5


def test_classes_differ_by_one_image_where_they_do_not_divide_the_epoch() -> None:
    counts = np.bincount(LABELS[balanced(ROWS[:-1], LABELS[:-1], 0, 0) - 1000])
    assert sorted(counts) == [39, 40, 40]


def test_no_image_of_a_large_class_is_repeated_and_all_have_their_turn() -> None:
    epochs = [balanced(ROWS, LABELS, 0, epoch) for epoch in range(20)]
    for rows in epochs:
        assert np.unique(rows[LABELS[rows - 1000] == 0], return_counts=True)[1].max() == 1
    assert len(np.unique(np.concatenate(epochs))) == len(ROWS)


def test_seed_and_epoch_decide_what_is_drawn() -> None:
    np.testing.assert_array_equal(balanced(ROWS, LABELS, 3, 4), balanced(ROWS, LABELS, 3, 4))
    assert not np.array_equal(balanced(ROWS, LABELS, 3, 4), balanced(ROWS, LABELS, 3, 5))
    assert not np.array_equal(balanced(ROWS, LABELS, 3, 4), balanced(ROWS, LABELS, 4, 4))


# Weights


def test_balanced_weights_give_each_class_the_same_total() -> None:
    weights = class_weights(LABELS, 3, "balanced", 0.999)
    assert weights is not None
    np.testing.assert_allclose(weights * np.bincount(LABELS), 40)


def test_effective_weights_lie_between_none_and_balanced_and_count_1_on_average() -> None:
    assert class_weights(LABELS, 3, "none", 0.999) is None
    even, low, high, full = (class_weights(LABELS, 3, "effective", beta) for beta in (0, 0.9, 0.99, 1 - 1e-9))
    assert even is not None
    assert low is not None
    assert high is not None
    assert full is not None
    np.testing.assert_allclose(even, 1)
    np.testing.assert_allclose(full, class_weights(LABELS, 3, "balanced", 0), rtol=1e-4)
    assert even[2] < low[2] < high[2] < full[2]
    np.testing.assert_allclose([low[LABELS].mean(), high[LABELS].mean()], 1)


def test_effective_weights_follow_the_published_formula() -> None:
    weights = class_weights(LABELS, 3, "effective", 0.99)
    assert weights is not None
    published = (1 - 0.99) / (1 - 0.99 ** np.bincount(LABELS))
    np.testing.assert_allclose(weights / weights[0], published / published[0])


# Losses


def test_by_default_the_loss_is_torchs_cross_entropy() -> None:
    loss = make_loss(LABELS, 3, Finetune(label_smoothing=0.1))
    assert loss(LOGITS, TARGETS) == functional.cross_entropy(LOGITS, TARGETS, label_smoothing=0.1)


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 5.0])])
def test_focal_loss_without_focus_is_cross_entropy(weight: torch.Tensor | None) -> None:
    torch.testing.assert_close(
        FocalLoss(0.0, weight)(LOGITS, TARGETS), functional.cross_entropy(LOGITS, TARGETS, weight=weight)
    )


def test_focal_loss_weighs_an_image_by_how_hard_it_is() -> None:
    probs = LOGITS.softmax(1)[torch.arange(12), TARGETS]
    torch.testing.assert_close(FocalLoss(2.0)(LOGITS, TARGETS), (-((1 - probs) ** 2) * probs.log()).mean())


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_of_a_sure_answer_has_a_finite_gradient(gamma: float) -> None:
    logits = torch.tensor([[200.0, -200.0, 0.0], [-200.0, 200.0, 0.0]], requires_grad=True)
    FocalLoss(gamma)(logits, torch.tensor([0, 0])).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_the_adjusted_loss_is_least_where_the_answer_makes_up_for_the_frequencies() -> None:
    """An image that tells nothing: plain cross-entropy learns the frequencies, the adjusted one learns nothing."""
    targets = torch.from_numpy(LABELS)
    frequencies = log_frequencies(LABELS, 3)
    torch.testing.assert_close(frequencies.exp().sum(), torch.tensor(1.0))
    logits = torch.zeros(3, requires_grad=True)
    make_loss(LABELS, 3, Finetune(label_smoothing=0, logit_adjustment=1))(
        logits.expand(len(targets), 3), targets
    ).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(3), atol=1e-6, rtol=0)


def test_the_adjustment_is_scaled_and_takes_probabilities_too() -> None:
    loss = make_loss(LABELS, 3, Finetune(label_smoothing=0, logit_adjustment=0.5))
    assert isinstance(loss, LogitAdjusted)
    shifted = LOGITS + 0.5 * log_frequencies(LABELS, 3)
    soft = functional.one_hot(TARGETS, 3).float()
    torch.testing.assert_close(loss(LOGITS, soft), functional.cross_entropy(shifted, TARGETS))
