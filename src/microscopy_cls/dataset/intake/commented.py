"""A configuration as YAML for people: every section, every key with its meaning, reasons where a choice was made."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel

from microscopy_cls.config import Config

WIDTH = 118  # columns


def commented_yaml(
    config: Config,
    header: Sequence[str] = (),
    reasons: Mapping[str, Sequence[str]] | None = None,
    examples: Mapping[str, Any] | None = None,
    hidden: Iterable[str] = (),
) -> str:
    """Write `config` so that a person can change it; `load_config` reads the same configuration back.

    Args:
        config: what to write.
        header: lines of the comment at the top, without `#`.
        reasons: sentences that stand above a key, by dotted key.
        examples: a value for keys that are null. Those are written as a comment, ready to be uncommented.
        hidden: dotted keys that are left out, because the default is all that fits here.
    """
    lines = [f"# {line}".rstrip() for line in header]
    lines += _section(config, "", reasons or {}, examples or {}, set(hidden))
    return "\n".join(lines) + "\n"


def _section(
    section: BaseModel, prefix: str, reasons: Mapping[str, Sequence[str]], examples: Mapping[str, Any], hidden: set[str]
) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    for name, field in type(section).model_fields.items():
        key = prefix + name
        if key in hidden:
            continue
        value = getattr(section, name)
        above = [line for reason in reasons.get(key, ()) for line in _wrapped(reason, indent)]
        if isinstance(value, BaseModel):
            title = field.description or (type(value).__doc__ or "").splitlines()[0]
            yield from ["", f"# {title}"] if not prefix else [f"{indent}# {title}"]
            yield from [*above, f"{indent}{name}:"]
            yield from _section(value, f"{key}.", reasons, examples, hidden)
        elif value is None:
            yield from [*above, _entry(f"{indent}# {name}", examples.get(key), field.description)]
        else:
            stored = section.model_dump(mode="json", include={name})[name]
            yield from [*above, _entry(f"{indent}{name}", stored, field.description)]


def _wrapped(sentence: str, indent: str) -> list[str]:
    return textwrap.wrap(sentence, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _entry(name: str, value: Any, description: str | None) -> str:
    """`name: value  # description`, the description on a line of its own above where it does not fit."""
    entry = f"{name}: {_inline(value)}" if value is not None else f"{name}:"
    if not description:
        return entry
    if len(entry) + 4 + len(description) <= WIDTH:
        return f"{entry}  # {description}"
    indent = name[: len(name) - len(name.lstrip())]
    return "\n".join([*_wrapped(description, indent), entry])


def _inline(value: Any) -> str:
    """A value in YAML on one line."""
    return yaml.safe_dump([value], default_flow_style=True, width=10**9, allow_unicode=True).strip()[1:-1]
