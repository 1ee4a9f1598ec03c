"""The folder of a slide: whole or absent, readable by pandas, QuPath and people."""

from __future__ import annotations

import io
import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from microscopy_cls.inference.batch.inputs import own_folder
from microscopy_cls.inference.slides import outputs
from microscopy_cls.inference.slides.aggregate import aggregate
from microscopy_cls.inference.slides.geojson import write_geojson
from microscopy_cls.inference.slides.heatmap import PICTURE_PX, draw_heatmap
from microscopy_cls.inference.slides.legend import font, scale_bar, shortened
from microscopy_cls.inference.slides.outputs import SlideResult, write_slide_outputs
from microscopy_cls.inference.slides.palette import NUM_DISTINCT, class_colours
from microscopy_cls.inference.slides.tiles import count_tiles, tile_grid

CLASSES = ("bénin", 'the "other"', "c")


def some_result(
    size: tuple[int, int] = (1000, 800), tile_px: float = 100.0, classes: tuple[str, ...] = CLASSES
) -> SlideResult:
    width, height = size
    rng = np.random.default_rng(0)
    mask = np.zeros((40, 50), bool)
    mask[5:30, 10:40] = True
    thumbnail = np.where(np.kron(mask, np.ones((4, 4), bool))[..., None], [190, 110, 160], 244).astype(np.uint8)
    grid = tile_grid(width, height, tile_px, mask=mask)
    probs = rng.dirichlet(np.full(len(classes), 0.4), len(grid))
    answer = aggregate(probs, grid["tissue"].to_numpy())
    return SlideResult(
        "folder/a slide.svs", "aperio", width, height, 0.5, "file", tile_px, count_tiles(width, height, tile_px),
        grid, probs, rng.uniform(0.5, 1.5, len(grid)), classes, "mean", answer, thumbnail, mask,
    )  # fmt: skip


def png_of(result: SlideResult, **options: Any) -> Image.Image:
    shares = (
        aggregate(result.probs, result.grid["tissue"].to_numpy(), "majority") if len(result.grid) else 0 * result.answer
    )
    settings = {
        "slide_px": (result.width_px, result.height_px),
        "um_per_px": 0.5,
        "title": "a",
        "subtitle": "b",
    } | options
    data = draw_heatmap(
        result.thumbnail, result.mask, result.grid, result.probs, result.classes, shares, **settings
    )  # fmt: skip
    return Image.open(io.BytesIO(data))


def test_a_slides_folder_is_named_after_it_and_its_path() -> None:
    folder = own_folder(Path("out/slides"), "data/CMU 1/Slide (2).svs")
    assert folder.parent == Path("out/slides")
    assert folder.name == "Slide_2-" + folder.name[-8:]
    assert int(folder.name[-8:], 16) >= 0
    assert own_folder(Path("out/slides"), "data/CMU 1/Slide (2).svs") == folder
    assert own_folder(Path("out/slides"), "data/CMU 2/Slide (2).svs") != folder


@pytest.mark.parametrize(
    "name", ["../../etc.svs", ".svs", "a/..svs", "x" * 300 + ".svs", "a\nb:c*?.svs", "\udcff.svs", "щ.svs"]
)
def test_any_name_gives_a_folder_inside(name: str, tmp_path: Path) -> None:
    folder = own_folder(tmp_path / "slides", name)
    folder.mkdir(parents=True)
    assert folder.resolve().parent == (tmp_path / "slides").resolve()
    assert not folder.name.startswith(".")


def test_the_folder_holds_a_row_a_tile_and_the_answer(tmp_path: Path) -> None:
    result = some_result()
    write_slide_outputs(tmp_path / "s", result)
    assert sorted(file.name for file in (tmp_path / "s").iterdir()) == [
        "heatmap.png", "summary.json", "tiles.geojson", "tiles.parquet",
    ]  # fmt: skip
    table = pd.read_parquet(tmp_path / "s/tiles.parquet")
    assert list(table) == [
        "x_px", "y_px", "width_px", "height_px", "tissue", "predicted", "confidence",
        *(f"prob_{name}" for name in CLASSES), "novelty",
    ]  # fmt: skip
    np.testing.assert_array_equal(table[[f"prob_{name}" for name in CLASSES]], result.probs)
    assert list(table["predicted"]) == [CLASSES[index] for index in result.probs.argmax(1)]
    np.testing.assert_array_equal(table["confidence"], result.probs.max(1))


def test_the_summary_says_what_was_done(tmp_path: Path) -> None:
    result = some_result()
    write_slide_outputs(tmp_path / "s", result)
    summary = json.loads((tmp_path / "s/summary.json").read_text())
    assert sum(summary["shares"].values()) == pytest.approx(1)
    best = CLASSES[int(result.answer.argmax())]
    assert summary | {"shares": None} == {
        "path": "folder/a slide.svs", "format": "aperio", "width_px": 1000, "height_px": 800, "um_per_px": 0.5,
        "um_per_px_from": "file", "tile_px": 100.0, "tile_um": 50.0, "num_tiles": 80,
        "num_tissue_tiles": len(result.grid), "rule": "mean", "predicted": best, "confidence": result.answer.max(),
        "probs": dict(zip(CLASSES, result.answer, strict=True)), "shares": None,
        "novelty": np.median(result.novelty), "share_novel": (result.novelty >= 1).mean(),
        "about_doubt": outputs.ABOUT_DOUBT,
    }  # fmt: skip
    assert "thresholds of single images" in summary["about_doubt"]


def test_a_model_without_a_sense_of_novelty_leaves_it_open(tmp_path: Path) -> None:
    result = some_result()
    write_slide_outputs(tmp_path / "s", replace(result, novelty=np.full(len(result.grid), np.nan)))
    summary = json.loads((tmp_path / "s/summary.json").read_text())
    assert (summary["novelty"], summary["share_novel"]) == (None, None)


def test_without_a_scale_the_summary_says_null(tmp_path: Path) -> None:
    write_slide_outputs(tmp_path / "s", replace(some_result(), um_per_px=None, um_per_px_from=None))
    summary = json.loads((tmp_path / "s/summary.json").read_text())
    assert (summary["um_per_px"], summary["um_per_px_from"], summary["tile_um"]) == (None, None, None)


def test_a_failure_leaves_the_earlier_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_slide_outputs(tmp_path / "s", some_result())
    before = (tmp_path / "s/summary.json").read_text()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        write_slide_outputs(tmp_path / "s", replace(some_result(), path="other.svs"))
    assert [file.name for file in tmp_path.iterdir()] == ["s"]
    assert (tmp_path / "s/summary.json").read_text() == before


def written(path: Path, result: SlideResult) -> dict[str, Any]:
    write_geojson(path, result.grid, result.probs.argmax(1), result.probs, result.classes)
    collection: dict[str, Any] = json.loads(path.read_text())
    return collection


def test_qupath_reads_each_tile_as_a_detection(tmp_path: Path) -> None:
    """The names and types that QuPath's reader asks for."""
    result = some_result()
    collection = written(tmp_path / "t.geojson", result)
    assert collection.keys() == {"type", "features"}
    assert collection["type"] == "FeatureCollection"
    assert len(collection["features"]) == len(result.grid)
    colours = class_colours(3)
    for row, feature in enumerate(collection["features"]):
        assert feature.keys() == {"type", "id", "geometry", "properties"}
        assert feature["type"] == "Feature"
        assert uuid.UUID(feature["id"])
        index = int(result.probs[row].argmax())
        assert feature["properties"] == {
            "objectType": "detection",
            "classification": {"name": CLASSES[index], "color": list(colours[index])},
            "measurements": {
                f"prob_{name}": pytest.approx(value, abs=1e-5)
                for name, value in zip(CLASSES, result.probs[row], strict=True)
            },
        }


def test_polygons_are_the_tiles_in_level_0_and_closed(tmp_path: Path) -> None:
    result = some_result()
    for row, feature in zip(result.grid.itertuples(), written(tmp_path / "t.geojson", result)["features"], strict=True):
        assert feature["geometry"]["type"] == "Polygon"
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        assert len(ring) == 5
        x, y = np.array(ring).T
        assert (x.min(), y.min(), np.ptp(x), np.ptp(y)) == (row.x_px, row.y_px, row.width_px, row.height_px)


def test_the_same_tiles_give_the_same_bytes_with_ids_of_their_own(tmp_path: Path) -> None:
    result = some_result()
    features = written(tmp_path / "a.geojson", result)["features"]
    written(tmp_path / "b.geojson", result)
    assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "b.geojson").read_bytes()
    assert len({feature["id"] for feature in features}) == len(features)


def test_no_tiles_are_an_empty_collection(tmp_path: Path) -> None:
    result = some_result()
    empty = replace(result, grid=result.grid.iloc[:0], probs=result.probs[:0])
    assert written(tmp_path / "t.geojson", empty) == {"type": "FeatureCollection", "features": []}


def test_no_number_that_json_lacks_is_written(tmp_path: Path) -> None:
    result = some_result()
    result.probs[3, 0] = np.nan
    with pytest.raises(ValueError, match="not JSON compliant"):
        written(tmp_path / "t.geojson", result)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("num_classes", [2, 8, 23, 60])
@pytest.mark.parametrize("size", [(1000, 800), (3000, 150), (150, 3000), (60, 50)])
def test_every_shape_of_slide_and_number_of_classes_is_drawn(size: tuple[int, int], num_classes: int) -> None:
    names = tuple(f"class {index} of many, with a long name" for index in range(num_classes))
    result = some_result(size, max(size) / 20, names)
    image = png_of(result)
    assert image.mode == "RGB"
    assert max(image.size) > PICTURE_PX
    assert max(image.size) < 4 * PICTURE_PX


def test_a_certain_tile_is_its_classs_colour_and_an_unsure_one_is_paler() -> None:
    result = some_result(classes=("a", "b"))
    white = replace(result, thumbnail=np.full((160, 200, 3), 255, np.uint8), mask=np.zeros((4, 5), bool))
    colour = np.array(class_colours(2)[0])

    def distance(prob: float) -> float:
        probs = np.tile([prob, 1 - prob], (len(result.grid), 1))
        pixels = np.asarray(png_of(replace(white, probs=probs)), float)
        return float(np.abs(pixels[500, 600] - colour).sum())  # inside the tissue of the picture

    assert distance(1.0) < distance(0.8) < distance(0.51)
    assert distance(1.0) < 150


def test_what_is_skipped_stays_uncovered_with_its_edge_drawn() -> None:
    result = some_result()
    nothing = replace(result, grid=result.grid.iloc[:0], probs=result.probs[:0])
    bare = np.asarray(png_of(nothing)).astype(int)
    edge = np.asarray(png_of(replace(nothing, mask=np.zeros((4, 5), bool)))).astype(int)
    assert (np.abs(bare - edge).sum(axis=2) > 60).sum() > 1000


def test_the_same_slide_gives_the_same_picture() -> None:
    assert png_of(some_result()).tobytes() == png_of(some_result()).tobytes()


@pytest.mark.parametrize("um_per_px", [0.05, 0.3, 1.0, 7.7, 40.0])
def test_the_scales_bar_is_a_round_length_that_fits(um_per_px: float) -> None:
    bar = np.asarray(scale_bar(um_per_px, 1000))
    length_px = (bar[11] == bar[11, 0]).all(axis=1).argmin()
    length_um = length_px * um_per_px
    assert length_px <= 250
    power = 10 ** np.floor(np.log10(length_um * 1.001))
    assert min(abs(length_um / power - factor) for factor in (1, 2, 5)) < 0.05


def test_long_texts_are_shortened_to_fit() -> None:
    assert shortened("short", font(18), 200) == "short"
    text = shortened("a very long name " * 20, font(18), 200)
    assert text.endswith("…")
    assert font(18).getlength(text) <= 200


def test_colours_are_the_same_whatever_else_there_is_and_differ() -> None:
    assert class_colours(40)[:5] == class_colours(5)
    assert len(set(class_colours(40))) == 40
    distinct = np.array(class_colours(NUM_DISTINCT), float)
    apart = np.linalg.norm(distinct[:, None] - distinct[None], axis=2)
    assert apart[~np.eye(NUM_DISTINCT, dtype=bool)].min() > 60
