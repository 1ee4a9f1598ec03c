"""`export` as a user calls it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.inference.bundles import make_bundle
from typer.testing import CliRunner

from microscopy_cls.cli import export  # noqa: F401  registers it
from microscopy_cls.cli.main import app


def test_export_says_how_far_from_torch_it_is_and_a_model_may_be_named_by_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = make_bundle(tmp_path / "bundle", 1), tmp_path / "out"
    known = {("models:/tiny@champion", "sqlite:///other.db"): folder}
    monkeypatch.setattr("microscopy_cls.inference.classifier.bundle_dir_of", lambda *asked: known[asked])
    words = ["export", "-m", "models:/tiny@champion", "--uri", "sqlite:///other.db", "--format", "openvino"]
    result = CliRunner().invoke(app, [*words, "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert re.fullmatch(
        r"largest difference from torch on 40 images: \S+ \(features: \S+ of the largest\); let through: 1e-04\n"
        rf"model: {re.escape(str(out))}/model.xml \(1 member\)\nnote: {re.escape(str(out))}/README.md\n",
        result.stdout,
    )
    assert (out / "model.bin").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "tflite"], "tflite: choose onnx or openvino"),
        (["--format", "onnx", "--members", "3"], "--members 3: tiny has 2: choose all, 1 to 2, or fold_0, fold_1"),
    ],
)
def test_what_cannot_be_exported_is_one_message(tmp_path: Path, words: list[str], message: str) -> None:
    folder = make_bundle(tmp_path / "bundle")
    result = CliRunner().invoke(app, ["export", "-m", str(folder), "-o", str(tmp_path / "out"), *words])
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()
