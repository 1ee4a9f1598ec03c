"""Laws of training a network from its classifier downwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from microscopy_cls.config.schema import Finetune, Strategy
from microscopy_cls.errors import ConfigError
from microscopy_cls.model import get_model
from microscopy_cls.training.optim import make_optimizer, make_schedule
from microscopy_cls.training.stages import hold_statistics, stage_names, train_top


@pytest.fixture
def network() -> nn.Module:
    return get_model("test_resnet", 3, "none")


def changed(network: nn.Module) -> set[str]:
    """First parts of the names of weights and statistics that a step of training changes."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    network(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    optimizer.step()
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize(
    ("name", "top", "bottom"), [("test_resnet", "fc", "conv1"), ("resnext26ts", "head.fc", "stem")]
)
def test_stages_go_from_the_classifier_to_the_stem_and_hold_each_parameter_once(
    name: str, top: str, bottom: str
) -> None:
    network = get_model(name, 3, "none")
    stages = stage_names(network)
    assert set(stages[0]) == {f"{top}.weight", f"{top}.bias"}
    assert any(one.startswith(bottom) for one in stages[-1])
    assert sorted(one for stage in stages for one in stage) == sorted(name for name, _ in network.named_parameters())
    assert len(stages) == 6


@pytest.mark.parametrize(("num", "learning"), [(1, {"fc"}), (2, {"fc", "layer4"}), (3, {"fc", "layer4", "layer3"})])
def test_only_the_top_stages_change_and_below_them_not_even_statistics(
    network: nn.Module, num: int, learning: set[str]
) -> None:
    train_top(network, stage_names(network), num)
    network.train()
    hold_statistics(network, everywhere=False)
    assert {name.split(".")[0] for name in changed(network)} == learning


def test_past_the_last_stage_all_layers_learn(network: nn.Module) -> None:
    train_top(network, stage_names(network), 1)
    train_top(network, stage_names(network), 99)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_held_statistics_stay_while_scales_and_shifts_learn(network: nn.Module) -> None:
    network.train()
    hold_statistics(network, everywhere=True)
    names = changed(network)
    assert not [name for name in names if "running" in name or "tracked" in name]
    assert "bn1.weight" in names
    network.train()
    hold_statistics(network, everywhere=False)
    assert "layer1.0.bn1.running_mean" in changed(network)


def test_a_norm_without_weights_follows_the_batches_where_the_block_around_it_learns() -> None:
    def block(num_in: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(num_in, 4, 3), nn.BatchNorm2d(4, affine=False))

    network = nn.Sequential(block(3), block(4))
    hold_statistics(network.train(), everywhere=False)
    assert "0.1.running_mean" in changed(network)
    network.zero_grad()
    network[0].requires_grad_(False)
    hold_statistics(network.train(), everywhere=False)
    assert changed(network) == {
        "1.0.weight", "1.0.bias", "1.1.running_mean", "1.1.running_var", "1.1.num_batches_tracked",
    }  # fmt: skip


def test_a_network_whose_stages_are_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"strategy gradual: timm does not tell the stages of Linear. Choose full or"):
        stage_names(nn.Linear(3, 3))


@pytest.mark.parametrize(("strategy", "peak"), [("full", 0.01), ("gradual", 0.01), ("head_then_full", 0.002)])
def test_a_fitted_head_is_followed_at_a_part_of_the_rate(network: nn.Module, strategy: Strategy, peak: float) -> None:
    settings = Finetune(strategy=strategy, learning_rate=0.01, fitted_head_rate=0.2, epochs=3)
    optimizer = make_optimizer(network, settings)
    schedule = make_schedule(optimizer, settings, 10)
    rates = []
    for step in range(30):
        schedule.step_update(step)
        rates.append(max(group["lr"] for group in optimizer.param_groups))
    assert max(rates) == pytest.approx(peak)
    assert rates[0] == pytest.approx(peak / 100)
