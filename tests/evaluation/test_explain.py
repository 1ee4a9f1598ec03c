"""Explanations: the images worth looking at, each by the member that never saw it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from tests.inference.bundles import make_bundle, squares

from microscopy_cls.errors import ExplanationError
from microscopy_cls.evaluation.explain import CONFIDENT_ERROR, DOUBTFUL, RIGHT, choose, explain, write_cams
from microscopy_cls.model import cam
from microscopy_cls.model.bundle import read_bundle
from microscopy_cls.model.cam import member_cams
from microscopy_cls.model.graph import load_graph

CLASSES = ["alga", "hydra", "yeast"]


def drawn(num: int = 200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=num)
    probs = rng.dirichlet(np.ones(3), size=num) * 0.6 + 0.4 * np.eye(3)[truth]
    oof = pd.DataFrame(probs, columns=[f"prob_{name}" for name in CLASSES])
    return oof.assign(
        image_id=[f"{row:03d}.png" for row in range(num)],
        label=[CLASSES[k] for k in truth],
        predicted=[CLASSES[k] for k in probs.argmax(1)],
        fold=np.arange(num) % 2,
    )


def confidence(oof: pd.DataFrame) -> np.ndarray:
    return np.sort(oof[[f"prob_{name}" for name in CLASSES]].to_numpy(), axis=1)


def test_the_most_confident_errors_come_first() -> None:
    oof = drawn()
    places, kinds = choose(oof, CLASSES)
    errors = oof.iloc[places[kinds == CONFIDENT_ERROR]]
    wrong = oof[oof["label"] != oof["predicted"]]
    assert len(errors) == 12
    assert (errors["label"] != errors["predicted"]).all()
    assert list(confidence(errors)[:, -1]) == sorted(confidence(wrong)[:, -1], reverse=True)[:12]


def test_doubtful_images_have_the_smallest_lead_among_the_rest() -> None:
    oof = drawn()
    places, kinds = choose(oof, CLASSES)
    lead = confidence(oof)[:, -1] - confidence(oof)[:, -2]
    rest = np.delete(lead, places[kinds == CONFIDENT_ERROR])
    assert list(lead[places[kinds == DOUBTFUL]]) == sorted(rest)[:12]


def test_right_answers_are_drawn_by_seed() -> None:
    oof = drawn()
    places, kinds = choose(oof, CLASSES)
    right = oof.iloc[places[kinds == RIGHT]]
    assert len(right) == 12
    assert (right["label"] == right["predicted"]).all()
    assert np.array_equal(choose(oof, CLASSES)[0], places)
    assert not np.array_equal(choose(oof, CLASSES, seed=1)[0], places)


def test_no_image_is_chosen_twice_and_few_images_give_few() -> None:
    for num in (1, 5, 30, 200):
        places, kinds = choose(drawn(num), CLASSES)
        assert len(set(places)) == len(places) == len(kinds) <= min(num, 36)
    places, kinds = choose(drawn(3).assign(label=lambda rows: rows["predicted"]), CLASSES)
    assert (len(places), set(kinds)) == (3, {DOUBTFUL})


def test_the_choice_does_not_depend_on_the_order_of_the_rows() -> None:
    oof = drawn()
    shuffled = oof.sample(frac=1, random_state=0)
    ids = [list(table.iloc[choose(table, CLASSES)[0]]["image_id"]) for table in (oof, shuffled)]
    assert ids[0] == ids[1]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A bundle of two members, and a pixel cache."""
    (tmp_path / "prepared").mkdir()
    np.save(tmp_path / "prepared/pixels.npy", squares(20))
    return make_bundle(tmp_path / "bundle", classes=tuple(CLASSES)), tmp_path / "prepared"


def test_each_image_is_explained_by_the_member_of_its_own_fold(folders: tuple[Path, Path]) -> None:
    bundle, prepared = folders
    chosen, rows = drawn(5).iloc[[3, 0, 4, 1]], np.array([13, 0, 4, 11])
    cams = explain(chosen, rows, CLASSES, bundle, prepared)
    assert cams is not None
    info, pixels = read_bundle(bundle), np.load(prepared / "pixels.npy")
    for place, (row, fold) in enumerate(zip(rows, chosen["fold"], strict=True)):
        predicted = np.array([CLASSES.index(chosen["predicted"].iloc[place])])
        expected = member_cams(load_graph(bundle, info, info.members[fold]), pixels[row : row + 1], predicted)[0]
        assert np.abs(cams[place].astype(int) - expected).max() <= 1


def test_a_network_without_maps_is_a_line_in_the_log(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object) -> None:
        raise ExplanationError("Toy: has none")

    monkeypatch.setattr(cam, "member_cams", refused)
    with caplog.at_level(logging.WARNING):
        assert explain(drawn(2), np.array([0, 1]), CLASSES, *folders) is None
    assert "no explanations: Toy: has none" in caplog.text


def test_the_file_holds_rows_maps_and_kinds(tmp_path: Path) -> None:
    cams = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_cams(tmp_path / "reports/cams.safetensors", np.array([7, 3]), cams, np.array([0, 2]))
    found = load_file(tmp_path / "reports/cams.safetensors")
    assert {name: (array.dtype, array.tolist()) for name, array in found.items()} == {
        "rows": (np.int64, [7, 3]),
        "cam": (np.uint8, cams.tolist()),
        "kind": (np.int64, [0, 2]),
    }
