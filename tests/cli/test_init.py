"""`init` writes a config that loads and runs, explains its choices, and says what to do with other layouts."""

from __future__ import annotations

import csv
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from microscopy_cls.cli import commands, init  # noqa: F401  registers them
from microscopy_cls.cli.main import app
from microscopy_cls.config import Config, load_config
from microscopy_cls.config.load import all_keys
from microscopy_cls.dataset.intake.commented import commented_yaml
from microscopy_cls.dataset.intake.name_groups import guess_name_groups
from microscopy_cls.dataset.propose import Proposal, propose
from microscopy_cls.errors import ConfigError, DataError, FoldError

Draw = Callable[..., Path]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def draw(path: str, *, size: tuple[int, int] = (40, 30), background: int = 230, grey: bool = False) -> Path:
    """One image whose pixels depend on its path, so that no two are duplicates."""
    rng = np.random.default_rng(zlib.crc32(path.encode()))
    pixels = np.full((size[1], size[0], 3), background, np.uint8)
    inside = (size[1] - 16, size[0] - 16) + ((1,) if grey else (3,))
    pixels[8:-8, 8:-8] = rng.integers(40, 255, inside, np.uint8)
    if not grey:
        pixels[..., 0] //= 2
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(target)
    return target


def class_folders(names: dict[str, list[str]], **look: object) -> Path:
    for label, files in names.items():
        for file in files:
            draw(f"raw/set/{label}/{file}", **look)  # type: ignore[arg-type]
    return Path("raw/set")


def numbered(num: int, pattern: str = "{}.png") -> list[str]:
    return [pattern.format(index) for index in range(num)]


def write_table(path: str, rows: list[dict[str, str]]) -> Path:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return target


def patients(num: int = 20, **extra: Callable[[int], str]) -> Path:
    """A table of two images a patient, two classes; `extra` columns are functions of the row."""
    rows = []
    for index in range(num):
        file = draw(f"raw/scans/img/{index:03}.png").relative_to("raw/scans").as_posix()
        row = {"file": file, "diagnosis": "ab"[index // 2 % 2], "patient_id": f"p{index // 2}"}
        rows.append(row | {name: value(index) for name, value in extra.items()})
    return write_table("raw/scans/labels.csv", rows)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def proposal(source: Path) -> Proposal:
    made = propose(source, "mine")
    Path("mine.yaml").write_text(made.yaml)
    assert load_config(Path("mine.yaml")) == made.config
    return made


def findings(source: Path) -> dict[str, str]:
    return dict(proposal(source).findings)


# what is written ------------------------------------------------------------------------------------------------------


def test_prepare_runs_with_the_config_of_a_folder_per_class() -> None:
    source = class_folders({label: numbered(12, "slide{}_x.png") for label in "ab"})
    for label in "ab":
        for file in numbered(12, "slide{}_y.png"):
            draw(f"{source}/{label}/{file}")
    written = run("init", str(source))
    assert written.exit_code == 0, written.output
    assert "12 groups of 4 to 4 images, by slide in the file name" in written.stdout
    assert "microscopy-cls prepare -c configs/set.yaml" in written.stdout
    assert "  set:\n    data: raw/set" in written.stdout
    prepared = run("prepare", "-c", "configs/set.yaml")
    assert prepared.exit_code == 0, prepared.output
    assert "48 usable images in 12 groups, 5 folds" in prepared.stdout


def test_prepare_runs_with_the_config_of_a_table() -> None:
    written = run("init", str(patients(40)), "--name", "scans")
    assert written.exit_code == 0, written.output
    config = load_config(Path("configs/scans.yaml"))
    assert config.data.root == Path("raw/scans")
    assert config.data.columns.model_dump() == {
        "path": "file", "label": "diagnosis", "group": "patient_id", "split": None
    }  # fmt: skip
    prepared = run("prepare", "-c", "configs/scans.yaml")
    assert prepared.exit_code == 0, prepared.output
    assert "40 usable images in 20 groups" in prepared.stdout


def test_an_existing_config_is_never_overwritten() -> None:
    source = class_folders({label: numbered(4) for label in "ab"})
    assert run("init", str(source)).exit_code == 0
    Path("configs/set.yaml").write_text("mine")
    again = run("init", str(source))
    assert again.exit_code == 2
    assert "configs/set.yaml: exists already and is not overwritten" in again.stderr
    assert "microscopy-cls init raw/set --name set-2" in again.stderr
    assert Path("configs/set.yaml").read_text() == "mine"
    assert run("init", str(source), "--name", "set-2").exit_code == 0
    assert "--name set-3" in run("init", str(source)).stderr


def test_the_header_states_the_command_the_score_to_beat_and_the_time() -> None:
    source = class_folders({"a": numbered(6), "b": numbered(4)})
    header = proposal(source).yaml.split("name:")[0]
    assert "microscopy-cls prepare -c configs/mine.yaml" in header
    assert "always answering a is right for 60.0% of the images" in header
    assert "Time: roughly 1 minute on two CPU cores" in header


@pytest.mark.parametrize(
    ("source", "name"),
    [("raw/My plants", "My-plants"), ("raw/kather/train", "kather"), ("x/labels.csv", "x"), ("x/cells.csv", "cells")],
)
def test_the_name_comes_from_the_first_telling_part_of_the_path(source: str, name: str) -> None:
    from microscopy_cls.dataset.propose import config_name

    if source.endswith(".csv"):
        write_table(source, [{"path": "a"}])
    assert config_name(Path(source), None) == name


def test_a_name_that_cannot_be_one_is_refused() -> None:
    from microscopy_cls.dataset.propose import config_name

    refused = run("init", ".", "--name", "my set")
    assert refused.exit_code == 2
    assert "--name my set: use letters, digits, dots, hyphens, underscores" in refused.stderr
    with pytest.raises(ConfigError, match="gives no name for the config; choose one with --name"):
        config_name(Path("/"), None)


def test_an_absolute_path_below_the_working_directory_becomes_relative() -> None:
    source = class_folders({label: numbered(4) for label in "ab"})
    assert proposal(source.absolute()).config.data.root == source


def test_every_key_of_the_schema_is_written_and_every_value_read_back(tmp_path: Path) -> None:
    config = Config.model_validate({
        "name": "x",
        "data": {"table": "a b/ü.csv", "intensity": [0, 4095.5], "metadata": ["a, b", "c: d", "no"]},
        "finetune": {"min_learning_rate": 1e-9, "batch_size": 3},
    })  # fmt: skip
    text = commented_yaml(config, ["one", ""], {"folds.num": ["Because. " * 40]}, {"data.group_regex": r"(\d+)"})
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    assert load_config(tmp_path / "x.yaml") == config
    assert text.startswith("# one\n#\nname: x  # ")
    assert r"# group_regex: (\d+)  # " in text
    assert max(map(len, text.splitlines())) <= 120
    lines = [line.strip().removeprefix("# ") for line in text.splitlines()]
    assert not [key for key in all_keys(Config) if not any(line.startswith(f"{key.split('.')[-1]}:") for line in lines)]


# what the images decide -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("short_px", "size_px"), [(30, 96), (96, 96), (97, 128), (140, 160), (200, 224), (400, 224)])
def test_the_image_size_does_not_shrink_the_median_image_up_to_224(short_px: int, size_px: int) -> None:
    source = class_folders({label: numbered(3) for label in "ab"}, size=(short_px + 9, short_px))
    made = proposal(source)
    assert made.config.model.image_size_px == size_px
    assert f"# The median short side is {short_px} px" in made.yaml


@pytest.mark.parametrize(
    ("labels", "look", "preset"),
    [
        ("ab", {}, "brightfield"),
        ("ab", {"background": 5}, "fluorescence"),
        (["pneumonia", "normal"], {"grey": True}, "xray"),
        (["X-ray_1", "b"], {"grey": True, "background": 5}, "xray"),
        (["CT_COVID", "CT_NonCOVID"], {"grey": True}, "ct"),
        (["lung_aca", "lung_n"], {}, "brightfield"),
        (["fact", "b"], {"grey": True}, "brightfield"),
    ],
)
def test_the_modality_is_guessed_and_called_a_guess(labels: str, look: dict[str, object], preset: str) -> None:
    made = proposal(class_folders({label: numbered(3) for label in labels}, **look))
    assert made.config.augment.preset == preset
    assert f"{preset}, a guess: " in dict(made.findings)["modality"]
    assert "  # A guess: " in made.yaml


def test_classes_of_very_unequal_size_are_weighted() -> None:
    uneven = proposal(class_folders({"a": numbered(13), "b": numbered(4)}))
    assert uneven.config.finetune.class_weights == "balanced"
    assert "a has 3.2 times the images of b" in dict(uneven.findings)["balance"]
    even = proposal(class_folders({"b": numbered(5)}))
    assert even.config.finetune.class_weights == "none"


def test_small_classes_lower_the_folds_and_fix_the_schedule() -> None:
    made = proposal(class_folders({"a": numbered(30), "b": numbered(3)}))
    assert made.config.folds.num == 3
    assert dict(made.findings)["folds"] == "3: every class has 3 images or more"
    assert made.config.finetune.validation_fraction == 0
    assert "a class has 3 groups only".capitalize() in made.yaml
    assert any(caution.startswith("Classes with fewer than 20 images: b (3). ") for caution in made.cautions)


def test_enough_images_leave_the_defaults() -> None:
    made = proposal(class_folders({label: numbered(20) for label in "ab"}))
    default = Config.model_validate({"name": "mine", "data": {"root": "raw/set"}, "model": {"image_size_px": 96}})
    assert made.config == default


def test_deep_images_are_told() -> None:
    source = class_folders({label: numbered(3) for label in "ab"})
    Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30) * 9).save(source / "a/deep.png")
    made = proposal(source)
    assert dict(made.findings)["intensity"].startswith("1 of 7 files opened have more than 8 bits a channel")
    assert "up to 16 bits" in dict(made.findings)["sample"]
    assert "Set a window [low, high]" in made.yaml


def test_unreadable_files_are_told_with_their_share() -> None:
    source = class_folders({label: numbered(3) for label in "ab"})
    (source / "a/broken.png").write_bytes(b"")
    made = proposal(source)
    assert "1 unreadable" in dict(made.findings)["sample"]
    assert "1 of 7 files opened are unreadable (raw/set/a/broken.png: is empty (0 bytes))" in made.cautions[-1]
    assert "stops when more than 1% are" in made.cautions[-1]


def test_files_that_are_all_unreadable_are_an_error() -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        Path("raw/set", name).parent.mkdir(parents=True, exist_ok=True)
        Path("raw/set", name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"none of 4 files opened can be read; the first, raw/set/a/1\.png: is not an"):
        proposal(Path("raw/set"))


def test_ignored_files_are_counted() -> None:
    source = class_folders({label: numbered(3) for label in "ab"})
    (source / "README.md").write_text("x")
    assert findings(source)["ignored"] == "1 file without an image's ending, or in no class folder"


# groups ---------------------------------------------------------------------------------------------------------------


def image_ids(pattern: str, labels: str = "ab", groups: int = 12, each: int = 3) -> pd.Series:
    ids = [
        pattern.format(label=label, group=group, image=image)
        for label in labels
        for group in range(groups)
        for image in range(each)
    ]
    return pd.Series(ids)


@pytest.mark.parametrize(
    ("pattern", "regex"),
    [
        ("{label}/slide{group:02}_{image}.png", r"(slide\d+)"),
        ("{label}/Patient_{group}-slide{image}.png", r"(Patient_\d+)"),
        ("{label}/patient-id-{group}/{image}.png", r"(patient-id-\d+)"),
        ("{label}/day{group}_well-B{image}.png", r"(day\d+)"),
        ("{label}/plate-A{group}_{image}.png", r"(plate-[A-Za-z]\d+)"),
        ("{label}/x{group}/{image}.png", r"^[^/]+/([^/]+)/"),
        ("{label}/2024-03-{group:02}_{image}.png", None),
        ("{label}/00{group}_{image}.png", r"([^-_ /]+)[-_ ][^/]*$"),
        ("{label}/Blood_{group}_{image}.png", r"([^-_ /]+[-_ ][^-_ /]+)[-_ ][^/]*$"),
        ("{label}/a_b_c_d_{group}_{image}.png", r"([^/]+)[-_ ][^-_ /]*$"),
    ],
)
def test_groups_are_guessed_from_names(pattern: str, regex: str | None) -> None:
    ids = image_ids(pattern)
    guess = guess_name_groups(ids, ids.str[0], 5)
    assert guess is not None
    assert regex is None or guess.regex == regex
    assert guess.groups.nunique() == 12


def test_dates_are_groups() -> None:
    ids = image_ids("{label}/x{image}of202403{day}.png".replace("{day}", "{group:02}"), groups=13)
    ids = ids[~ids.str.contains("20240300")].reset_index(drop=True)
    guess = guess_name_groups(ids, ids.str[0], 5)
    assert guess is not None
    assert guess.meaning == "a date in the file name"
    assert sorted(guess.groups)[0] == "20240301"


@pytest.mark.parametrize(
    "pattern",
    [
        "{label}/{group}{image}.png",  # nothing repeats
        "{label}/img_{group}{image}.png",  # one group
        "{label}/{label}_{group}{image}.png",  # the class
        "{label}/slide{group}{image}.png",  # a number that starts anew in each class
        "{label}/{group}_{image}_x.png{image}",  # fits, see below
    ],
)
def test_names_that_only_number_the_images_make_no_groups(pattern: str) -> None:
    ids = image_ids(pattern)
    if pattern.endswith("}"):
        ids[0] = "a/1.png"  # one name that does not fit is enough
    assert guess_name_groups(ids, ids.str[0], 5) is None


def test_a_patient_with_one_image_of_each_class_is_a_group() -> None:
    ids = image_ids("{label}/patient{group}.png", each=1)
    guess = guess_name_groups(ids, ids.str[0], 5)
    assert guess is not None
    assert guess.regex == r"(patient\d+)"


def test_a_guessed_pattern_stands_in_the_config_with_an_example() -> None:
    source = class_folders({label: [f"slide{g}_{i}.png" for g in range(6) for i in range(2)] for label in "ab"})
    made = proposal(source)
    assert made.config.data.group_regex == r"(slide\d+)"
    assert "such as slide0. A guess" in dict(made.findings)["groups"]


def test_without_groups_the_consequence_is_told_and_an_example_given() -> None:
    made = proposal(class_folders({label: numbered(20) for label in "ab"}))
    assert made.config.data.group_regex is None
    assert "Each image counts as its own group." in made.cautions[0]
    assert "the numbers come out too good" in made.cautions[0]
    assert r"  # group_regex: (slide\d+)  # " in made.yaml


def test_a_table_beside_the_folders_that_knows_groups_is_named() -> None:
    source = class_folders({label: numbered(20) for label in "ab"})
    write_table("raw/set/about.csv", [{"path": f"a/{i}.png", "slide": str(i // 2)} for i in range(4)])
    assert proposal(source).cautions[0] == (
        "raw/set/about.csv has a column slide. To keep its groups together:\nmicroscopy-cls init raw/set/about.csv"
    )


# tables ---------------------------------------------------------------------------------------------------------------


def test_a_table_with_split_and_metadata_uses_both() -> None:
    table = patients(40, split=lambda i: "test" if i < 8 else "train", scanner=lambda i: "xy"[i % 2])
    made = proposal(table)
    assert made.config.data.columns.split == "split"
    assert made.config.data.metadata == ("scanner",)
    assert "8 images to test with" in dict(made.findings)["split"]
    assert dict(made.findings)["images"].startswith("32 in 2 classes")
    assert made.dvc_data == Path("raw/scans")


def test_columns_that_say_how_an_image_came_about_are_metadata_each_with_the_reason() -> None:
    made = proposal(
        patients(
            40,
            image_width=lambda i: str(100 + i),
            wavelength=lambda i: ("405", "488", "561")[i % 3],
            remark=lambda i: f"remark {i}",  # as many as images
            constant=lambda i: "x",
            code=lambda i: "ab"[i // 2 % 2].upper(),  # the label by another name
        )
    )
    assert made.config.data.metadata == ("image_width", "wavelength")
    assert "# Column image_width: its name says how the image was taken or stored." in made.yaml
    assert "# Column wavelength: it has 3 different values, and is neither label, group nor split." in made.yaml


def test_a_split_with_other_words_is_not_used_and_told() -> None:
    made = proposal(patients(40, split=lambda i: ("train", "val", "test")[i % 3]))
    assert made.config.data.columns.split is None
    assert made.cautions[0].startswith("Column split looks like a split, but holds val: only train and test are known.")


def test_a_group_column_that_would_leave_a_class_in_one_group_is_not_used_and_told() -> None:
    made = proposal(
        patients(40, slide=lambda i: "s" if i // 2 % 2 else f"s{i % 4}", patient_id=lambda i: "p" + "ab"[i // 2 % 2])
    )
    assert made.config.data.columns.group is None
    assert "Column patient_id looks like a group, but all images of a have the same one" in made.cautions[0]


def test_a_pattern_that_does_not_fit_the_test_images_is_not_used() -> None:
    rows = []
    for index in range(48):
        name = f"t{index}.png" if index < 8 else f"slide{index // 4}_{index}.png"
        draw(f"raw/scans/{name}")
        rows.append({"path": name, "label": "ab"[index % 2], "split": "test" if index < 8 else "train"})
    made = proposal(write_table("raw/scans/labels.csv", rows))
    assert made.config.data.group_regex is None
    only_train = proposal(write_table("raw/scans/labels.csv", rows[8:]))
    assert only_train.config.data.group_regex == r"(slide\d+)"


def test_images_without_a_value_in_the_group_column_are_counted() -> None:
    made = proposal(patients(40, patient_id=lambda i: "" if i < 3 else f"p{i // 2}"))
    assert dict(made.findings)["groups"].endswith("by column patient_id; 3 images without a value, each its own")


def test_paths_may_start_from_a_folder_below_the_table() -> None:
    patients(40)
    rows = [{"image": f"{i:03}", "name": f"{i:03}.png", "label": "ab"[i % 2]} for i in range(40)]
    made = proposal(write_table("raw/scans/other.csv", rows))
    assert made.config.data.root == Path("raw/scans/img")
    assert made.config.data.columns.path == "name"
    assert made.dvc_data == Path("raw/scans")


def test_a_column_of_files_that_exist_is_preferred() -> None:
    made = proposal(patients(40, path=lambda i: f"gone/{i}.png"))
    assert made.config.data.columns.path == "file"


def test_a_parquet_table_is_read_too() -> None:
    frame = pd.read_csv(patients(40))
    frame.to_parquet("raw/scans/labels.parquet")
    assert proposal(Path("raw/scans/labels.parquet")).config.data.columns.group == "patient_id"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"file": str},
            "has no column of image files. It has: file, diagnosis, patient_id. Give each row",
        ),
        ({"file": lambda i: f"gone/{i}.png"}, "column file names images that are not there, for example gone/0.png"),
        ({"diagnosis": str}, "has no column of classes that can be told by its name"),
        ({"diagnosis": lambda i: "a"}, "has no column of classes"),
        ({"split": lambda i: "test"}, "all images are test in column split: none is left to learn from"),
        ({"diagnosis": lambda i: "a" if i else "b"}, "one image each of b: a class needs two"),
        (
            {"diagnosis": lambda i: "ab"[i % 2], "split": lambda i: ("train", "test")[i % 2]},
            "there is only one class, a",
        ),
    ],
)
def test_tables_that_cannot_be_used_say_what_to_do(change: dict[str, Callable[[int], str]], message: str) -> None:
    table = patients(20, **change)
    with pytest.raises(DataError) as refused:
        proposal(table)
    assert message in str(refused.value)


def test_a_table_without_rows_is_refused() -> None:
    Path("empty.csv").write_text("path,label\n")
    with pytest.raises(DataError, match=r"empty\.csv: has no rows"):
        proposal(Path("empty.csv"))


def test_groups_that_allow_no_folds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise FoldError("all images of a fall into one fold")

    monkeypatch.setattr("microscopy_cls.dataset.intake.choices.assign_folds", refuse)
    with pytest.raises(DataError, match="no folds can be made that keep groups apart and every class in training"):
        proposal(class_folders({label: numbered(4) for label in "ab"}))


# other layouts --------------------------------------------------------------------------------------------------------


def zipped() -> Path:
    Path("set.tar.gz").write_bytes(b"x")
    return Path("set.tar.gz")


def zip_inside() -> Path:
    Path("raw").mkdir()
    Path("raw/set.zip").write_bytes(b"x")
    return Path("raw")


def spreadsheet() -> Path:
    Path("labels.xlsx").write_bytes(b"x")
    return Path("labels.xlsx")


def document() -> Path:
    Path("notes.txt").write_text("x")
    return Path("notes.txt")


def empty() -> Path:
    Path("raw").mkdir()
    return Path("raw")


def strangers() -> Path:
    Path("raw/a").mkdir(parents=True)
    Path("raw/a/1.mha").write_bytes(b"x")
    return Path("raw")


def volume() -> Path:
    Path("scan.nii.gz").write_bytes(b"x")
    return Path("scan.nii.gz")


def flat() -> Path:
    return draw("raw/1.png").parent


def flat_with_table() -> Path:
    write_table("raw/labels.csv", [{"path": "1.png"}])
    return flat()


def split_above() -> Path:
    for part in ("train", "val", "test"):
        draw(f"raw/set/{part}/a/1.png")
        draw(f"raw/set/{part}/b/1.png")
    return Path("raw/set")


def only_train() -> Path:
    return draw("raw/set/train/a/1.png").parents[2]


def one_above() -> Path:
    draw("raw/set/images/a/1.png")
    return draw("raw/set/images/b/1.png").parents[2]


def one_class() -> Path:
    return draw("raw/set/a/1.png").parents[1]


def one_class_with_table() -> Path:
    write_table("raw/set/labels.csv", [{"path": "a/1.png"}])
    return one_class()


@pytest.mark.parametrize(
    ("make", "messages"),
    [
        (lambda: Path("nowhere"), ["nowhere: there is no such folder or table"]),
        (zipped, ["set.tar.gz: is an archive. Unpack it", "`microscopy-cls init set`"]),
        (zip_inside, ["raw: holds the archive set.zip. Unpack it: `microscopy-cls init raw/set`"]),
        (spreadsheet, ["is a spreadsheet. Save it as CSV: `microscopy-cls init labels.csv`"]),
        (document, ["notes.txt: is no folder and no table", ".csv, .tsv, .parquet"]),
        (lambda: draw("one.png"), ["one.png: is one image. Name the folder"]),
        (volume, ["scan.nii.gz: is one image. Name the folder"]),
        (empty, ["raw: is empty. Put a folder of images per class into it"]),
        (strangers, ["raw: holds no images that can be trained on, but 1 .mha. Readable endings: .bmp"]),
        (
            flat,
            ["raw: holds 1 image without class folders, so that nothing says", "`microscopy-cls init raw/labels.csv`"],
        ),
        (flat_with_table, ["If the table labels.csv names their classes: `microscopy-cls init raw/labels.csv`"]),
        (
            split_above,
            [
                "its folders test, train, val are parts of a split, not classes",
                "`microscopy-cls init raw/set/train`, then set data.test: raw/set/test in the config",
                "`microscopy-cls init raw/set/labels.csv`",
            ],
        ),
        (only_train, ["its folders train are parts of a split", "`microscopy-cls init raw/set/train`"]),
        (one_above, ["holds one folder, images", "`microscopy-cls init raw/set/images`"]),
        (one_class, ["holds images in one folder only, a, so that there is only one class. A classifier needs two"]),
        (one_class_with_table, ["If the table beside it names the classes: `microscopy-cls init raw/set/labels.csv`"]),
    ],
)
def test_other_layouts_are_recognised_and_say_what_to_do(make: Callable[[], Path], messages: list[str]) -> None:
    with pytest.raises(DataError) as refused:
        propose(make(), "mine")
    for message in messages:
        assert message in str(refused.value)


def test_a_folder_that_cannot_be_listed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    source = class_folders({"a": numbered(2), "b": numbered(2)})
    inside = list(source.iterdir())

    def refuse(folder: Path) -> list[Path]:
        if folder.name == "b":
            raise PermissionError(13, "Permission denied")
        return inside if folder == source else []

    monkeypatch.setattr(Path, "iterdir", refuse)
    monkeypatch.setattr(os, "access", lambda folder, mode: Path(folder).name != "b")
    with pytest.raises(DataError, match="raw/set/b: cannot be listed: Permission denied"):
        propose(source, "mine")
