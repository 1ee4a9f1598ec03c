"""Layouts of data that are no folder per class and no table: recognised, and what to do with each."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from microscopy_cls.config.schema import Data
from microscopy_cls.dataset.intake.notes import NUM_SHOWN, count
from microscopy_cls.dataset.sources import Listing, list_files
from microscopy_cls.errors import DataError
from microscopy_cls.images import IMAGE_SUFFIXES, ending

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
SPREADSHEET_SUFFIXES = (".xlsx", ".xls", ".ods")
TRAIN_NAMES = ("train", "training", "trainset")
TEST_NAMES = ("test", "testing", "testset")
SPLIT_NAMES = (*TRAIN_NAMES, *TEST_NAMES, "val", "valid", "validation", "dev", "holdout")


def list_class_folders(root: Path) -> Listing:
    """The images of a folder per class.

    Raises:
        DataError: the folder is laid out in another way; says how to use it.
    """
    try:
        listing = list_files(Data(root=root))
    except DataError:
        folders = [Path(parent, name) for parent, names, _ in os.walk(root) for name in names]
        if not all(os.access(folder, os.R_OK | os.X_OK) for folder in folders):
            raise
        raise _nothing_in_class_folders(root) from None
    names = sorted(set(listing.files["label"]))
    splits = [name for name in names if name.lower() in SPLIT_NAMES]
    if len(splits) > 1 or (splits and len(names) == 1):
        raise _splits(root, splits)
    if len(names) == 1:
        raise _single_folder(root, names[0], listing.files["image_id"].tolist())
    return listing


def check_table(table: Path) -> None:
    """Refuse, with what to do, a file that is no table.

    Raises:
        DataError: an archive, a spreadsheet, one image, or a file of another kind.
    """
    suffix = ending(table)
    if suffix in TABLE_SUFFIXES:
        return
    if suffix in ARCHIVE_SUFFIXES:
        raise DataError(f"{table}: is an archive. Unpack it and name the folder: {_command(_unpacked(table))}")
    if suffix in SPREADSHEET_SUFFIXES:
        raise DataError(f"{table}: is a spreadsheet. Save it as CSV: {_command(table.with_suffix('.csv'))}")
    if suffix in IMAGE_SUFFIXES:
        raise DataError(f"{table}: is one image. Name the folder that holds a folder of images per class.")
    raise DataError(
        f"{table}: is no folder and no table. Give a folder per class, or one of {', '.join(TABLE_SUFFIXES)}."
    )


def tables_in(folder: Path) -> list[Path]:
    """Tables that lie directly in a folder."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in TABLE_SUFFIXES and path.is_file())


def _nothing_in_class_folders(root: Path) -> DataError:
    endings = Counter(ending(path) for path in root.iterdir() if path.is_file())
    num_flat = sum(number for name, number in endings.items() if name in IMAGE_SUFFIXES)
    if num_flat:
        return _flat(root, num_flat)
    found = Counter(ending(name) or name for _, _, names in os.walk(root) for name in names)
    if not found:
        return DataError(f"{root}: is empty. Put a folder of images per class into it.")
    archive = next((path for path in sorted(root.iterdir()) if ending(path) in ARCHIVE_SUFFIXES), None)
    if archive is not None:
        return DataError(f"{root}: holds the archive {archive.name}. Unpack it: {_command(_unpacked(archive))}")
    listed = ", ".join(f"{number} {name}" for name, number in found.most_common(NUM_SHOWN))
    return DataError(
        f"{root}: holds no images that can be trained on, but {listed}. "
        f"Readable endings: {', '.join(sorted(IMAGE_SUFFIXES))}. Convert the images, and keep a folder per class."
    )


def _flat(root: Path, num_images: int) -> DataError:
    images = count(num_images, "image")
    tables = tables_in(root) or tables_in(root.parent)
    if tables:
        return DataError(
            f"{root}: holds {images} without class folders. If the table {tables[0].name} names their classes: "
            f"{_command(tables[0])}"
        )
    return DataError(
        f"{root}: holds {images} without class folders, so that nothing says which class each belongs to. "
        f"Move them into a folder per class ({root}/<class>/<image>), or write a table {root / 'labels.csv'} with the "
        f"columns path,label[,group,split] and run: {_command(root / 'labels.csv')}"
    )


def _splits(root: Path, names: Sequence[str]) -> DataError:
    train = next((name for name in names if name.lower() in TRAIN_NAMES), names[0])
    test = next((name for name in names if name.lower() in TEST_NAMES), None)
    external = f", then set data.test: {(root / test).as_posix()} in the config" if test else ""
    return DataError(
        f"{root}: its folders {', '.join(names)} are parts of a split, not classes. Two ways to use them:\n"
        f"  learn from one part: {_command(root / train)}{external}. Cross-validation\n"
        "    chooses its own validation images: a folder of them can be merged into the training folder.\n"
        f"  use all parts: write a table {root / 'labels.csv'} with the columns path,label,split (train or test;\n"
        f"    validation images count as train) and run: {_command(root / 'labels.csv')}"
    )


def _single_folder(root: Path, name: str, image_ids: Sequence[str]) -> DataError:
    below = {image_id.split("/")[1] for image_id in image_ids if image_id.count("/") > 1}
    if len(below) > 1:
        return DataError(
            f"{root}: holds one folder, {name}, so that there is only one class. The classes seem to lie below it: "
            f"{_command(root / name)}"
        )
    tables = tables_in(root)
    hint = f"If the table beside it names the classes: {_command(tables[0])}" if tables else (
        "A classifier needs two classes or more: put the images of the others into folders beside it."
    )  # fmt: skip
    return DataError(f"{root}: holds images in one folder only, {name}, so that there is only one class. {hint}")


def _unpacked(archive: Path) -> Path:
    return archive.with_name(archive.name.split(".")[0])


def _command(source: Path) -> str:
    return f"`{shlex.join(['microscopy-cls', 'init', source.as_posix()])}`"
