"""A model starts from exactly the weights that were asked for, or not at all."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import timm  # noqa: TID251
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn

from microscopy_cls.errors import ConfigError, WeightsError
from microscopy_cls.model import get_model, resolve_weights, weights_digest
from microscopy_cls.system.files import sha256_of_file

SMALL = "test_resnet"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """The small model as if published: its weights lie in the hub's cache, and there is no network."""
    model: nn.Module = timm.create_model(SMALL)
    snapshot = tmp_path / "hub" / f"models--timm--{SMALL}.r160_in1k" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    save_file(model.state_dict(), snapshot / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return model


def backbone(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("fc.")}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", ["resnext26ts", "resnext26ts.ra2_in1k"])
def test_a_random_start_has_the_classes_asked_for_and_needs_no_weights(name: str) -> None:
    model = get_model(name, 7, "none").eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_the_same_seed_draws_the_same_random_start() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(get_model(SMALL, 5, "none").state_dict())
    assert equal(*states)


def test_published_weights_fill_all_but_the_classifier(published: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "microscopy_cls"):
        model = get_model(SMALL, 5)
    assert equal(backbone(model), backbone(published))
    assert model.get_parameter("fc.weight").shape[0] == 5
    assert model.get_parameter("fc.weight").requires_grad
    assert model.training
    assert caplog.messages == [f"{SMALL} starts from {SMALL}.r160_in1k (apache-2.0)"]


def test_published_weights_keep_their_classifier_when_the_classes_are_as_many(published: nn.Module) -> None:
    assert equal(get_model(SMALL, 1000).state_dict(), published.state_dict())


def test_no_second_copy_of_the_tensors_is_kept(published: nn.Module) -> None:
    assert "state_dict" not in get_model(SMALL, 5).pretrained_cfg


def test_cached_weights_are_identified_by_their_bytes(published: nn.Module, tmp_path: Path) -> None:
    (cached,) = tmp_path.rglob("model.safetensors")
    assert weights_digest(resolve_weights(SMALL, "imagenet")) == sha256_of_file(cached)


def test_a_damaged_cache_says_which_folder_to_delete(published: nn.Module, tmp_path: Path) -> None:
    (cached,) = tmp_path.rglob("model.safetensors")
    cached.write_bytes(cached.read_bytes()[:1000])
    with pytest.raises(
        WeightsError, match=rf"is damaged.*Delete .*models--timm--{SMALL}.r160_in1k, then it is downloaded again"
    ):
        get_model(SMALL, 5)


def test_published_weights_that_lack_a_tensor_are_refused_even_for_other_classes(
    published: nn.Module, tmp_path: Path
) -> None:
    (cached,) = tmp_path.rglob("model.safetensors")
    save_file({name: tensor for name, tensor in published.state_dict().items() if name != "conv1.0.weight"}, cached)
    with pytest.raises(WeightsError, match=rf"{SMALL}.r160_in1k: the published weights do not fit .*conv1.0.weight"):
        get_model(SMALL, 5)


def test_non_commercial_weights_are_honoured_with_a_notice(
    published: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("microscopy_cls.model.create.is_non_commercial", lambda licence: licence == "apache-2.0")
    get_model(f"{SMALL}.r160_in1k", 5)
    assert caplog.messages[-1] == f"{SMALL}.r160_in1k is licensed apache-2.0: not for commercial use"


def test_a_local_file_fills_all_but_the_classifier(tmp_path: Path) -> None:
    source = timm.create_model(SMALL, num_classes=200).half()
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    model = get_model(SMALL, 5, str(tmp_path / "w.safetensors"), drop_path=0.1)
    assert equal(backbone(model), backbone(source.float()))
    assert model.get_parameter("fc.weight").shape[0] == 5


def test_a_local_file_of_another_model_is_refused(tmp_path: Path) -> None:
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"w.safetensors: does not fit the model.*missing.*unexpected.*Likely cause"):
        get_model(SMALL, 5, str(tmp_path / "w.safetensors"))


def test_a_part_of_a_local_file_is_taken_where_it_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = timm.create_model(SMALL, num_classes=5)
    part = {name: tensor for name, tensor in source.state_dict().items() if not name.startswith("layer4.")}
    save_file(part, tmp_path / "w.safetensors")
    model = get_model(SMALL, 5, str(tmp_path / "w.safetensors"), partial_weights=True)
    assert equal({name: tensor for name, tensor in model.state_dict().items() if name in part}, part)
    assert "loaded in part, as model.partial_weights asks. Tensors" in caplog.messages[-1]


def test_a_network_of_one_channel_answers_grey_images_as_before(tmp_path: Path) -> None:
    source = timm.create_model(SMALL, num_classes=5, in_chans=1).eval()
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    model = get_model(SMALL, 5, str(tmp_path / "w.safetensors")).eval()
    grey = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(model(grey.expand(2, 3, 64, 64)), source(grey), rtol=1e-4, atol=1e-6)


def test_a_damaged_local_file_is_refused_without_advice_to_download(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"w.pth: is damaged, or no weights file \(UnpicklingError\)$"):
        get_model(SMALL, 5, str(tmp_path / "w.pth"))


def test_stochastic_depth_reaches_the_blocks_and_is_refused_where_there_is_none() -> None:
    assert any(getattr(module, "drop_prob", 0) for module in get_model(SMALL, 5, "none", drop_path=0.2).modules())
    with pytest.raises(ConfigError, match=r"model.drop_path: legacy_seresnext26_32x4d has no stochastic depth; set it"):
        get_model("legacy_seresnext26_32x4d", 5, "none", drop_path=0.2)
