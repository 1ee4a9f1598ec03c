"""An exported graph gives torch's answers, its note is enough to use it, and what differs is not handed out."""

from __future__ import annotations

import ast
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.inference.bundles import INFO, SIZE_PX, make_bundle, squares

from microscopy_cls.errors import BundleError, ConfigError, ExportError, MissingDependencyError
from microscopy_cls.images import fit_square
from microscopy_cls.inference.classifier import load
from microscopy_cls.inference.portable import TOLERANCE, Exported, export_bundle
from microscopy_cls.inference.portable import export as portable_export
from microscopy_cls.inference.portable.check import Difference, open_portable
from microscopy_cls.inference.portable.recipes import resizing
from microscopy_cls.inference.predictor import open_predictor
from microscopy_cls.model.bundle import CALIBRATION_INPUTS
from microscopy_cls.model.export import MODEL_FILE, Format

VECTOR = {
    "method": "vector", "temperatures": (0.5, 2.0), "scales": ((1.5, 0.5), (1.0, 2.0)),
    "biases": ((0.3, -0.3), (-0.1, 0.4)),
}  # fmt: skip
CASES: dict[str, tuple[str, dict[str, Any]]] = {  # members, changes of the bundle of two; a second or two each
    "two members, a vector each, mirrored views, padded": (
        "all",
        {
            "calibration": VECTOR,
            "preprocessing": INFO["preprocessing"] | {"resize": "pad"},
            "config": INFO["config"] | {"evaluate": {"tta": True}},
            "conformal": {"target_coverage": 0.9, "thresholds": (0.3, 0.6)},
        },
    ),
    "one member, a temperature, cropped": (
        "fold_1",
        {
            "calibration": {"method": "temperature", "temperatures": (3.0, 0.4)},
            "preprocessing": INFO["preprocessing"] | {"resize": "crop"},
        },
    ),
}


@dataclass(frozen=True)
class Case:
    bundle: Path
    members: str
    out: Path
    done: Exported


@pytest.fixture(scope="module", params=[(name, kind) for name in CASES for kind in ("onnx", "openvino")], ids=str)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """An exported bundle."""
    (name, kind), folder = request.param, tmp_path_factory.mktemp("models")
    members, changes = CASES[name]
    bundle = make_bundle(folder / "bundle", **changes)
    return Case(bundle, members, folder / "out", export_bundle(bundle, folder / "out", kind, members))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle", 2)


def written(portable: object, size_px: int, folder: Path, kind: Format) -> Path:
    """A file in place of a graph, which would take seconds."""
    path = folder / MODEL_FILE[kind]
    path.write_text("graph")
    return path


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an export pass without a graph."""
    monkeypatch.setattr(portable_export, "write_portable", written)
    monkeypatch.setattr(portable_export, "open_portable", lambda _: None)
    monkeypatch.setattr(portable_export, "difference", lambda *_: Difference(0.0, 0.0, 40))


@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_graph_gives_the_probabilities_of_torch_in_batches_of_any_size(case: Case, batch_size: int) -> None:
    images = squares(batch_size, seed=3)
    expected = open_predictor([case.bundle], engine="torch", precision="fp32", members=case.members).run_all(images)
    probs, features = open_portable(case.done.model)(images)
    assert probs.dtype == features.dtype == np.float32
    np.testing.assert_allclose(probs, expected.probs, atol=1e-5)
    np.testing.assert_allclose(features, expected.features, rtol=1e-4, atol=1e-4)
    plain = open_predictor([make_bundle(case.out.with_name("plain"))], engine="torch", precision="fp32")
    assert np.abs(plain.run_all(images).probs - probs).max() > 1e-3, "or equality would show nothing"


def test_the_difference_is_of_all_the_images_that_the_bundle_keeps(case: Case) -> None:
    found = case.done.difference
    assert found.num_images == 40
    assert 0 <= found.probs < 1e-5
    assert 0 <= found.features < 1e-5


def test_the_programs_in_the_note_give_the_classifiers_answers(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(tmp_path / "large.png"), str(tmp_path / "flat.png"), str(tmp_path / "small.png")]
    for path, shape in zip(paths, [(50, 41), (20, 64), (9, 12)], strict=True):
        cv2.imwrite(path, np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    expected = load(case.bundle, engine="torch", precision="fp32", members=case.members).predict(paths)
    program = "\n".join(re.findall(r"```python\n(.*?)```", case.done.note.read_text(), flags=re.DOTALL))
    monkeypatch.chdir(case.out)
    monkeypatch.setattr(sys, "argv", ["classify.py", *paths])
    exec(compile(program, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    answers = [line.rsplit(" ", 2) for line in lines[: len(paths)]]
    assert [path for path, _, _ in answers] == paths
    assert [name for _, name, _ in answers] == list(expected["predicted"])
    np.testing.assert_allclose([float(prob) for *_, prob in answers], expected["confidence"], atol=1e-4)
    sets = ["|".join(ast.literal_eval(line[len(path) :].strip())) for path, line in zip(paths, lines[3:], strict=False)]
    assert sets == ([] if expected["prediction_set"].isna().all() else list(expected["prediction_set"]))


def test_the_note_names_what_a_program_must_know(case: Case) -> None:
    text = case.done.note.read_text()
    features = open_portable(case.done.model)(squares(1))[1].shape[1]
    for row in (
        f"| `image` (input) | uint8 | (n, {SIZE_PX}, {SIZE_PX}, 3) |",
        "| `probabilities` | float32 | (n, 2) |",
        f"| `features` | float32 | (n, {features}) |",
        "0. `dark`\n1. `light`",
        f"was {case.done.difference}; above 1e-04",
        "Above 8 bits, each image's 0.1 and 99.9 percentiles (a DICOM's own window) became 0 and 255",
    ):
        assert row in text
    assert ("seen in 4 mirrored views" in text) == (case.members == "all")
    assert ("2 of 2 members (fold 0, fold 1)" if case.members == "all" else "1 of 2 members (fold 1)") in text
    assert f"pooled features of the member fold {case.done.members[0].fold}" in text
    assert (case.out / "classes.txt").read_text() == "dark\nlight\n"


def test_the_folder_holds_thresholds_where_the_bundle_has_some(case: Case) -> None:
    file = case.out / "prediction_sets.json"
    if case.members == "all":
        assert json.loads(file.read_text()) == {"target_coverage": 0.9, "thresholds": {"dark": 0.3, "light": 0.6}}
    else:
        assert not file.exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"intensity": "full"}, "the whole range of the type became 0 to 255; of several pages, page 0"),
        ({"intensity": (-1000.0, 400.0), "page": 3}, "-1000 and 400 became 0 and 255; of several pages, page 3"),
        ({"channels": (2, 0)}, "Shown were the channels [2, 0], from 0."),
    ],
)  # fmt: skip
def test_the_note_says_how_other_files_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], sentence: str
) -> None:
    pretend(monkeypatch)
    bundle = make_bundle(tmp_path / "bundle", 1, preprocessing=INFO["preprocessing"] | changes)
    assert sentence in export_bundle(bundle, tmp_path / "out", "openvino").note.read_text()


@pytest.mark.parametrize("resize", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("shape", [(50, 41), (20, 64), (9, 12), (32, 32), (1, 70)])
def test_the_notes_way_to_resize_is_the_trainings(tmp_path: Path, resize: Any, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "image.png"), pixels[..., ::-1])
    program: dict[str, Any] = {}
    exec(resizing(SIZE_PX, resize), program)
    np.testing.assert_array_equal(program["square"](tmp_path / "image.png"), fit_square(pixels, SIZE_PX, resize))


@pytest.mark.parametrize(("value", "told"), [(0.5, r"\d\.\de-0\d"), (np.nan, "nan")])
def test_a_graph_that_answers_otherwise_is_refused_and_an_earlier_export_stays(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, told: str
) -> None:
    out = tmp_path / "new" / "out"
    monkeypatch.setattr(portable_export, "write_portable", written)
    monkeypatch.setattr(
        portable_export,
        "open_portable",
        lambda _: lambda pixels: (np.full((len(pixels), 2), value), np.zeros((len(pixels), 1))),
    )
    with pytest.raises(ExportError) as raised:
        export_bundle(bundle, out, "openvino")
    assert re.fullmatch(
        rf"tiny as openvino: on 40 images its probabilities differ from torch's by up to {told} \(features: "
        r"\d\.\de[+-]\d\d of the largest\); at most 1e-04 is let through, and nothing was written. Try --format "
        r"onnx, or classify with the bundle itself \(test_resnet\).",
        str(raised.value),
    )
    assert list(out.parent.iterdir()) == []
    out.mkdir()
    for name in ("model.onnx", "README.md", "classes.txt"):
        (out / name).write_text("earlier")
    with pytest.raises(ExportError):
        export_bundle(bundle, out, "openvino")
    assert {path.name: path.read_text() for path in out.iterdir()} == dict.fromkeys(
        ("model.onnx", "README.md", "classes.txt"), "earlier"
    )
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_differences_of_features_count_as_well() -> None:
    assert Difference(0.0, TOLERANCE, 1).is_tolerable
    assert not Difference(0.0, 2 * TOLERANCE, 1).is_tolerable
    assert not Difference(2 * TOLERANCE, 0.0, 1).is_tolerable
    assert not Difference(0.0, float("nan"), 1).is_tolerable


def test_a_folder_with_other_files_is_never_replaced(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "README.md").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("work", "file", "bundle"):
        with pytest.raises(ConfigError, match=rf"-o .*{name}: holds other files than an export's\. Name a folder"):
            export_bundle(bundle, tmp_path / name, "onnx")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"-o \.: is the folder that you are in"):
        export_bundle(bundle, Path(), "onnx")


def test_an_earlier_export_is_replaced_as_a_whole(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch)
    for kind, file in (("onnx", "model.onnx"), ("openvino", "model.xml")):
        export_bundle(bundle, tmp_path / "out", kind)
        assert {path.name for path in (tmp_path / "out").iterdir()} == {file, "README.md", "classes.txt"}


@pytest.mark.parametrize("content", [None, b"else"])
def test_a_bundle_without_images_to_check_on_is_refused(bundle: Path, tmp_path: Path, content: bytes | None) -> None:
    (bundle / CALIBRATION_INPUTS).unlink()
    if content is not None:
        (bundle / CALIBRATION_INPUTS).write_bytes(content)
    with pytest.raises(BundleError, match=r"holds no images, and an export is checked on them\. Copy the bundle again"):
        export_bundle(bundle, tmp_path / "out", "openvino")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kind", "what"), [("onnx", "The format onnx"), ("openvino", "The engine openvino")])
def test_a_format_whose_libraries_are_missing_says_what_to_install(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, what: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=rf"{what} needs .*microscopy-cls\[cpu\]"):
        export_bundle(bundle, tmp_path / "out", kind)
