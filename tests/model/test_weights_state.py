"""Weights files are read tensors-only, and match a model strictly."""

from __future__ import annotations

import logging
import re
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
        self.pretrained_cfg = {"classifier": "fc", "first_conv": "stem"}


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
        lambda state: {"epoch": 3, "model_state_dict": state, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
        lambda state: {"state_dict": state, "best_accuracy": torch.tensor(0.9)},
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
    with pytest.raises(
        WeightsError,
        match=r"w.pth: holds \S*Custom besides tensors: pickled objects are never run. Convert it where you trust it: "
        r"load it with torch.load\(FILE, weights_only=False\), then save the tensors alone with safetensors.torch.save",
    ):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.filterwarnings("ignore:.*TorchScript.*:UserWarning", "ignore:`torch.jit:FutureWarning")
def test_programs_are_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "w.pt")
    with pytest.raises(
        WeightsError, match=r"w.pt: holds TorchScript besides tensors: .* Convert it where you trust it"
    ):
        read_state_dict(tmp_path / "w.pt")


@pytest.mark.parametrize("average", ["state_dict_ema", "model_ema"])
def test_a_moving_average_is_taken_before_the_last_step_and_said(
    tmp_path: Path, average: str, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(
        {"model": {"a": torch.zeros(1)}, "state_dict": {"b": torch.zeros(1)}, average: STATE}, tmp_path / "w.pth"
    )
    with caplog.at_level(logging.INFO):
        assert same(read_state_dict(tmp_path / "w.pth"), STATE)
    assert caplog.messages == [f"{tmp_path / 'w.pth'}: its moving average ({average}) is taken"]


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.ones(2)], torch.ones(2)])
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="holds no named tensors"):
        read_state_dict(tmp_path / "w.pth")


def test_of_several_unknown_entries_none_is_guessed(tmp_path: Path) -> None:
    torch.save({"student": STATE, "teacher": STATE, "epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w.pth: holds no named tensors; its entries are student, teacher, epoch$"):
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
    assert caplog.messages == ["w.pth: 6 of 6 tensors, by the names of timm; the classifier is new"]


def test_a_classifier_of_several_layers_is_replaced_too() -> None:
    source, target = Net(), Net()
    fresh = target.fc.weight.clone()
    state = {name.replace("fc.", "fc.1."): tensor for name, tensor in source.state_dict().items()}
    load_state_dict(target, state, "w.pth")
    assert torch.equal(target.fc.weight, fresh)
    assert torch.equal(target.stem.weight, source.stem.weight)


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_other_input_channels_become_three_that_answer_a_grey_image_alike(
    channels: int, caplog: pytest.LogCaptureFixture
) -> None:
    target = Net()
    kernels = torch.ones(4, channels, 1, 1)
    with caplog.at_level(logging.INFO):
        load_state_dict(target, {**Net().state_dict(), "stem.weight": kernels}, "w.pth")
    assert target.stem.weight.shape == (4, 3, 1, 1)
    torch.testing.assert_close(target.stem.weight.sum(1), kernels.sum(1))
    assert caplog.messages == [f"w.pth: stem adapted from {channels} to 3 input channels"]


def test_channels_are_repeated_in_their_order() -> None:
    target = Net()
    kernels = torch.tensor([1.0, 10.0]).expand(4, 2)[..., None, None]
    load_state_dict(target, {**Net().state_dict(), "stem.weight": kernels}, "w.pth")
    torch.testing.assert_close(target.stem.weight[0].flatten(), torch.tensor([1.0, 10.0, 1.0]) * 2 / 3)


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
    state = {f"more_{index}": torch.ones(1) for index in range(7)}
    with pytest.raises(
        WeightsError,
        match=r"Likely cause: weights of another architecture or library; names of timm, torchvision, mmpretrain, "
        r"fastai and pretrainedmodels are known$",
    ):
        load_state_dict(Net(), state, "w.pth")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"norm.bias": None}, "1 missing: norm.bias"),
        ({"more": torch.ones(1)}, "1 unexpected: more"),
        ({"norm.bias": torch.ones(9)}, r"1 of another shape: norm.bias \(9,\) instead of \(4,\)"),
    ],
)
def test_a_part_is_loaded_only_where_it_is_asked_for_and_with_a_warning(
    change: dict[str, Any], problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    source, target = Net(), Net()
    with torch.no_grad():
        source.norm.weight.fill_(7)
    state = {name: tensor for name, tensor in {**source.state_dict(), **change}.items() if tensor is not None}
    with pytest.raises(
        WeightsError, match=rf"{problem}\. .*To load what fits all the same: model.partial_weights: true$"
    ):
        load_state_dict(target, state, "w.pth")
    load_state_dict(target, state, "w.pth", partial=True)
    assert torch.equal(target.norm.weight, source.norm.weight)
    assert re.match(f"w.pth: loaded in part, as model.partial_weights asks. Tensors {problem}", caplog.messages[-1])


def test_a_file_of_which_nothing_fits_is_refused_even_in_part() -> None:
    with pytest.raises(WeightsError, match=r"w.pth: does not fit the model"):
        load_state_dict(Net(), {"more": torch.ones(1)}, "w.pth", partial=True)
