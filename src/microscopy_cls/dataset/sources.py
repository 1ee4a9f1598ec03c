"""From a folder or a table to a list of files: which image, which label, which group, which split."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from microscopy_cls.config.schema import Columns, Data
from microscopy_cls.dataset.manifest import METADATA_PREFIX
from microscopy_cls.errors import ConfigError, DataError
from microscopy_cls.images import IMAGE_SUFFIXES, ending

NUM_SHOWN = 5  # examples in a message


@dataclass(frozen=True)
class Listing:
    """What the source names.

    Attributes:
        files: a row per file, sorted by `image_id`: `image_id, path, label, group, split` (all str), then the columns
            of `data.metadata` as `meta_<column>`: numbers, text or missing.
        num_ignored: files without an image's ending, hidden ones, and ones outside every class folder.
        grouped: whether groups were declared; otherwise each image is its own.
    """

    files: pd.DataFrame
    num_ignored: int
    grouped: bool


def list_files(data: Data) -> Listing:
    """List the images of `data.table` or else of the class folders under `data.root`.

    Raises:
        DataError: nothing found, a label or file name is missing, an image is named twice, a group cannot be derived.
        ConfigError: a column is not in the table, or two ways to group are given.
    """
    if data.table is not None:
        if data.root is not None and not data.root.is_dir():
            raise DataError(
                f"{data.root}: there is no such folder. Set data.root to the folder that the table's paths start from."
            )
        files, num_ignored = _from_table(data.table, data.root, data.columns, data.metadata), 0
    else:
        assert data.root is not None
        files, num_ignored = _from_folders(data.root)
    files = files.sort_values("image_id", ignore_index=True)
    declared = _declared_groups(files, data)
    grouped = bool((declared != "").any())
    files["group"] = declared.where(declared != "", files["image_id"])
    files["split"] = _splits(files["split"], data)
    metadata = [name for name in files.columns if name.startswith(METADATA_PREFIX)]
    return Listing(files[["image_id", "path", "label", "group", "split", *metadata]], num_ignored, grouped)


def _from_folders(root: Path) -> tuple[pd.DataFrame, int]:
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder. Set data.root to a folder that holds a folder per class.")
    rows, num_ignored = [], 0
    for path in walk(root):
        relative = path.relative_to(root)
        if len(relative.parts) < 2 or is_hidden(relative) or ending(path) not in IMAGE_SUFFIXES:
            num_ignored += 1
            continue
        rows.append((relative.as_posix(), str(path), relative.parts[0]))
    if not rows:
        raise DataError(
            f"{root}: holds no images in class folders ({num_ignored} other files). "
            f"Expected {root}/<class>/<image> with an ending such as .png, .jpg or .tif."
        )
    return pd.DataFrame(rows, columns=["image_id", "path", "label"]).assign(group="", split="train"), num_ignored


def walk(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Every file below `folder`; linked folders are entered, but for those that lead back to one they lie in."""
    real = folder.resolve()
    if real in above:
        return
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}. Make it readable or move it away.") from None
    for path in paths:
        if path.is_dir():
            yield from walk(path, (*above, real))
        else:
            yield path


def is_hidden(relative: Path) -> bool:
    """Whether a path has a part that starts with a dot."""
    return any(part.startswith(".") for part in relative.parts)


def _from_table(table: Path, root: Path | None, columns: Columns, metadata: tuple[str, ...]) -> pd.DataFrame:
    frame = read_table(table)
    wanted = {name: column for name, column in columns.model_dump().items() if column is not None}
    missing = [column for column in wanted.values() if column not in frame.columns]
    if missing:
        raise ConfigError(
            f"{table}: has no column {', '.join(missing)}. It has: {', '.join(map(str, frame.columns))}. "
            "Name the right ones under data.columns."
        )
    _check_metadata(table, frame, metadata)
    if frame.empty:
        raise DataError(f"{table}: has no rows. Expected one per image.")
    files = pd.DataFrame({name: _texts(frame[column]) for name, column in wanted.items()})
    files["image_id"] = files["path"].str.replace("\\", "/")
    _refuse_rows(table, files["path"] == "", files.index.astype(str).to_series(), "have no path")
    _refuse_rows(table, files["label"] == "", files["path"], "have no label")
    _refuse_rows(table, files["image_id"].duplicated(), files["image_id"], "are named twice")
    base = root if root is not None else table.parent
    files["path"] = [str(base / name) for name in files["image_id"]]
    files = files.assign(group=files.get("group", ""), split=files.get("split", "train"))
    return files.assign(**{f"{METADATA_PREFIX}{name}": _values(frame[name]) for name in metadata})


def _check_metadata(table: Path, frame: pd.DataFrame, metadata: tuple[str, ...]) -> None:
    known = [str(name) for name in frame.columns]
    for name in metadata:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"It has: {', '.join(known)}."
            raise ConfigError(f"{table}: has no column {name}, which data.metadata names. {hint}")


def _values(column: pd.Series) -> pd.Series:
    """A column as float where every value is a finite number, else as stripped text; without a value NaN or None."""
    texts = _texts(column)
    numbers = pd.to_numeric(texts, errors="coerce").astype(float)
    if texts.ne("").any() and np.isfinite(numbers[texts != ""]).all():
        return numbers
    return pd.Series([text or None for text in texts], index=column.index)


def _texts(column: pd.Series) -> pd.Series:
    """A column of any type as stripped text, "" where there is no value."""
    return column.astype("string").fillna("").astype(str).str.strip()


def read_table(table: Path) -> pd.DataFrame:
    """Read CSV, TSV (every cell as text) or Parquet.

    Raises:
        DataError: it is missing or no table.
    """
    try:
        if table.suffix.lower() in {".parquet", ".pq"}:
            return pd.read_parquet(table)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # fields beyond the header would be dropped
            separator = "\t" if table.suffix.lower() == ".tsv" else ","
            return pd.read_csv(table, dtype=str, keep_default_na=False, sep=separator, index_col=False)
    except FileNotFoundError:
        raise DataError(f"{table}: there is no such file. Set data.table to a CSV or Parquet file.") from None
    except (ValueError, OSError, pd.errors.ParserWarning) as error:
        raise DataError(f"{table}: cannot be read as a table: {error}") from None


def _refuse_rows(table: Path, bad: pd.Series, names: pd.Series, fault: str) -> None:
    if bad.any():
        shown = ", ".join(names[bad.to_numpy()].head(NUM_SHOWN))
        raise DataError(f"{table}: {int(bad.sum())} rows {fault}: {shown}. Correct or remove them.")


def _declared_groups(files: pd.DataFrame, data: Data) -> pd.Series:
    if data.group_regex is None:
        return files["group"]
    if data.table is not None and data.columns.group is not None:
        raise ConfigError("data.group_regex and data.columns.group both name the group: keep one of them")
    try:
        pattern = re.compile(data.group_regex)
    except re.error as error:
        raise ConfigError(f"data.group_regex {data.group_regex!r}: is no regular expression: {error}") from None
    if pattern.groups < 1:
        raise ConfigError(f"data.group_regex {data.group_regex!r}: needs a capture group in parentheses")
    found = [pattern.search(image_id) for image_id in files["image_id"]]
    unmatched = [image_id for image_id, match in zip(files["image_id"], found, strict=True) if not (match and match[1])]
    if unmatched:
        raise DataError(
            f"data.group_regex {data.group_regex!r}: does not match {len(unmatched)} of {len(files)} images: "
            f"{', '.join(unmatched[:NUM_SHOWN])}. Widen it, or give the groups as a column of data.table."
        )
    return pd.Series([match[1] for match in found if match], index=files.index)


def _splits(split: pd.Series, data: Data) -> pd.Series:
    split = split.replace("", "train")
    odd = sorted(set(split) - {"train", "test"})
    if odd:
        raise DataError(
            f"{data.table}: column {data.columns.split} holds {', '.join(odd[:NUM_SHOWN])}; only train, test are known"
        )
    return split
