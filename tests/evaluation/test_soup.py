"""A soup is the mean of a run's networks, scored where none of them looked, and kept where it is worth it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tests.evaluation.runs import SPREAD, config_of, draw, finish, hide_behind_a_refit, network_of
from typer.testing import CliRunner

from microscopy_cls.cli import soup as _  # noqa: F401  registers it
from microscopy_cls.cli.main import app
from microscopy_cls.config import Paths
from microscopy_cls.dataset.cache import open_pixels
from microscopy_cls.errors import BundleError, ConfigError, DataError
from microscopy_cls.evaluation import soup as module
from microscopy_cls.evaluation.compare import WORDS
from microscopy_cls.evaluation.soup import soup
from microscopy_cls.evaluation.soup_bundle import halves
from microscopy_cls.inference.predictor import open_predictor
from microscopy_cls.model.bundle import read_bundle
from microscopy_cls.model.ensemble import member_probs
from microscopy_cls.model.graph import Graph
from microscopy_cls.model.preprocess import Normalise
from microscopy_cls.model.soup import mean_weights, measure_statistics, share_statistics
from microscopy_cls.system.files import read_json, sha256_of_file, write_json

PATHS, SOUP = Paths("a"), Paths("a-soup")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One run of two networks, and images apart."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("graph", "answers"):  # converting takes seconds
            patch.setattr(f"microscopy_cls.model.{name}.has_openvino", lambda: False)
        patch.setattr(module, "RESAMPLES", 100)
        draw()
        finish(config_of("a"), 1, 2)
        yield folder


@pytest.fixture(autouse=True)
def _copy(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def states(*seeds: int) -> list[dict[str, torch.Tensor]]:
    return [network_of(seed).state_dict() for seed in seeds]


def make_members_alike() -> None:
    """The second member becomes the first, calibrated as it."""
    path = PATHS.bundle / "bundle.json"
    content = read_json(path)
    one, other = (PATHS.bundle / member["file"] for member in content["members"])
    shutil.copyfile(one, other)
    content["members"][1]["sha256"] = sha256_of_file(one)
    content["calibration"] = {"method": "temperature", "temperatures": [1.5, 1.5]}
    write_json(path, content)


def apart() -> np.ndarray:
    manifest = pd.read_parquet(PATHS.manifest)
    return np.asarray(open_pixels(PATHS.prepared)[manifest.index[manifest["split"] == "test"]])


# weights --------------------------------------------------------------------------------------------------------------


def test_a_soup_of_identical_members_is_the_member() -> None:
    one = states(1)[0]
    found = mean_weights([one, one, one])
    assert all(torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in one.items())


def test_weights_are_the_mean_and_their_order_does_not_matter() -> None:
    first, second = states(1, 2)
    found, turned = mean_weights([first, second]), mean_weights([second, first])
    for name, tensor in first.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(found[name], (tensor + second[name]) / 2)
            assert torch.equal(found[name], turned[name])


def test_statistics_that_are_shared_are_told_from_those_that_are_not() -> None:
    first, second = states(1, 2)
    assert share_statistics([first, first | {"fc.weight": second["fc.weight"]}])
    assert not share_statistics([first, second])
    assert share_statistics([{"weight": torch.zeros(1)}, {"weight": torch.ones(1)}]), "there are none"


class OnlyBatches:
    """Squares that must not be read all at once."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels, self.shape = pixels, pixels.shape

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, part: slice) -> NDArray[np.uint8]:
        assert len(range(len(self))[part]) <= 64
        return self.pixels[part]


def test_statistics_are_measured_on_the_images_and_nothing_else_changes() -> None:
    network = network_of(1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    pixels = np.random.default_rng(0).integers(0, 256, (128, 32, 32, 3), np.uint8)
    graph = Graph(network, Normalise(*SPREAD))
    measure_statistics(graph, OnlyBatches(pixels))
    assert not any(part.training for part in graph.modules())
    seen = []
    network.conv1.register_forward_hook(lambda *answer: seen.append(answer[2]))
    with torch.no_grad():
        graph(torch.from_numpy(pixels))
    torch.testing.assert_close(network.bn1.running_mean, seen[0].mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(network.bn1.running_var, seen[0].var((0, 2, 3)), rtol=1e-2, atol=1e-4)
    changed = [name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])]
    assert {name.rpartition(".")[2] for name in changed} == {"running_mean", "running_var", "num_batches_tracked"}


# scores ---------------------------------------------------------------------------------------------------------------


def test_a_soup_of_identical_members_is_as_accurate_as_they_are_and_is_written() -> None:
    make_members_alike()
    done = soup("a", "a-soup")
    assert not done.report["statistics_measured"]
    for figure in (done.report["gain_over_members"]["accuracy"], done.report["gain_over_ensemble"]["accuracy"]):
        assert (figure["value"], figure["ci_low"], figure["ci_high"]) == (0, 0, 0)
    assert done.report["is_worth_it"]
    weights = load_file(SOUP.bundle / "member_0.safetensors")
    member = load_file(PATHS.bundle / "member_0.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in member.items())


def test_figures_are_of_the_images_apart_and_differences_are_theirs() -> None:
    found = soup("a", "a-soup", keep=True).report
    assert (found["num_images"], found["num_groups"], found["num_members"]) == (18, 3, 2)
    assert found["source"] == "split test of the data"
    probs = member_probs(PATHS.bundle, read_bundle(PATHS.bundle), apart())
    labels = pd.read_parquet(PATHS.manifest).query("split == 'test'")["label"].to_numpy()
    right = np.array(["alga", "yeast"])[probs.argmax(2)] == labels
    assert found["members"]["accuracy"]["value"] == pytest.approx(right.mean(), abs=1e-6)
    whole = np.array(["alga", "yeast"])[probs.mean(0).argmax(1)] == labels
    assert found["ensemble"]["accuracy"]["value"] == pytest.approx(whole.mean(), abs=1e-6)
    for kind, other in (("gain_over_members", "members"), ("gain_over_ensemble", "ensemble")):
        for name in WORDS:
            difference = found["soup"][name]["value"] - found[other][name]["value"]
            assert found[kind][name]["value"] == pytest.approx(difference, abs=2e-6)
    assert read_json(SOUP.reports / "soup.json") == json.loads(json.dumps(found))


def test_a_soup_that_is_less_accurate_than_its_members_is_not_written_unless_it_is_to_be_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truly = module._scores

    def worse(*given: Any) -> Any:
        found = truly(*given)
        found["gain_over_members"]["accuracy"] = {"value": -0.1, "ci_low": -0.3, "ci_high": 0.05}
        return found

    monkeypatch.setattr(module, "_scores", worse)
    done = soup("a", "a-soup")
    assert done.bundle is None
    assert not SOUP.bundle.exists()
    assert not done.report["is_worth_it"]
    assert not done.report["is_written"]
    assert "not shown to differ from one of its members" in done.report["verdict"]
    assert soup("a", "a-soup", keep=True).bundle == SOUP.bundle
    assert not read_json(SOUP.reports / "soup.json")["is_worth_it"]


def test_halves_divide_no_group_and_have_as_many_groups() -> None:
    groups = np.array([f"g{i % 11}" for i in range(60)], object)
    half = halves(groups, seed=0)
    by_group = pd.Series(half).groupby(groups)
    assert (by_group.nunique() == 1).all()
    assert sorted(by_group.first().value_counts()) == [5, 6]
    assert np.array_equal(half, halves(groups, seed=0))


def test_the_bundle_alone_classifies_and_says_what_it_is(tmp_path: Path) -> None:
    soup("a", "a-soup", keep=True)
    squares = list(apart()[:5])
    shutil.move(SOUP.bundle, tmp_path / "moved")
    shutil.rmtree("data")
    info = read_bundle(tmp_path / "moved")
    assert [member.fold for member in info.members] == [0]
    assert (info.training_data["soup_of"], info.training_data["num_members"]) == ("a", 2)
    assert (info.name, info.config["name"]) == ("a-soup", "a-soup")
    predictor = open_predictor([tmp_path / "moved"], engine="torch", precision="fp32")
    answers = predictor.run_all(squares)
    assert (answers.novelty > 0).all()
    assert predictor.judge.answer(answers.probs[0], answers.novelty[0])["refer"] in (True, False)
    written, mean = load_file(tmp_path / "moved/member_0.safetensors"), mean_weights(states(1, 2))
    assert all(
        torch.equal(written[name], tensor)
        for name, tensor in mean.items()
        if "running" not in name and "num_" not in name
    )


# the command ----------------------------------------------------------------------------------------------------------


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["soup", *words])


def test_the_command_prints_a_table_the_verdict_and_where_things_are() -> None:
    answer = run("a", "--keep")
    assert answer.exit_code == 0, answer.output
    lines = answer.stdout.splitlines()
    assert lines[0] == "18 images in 3 groups that no member saw (split test of the data)"
    assert [line[:19].strip() for line in lines if line[:19].strip() in WORDS.values()] == list(WORDS.values())
    assert "On 18 images that no member saw, the soup is" in answer.stdout
    assert "! Whether to write the soup was decided by these images" in answer.stdout
    assert lines[-2:] == ["model: data/models/a-soup", "report: reports/a-soup/soup.json"]


def test_the_command_says_when_nothing_was_written_and_gives_the_same_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    report = soup("a", "a-soup").report
    monkeypatch.setattr(module, "soup", lambda *given, **chosen: module.Souped(report, None))
    assert "The soup is less accurate than its members on average, and was not written" in run("a").stdout
    assert json.loads(run("a", "--json").stdout) == report


# what is refused ------------------------------------------------------------------------------------------------------


def set_config(**data: Any) -> None:
    """Change the section `data` of the config in the bundle."""
    path = PATHS.bundle / "bundle.json"
    content = read_json(path)
    content["config"]["data"] |= data
    write_json(path, content)


def test_without_images_apart_there_is_no_soup() -> None:
    rows = pd.read_parquet(PATHS.manifest)
    rows[rows["split"] != "test"].to_parquet(PATHS.manifest)
    with pytest.raises(DataError) as raised:
        soup("a", "a-soup")
    assert str(raised.value) == (
        "a: has neither data.test nor images of the split test, and there is nothing else that all members never saw. "
        "Set images apart (data.test, or rows of a table whose split is test), then prepare, train and evaluate "
        "again; or use the members' average."
    )
    assert not SOUP.reports.exists()


def test_images_apart_of_a_single_group_are_refused() -> None:
    rows = pd.read_parquet(PATHS.manifest)
    is_test = rows["split"] == "test"
    rows.assign(split_group=rows["split_group"].mask(is_test, "one")).to_parquet(PATHS.manifest)
    with pytest.raises(DataError, match=r"^split test of the data: all images are one group, and a soup is calibrated"):
        soup("a", "a-soup")


def test_a_run_of_one_member_is_refused() -> None:
    path = PATHS.bundle / "bundle.json"
    content = read_json(path)
    write_json(path, content | {"members": content["members"][:1]})
    with pytest.raises(BundleError, match=r"^data/models/a: has one member, and a soup needs two or more\.$"):
        soup("a", "a-soup")


def test_an_ensemble_is_refused() -> None:
    path = PATHS.bundle / "bundle.json"
    write_json(path, read_json(path) | {"parts": ["x", "y"], "members": []})
    with pytest.raises(BundleError, match=r"^data/models/a: is an ensemble, .* Make a soup of one of its runs\.$"):
        soup("a", "a-soup")


def test_the_name_of_a_run_is_refused() -> None:
    with pytest.raises(DataError, match=r"^--name a: is the name of a run, which would be overwritten"):
        soup("a", "a")


def test_a_name_that_names_no_folder_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^--name \.\./x: names folders"):
        soup("a", "../x")


def test_other_images_than_the_bundle_was_trained_on_are_refused() -> None:
    rows = pd.read_parquet(PATHS.manifest)
    changed = rows["pixel_digest"].where(rows["split"] == "test", "other")
    rows.assign(pixel_digest=changed).to_parquet(PATHS.manifest)
    with pytest.raises(DataError, match=r"^data/runs/a: was trained on other images than data/prepared/a/manifest"):
        soup("a", "a-soup")


def test_images_that_were_read_otherwise_are_refused() -> None:
    path = PATHS.prepared / "pixels.json"
    write_json(path, read_json(path) | {"key": "other"})
    with pytest.raises(DataError, match=r"^data/prepared/a: was prepared with other settings"):
        soup("a", "a-soup")


def test_of_a_run_with_a_refit_the_tested_members_are_taken() -> None:
    plain = soup("a", "a-soup", keep=True).report
    hide_behind_a_refit("a")
    found = soup("a", "a-soup", keep=True).report
    assert found == plain


def test_a_damaged_member_is_refused() -> None:
    save_file(states(9)[0], PATHS.bundle / "member_1.safetensors")
    with pytest.raises(BundleError, match=r"member_1\.safetensors: is missing or damaged"):
        soup("a", "a-soup")
