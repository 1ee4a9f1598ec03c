"""What `model.name` and `model.weights` mean, without network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from microscopy_cls.errors import ConfigError, WeightsError
from microscopy_cls.model import WeightsSource, resolve_weights, weights_digest
from microscopy_cls.system.files import sha256_of_file

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(autouse=True)
def _offline_with_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def folder(path: Path, *names: str, config: object = None) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_bytes(name.encode())
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    return path


def test_none_is_a_random_start_that_expects_imagenets_normalisation() -> None:
    assert resolve_weights("resnext50_32x4d", "none") == WeightsSource("none", "resnext50_32x4d", "", None, *IMAGENET)
    assert weights_digest(resolve_weights("resnext50_32x4d", "none")) == "none"


@pytest.mark.parametrize(
    ("name", "location", "licence"),
    [
        ("resnext50_32x4d", "resnext50_32x4d.a1h_in1k", "apache-2.0"),
        ("resnext101_32x4d", "resnext101_32x4d.gluon_in1k", "apache-2.0"),
        ("resnext101_32x8d", "resnext101_32x8d.tv2_in1k", "bsd-3-clause"),
        ("resnext50_32x4d.tv2_in1k", "resnext50_32x4d.tv2_in1k", "bsd-3-clause"),
        ("resnext50_32x4d.fb_ssl_yfcc100m_ft_in1k", "resnext50_32x4d.fb_ssl_yfcc100m_ft_in1k", "cc-by-nc-4.0"),
        ("resnet50", "resnet50.a1_in1k", "apache-2.0"),
    ],
)
def test_imagenet_is_the_best_free_tag_unless_a_tag_is_given(name: str, location: str, licence: str) -> None:
    source = resolve_weights(name, "imagenet")
    assert (source.kind, source.location, source.licence) == ("hub", location, licence)
    assert source.architecture == name.partition(".")[0]
    assert (source.mean, source.std) == IMAGENET


def test_models_outside_the_table_take_their_first_tag_that_is_not_non_commercial() -> None:
    source = resolve_weights("vit_base_patch16_clip_quickgelu_224", "imagenet")  # two of timm's tags before it are not
    assert (source.location, source.licence) == ("vit_base_patch16_clip_quickgelu_224.openai", "apache-2.0")
    with pytest.raises(WeightsError, match=r"convnextv2_tiny: only has weights licensed cc-by-nc-4.0"):
        resolve_weights("convnextv2_tiny", "imagenet")


def test_a_tags_own_normalisation_is_kept() -> None:
    source = resolve_weights("test_resnet", "imagenet")
    assert (source.mean, source.std) == HALF


@pytest.mark.parametrize("name", ["resnext101_32x16d", "resnext101_32x32d"])
def test_only_non_commercial_weights_are_refused_with_the_alternatives(name: str) -> None:
    with pytest.raises(
        WeightsError,
        match=rf"{name}: only has weights licensed cc-by-nc-4.0, so model.weights: imagenet cannot be used. Instead "
        r"take its neighbour with free weights, model.name: resnext101_64x4d; give a local file as model.weights; "
        rf"start from random weights with model.weights: none; or, .* model.name: {name}.fb_wsl_ig1b_ft_in1k",
    ):
        resolve_weights(name, "imagenet")


def test_an_architecture_without_weights_is_refused_with_the_alternatives() -> None:
    with pytest.raises(
        WeightsError,
        match=r"ecaresnext50t_32x4d: has no published weights, .* model.name: seresnext50_32x4d; .*weights: none$",
    ):
        resolve_weights("ecaresnext50t_32x4d", "imagenet")


def test_a_tag_without_weights_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"resnext101_32x4d.untrained: timm knows this name, but has no weights"):
        resolve_weights("resnext101_32x4d.untrained", "imagenet")


def test_a_wrong_model_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"model.name: resnext50_32x4: timm .* did you mean resnext50_32x4d or "):
        resolve_weights("resnext50_32x4", "none")
    with pytest.raises(ConfigError, match=r"model.name: zzz: timm .* `microscopy-cls models` lists"):
        resolve_weights("zzz", "none")


def test_a_wrong_tag_is_answered_with_the_tags_there_are() -> None:
    with pytest.raises(ConfigError, match=r"resnext50_32x4d.zzz: timm has no such weights; it has .*tv2_in1k"):
        resolve_weights("resnext50_32x4d.zzz", "imagenet")


def test_retired_names_of_timm_do_not_lead_to_non_commercial_weights() -> None:
    with pytest.raises(ConfigError, match="no such model; did you mean"):
        resolve_weights("swsl_resnext101_32x8d", "imagenet")


def test_a_file_is_taken_as_it_is_and_its_bytes_identify_it(tmp_path: Path) -> None:
    path = folder(tmp_path / "w", "a.pth") / "a.pth"
    source = resolve_weights("resnext50_32x4d", str(path))
    assert source == WeightsSource("file", "resnext50_32x4d", str(path), None, *IMAGENET)
    assert weights_digest(source) == sha256_of_file(path)


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["model.safetensors", "other.safetensors", "pytorch_model.bin"], "model.safetensors"),
        (["best.safetensors", "pytorch_model.bin"], "best.safetensors"),
        (["pytorch_model.bin", "a.pth"], "pytorch_model.bin"),
        (["a.pth", "notes.txt"], "a.pth"),
        (["last.ckpt"], "last.ckpt"),
    ],
)
def test_a_directory_gives_its_one_weights_file_safetensors_first(tmp_path: Path, names: list[str], taken: str) -> None:
    source = resolve_weights("resnext50_32x4d", str(folder(tmp_path / "w", *names)))
    assert source.location == str(tmp_path / "w" / taken)


def test_a_directory_with_several_or_no_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"several weights files \(a.safetensors, b.safetensors\); give one as"):
        resolve_weights("resnext50_32x4d", str(folder(tmp_path / "two", "a.safetensors", "b.safetensors")))
    with pytest.raises(WeightsError, match="holds no weights file"):
        resolve_weights("resnext50_32x4d", str(folder(tmp_path / "empty")))


def test_a_directorys_description_gives_licence_and_normalisation(tmp_path: Path) -> None:
    published = {"mean": [0.5] * 3, "std": [0.5] * 3, "license": "mit"}
    new = folder(
        tmp_path / "new", "model.safetensors", config={"architecture": "resnet18", "pretrained_cfg": published}
    )
    old = folder(tmp_path / "old", "model.safetensors", config={"architecture": "resnet18", **published})
    for path in (new, old):
        source = resolve_weights("resnet18", str(path))
        assert (source.licence, (source.mean, source.std)) == ("mit", HALF)


@pytest.mark.parametrize(("mean", "taken"), [([0.4], (0.4, 0.4, 0.4)), ([0.1, 0.2, 0.3, 0.4], (0.1, 0.2, 0.3))])
def test_a_normalisation_of_other_channels_is_repeated_or_cut(
    tmp_path: Path, mean: list[float], taken: tuple[float, float, float]
) -> None:
    described = folder(tmp_path / "w", "a.pth", config={"architecture": "resnet18", "mean": mean, "std": mean})
    source = resolve_weights("resnet18", str(described))
    assert (source.mean, source.std) == (taken, taken)


def test_a_description_that_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    other = folder(tmp_path / "other", "a.pth", config={"architecture": "resnet34.a1_in1k"})
    with pytest.raises(WeightsError, match=r"holds a resnet34, but model.name is resnet18: make them the same"):
        resolve_weights("resnet18", str(other))
    single = folder(tmp_path / "single", "a.pth", config={"architecture": "resnet18", "mean": 0.5, "std": 0.5})
    with pytest.raises(
        WeightsError, match=r"a.pth: its config.json should give mean and std as lists of numbers, one a"
    ):
        resolve_weights("resnet18", str(single))
    broken = folder(tmp_path / "broken", "a.pth")
    (broken / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config.json: is not a readable JSON file"):
        resolve_weights("resnet18", str(broken))


def test_weights_that_are_nothing_known_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"imagent: there is no such file or directory \(did you mean imagenet\?\)"):
        resolve_weights("resnet18", "imagent")
    with pytest.raises(WeightsError, match=r"lab/w.pth: there is no such file or directory; write imagenet, none, a p"):
        resolve_weights("resnet18", "lab/w.pth")


def test_published_weights_offline_and_not_cached_name_three_ways_out(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError,
        match=r"timm/resnext50_32x4d.a1h_in1k: its weights are not in the cache \(.*hub\), and HF_HUB_OFFLINE is set.*"
        r"\(1\) on a machine with network run `hf download timm/resnext50_32x4d.a1h_in1k` and copy the folder "
        r"models--timm--resnext50_32x4d.a1h_in1k of its cache into .*hub here; "
        r"\(2\) give a local file or directory as model.weights; \(3\) .* model.weights: none",
    ):
        weights_digest(resolve_weights("resnext50_32x4d", "imagenet"))


def test_weights_at_a_plain_address_offline_and_not_cached_name_three_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        WeightsError,
        match=r"https://.*/legacy_se_resnext50_32x4d-f3651bad.pth: not in the cache .*HF_HUB_OFFLINE is set.*"
        r"\(1\).*`curl -LO https://.*` and copy the file to .*f3651bad.pth here; \(2\).*\(3\)",
    ):
        weights_digest(resolve_weights("legacy_seresnext50_32x4d", "imagenet"))
