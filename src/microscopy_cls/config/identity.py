"""Which settings decide the result of a training."""

from __future__ import annotations

from typing import Any

from microscopy_cls.config.schema import Config


def trained_settings(config: Config) -> dict[str, Any]:
    """What decides the result. Where it runs, is logged, or how it is evaluated does not: a night of training is
    not thrown away because MLflow was switched off. Nor does the number of repeats, which only adds folds to those that
    are there. The images themselves are identified by their manifest.
    """
    values = config.model_dump(
        mode="json",
        include={"folds", "model", "finetune", "augment", "search"},
        exclude={"folds": {"repeats"}},
    )
    if not config.search.trials:
        values["search"] = {}  # a space that is noted for later decides nothing
    return {**values, "runtime": {"seed": config.runtime.seed, "precision": config.runtime.precision}}


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """A phrase for each dotted key whose value differs."""
    old, new = _flat(before), _flat(after)
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return [f"{key} {_short(old.get(key))} -> {_short(new.get(key))}" for key in keys]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "..."
