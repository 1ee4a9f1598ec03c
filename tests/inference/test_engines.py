"""Every engine gives torch's answers, and an image's answer depends on that image alone."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.inference.bundles import INFO, make_bundle, squares

from microscopy_cls.errors import BundleError, ConfigError, MissingDependencyError
from microscopy_cls.inference.engines import choice, choose_engine
from microscopy_cls.inference.engines.on_torch import TorchEngine
from microscopy_cls.inference.predictor import Predictor, choose_members, open_predictor
from microscopy_cls.inference.views import mirrors_of
from microscopy_cls.model.bundle import read_bundle
from microscopy_cls.model.int8 import int8_graphs
from microscopy_cls.system import hardware

# Largest difference of a probability from torch in fp32: sums in another order, or products rounded to bf16.
TOLERANCE = {"fp32": 1e-5, "bf16": 0.03}
ENGINES = [("torch", "fp32"), ("torch", "bf16"), ("openvino", "fp32"), ("openvino", "bf16"), ("onnx", "fp32")]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("models") / "bundle", graphs=True)


@pytest.fixture(scope="module")
def reference(bundle: Path) -> Predictor:
    return open_predictor([bundle], engine="torch", precision="fp32")


@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_every_engine_agrees_with_torch(bundle: Path, reference: Predictor, engine: str, precision: str) -> None:
    images = squares(40)
    expected = reference.run_all(images)
    found = open_predictor([bundle], engine=engine, precision=precision).run_all(images)
    np.testing.assert_allclose(found.probs, expected.probs, atol=TOLERANCE[precision])
    np.testing.assert_allclose(found.probs.sum(1), 1)
    is_tie = np.abs(expected.probs[:, 0] - expected.probs[:, 1]) < 2 * TOLERANCE[precision]
    assert (found.probs.argmax(1) == expected.probs.argmax(1))[~is_tie].all()
    assert np.corrcoef(found.features.ravel(), expected.features.ravel())[0, 1] > 0.999
    assert expected.probs[:, 0].std() > 0.01, "answers differ between images, or equality would show nothing"


@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_an_answer_does_not_depend_on_the_neighbours_to_the_last_bit(bundle: Path, engine: str, precision: str) -> None:
    predictor, images = open_predictor([bundle], engine=engine, precision=precision), squares(20)
    order = np.random.default_rng(1).permutation(20)
    whole = predictor.run_all(images).probs
    np.testing.assert_array_equal(predictor.run_all(images[order]).probs, whole[order])
    np.testing.assert_array_equal(predictor.run_all(images[17:18]).probs, whole[17:18])


def test_a_bundle_without_graphs_is_converted_when_it_is_loaded(bundle: Path, tmp_path: Path) -> None:
    bare = make_bundle(tmp_path / "bare", 1)
    assert read_bundle(bare).members[0].graph is None
    images = squares(5)
    found = open_predictor([bare], engine="openvino", precision="fp32").run_all(images).probs
    expected = open_predictor([bundle], engine="openvino", precision="fp32", members="1").run_all(images).probs
    np.testing.assert_array_equal(found, expected)


def test_a_bundle_with_graphs_answers_without_torch(bundle: Path) -> None:
    code = f"""
import sys
from pathlib import Path
import numpy as np
from microscopy_cls.inference.predictor import open_predictor
probs = open_predictor([Path({str(bundle)!r})], engine="openvino").run_all(np.zeros((1, 32, 32, 3), np.uint8)).probs
assert abs(probs.sum() - 1) < 1e-9
print([name for name in ("torch", "timm", "mlflow", "openvino_telemetry") if sys.modules.get(name)])
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "[]"


def test_int8_is_made_once_and_kept_only_where_it_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: Predictor
) -> None:
    folder, images = make_bundle(tmp_path / "bundle", graphs=True), squares(40)
    monkeypatch.setattr("microscopy_cls.model.int8.MIN_AGREEMENT", 0.8)
    found = open_predictor([folder], engine="openvino", precision="int8").run_all(images)
    expected = reference.run_all(images)
    assert (found.probs.argmax(1) == expected.probs.argmax(1)).mean() > 0.8
    assert np.abs(found.probs - expected.probs).max() < 0.2
    assert not np.array_equal(found.probs, expected.probs)
    made = (folder / "int8" / "int8_0.bin").stat().st_mtime_ns
    again = open_predictor([folder], engine="openvino", precision="int8").run_all(images)
    np.testing.assert_array_equal(again.probs, found.probs)
    assert (folder / "int8" / "int8_0.bin").stat().st_mtime_ns == made
    record = folder / "int8" / "int8.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"agreement": 0.75}))
    with pytest.raises(BundleError, match=r"agree with fp32 on 75.0% of 40 images held out, and at least 80.0%"):
        open_predictor([folder], engine="openvino", precision="int8")


def test_int8_of_a_refit_is_said_to_be_tried_on_what_it_was_trained_on(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle", 1)
    info = read_bundle(folder)
    refit = info.model_copy(update={"members": (info.members[0].model_copy(update={"fold": -1}),)})
    record = {"agreement": 0.9, "num_images": 40, "files": {}, "members": [refit.members[0].sha256]}
    (folder / "int8").mkdir()
    (folder / "int8" / "int8.json").write_text(json.dumps(record))
    with pytest.raises(
        BundleError, match=r"agree with fp32 on 90.0% of 40 images that it was trained on, and at least"
    ):
        int8_graphs(folder, refit, refit.members)
    with pytest.raises(BundleError, match=r"on 90.0% of 40 images held out, and at least"):
        int8_graphs(folder, info, info.members)


def test_a_damaged_graph_is_refused(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle", 1, graphs=True)
    (folder / "openvino_0.bin").write_bytes(b"else")
    with pytest.raises(BundleError, match=r"openvino_0.bin: is missing or damaged"):
        open_predictor([folder], engine="openvino")


def test_temperatures_divide_each_members_logits(tmp_path: Path) -> None:
    images = squares(4)
    plain = make_bundle(tmp_path / "plain")
    cold = make_bundle(tmp_path / "cold", calibration={"method": "temperature", "temperatures": (0.5, 4.0)})
    for place, temperature in enumerate((0.5, 4.0)):
        name = f"fold_{place}"
        before = open_predictor([plain], engine="torch", precision="fp32", members=name).run_all(images).probs
        after = open_predictor([cold], engine="torch", precision="fp32", members=name).run_all(images).probs
        logit = np.log(before[:, 0] / before[:, 1])
        np.testing.assert_allclose(np.log(after[:, 0] / after[:, 1]), logit / temperature, rtol=1e-4)


def test_mirrored_images_get_one_answer_with_test_time_augmentation(bundle: Path) -> None:
    predictor, images = open_predictor([bundle], engine="torch", precision="fp32", tta=True), squares(3)
    found = predictor.run_all(images).probs
    for mirrored in (images[:, ::-1], images[:, :, ::-1], images[:, ::-1, ::-1]):
        np.testing.assert_allclose(predictor.run_all(mirrored).probs, found, atol=1e-6)
    plain = open_predictor([bundle], engine="torch", precision="fp32").run_all(images).probs
    assert np.abs(plain - found).max() > 1e-6


def test_a_config_may_ask_for_test_time_augmentation(bundle: Path, tmp_path: Path) -> None:
    config = INFO["config"] | {"evaluate": {"tta": True}}
    asked, images = make_bundle(tmp_path / "asked", config=config), squares(3)
    found = open_predictor([asked], engine="torch", precision="fp32").run_all(images).probs
    expected = open_predictor([bundle], engine="torch", precision="fp32", tta=True).run_all(images).probs
    np.testing.assert_array_equal(found, expected)


def test_int8_of_a_bundle_that_cannot_be_written_is_made_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_bundle(tmp_path / "bundle", 1, graphs=True)
    monkeypatch.setattr("microscopy_cls.model.int8.MIN_AGREEMENT", 0.0)
    monkeypatch.setattr("os.access", lambda *_: False)
    open_predictor([folder], engine="openvino", precision="int8").run_all(squares(2))
    assert "cannot be written, so that int8 is made anew each time" in caplog.text
    assert not (folder / "int8").exists()


@pytest.mark.parametrize(("preset", "num"), [("brightfield", 4), ("fluorescence", 4), ("xray", 1), ("ct", 1)])
def test_views_are_those_that_the_modality_allows(preset: str, num: int) -> None:
    assert len(mirrors_of({"augment": {"preset": preset}}, tta=True)) == num
    assert mirrors_of({"augment": {"preset": preset}}) == ((),)


def test_several_models_are_averaged(bundle: Path, tmp_path: Path) -> None:
    other, images = make_bundle(tmp_path / "other", 1, name="other"), squares(3)
    both = open_predictor([bundle, other], engine="torch", precision="fp32").run_all(images).probs
    alone = [open_predictor([path], engine="torch", precision="fp32").run_all(images).probs for path in (bundle, other)]
    np.testing.assert_allclose(both, np.mean(alone, axis=0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("dark", "bright")}, "classes differ (only tiny: light; only other: bright)"),
        ({"classes": ("light", "dark")}, "classes differ (in their order)"),
        ({"preprocessing": INFO["preprocessing"] | {"resize": "crop"}}, "they read images differently"),
    ],
)
def test_models_that_answer_another_question_are_not_averaged(
    bundle: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    other = make_bundle(tmp_path / "other", 1, name="other", **changes)
    with pytest.raises(BundleError) as raised:
        open_predictor([bundle, other], engine="torch")
    assert "tiny and other cannot be averaged" in str(raised.value)
    assert message in str(raised.value)


def test_members_are_chosen_by_number_or_name(bundle: Path) -> None:
    info = read_bundle(bundle)
    assert [member.fold for member in choose_members(info, "all")] == [0, 1]
    assert [member.fold for member in choose_members(info, "1")] == [0]
    assert [member.fold for member in choose_members(info, "fold_1")] == [1]
    for wrong in ("0", "3", "fold_9", "-1", "x"):
        with pytest.raises(ConfigError, match=r"tiny has 2: choose all, 1 to 2, or fold_0, fold_1"):
            choose_members(info, wrong)


def test_engine_and_precision_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--engine fast: choose auto, torch, openvino, onnx"):
        choose_engine("fast", "auto")
    with pytest.raises(ConfigError, match="--precision fp8: choose auto, fp32, bf16, int8"):
        choose_engine("auto", "fp8")
    with pytest.raises(ConfigError, match="the engine onnx computes in fp32 only"):
        choose_engine("onnx", "bf16")
    with pytest.raises(ConfigError, match="the engine torch computes in fp32, bf16 only"):
        choose_engine("torch", "int8")


@pytest.mark.parametrize(
    ("cuda", "openvino", "features", "expected"),
    [
        (True, True, set(), ("torch", "bf16")),
        (False, True, {"amx_bf16"}, ("openvino", "bf16")),
        (False, True, {"avx2"}, ("openvino", "fp32")),
        (False, False, {"avx512_bf16"}, ("torch", "bf16")),
    ],
)
def test_auto_takes_the_fastest_that_is_here(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, openvino: bool, features: set[str], expected: tuple[str, str]
) -> None:
    monkeypatch.setattr(choice, "has_cuda", lambda: cuda)
    monkeypatch.setattr(choice, "has_openvino", lambda: openvino)
    monkeypatch.setattr(hardware, "cpu_features", lambda: features)
    assert choose_engine("auto", "auto") == expected


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_an_engine_that_is_not_installed_says_what_to_install(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=rf"The engine {engine} needs .*microscopy-cls\[cpu\]"):
        open_predictor([bundle], engine=engine)


def test_compiled_members_answer_as_eager_ones(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tracing backend alone: the code that a compiler would write costs a minute.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))
    info, images = read_bundle(bundle), squares(5)
    eager, compiled = (
        list(TorchEngine(bundle, info, info.members, "cpu", "fp32", 4, compiled=wanted).run([images[:4], images[4:]]))
        for wanted in (False, True)
    )
    for first, second in zip(eager, compiled, strict=True):
        np.testing.assert_allclose(second.logits, first.logits, atol=1e-5)
