"""The section `search`: which settings each fold chooses for itself, and from what."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_serializer, model_validator

from microscopy_cls.config.section import Section

Value = bool | int | float | str
Values = dict[str, Value]
Sections = Mapping[str, Section]

SEARCHED_SECTIONS = ("finetune", "augment")
MORE_KEYS = ("model.drop_path",)
FIXED_KEYS = {
    "finetune.strategy": "each strategy is an experiment of its own: run both and compare them",
    "finetune.batch_size": "it is fixed for the whole run when that begins",
    "finetune.validation_fraction": "it decides what the values are judged on",
}
MAX_COMBINATIONS = 5000  # of the ends of ranges and the choices, each tried on the schema when a config is loaded


class Dimension(Section):
    """The values that one key may take: a range, both ends included, or a list."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: tuple[Value, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _has_known_keys(cls, given: Any) -> Any:
        unknown = sorted(map(str, set(given) - set(cls.model_fields))) if isinstance(given, dict) else [repr(given)]
        if unknown:
            raise ValueError(f"give low and high (and log: true) or choices, not {', '.join(unknown)}")
        return given

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Dimension:
        is_range = self.low is not None and self.high is not None
        if (self.choices is None) != is_range or (self.choices is not None and (self.log or self.high is not None)):
            raise ValueError("give either low and high or choices")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) should be below high ({self.high:g})")
        if self.log and self.low is not None and self.low <= 0:
            raise ValueError(f"log needs low above 0 (given: {self.low:g})")
        return self

    @model_serializer
    def _as_given(self) -> dict[str, Any]:
        """Without the keys of the other form."""
        if self.choices is not None:
            return {"choices": list(self.choices)}
        return {"low": self.low, "high": self.high, "log": self.log}

    @property
    def ends(self) -> tuple[Value, ...]:
        """Both ends of a range, or the choices."""
        if self.choices is not None:
            return self.choices
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    def holds(self, value: Value) -> bool:
        """Whether a value, in the type of the key, is one of these."""
        if self.choices is not None:
            return value in self.choices
        low, high = self.ends
        return bool(low <= value <= high)  # type: ignore[operator]  # numbers, as a range has


class Search(Section):
    """Values that each fold chooses for itself, by trials among its own training images."""

    trials: int = Field(0, ge=0, description="trainings with other values before each fold's own; 0: no search")
    validation_fraction: float = Field(
        0.2, gt=0, le=0.5, description="part of the fold's training groups that the trials are judged on"
    )
    score: Literal["loss", "f1_macro"] = Field(
        "loss", description="what judges: the lowest loss or, where rare classes matter more, the highest macro F1"
    )
    space: dict[str, Dimension] = Field(
        {}, description="values by key, as in {finetune.learning_rate: {low: 1.0e-4, high: 3.0e-3, log: true}}"
    )


def fitted(search: Search, sections: Sections) -> Search:
    """The same search with each value in the type of its key.

    Args:
        sections: those that hold the keys, by name, as configured.

    Raises:
        ValueError: a key is unknown or must not be searched, or the schema refuses a value or a combination.
    """
    if search.trials and not search.space:
        raise ValueError("trials without a space: say which keys to search, or set search.trials to 0")
    if search.trials and getattr(sections["finetune"], "strategy", "") == "probe":
        raise ValueError(
            "finetune.strategy probe chooses its penalty inside each fold by itself: set search.trials to 0"
        )
    _check_head(search, sections)
    space = {key: _typed(key, dimension, sections) for key, dimension in search.space.items()}
    _check_combinations(space, sections)
    return search.model_copy(update={"space": space})


def configured(keys: Iterable[str], sections: Sections) -> Values:
    """What the sections hold under these dotted keys."""
    return {key: getattr(sections[key.partition(".")[0]], key.partition(".")[2]) for key in keys}


def replaced(sections: Sections, values: Mapping[str, Value]) -> dict[str, Section]:
    """The sections with these values, by dotted key, in place of theirs.

    Raises:
        ValidationError: the schema refuses them.
    """
    changed = dict(sections)
    for name, section in sections.items():
        own = {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{name}.")}
        if own:
            changed[name] = type(section).model_validate(section.model_dump() | own)
    return changed


def _typed(key: str, dimension: Dimension, sections: Sections) -> Dimension:
    _check_key(key, sections)
    section, _, name = key.partition(".")
    field = type(sections[section]).model_fields[name]
    kind: Any = Annotated[field.annotation, field]
    adapter = TypeAdapter[Any](kind, config=ConfigDict(allow_inf_nan=False))
    try:
        ends = [adapter.validate_python(end) for end in dimension.ends]
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise ValueError(f"space {key}: {problem['msg']} (given: {problem['input']!r})") from None
    if dimension.choices is not None:
        if len(set(ends)) < max(2, len(ends)):
            raise ValueError(f"space {key}: choices should be two or more different values")
        return dimension.model_copy(update={"choices": tuple(ends)})
    if isinstance(ends[0], bool | str):
        raise ValueError(f"space {key}: takes no range, give choices")
    return dimension.model_copy(update={"low": ends[0], "high": ends[1]})


def _check_head(search: Search, sections: Sections) -> None:
    """The head is fitted once, on views of the run's own augmentation, and not anew for each trial's."""
    changing = [key for key in search.space if key.startswith("augment.")]
    if search.trials and changing and getattr(sections["finetune"], "strategy", "") == "head_then_full":
        raise ValueError(
            f"space {', '.join(changing)}: cannot be searched with finetune.strategy head_then_full, whose head is "
            "fitted under the configured augmentation: leave it out, or choose strategy full or gradual"
        )


def _check_key(key: str, sections: Sections) -> None:
    allowed = set(_searchable(sections))
    if key in allowed:
        return
    if key in FIXED_KEYS:
        raise ValueError(f"space {key}: cannot be searched, because {FIXED_KEYS[key]}")
    near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.75)
    section, _, name = key.partition(".")
    if near and not (section in sections and name in type(sections[section]).model_fields):
        raise ValueError(f"space: unknown key {key} (did you mean {near[0]}?)")
    raise ValueError(
        f"space {key}: cannot be searched. Keys of {' and '.join(SEARCHED_SECTIONS)} can, and "
        f"{', '.join(MORE_KEYS)}; others change the network or the data"
    )


def _searchable(sections: Sections) -> Iterator[str]:
    for name in SEARCHED_SECTIONS:
        yield from (f"{name}.{key}" for key in type(sections[name]).model_fields if f"{name}.{key}" not in FIXED_KEYS)
    yield from MORE_KEYS


def _check_combinations(space: Mapping[str, Dimension], sections: Sections) -> None:
    """Values may each be right and refuse each other, as loss focal does label smoothing."""
    if math.prod(len(dimension.ends) for dimension in space.values()) > MAX_COMBINATIONS:
        raise ValueError(
            f"space: its {len(space)} keys have more than {MAX_COMBINATIONS} combinations of ends and choices, "
            "too many for a small search: leave some out"
        )
    for ends in itertools.product(*(dimension.ends for dimension in space.values())):
        values = dict(zip(space, ends, strict=True))
        try:
            replaced(sections, values)
        except ValidationError as error:
            told = ", ".join(f"{key} {value}" for key, value in values.items())
            message = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            raise ValueError(f"space: {told}: {message}") from None
