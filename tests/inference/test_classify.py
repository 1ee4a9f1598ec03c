"""One row an input, in order, whatever happens; and the same table however often it was interrupted."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from filelock import FileLock
from PIL import Image
from tests.inference.bundles import make_bundle, some_experience, squares

from microscopy_cls.errors import DataError
from microscopy_cls.inference.batch.classify import Request, Summary, classify
from microscopy_cls.inference.batch.inputs import find_inputs
from microscopy_cls.inference.batch.journal import FILE, Journal
from microscopy_cls.inference.batch.watch import _words
from microscopy_cls.inference.predictor import Predictor, open_predictor


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    conformal = {"target_coverage": 0.9, "thresholds": (0.45, 0.48)}
    folder = tmp_path_factory.mktemp("models") / "bundle"
    return make_bundle(folder, 1, graphs=True, experience=some_experience(1), conformal=conformal)


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Predictor:
    return open_predictor([bundle], engine="openvino", precision="fp32")


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty images and some files that are none, in the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = Path("images")
    (folder / "below").mkdir(parents=True)
    for number, pixels in enumerate(squares(20)):
        Image.fromarray(pixels).save(folder / ("below" if number % 2 else "") / f"{number:02d} é.png")
    (folder / "bad.png").write_text("text")
    (folder / "empty.jpg").touch()
    (folder / "notes.txt").write_text("no image")
    return folder


def run(predictor: Predictor, *arguments: str, out: str = "out", **changes: object) -> Summary:
    return classify(Request(find_inputs(arguments), Path(out), **changes), predictor)  # type: ignore[arg-type]


def test_every_input_has_its_row_in_the_order_given(images: Path, predictor: Predictor) -> None:
    given = ["images/below", "images/missing.png", "images/00 é.png", "images/*.png", "images/bad.png"]
    summary = run(predictor, *given)
    rows = pd.read_csv("out/predictions.csv")
    assert list(rows["path"][:10]) == sorted(str(path) for path in (images / "below").iterdir())
    assert list(rows["path"][10:12]) == ["images/missing.png", "images/00 é.png"]
    assert rows["path"].iloc[-1] == "images/bad.png"
    assert summary.num_failed == (rows["status"] == "failed").sum() == 3
    assert rows.set_index("path").loc["images/missing.png", "error"] == "does not exist"
    assert (rows.loc[rows["path"] == "images/bad.png", "error"] == "is not an image: it starts like a text").all()
    good = rows[rows["status"] == "ok"]
    assert (good[["prob_dark", "prob_light"]].sum(axis=1) - 1).abs().max() < 1e-5
    assert (good["width_px"] == 32).all()
    assert good[["prediction_set", "refer", "novelty"]].notna().all(axis=None)
    assert good["novelty"].nunique() > 10
    assert list(rows.columns) == [
        "path", "status", "error", "predicted", "confidence", "prob_dark", "prob_light", "prediction_set", "refer",
        "novelty", "width_px", "height_px",
    ]  # fmt: skip
    same = pd.read_parquet("out/predictions.parquet").astype(object)
    assert rows.astype(object).fillna("").equals(same.where(same.notna(), ""))
    assert "failed: does not exist" in "\n".join(summary.lines())


def test_answers_are_those_of_the_python_interface(images: Path, bundle: Path, predictor: Predictor) -> None:
    import microscopy_cls as mc

    run(predictor, "images")
    rows = pd.read_csv("out/predictions.csv").query("status == 'ok'")
    expected = mc.load(bundle, engine="openvino", precision="fp32").predict(list(rows["path"]))
    np.testing.assert_allclose(rows["prob_dark"], expected["prob_dark"], atol=1e-6)
    assert list(rows["predicted"]) == list(expected["predicted"])


def test_a_table_names_inputs_and_its_columns_are_carried_through(images: Path, predictor: Predictor) -> None:
    table = pd.DataFrame({"patient": ["p1", "p2"], "path": ["00 é.png", "nowhere.png"], "status": ["old", "old"]})
    table.to_csv("images/list.csv", index=False)
    run(predictor, "images/list.csv")
    rows = pd.read_csv("out/predictions.csv")
    assert list(rows["patient"]) == ["p1", "p2"]
    assert list(rows["status"]) == ["ok", "failed"]
    table.drop(columns="path").to_csv("images/list.csv", index=False)
    with pytest.raises(DataError, match=r"list.csv: has no column 'path' but patient, status"):
        find_inputs(["images/list.csv"])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_file_whose_name_is_no_utf8_has_its_row_like_any_other(images: Path, predictor: Predictor) -> None:
    name = "images/byte \udcff.png"  # the byte 255
    Path("images/00 é.png").rename(name)
    run(predictor, name, arguments={"inputs": [name]})
    rows = pd.read_csv("out/predictions.csv")
    assert list(rows["path"]) == ["images/byte \\udcff.png"]
    assert list(rows["status"]) == ["ok"]
    assert json.loads(Path("out/run.json").read_text())["arguments"] == {"inputs": [name]}
    assert 'href="../images/byte%20%FF.png"' in Path("out/index.html").read_text(encoding="utf-8")


def test_paths_may_come_from_standard_input_and_links_are_followed_once(images: Path) -> None:
    assert [item.path for item in find_inputs(["-"], ["images/a b.png\n", "\n", "c.png"])] == [
        "images/a b.png",
        "c.png",
    ]
    before = len(find_inputs(["images"]))
    Path("images/below/round").symlink_to(Path("images").resolve())
    assert len(find_inputs(["images"])) == before
    with pytest.raises(DataError, match="there is no image in it"):
        find_inputs(["images/*.gif"])


def test_a_second_run_does_nothing_and_gives_the_same_table(images: Path, predictor: Predictor) -> None:
    run(predictor, "images")
    first = Path("out/predictions.csv").read_bytes()
    again = run(predictor, "images")
    assert again.num_before == 22
    assert Path("out/predictions.csv").read_bytes() == first
    Image.fromarray(squares(1, seed=9)[0]).save("images/bad.png")
    mended = run(predictor, "images")
    assert mended.num_before == 21, "a file that has changed is classified again"
    assert mended.num_failed == 1
    assert run(predictor, "images", overwrite=True).num_before == 0


def test_another_model_starts_anew_and_says_why(
    images: Path, predictor: Predictor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(predictor, "images")
    other = open_predictor([make_bundle(tmp_path / "other", 2, name="other")], engine="torch", precision="fp32")
    assert run(other, "images").num_before == 0
    assert "out: starting anew (changed: bundles, engine, models)" in caplog.text


def test_two_classifications_in_one_folder_are_refused(images: Path, predictor: Predictor) -> None:
    Path("out").mkdir()
    with FileLock("out/.lock"), pytest.raises(DataError, match="another classification works there"):
        run(predictor, "images")


def test_a_torn_line_of_the_journal_is_done_again(images: Path, predictor: Predictor) -> None:
    run(predictor, "images")
    expected = Path("out/predictions.csv").read_bytes()
    journal = Path("out") / FILE
    content = journal.read_bytes()
    for cut in (len(content) - 5, len(content) // 2, 10):
        journal.write_bytes(content[:cut])
        assert run(predictor, "images").num_before < 22
        assert Path("out/predictions.csv").read_bytes() == expected


class FullDisk:
    """A file on a disk without room."""

    def write(self, _: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        pass


def test_a_full_disk_is_said_and_what_was_done_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path, {"model": 1}) as journal:
        journal.add("a", {"path": "a"})
        journal._handle.close()
        monkeypatch.setattr(journal, "_handle", FullDisk())
        with pytest.raises(DataError, match=r"cannot be written \(No space left on device\). What is done stays done"):
            journal.add("b", {"path": "b"})
    with Journal(tmp_path, {"model": 1}) as journal:
        assert list(journal.records) == ["a"]


def test_a_folder_that_cannot_be_written_is_said(images: Path, predictor: Predictor) -> None:
    Path("out").write_text("a file")
    with pytest.raises(DataError, match=r"^out: cannot be written \(File exists\)"):
        run(predictor, "images")


def test_ctrl_c_keeps_what_is_done_and_leaves_no_reader(images: Path, bundle: Path) -> None:
    Image.fromarray(squares(1, seed=5)[0]).save(images / "more.png")
    for number in range(6000):  # some seconds' work, however late the signal is sent
        (images / f"more{number}.png").hardlink_to(images / "more.png")
    command = [sys.executable, "-m", "microscopy_cls", "classify", "images", "-m", str(bundle), "-o", "out"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  in the background it is ignored
    )  # fmt: skip
    journal = Path("out", FILE)
    while process.poll() is None and not (journal.is_file() and journal.read_bytes().count(b"\n") > 20):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "interrupted; what is finished is saved. Go on with: microscopy-cls classify images" in told
    assert journal.read_bytes().count(b"\n") > 20


def test_a_slide_gets_a_row_and_a_folder(images: Path, predictor: Predictor) -> None:
    rng = np.random.default_rng(0)
    pixels = np.full((512, 768, 3), 240, np.uint8)
    pixels[100:400, 200:600] = rng.integers(60, 160, (300, 400, 3))
    with tifffile.TiffWriter("slide.tif") as writer:
        for level in (pixels, pixels[::2, ::2], pixels[::4, ::4]):
            writer.write(level, tile=(128, 128), photometric="rgb", subfiletype=int(level is not pixels))
    run(predictor, "slide.tif", "images/00 é.png")
    rows = pd.read_csv("out/predictions.csv")
    assert list(rows["status"]) == ["ok", "ok"]
    assert (rows.loc[0, "width_px"], rows.loc[0, "height_px"]) == (768, 512)
    (folder,) = Path("out/slides").iterdir()
    assert {path.name for path in folder.iterdir()} == {"tiles.parquet", "tiles.geojson", "heatmap.png", "summary.json"}
    tiles = pd.read_parquet(folder / "tiles.parquet")
    weights = tiles["tissue"] / tiles["tissue"].sum()
    assert rows.loc[0, "prob_dark"] == pytest.approx((tiles["prob_dark"] * weights).sum(), abs=1e-5)


def test_a_volume_gets_a_row_and_a_table_of_its_slices(images: Path, predictor: Predictor) -> None:
    nibabel = pytest.importorskip("nibabel")
    values = np.random.default_rng(0).normal(size=(20, 24, 5)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), "scan.nii.gz")
    run(predictor, "scan.nii.gz")
    rows = pd.read_csv("out/predictions.csv")
    (folder,) = Path("out/stacks").iterdir()
    frames = pd.read_parquet(folder / "frames.parquet")
    assert list(frames["frame"]) == list(range(5))
    assert rows.loc[0, "prob_dark"] == pytest.approx(frames["prob_dark"].mean(), abs=1e-5)


def test_what_a_slide_without_scale_needs_is_said(images: Path, tmp_path: Path) -> None:
    pixels = np.full((512, 512, 3), 120, np.uint8)
    with tifffile.TiffWriter("slide.tif") as writer:
        for level in (pixels, pixels[::2, ::2]):
            writer.write(level, tile=(128, 128), photometric="rgb", subfiletype=int(level is not pixels))
    Path("list.csv").write_text("path,mpp\nslide.tif,0.5\n")
    knows = open_predictor([make_bundle(tmp_path / "um", 1, field_um=32.0)], engine="torch", precision="fp32")
    assert "give --mpp, or a column mpp" in run(knows, "slide.tif").rows.loc[0, "error"]
    assert run(knows, "slide.tif", um_per_px=0.5, out="b").rows.loc[0, "status"] == "ok"
    assert run(knows, "list.csv", out="c").rows.loc[0, "status"] == "ok"
    (folder,) = Path("c/slides").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["tile_px"], summary["um_per_px_from"]) == (64, "the table")


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bytes(images: Path, bundle: Path) -> None:
    for number, pixels in enumerate(squares(120, seed=5)):
        Image.fromarray(pixels).save(images / f"more{number}.png")
    command = [sys.executable, "-m", "microscopy_cls", "classify", "images", "-m", str(bundle), "--engine", "openvino"]
    whole = subprocess.run([*command, "-o", "whole"], check=False, capture_output=True, text=True)
    assert whole.returncode == 3, whole.stderr
    rng = np.random.default_rng(0)
    for _ in range(4):
        process = subprocess.Popen([*command, "-o", "torn"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not Path("torn", FILE).is_file() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.8))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run([*command, "-o", "torn"], check=False, capture_output=True)
    assert Path("torn/predictions.csv").read_bytes() == Path("whole/predictions.csv").read_bytes()


@pytest.mark.parametrize(("seconds", "words"), [(20, "less than a minute"), (300, "5 min"), (4 * 3600, "4.0 h")])
def test_time_left_is_told_in_words(seconds: float, words: str) -> None:
    assert _words(seconds) == words
