from __future__ import annotations

import base64
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from microscopy_cls.errors import DataError
from microscopy_cls.inference.pyfunc import ServedClassifier
from microscopy_cls.tracking.registry import example_image


class Brightness:
    """Stands for a `Classifier`: its probability of `light` is the mean brightness."""

    info = SimpleNamespace(preprocessing=SimpleNamespace(intensity="full", page=0, max_pixels=10_000, channels=None))

    def predict(self, images):
        light = [float(image.mean()) / 255 for image in images]
        rows = [["", "ok", "", "light" if p > 0.5 else "dark", max(p, 1 - p), 1 - p, p] for p in light]
        columns = ["path", "status", "error", "predicted", "confidence", "prob_dark", "prob_light"]
        return pd.DataFrame(rows, columns=columns)


def png(value, mode="RGB", size=(8, 8)):
    file = io.BytesIO()
    if mode == "16":
        Image.fromarray(np.full(size, value, np.uint16)).save(file, "PNG")
    else:
        Image.new(mode, size, (value,) * 3).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def served():
    return ServedClassifier(Brightness())


def test_there_is_a_row_an_image_in_order_and_what_is_no_image_says_why(served):
    broken = base64.b64encode(b"no image").decode()
    request = pd.DataFrame({"image": [png(255), "%%%", png(0), broken, None]}, index=[7, 5, 3, 1, 0])
    answer = served.predict(request)
    assert list(answer.index) == [7, 5, 3, 1, 0]
    assert list(answer.columns) == ["status", "error", "predicted", "confidence", "prob_dark", "prob_light"]
    assert list(answer["status"]) == ["ok", "failed", "ok", "failed", "failed"]
    assert list(answer["predicted"]) == ["light", None, "dark", None, None]
    assert list(answer["prob_light"]) == [1, None, 0, None, None]
    errors = list(answer["error"])
    assert errors[0] == errors[2] == ""
    assert errors[1] == errors[4] == "is no base64 text"
    assert errors[3]


@pytest.mark.parametrize("images", [[], ["%%%"], [None, None]])
def test_a_request_without_a_readable_image_has_the_same_columns(served, images):
    answer = served.predict(pd.DataFrame({"image": pd.Series(images, dtype=object)}))
    assert list(answer.columns) == ["status", "error", "predicted", "confidence", "prob_dark", "prob_light"]
    assert list(answer["status"]) == ["failed"] * len(images)


def test_pixels_are_read_by_the_rules_of_the_bundle(served):
    answer = served.predict(pd.DataFrame({"image": [png(65535 // 2, "16"), png(0, size=(200, 200))]}))
    assert answer["prob_light"][0] == pytest.approx(0.5, abs=0.01)
    assert "pixels" in answer["error"][1]


def test_lines_of_base64_as_the_command_line_tool_writes_them_are_one_text(served):
    text = png(255, size=(64, 64))
    lines = "\n".join(text[first : first + 76] for first in range(0, len(text), 76)) + "\n"
    assert served.predict(pd.DataFrame({"image": [lines]}))["status"][0] == "ok"


def test_the_example_that_registered_models_show_is_a_readable_image(served):
    assert served.predict(pd.DataFrame({"image": [example_image()]}))["status"][0] == "ok"


def test_a_request_without_the_column_says_what_to_send(served):
    with pytest.raises(DataError) as error:
        served.predict(pd.DataFrame({"img": ["x"]}))
    assert str(error.value) == (
        "the request has no column 'image' but img. Send each image's file as base64 text in a column 'image'."
    )


def test_paths_are_read_below_the_served_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    for name in ("served/in.png", "out.png"):
        Image.fromarray(np.full((4, 4, 3), 250, np.uint8)).save(tmp_path / name)
    (tmp_path / "served/link.png").symlink_to(tmp_path / "out.png")
    names = ["in.png", "../out.png", str(tmp_path / "out.png"), "link.png", "missing.png", "../served/in.png"]
    served = ServedClassifier(Brightness(), tmp_path / "served")
    rows = served.predict(pd.DataFrame({"path": names}))
    assert list(rows["status"]) == ["ok", "failed", "failed", "failed", "failed", "ok"]
    assert list(rows["error"])[1:5] == [*["lies outside the served folder"] * 3, "does not exist"]


def test_without_a_served_folder_paths_are_refused() -> None:
    with pytest.raises(DataError, match="MICROSCOPY_CLS_SERVED_FOLDER set to the folder that may be read"):
        ServedClassifier(Brightness()).predict(pd.DataFrame({"path": ["a.png"]}))
