"""One public set: source, pinned revision, licence, citation, what was published on it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, model_validator

from microscopy_cls.config.section import Section
from microscopy_cls.errors import DataError

Text = Annotated[str, Field(min_length=1)]


class Published(Section):
    """A result that others reported, which means little without how it was measured."""

    result: Text = Field(description="the figure, with whose it is")
    protocol: Text = Field(description="which images were trained on and which tested")


class Entry(Section):
    """One set. Either it can be fetched (`revision`, `layout`), or `steps` tell a person how to get it.

    What is not known for certain is None or left out.
    """

    name: Text = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="also its folder under data/raw")
    title: Text
    source: Text = Field(pattern=r"^https://", description="git repository, or the page to start from")
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$", description="commit, in full")
    layout: str | None = Field(None, description="key of layouts.LAYOUTS")
    config: Text = Field(description="name of the shipped config that fits")
    licence: Text
    citation: Text
    num_images: int | None = Field(None, ge=1, description="as laid out")
    num_classes: int = Field(ge=2)
    groups: Text = Field(description="what must stay in one fold, and where that is known from")
    published: tuple[Published, ...] = ()
    cautions: tuple[Text, ...] = ()
    steps: tuple[Text, ...] = Field((), description="how to get it by hand, where that takes a login or a form")

    @model_validator(mode="after")
    def _can_be_had_in_one_way(self) -> Entry:
        fetchable = self.revision is not None and self.layout is not None
        if fetchable == bool(self.steps) or (self.revision is None) != (self.layout is None):
            raise ValueError(f"{self.name}: give either revision and layout, or steps")
        return self

    @property
    def folder(self) -> Path:
        """Where it lies unless told otherwise, relative to the working directory."""
        return Path("data/raw") / self.name

    @property
    def config_path(self) -> Path:
        """The shipped config that fits."""
        return Path("configs") / f"{self.config}.yaml"


@cache
def load_catalogue() -> tuple[Entry, ...]:
    """Every set of `catalogue.yaml`, in its order: first those that can be fetched."""
    text = files(__package__).joinpath("catalogue.yaml").read_text(encoding="utf-8")
    return tuple(Entry.model_validate(values) for values in yaml.safe_load(text))


def find_entry(name: str, entries: Sequence[Entry]) -> Entry:
    """The set of this name.

    Raises:
        DataError: there is none; the nearest name is suggested.
    """
    by_name = {entry.name: entry for entry in entries}
    if name in by_name:
        return by_name[name]
    near = difflib.get_close_matches(name, by_name, n=1) or [known for known in by_name if name in known]
    hint = f"Did you mean {near[0]}?" if near and name else f"It has: {', '.join(by_name)}."
    raise DataError(f"{name!r}: the catalogue has no set of this name. {hint}")
