"""The examples that the documentation of the Python interface gives are true."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.inference.bundles import make_bundle

import microscopy_cls as mc
from microscopy_cls.inference.classifier import Classifier

DOCUMENTED = [
    mc.load, Classifier.predict, Classifier.extract_features, mc.list_models, mc.get_model, mc.read_image,
]  # fmt: skip


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the examples are given: the folder of a bundle with two members, and a picture of 30 x 20 px."""
    folder = tmp_path_factory.mktemp("examples")
    picture = folder / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(picture)
    return {"bundle": make_bundle(folder / "tiny"), "picture": picture}


@pytest.mark.parametrize("documented", DOCUMENTED, ids=lambda function: function.__qualname__)
def test_examples_are_true(documented: Callable[..., Any], names: dict[str, Any]) -> None:
    runner = doctest.DocTestRunner()
    found = doctest.DocTestFinder().find(documented, documented.__qualname__, globs=dict(names))
    assert sum(len(example.examples) for example in found) > 1
    for example in found:
        assert runner.run(example).failed == 0
