"""The table of networks is right, whole, quick and asks nothing of the network."""

from __future__ import annotations

import doctest
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import timm  # noqa: TID251
import torch

import microscopy_cls as mc
from microscopy_cls.errors import ConfigError
from microscopy_cls.model import create, get_model, zoo
from microscopy_cls.model.cost import cost_of
from microscopy_cls.model.tags import FREE_WEIGHTS

DOCUMENT = Path(__file__).parents[2] / "docs" / "resnext.md"


@pytest.fixture(autouse=True)
def _without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(
    ("name", "params_m", "gflops"),
    [
        ("resnext50_32x4d", 25.03, 4.27),
        ("resnext101_32x4d", 44.18, 8.03),
        ("resnext101_32x8d", 88.79, 16.50),
        ("resnext152_32x4d", 59.95, 11.80),
    ],
)
def test_mmpretrains_table_is_reproduced(name: str, params_m: float, gflops: float) -> None:
    """open-mmlab/mmpretrain, configs/resnext/README.md."""
    found = zoo.entry(name, 224)
    assert round(found.params_m, 2) == params_m
    assert found.gflops == pytest.approx(gflops, rel=0.005)


@pytest.mark.parametrize(
    ("name", "num_params", "gmacs"),
    [
        ("resnext50_32x4d", 25_028_904, 4.23),
        ("resnext101_32x8d", 88_791_336, 16.41),
        ("resnext101_64x4d", 83_455_272, 15.46),
    ],
)
def test_torchvisions_figures_are_reproduced(name: str, num_params: int, gmacs: float) -> None:
    """torchvision counts multiply-adds, and calls them GFLOPS: pytorch.org/vision/stable/models."""
    cost = cost_of(name, 224)
    assert cost.num_params == num_params
    assert cost.num_macs is not None
    assert round(cost.num_macs / 1e9, 2) == gmacs


def test_twice_the_side_is_four_times_the_work_but_for_the_classifier() -> None:
    small, large = cost_of("resnext50_32x4d", 224, num_classes=10), cost_of("resnext50_32x4d", 448, num_classes=10)
    head = 2048 * 10
    assert small.num_params == 25_028_904 - 990 * 2049
    assert small.num_macs is not None
    assert large.num_macs is not None
    assert large.num_macs - head == 4 * (small.num_macs - head)
    assert small.num_flops is not None
    assert large.num_flops is not None
    assert large.num_flops - head == 4 * (small.num_flops - head)


@pytest.mark.parametrize(("cardinality", "base_width"), [(1, 64), (2, 40), (4, 24), (8, 14), (32, 4)])
def test_the_papers_ladder_of_cardinality_keeps_the_cost(cardinality: int, base_width: int) -> None:
    """Xie et al. 2017, table 2: about as many parameters and operations, whatever the cardinality."""
    cost = cost_of("resnext50_32x4d", 224, cardinality=cardinality, base_width=base_width)
    assert cost.num_params == pytest.approx(25.3e6, rel=0.02)
    assert cost.num_macs == pytest.approx(4.15e9, rel=0.03)


def test_counting_a_network_computes_nothing_and_keeps_no_memory() -> None:
    state = torch.get_rng_state()
    assert cost_of("resnext101_32x32d", 1024).num_params == 468_530_472  # 1.9 GB, if it were real
    assert torch.equal(torch.get_rng_state(), state)


def test_a_size_that_a_network_does_not_take_has_no_cost_but_parameters() -> None:
    found = zoo.entry("bat_resnext26ts", 224)
    assert (found.gflops, found.gmacs) == (None, None)
    assert found.params_m == pytest.approx(10.73, abs=0.01)
    assert zoo.entry("bat_resnext26ts", 256).gflops is not None


def test_the_family_is_all_of_timms_and_the_one_it_lacks() -> None:
    family = mc.list_models()
    assert set(family) == set(FREE_WEIGHTS)
    assert set(family) >= {name for name in timm.list_models() if "resnext" in name}
    assert mc.list_models("resnext*")[-1] == "resnext152_32x4d"
    assert mc.list_models("resnext50_32x4d") == ["resnext50_32x4d"]
    assert "resnet50" in mc.list_models("*")


def test_every_member_is_described_with_weights_that_may_be_used() -> None:
    for name in mc.list_models():
        found, free = zoo.entry(name, 256), FREE_WEIGHTS[name]
        assert found.gflops is not None
        assert found.gmacs is not None
        assert 1.001 < found.gflops / found.gmacs < 1.02, name
        if free is None:
            assert (found.weights, found.licence) == (None, None)
        else:
            assert (found.weights, found.licence, found.top1) == (free.tag, free.licence, free.top1_percent)


def test_published_accuracies_are_known_where_there_is_a_source() -> None:
    top1 = {name: zoo.entry(name).top1 for name in ("resnext50_32x4d", "resnext101_64x4d", "resnext152_32x4d")}
    assert top1 == {"resnext50_32x4d": 82.012, "resnext101_64x4d": 83.158, "resnext152_32x4d": 78.88}
    assert zoo.entry("resnext101_32x16d").top1 is None


def test_the_member_that_timm_lacks_is_one_like_the_others() -> None:
    with torch.device("meta"):
        model: Any = get_model("resnext152_32x4d", 5, "none")
    assert model.pretrained_cfg["classifier"] == "fc"
    assert [len(stage) for stage in (model.layer1, model.layer2, model.layer3, model.layer4)] == [3, 8, 36, 3]
    with pytest.raises(ConfigError, match="no such model"):
        zoo.entry("resnext153_32x4d")


@pytest.mark.parametrize("module", [zoo, create])
def test_the_examples_in_the_documentation_run(module: Any) -> None:
    names = {"entry": zoo.entry}
    failed, attempted = doctest.testmod(module, extraglobs=names)
    assert attempted > 1
    assert failed == 0


def test_the_documents_table_is_the_programs() -> None:
    rows = re.findall(r"^\| `(\S+)` \| ([\d.]+) \| ([\d.]+) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name for name, _, _ in rows} >= set(mc.list_models("resnext*"))
    for name, params_m, gflops in rows:
        found = zoo.entry(name)
        assert (f"{found.params_m:.2f}", f"{found.gflops:.2f}") == (params_m, gflops), name
