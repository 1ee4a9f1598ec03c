"""What the refit takes over from the folds is found on images that a member did not see, and is no test of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from held import some_held_out

from microscopy_cls.evaluation.doubt import Doubt, fit_doubt
from microscopy_cls.evaluation.held_out import HeldOut
from microscopy_cls.evaluation.refit import refit_doubt


def part(which: slice) -> HeldOut:
    """Some of 1200 images of the same kinds."""
    whole = some_held_out(num=1200, sharpness=3.0)
    arrays = ("truth", "logits", "features", "folds", "groups")
    return replace(whole, **{name: getattr(whole, name)[which] for name in arrays})


@pytest.fixture(scope="module")
def fitted() -> tuple[HeldOut, Doubt]:
    held_out = part(slice(600))
    looks = np.random.default_rng(2).normal(size=(600, 31))
    return held_out, fit_doubt(held_out, looks, 0.9, resamples=50, seed=0)


def refitted(fitted: tuple[HeldOut, Doubt], asked: list[tuple[int, np.ndarray]] | None = None) -> Doubt:
    """The members, and the refit, see features as they were held out: as for a frozen network."""
    held_out, doubt = fitted

    def seen_by(fold: int, places: np.ndarray) -> np.ndarray:
        if asked is not None:
            asked.append((fold, places))
        return held_out.features[places]

    return refit_doubt(doubt, held_out, held_out.features, seen_by, seed=0)


def test_the_refit_is_calibrated_by_all_out_of_fold_answers_and_keeps_the_sets(fitted: tuple[HeldOut, Doubt]) -> None:
    held_out, doubt = fitted
    found = refitted(fitted)
    assert set(found.calibrated.by_fold) == set(found.experience) == {-1}
    expected = doubt.calibrated.fit(held_out.logits, held_out.truth)
    assert found.calibrated.by_fold[-1].temperature == expected.temperature == pytest.approx(3.0, rel=0.2)
    assert np.array_equal(found.thresholds, doubt.thresholds)
    assert found.experience[-1].usual is doubt.experience[0].usual, "looks hang on no network"
    assert np.array_equal(found.novelty, doubt.novelty), "figures are those of the folds' members"


def test_members_are_asked_of_images_that_they_were_trained_on_alone(fitted: tuple[HeldOut, Doubt]) -> None:
    asked: list[tuple[int, np.ndarray]] = []
    refitted(fitted, asked)
    assert [fold for fold, _ in asked] == list(range(5))
    for fold, places in asked:
        assert (fitted[0].folds[places] != fold).all()


def test_new_images_of_the_same_kind_are_seldom_novel_and_strangers_are(fitted: tuple[HeldOut, Doubt]) -> None:
    known = refitted(fitted).experience[-1].known
    assert (known.novelty(part(slice(600, None)).features) >= 1).mean() < 0.05
    strangers = np.abs(np.random.default_rng(1).normal(size=(100, 32))).astype(np.float32) * 5
    assert (known.novelty(strangers) >= 1).mean() > 0.9
