"""YAML and `--set section.key=value` to a `Config`, with errors that name the key and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from microscopy_cls.config.schema import Config
from microscopy_cls.errors import ConfigError


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader, which by itself lets the second of two equal keys win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a mapping that has a key twice."""
        keys = [key.value for key, _ in node.value]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read and validate one configuration file.

    Args:
        path: YAML file, UTF-8.
        overrides: `section.key=value`, the value in YAML; later ones win.

    Raises:
        ConfigError: the file is missing or no YAML, a key is unknown, or a value does not fit.
    """
    values = read_yaml(path)
    for override in overrides:
        _apply(values, override)
    unknown = unknown_keys(values, Config)
    if unknown:
        raise ConfigError(f"{path}: " + "; ".join(unknown))
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(sentences(error, "config", _PARTS))) from None


def to_yaml(config: Config) -> str:
    """The resolved configuration, every key present, as YAML text."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_yaml(
    path: Path,
    advice: str = "`microscopy-cls init DIR` writes a config for it",
    content: str = "sections (name, data, folds, ...), see configs/",
) -> dict[str, Any]:
    """The mapping in a YAML file.

    Args:
        advice: where such files come from, for the message when there is none.
        content: what is mapped, for the message when nothing is.

    Raises:
        ConfigError: the file is missing, no YAML, or no mapping; or a key stands there twice.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)  # noqa: S506  a safe loader
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file. {advice}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: should be a mapping of {content}")
    return values


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override}: write it as section.key=value, for example finetune.epochs=5")
    *sections, last = key.strip().split(".")
    place = values
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {override}: {section} is a value, not a section")
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: the value is not valid YAML; quote it") from None


def unknown_keys(values: Mapping[str, Any], section: type[BaseModel], prefix: str = "") -> list[str]:
    """A sentence for each key that the schema does not have, with the nearest one it has."""
    found = []
    for key, value in values.items():
        field = section.model_fields.get(str(key))
        if field is None:
            found.append(f"unknown key {prefix}{key}{_suggestion(prefix, str(key))}")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and isinstance(value, dict):
            found += unknown_keys(value, field.annotation, f"{prefix}{key}.")
    return found


def _suggestion(prefix: str, key: str) -> str:
    """The nearest key of the same section, or else of any section, or else all keys of the section."""
    known = all_keys(Config)
    here = {name.removeprefix(prefix): name for name in known if name.startswith(prefix)}
    here = {end: name for end, name in here.items() if "." not in end}
    anywhere = {name.rpartition(".")[2]: name for name in known}
    for names, cutoff in ((here, 0.6), (anywhere, 0.75)):
        if near := difflib.get_close_matches(key, names, n=1, cutoff=cutoff):
            return f" (did you mean {names[near[0]]}?)"
    return f" (known here: {', '.join(sorted(here))})"


def all_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted key of the schema, sections included."""
    keys = []
    for name, field in section.model_fields.items():
        keys.append(f"{prefix}{name}")
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += all_keys(field.annotation, f"{prefix}{name}.")
    return keys


def sentences(error: ValidationError, whole: str, known: Container[str] | None = None) -> list[str]:
    """One sentence a key; a key whose type is a union fails once a member, which is told once.

    Args:
        whole: what is named where a problem is of no single key.
        known: parts of keys, without what pydantic adds for the members of unions; None where there are no unions.
    """
    by_key: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        parts = [str(part) for part in problem["loc"]]
        key = ".".join(part for part in parts if known is None or part in known) or whole
        given = "" if problem["type"] in {"missing", "value_error"} else f" (given: {problem['input']!r})"
        message = "should be a section, with its keys below it" if problem["type"] == "model_type" else problem["msg"]
        by_key.setdefault(key, []).append(message.removeprefix("Value error, ") + given)
    return [f"{key}: {' or '.join(dict.fromkeys(messages))}" for key, messages in by_key.items()]


_PARTS = {part for key in all_keys(Config) for part in (key, *key.split("."))}  # those of search.space are dotted
