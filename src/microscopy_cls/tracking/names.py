"""Names and values that every MLflow store accepts."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeVar

Value = TypeVar("Value")

MAX_NAME = 240  # MLflow's limit is 250 characters; ten are kept for the mark that tells colliding names apart
MAX_PARAM_VALUE = 6000
MAX_TAG_VALUE = 5000

# MLflow takes letters, digits, `_`, `-`, `.`, space and `/`, and the colon everywhere but on Windows.
_REFUSED = re.compile(r"[^\w.\- /]")
_PATHLIKE = {"", ".", ".."}


def safe_name(name: str) -> str:
    """`name` with what MLflow refuses replaced by `_`: characters such as `(`, `)`, `&`, parts of a path, length."""
    parts = _REFUSED.sub("_", name).split("/")
    return "/".join("_" if part in _PATHLIKE else part for part in parts)[:MAX_NAME]


def safe_keys(values: Mapping[str, Value]) -> dict[str, Value]:
    """The same values under safe names; different names stay different, whatever their order."""
    safe = {name: safe_name(name) for name in values}
    shared = {form for form, count in Counter(safe.values()).items() if count > 1}
    marked = {name: _marked(name, form) if form in shared and form != name else form for name, form in safe.items()}
    return {marked[name]: value for name, value in values.items()}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as `section.key: text`; an empty mapping stays as `{}`."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def shorten(text: str, limit: int) -> str:
    """`text`, cut with an ellipsis to at most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _marked(name: str, form: str) -> str:
    return f"{form}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
