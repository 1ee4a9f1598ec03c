"""A configuration for data never seen before, and the reason for each choice that the data decided."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from microscopy_cls.config import Config
from microscopy_cls.config.schema import Data
from microscopy_cls.dataset.intake.choices import choose
from microscopy_cls.dataset.intake.commented import commented_yaml
from microscopy_cls.dataset.intake.inputs import find_inputs
from microscopy_cls.dataset.intake.notes import TOPICS, Notes, count
from microscopy_cls.dataset.intake.survey import survey_images
from microscopy_cls.errors import ConfigError

CPU_IMAGES_PER_S = 20.0  # training resnext50_32x4d at 224 px on two cores in bf16: measured
GENERIC_NAMES = {
    "annotations", "class", "classes", "data", "dataset", "image", "images", "img", "index", "label", "labels",
    "manifest", "meta", "metadata", "raw", "table", "test", "train", "training",
}  # fmt: skip


@dataclass(frozen=True)
class Proposal:
    """A configuration and why it is as it is.

    Attributes:
        config: what was chosen.
        yaml: the same with all comments, as it is to be written.
        findings: topic and sentence, for a person.
        cautions: sentences about what the person should look at.
        dvc_data: the folder on which the pipeline depends.
    """

    config: Config
    yaml: str
    findings: tuple[tuple[str, str], ...]
    cautions: tuple[str, ...]
    dvc_data: Path


def config_name(source: Path, given: str | None) -> str:
    """The name asked for, or one made from the folder or table.

    Raises:
        ConfigError: it holds other characters than letters, digits, dots, hyphens and underscores.
    """
    if given is not None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", given):
            raise ConfigError(
                f"--name {given}: use letters, digits, dots, hyphens, underscores; begin with a letter or digit"
            )
        return given
    whole = source.absolute()
    names = [whole.stem if whole.is_file() else whole.name, *(parent.name for parent in whole.parents)]
    telling = next((name for name in names if name and name.lower() not in GENERIC_NAMES), names[0])
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "-", telling).strip("-_")
    if not cleaned:
        raise ConfigError(f"{source}: gives no name for the config; choose one with --name")
    return cleaned


def propose(source: Path, name: str) -> Proposal:
    """Look at a folder per class or at a table, and choose.

    Raises:
        DataError: there is nothing to train on, or it is laid out in another way; says what to do.
    """
    source, notes = _from_working_directory(source), Notes()
    data, train = find_inputs(source, notes)
    config = choose(name, source, data, train, survey_images(train["path"].tolist()), notes)
    findings = tuple((topic, notes.findings[topic]) for topic in TOPICS if topic in notes.findings)
    return Proposal(config, _text(config, train["label"], source, notes), findings, tuple(notes.cautions), _tree(data))


def _from_working_directory(source: Path) -> Path:
    """Relative where possible: the config is used from the working directory, also on other machines."""
    here = Path.cwd()
    return source.relative_to(here) if source.is_absolute() and source.is_relative_to(here) else source


def _tree(data: Data) -> Path:
    """The folder that holds the images and, where it is one, the table."""
    root = data.root or Path()
    is_above = data.table is not None and root.is_relative_to(data.table.parent)
    return data.table.parent if data.table is not None and is_above else root


def _text(config: Config, labels: pd.Series, source: Path, notes: Notes) -> str:
    counts = labels.value_counts()
    hidden = ["data.table", "data.columns", "data.metadata"] if config.data.table is None else []
    hidden += ["data.group_regex"] if config.data.columns.group else []
    examples = {
        "data.columns.group": "patient",
        "data.columns.split": "split",
        "data.exclude": f"configs/{config.name}-exclude.csv",
        "data.group_regex": r"(slide\d+)",
        "data.notice": "One sentence.",
        "data.test": f"data/raw/{config.name}-test",
        "evaluate.positive_class": str(counts.index[-1]),
    }
    header = [
        f"{source.as_posix()}: {len(labels)} images of {len(counts)} classes. Proposed by `microscopy-cls init`.",
        "",
        f"  microscopy-cls prepare -c configs/{config.name}.yaml"
        "      (then train, evaluate, report; or add it to params.yaml)",
        "",
        f"To beat: always answering {counts.index[0]} is right for {counts.iloc[0] / len(labels):.1%} of the images.",
        f"Time: roughly {_duration(config, len(labels))} on two CPU cores that compute in bf16, minutes on a GPU.",
    ]
    return commented_yaml(config, header, notes.reasons, examples, hidden)


def _duration(config: Config, num_images: int) -> str:
    """Training time in words."""
    num_steps = num_images * (config.folds.num - 1) * (1 - config.finetune.validation_fraction) * config.finetune.epochs
    minutes = num_steps * (config.model.image_size_px / 224) ** 2 / CPU_IMAGES_PER_S / 60
    return count(math.ceil(minutes), "minute") if minutes < 90 else f"{minutes / 60:.0f} hours"
