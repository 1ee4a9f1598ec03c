"""The page shows every input, loads nothing from elsewhere, and takes no name for anything but text."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.inference.bundles import make_bundle, squares

from microscopy_cls.dataset.cache import Reading
from microscopy_cls.inference.batch.classify import Request, classify
from microscopy_cls.inference.batch.inputs import Input, find_inputs, own_folder
from microscopy_cls.inference.batch.page import NUM_WITHOUT_SCRIPT, write_page
from microscopy_cls.inference.batch.results import FOLDERS
from microscopy_cls.inference.batch.scoring import score
from microscopy_cls.inference.batch.thumbnails import choose_thumbnails, least_confident, make_thumbnails
from microscopy_cls.inference.predictor import open_predictor
from microscopy_cls.inference.rows import Judge, table

CLASSES = ("<b>bold</b>", "light & 'dim'")
HOSTILE = (
    "<img src=x onerror=alert(1)>.png", "</script><script>alert(1)</script>.png", "=cmd()|' /C calc'!A0.png",
    "javascript:alert(1)", "<!--<script>.png", "a b#?%2e&amp;\".png", "\u202egnp.exe", "byte \udcff.png",
    "{{ 1 + 1 }}.png",
)  # fmt: skip
RUN: dict[str, Any] = {
    "arguments": {"inputs": list(HOSTILE)}, "models": [{"name": "<i>model</i>", "members": {"m": "0"}}],
    "engine": "torch", "precision": "fp32", "device": "cpu", "finished": "2024-05-06T07:08:09+00:00", "seconds": 2.0,
    "num_inputs": 9, "num_done_before": 1,
}  # fmt: skip
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def shown(self) -> str:
        return re.sub(r"[\s\u202f]+", " ", " ".join(self.words))

    @property
    def data(self) -> Any:
        return json.loads(self.scripts[0])


@dataclass
class Batch:
    """A finished classification without its files."""

    out: Path
    rows: pd.DataFrame
    inputs: list[Input]

    @property
    def folders(self) -> dict[int, Path]:
        """Of the answered rows for which there is one."""
        return {
            number: own_folder(self.out / kind, item.path)
            for kind in FOLDERS.values()
            for number, item in enumerate(self.inputs)
            if self.rows.loc[number, "status"] == "ok" and own_folder(self.out / kind, item.path).is_dir()
        }

    def page(self, thumbnails: dict[int, bytes] | None = None) -> Page:
        found = score(self.rows, CLASSES)
        path = write_page(
            self.out, self.rows, CLASSES, RUN, thumbnails or {}, inputs=self.inputs, folders=self.folders, score=found
        )
        return Page(path.read_text(encoding="utf-8"))


def batch(out: Path, paths: list[str], *, failed: tuple[int, ...] = (), **columns: Any) -> Batch:
    """Rows of these inputs, which lie beside the folder `out`; `columns` are set over ours."""
    rng = np.random.default_rng(0)
    records: list[dict[str, Any]] = []
    for number, path in enumerate(paths):
        if number in failed:
            records.append({"path": path, "status": "failed", "error": "is <empty> (0 bytes)"})
        else:
            prob = rng.uniform()
            size = {"width_px": 30, "height_px": 20}
            found = Judge(CLASSES).answer(np.array([prob, 1 - prob]), np.nan)
            records.append({"path": path, "status": "ok", "error": "", **found, **size})
    rows = table(records, [{} for _ in paths], CLASSES).assign(**columns)
    return Batch(out, rows, [Input(path, out.parent / path) for path in paths])


@pytest.fixture
def hostile(tmp_path: Path) -> Batch:
    labels = [CLASSES[0], "<u>unknown</u>", None, *[CLASSES[1]] * 6]
    return batch(tmp_path / "out", list(HOSTILE), failed=(2,), label=labels)


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(squares(1)[0]).save(buffer, "JPEG")
    return buffer.getvalue()


def test_hostile_names_are_shown_as_text(hostile: Batch) -> None:
    for kind in ("slides", "stacks"):
        own_folder(hostile.out / kind, HOSTILE[0]).mkdir(parents=True)
    page = hostile.page({1: jpeg(), 7: jpeg()})
    assert len(page.all("script")) == 2
    assert not page.all("b") or all("class" in attrs for attrs in page.all("b"))
    assert not page.all("u")
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    for text in (*HOSTILE[:7], *CLASSES, "<u>unknown</u>", "<i>model</i>", "is <empty> (0 bytes)", "{{ 1 + 1 }}.png"):
        assert re.sub(r"\s+", " ", text) in page.shown
    assert page.shown.count("byte \\udcff.png") == 3, "as given, in the gallery and in the table"


def test_every_row_is_in_the_data_and_the_first_ones_stand_in_the_page(tmp_path: Path) -> None:
    paths = [f"{number}.png" for number in range(NUM_WITHOUT_SCRIPT + 50)]
    made = batch(tmp_path / "out", paths, failed=(3,))
    page = made.page()
    cells = [dict(zip((c["title"] for c in page.data["columns"]), row[2:], strict=True)) for row in page.data["rows"]]
    assert [row["Input"] for row in cells] == paths
    assert [row["Status"] for row in cells] == list(made.rows["status"])
    assert cells[0]["Confidence"] == made.rows.loc[0, "confidence"]
    assert cells[0]["Size in px"] == [30, 20]
    assert cells[3] == {
        "Input": "3.png", "Status": "failed", "Predicted": "is <empty> (0 bytes)", "Confidence": None,
        "Size in px": None,
    }  # fmt: skip
    links = [attrs["href"] for attrs in page.all("a")]
    assert f"../{paths[NUM_WITHOUT_SCRIPT - 1]}" in links
    assert f"../{paths[NUM_WITHOUT_SCRIPT]}" not in links
    assert f"The first {NUM_WITHOUT_SCRIPT} of {len(paths)}" in page.shown


def test_links_lead_from_the_page_to_the_files_whatever_they_are_called(hostile: Batch) -> None:
    for row, item in zip(hostile.page().data["rows"], hostile.inputs, strict=True):
        assert re.fullmatch(r"\.\./[\w./~%-]+", row[0])
        found = os.path.normpath(os.fsencode(hostile.out) + b"/" + unquote_to_bytes(row[0]))
        assert found == os.fsencode(item.file)


def test_nothing_is_loaded_from_elsewhere(hostile: Batch) -> None:
    own_folder(hostile.out / "slides", HOSTILE[0]).mkdir(parents=True)
    page = hostile.page({1: jpeg()})
    assert not re.search(r"https?://|@import|url\(|<link|<iframe|<base", page.text)
    for attrs in page.all("img"):
        assert (attrs["src"] or "").startswith(("data:image/jpeg;base64,", "slides/"))
    (policy,) = [attrs["content"] or "" for attrs in page.all("meta") if "http-equiv" in attrs]
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}'" in policy
    assert "http" not in policy


def test_slides_and_stacks_link_to_their_files(tmp_path: Path) -> None:
    made = batch(tmp_path / "out", ["a.tiff", "b.nii", "c.png", "d.tiff"], failed=(3,))
    slide, stack = own_folder(made.out / "slides", "a.tiff"), own_folder(made.out / "stacks", "b.nii")
    for folder in (slide, stack, own_folder(made.out / "slides", "d.tiff")):  # the last is of an earlier answer
        folder.mkdir(parents=True)
    page = made.page()
    links = {attrs["href"] for attrs in page.all("a")}
    names = ("heatmap.png", "tiles.geojson", "tiles.parquet", "summary.json")
    assert {f"slides/{slide.name}/{name}" for name in names} | {f"stacks/{stack.name}/frames.parquet"} <= links
    (image,) = page.all("img")
    assert (image["src"], image["loading"]) == (f"slides/{slide.name}/heatmap.png", "lazy")


def test_columns_of_doubt_are_there_where_they_have_values(tmp_path: Path) -> None:
    plain = batch(tmp_path / "a", ["a.png", "b.png"]).page()
    assert [column["title"] for column in plain.data["columns"]][4:] == ["Size in px"]
    assert "Referred" not in plain.shown
    doubt = {
        "prediction_set": ["x|y", "", None], "refer": pd.array([True, True, None], "boolean"),
        "novelty": [0.25, 0.5, None],
    }  # fmt: skip
    page = batch(tmp_path / "b", ["a.png", "b.png", "c.png"], failed=(2,), **doubt).page()
    titles = ["Prediction set", "Refer", "Novelty", "Size in px"]
    assert [column["title"] for column in page.data["columns"]][4:] == titles
    assert [row[6:9] for row in page.data["rows"]] == [["x, y", "yes", 0.25], ["none", "yes", 0.5], [None] * 3]
    assert "Referred 2" in page.shown


def test_a_score_is_shown_and_rows_say_right_or_wrong(hostile: Batch) -> None:
    page = hostile.page()
    found = score(hostile.rows, CLASSES)
    assert found is not None
    assert f"Accuracy {100 * (found.accuracy or 0):.1f} %" in page.shown
    assert "label that is no class of the model is not scored" in page.shown
    states = [row[1] for row in page.data["rows"]]
    assert states[1:3] == ["ok", "failed"]
    assert states.count("right") == round((found.accuracy or 0) * found.num_answered)
    assert states.count("wrong") == found.num_answered - states.count("right")
    assert "Score" not in batch(hostile.out, ["a.png"]).page().shown


def test_failures_are_counted_by_reason(tmp_path: Path) -> None:
    page = batch(tmp_path / "out", ["a.png", "b.png", "c.png"], failed=(0, 2)).page()
    assert "Failures" in page.shown
    assert "2 is <empty> (0 bytes)" in page.shown
    assert "Failures" not in batch(tmp_path / "out", ["a.png"]).page().shown
    assert "Failed 1" in batch(tmp_path / "out", ["a.png"], failed=(0,)).page().shown


def test_pictures_are_the_least_confident_and_some_of_each_class() -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "status": "ok",
            "predicted": ["rare"] * 3 + ["common"] * 97,
            "confidence": np.r_[[0.99] * 3, rng.uniform(0.5, 1, 97)],
        }
    )
    rows.loc[[5, 6], ["status", "confidence"]] = ["failed", np.nan]
    rows = rows.drop(index=[7, 8])
    chosen = choose_thumbnails(rows, 20)
    assert len(chosen) == len(set(chosen)) == 20
    assert chosen[:10] == least_confident(rows, 20) == list(rows["confidence"].nsmallest(10).index)
    assert {0, 1, 2} <= set(chosen[10:])
    assert not {5, 6, 7, 8} & set(chosen)
    assert chosen == choose_thumbnails(rows, 20)
    assert chosen[:10] == choose_thumbnails(rows, 20, seed=1)[:10]
    assert sorted(choose_thumbnails(rows, 1000)) == sorted(rows[rows["status"] == "ok"].index)
    assert choose_thumbnails(rows[rows["status"] == "failed"]) == []


def test_pictures_keep_proportions_and_those_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    wide = np.zeros((20, 40, 3), np.uint8)
    wide[:, 1:-1] = (200, 40, 40)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    (tmp_path / "bad.png").write_text("text")
    reading = Reading(32, "stretch", "percentile")
    found = make_thumbnails({4: tmp_path / "bad.png", 2: tmp_path / "wide.png", 9: tmp_path / "none.png"}, reading)
    assert list(found) == [2]
    with Image.open(io.BytesIO(found[2])) as image:
        assert (image.format, image.size) == ("JPEG", (96, 96))
        pixels = np.asarray(image).astype(int)
    assert abs(pixels[48, 48] - (200, 40, 40)).max() < 20
    assert (pixels[30:66, 48, 0] > 150).all(), "the image is half as high as it is wide"
    assert make_thumbnails({}, reading) == {}


def test_a_classification_of_a_table_writes_page_and_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"{number}.png" for number in range(4)]
    for name, pixels in zip(names, squares(4), strict=True):
        Image.fromarray(pixels).save(name)
    labels = ["dark", "light", "dark", "unsure", "light"]
    pd.DataFrame({"path": [*names, "missing.png"], "label": labels}).to_csv("list.csv", index=False)
    predictor = open_predictor([make_bundle(tmp_path / "bundle", 1)], engine="torch", precision="fp32")
    summary = classify(Request(find_inputs(["list.csv"]), Path("out")), predictor)
    rows = pd.read_csv("out/predictions.csv")
    right = int((rows["label"] == rows["predicted"]).sum())
    assert summary.score is not None
    assert (summary.score.accuracy, summary.score.accuracy_all) == (right / 3, right / 4)
    assert summary.lines()[-3:] == summary.score.lines()
    recorded = json.loads(Path("out/run.json").read_text())["score"]
    assert (recorded["accuracy_all"], recorded["unknown"]) == (right / 4, {"unsure": 1})
    page = Page(Path("out/index.html").read_text(encoding="utf-8"))
    assert len(page.data["rows"]) == 5
    assert len(page.all("img")) == 4
