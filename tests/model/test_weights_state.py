"""Weights files are read tensors-only, and match a model strictly."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from microscopy_cls.errors import WeightsError
from microscopy_cls.model.state import load_state_dict, read_state_dict

STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.ones(2)}


class Net(nn.Module):
    """A timm-like classifier: it says which of its layers is the classifier."""

    def __init__(self, num_classes: int = 3, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 1)
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, num_classes)
        self.pretrained_cfg = {"classifier": "fc"}


class Custom:
    """Something that a weights file should not hold."""


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.bin", "w.pth.tar"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": OrderedDict(state)},
        lambda state: {"state_dict": state, "args": Namespace(lr=1e-3)},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}},
    ],
)
def test_torch_files_give_their_tensors_however_nested(tmp_path: Path, name: str, wrap: Any) -> None:
    torch.save(wrap(STATE), tmp_path / name)
    assert same(read_state_dict(tmp_path / name), STATE)


def test_safetensors_give_their_tensors(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors")
    assert same(read_state_dict(tmp_path / "w.safetensors"), STATE)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("keep", [0, 40, 300])
def test_cut_off_files_are_said_to_be_damaged(tmp_path: Path, name: str, keep: int) -> None:
    path = tmp_path / name
    if path.suffix == ".pth":
        torch.save(STATE, path)
    else:
        save_file({"conv.weight": torch.zeros(200)}, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=rf"{name}: is damaged, or no weights file \(.+\)"):
        read_state_dict(path)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_text_file_is_no_weights_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("<html>please log in to the network</html>" * 20)
    with pytest.raises(WeightsError, match="is damaged, or no weights file"):
        read_state_dict(tmp_path / name)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    torch.save({"model": Custom()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="holds pickled objects besides tensors, which are never run"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.ones(2)], torch.ones(2)])
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="holds no named tensors"):
        read_state_dict(tmp_path / "w.pth")


def test_a_fitting_state_is_copied_whole_classifier_included() -> None:
    source, target = Net(), Net()
    load_state_dict(target, source.state_dict(), "w.pth")
    assert same(target.state_dict(), source.state_dict())


def test_half_precision_is_cast_to_float32() -> None:
    source, target = Net().half(), Net()
    load_state_dict(target, source.state_dict(), "w.pth")
    assert target.stem.weight.dtype == torch.float32
    assert torch.equal(target.stem.weight, source.stem.weight.float())


@pytest.mark.parametrize("has_head", [True, False])
def test_only_a_classifier_of_other_classes_or_an_absent_one_stays_new(
    has_head: bool, caplog: pytest.LogCaptureFixture
) -> None:
    source, target = Net(num_classes=200), Net(num_classes=3)
    fresh = target.fc.weight.clone()
    state = {name: tensor for name, tensor in source.state_dict().items() if has_head or not name.startswith("fc.")}
    with caplog.at_level(logging.DEBUG):
        load_state_dict(target, state, "w.pth")
    assert torch.equal(target.fc.weight, fresh)
    assert torch.equal(target.stem.weight, source.stem.weight)
    assert caplog.messages == ["w.pth: its classifier, of other classes, is replaced by a new one"]


def test_counters_of_batches_may_be_absent_as_in_files_of_old_torch() -> None:
    source, target = Net(), Net()
    state = {name: tensor for name, tensor in source.state_dict().items() if "num_batches" not in name}
    load_state_dict(target, state, "w.pth")
    assert torch.equal(target.norm.running_mean, source.norm.running_mean)


def test_another_width_is_told_by_shapes_and_changes_nothing() -> None:
    target = Net(width=4)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(
        WeightsError,
        match=r"w.pth: does not fit the model. Tensors 7 of another shape: "
        r"stem.weight \(8, 3, 1, 1\) instead of \(4, 3, 1, 1\), (\S+ \(8,\) instead of \(4,\), ){4}\.\.\.\. "
        r"Likely cause: another width or cardinality of the same family",
    ):
        load_state_dict(target, Net(width=8).state_dict(), "w.pth")
    assert same(target.state_dict(), before)


def test_missing_and_unexpected_tensors_are_counted_and_five_named() -> None:
    state = {f"more.{index}": torch.ones(1) for index in range(7)} | {"stem.bias": torch.ones(4)}
    with pytest.raises(
        WeightsError,
        match=r"Tensors 5 missing: stem.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var; "
        r"7 unexpected: more.0, more.1, more.2, more.3, more.4, .... Likely cause: another architecture",
    ):
        load_state_dict(Net(), state, "w.pth")


def test_names_without_any_in_common_are_another_librarys() -> None:
    state = {f"backbone.{name}": tensor for name, tensor in Net().state_dict().items()}
    with pytest.raises(WeightsError, match="weights of another library, or of a model wrapped in another one"):
        load_state_dict(Net(), state, "w.pth")
