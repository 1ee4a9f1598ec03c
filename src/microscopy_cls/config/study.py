"""A study: one question, asked by training the same images with a few variants of a config."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from microscopy_cls.config.identity import trained_settings
from microscopy_cls.config.load import load_config, read_yaml, sentences, unknown_keys
from microscopy_cls.config.schema import NAME_PATTERN, Config
from microscopy_cls.config.section import Section
from microscopy_cls.errors import ConfigError

NO_REFIT = "evaluate.bundle=folds"  # a study compares what was tested, and keeps no model

Name = Annotated[str, Field(pattern=NAME_PATTERN)]  # becomes a part of folders' names


def _without_sections(keys: dict[str, Any]) -> dict[str, Any]:
    for key, value in keys.items():
        if isinstance(value, dict):
            raise ValueError(f"{key}: would replace the whole section; write its keys with a dot, as in model.layers")
    return keys


Keys = Annotated[dict[str, Any], AfterValidator(_without_sections)]


class Variant(Section):
    """One of the things compared."""

    name: Name = Field(description="names its run")
    set: Keys = Field(description="dotted keys of the config and their values")


class Claim(Section):
    """What the source says, so that it can be tested: one variant is better than each of some others."""

    sentence: str = Field(description="in words")
    better: Name = Field(description="name of a variant")
    than: tuple[Name, ...] = Field(min_length=1, description="names of variants")


class Study(Section):
    """The content of a file of `configs/studies/`."""

    name: Name = Field(description="names folders, together with the config's name")
    question: str = Field(description="one sentence")
    source: str = Field(description="the paper")
    claim: Claim = Field(description="what the paper found")
    set: Keys = Field({}, description="dotted keys of the config and their values, for all variants")
    variants: tuple[Variant, ...] = Field(min_length=2, description="the first is what the others are measured against")

    @field_validator("variants")
    @classmethod
    def _are_told_apart(cls, variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
        names = [one.name for one in variants]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]} stands there twice: give each variant a name of its own")
        return variants

    @model_validator(mode="after")
    def _claims_about_its_variants(self) -> Study:
        known = [one.name for one in self.variants]
        for name in (self.claim.better, *self.claim.than):
            if name not in known:
                raise ValueError(f"claim names {name}, but the variants are {', '.join(known)}")
        if self.claim.better in self.claim.than:
            raise ValueError(f"claim says that {self.claim.better} is better than itself")
        return self


def load_study(path: Path) -> Study:
    """Read and validate one study.

    Raises:
        ConfigError: the file is missing or no YAML, a key is unknown, or a value does not fit.
    """
    values = read_yaml(path, "configs/studies/ has some", "keys (name, question, source, claim, variants)")
    try:
        study = Study.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(sentences(error, "study"))) from None
    for where, keys in (("set", study.set), *((f"variants: {one.name}", one.set) for one in study.variants)):
        if unknown := unknown_keys(_nested(keys), Config):
            raise ConfigError(f"{path}: {where}: " + "; ".join(unknown))
    return study


def study_config(study: Study, config: Path, overrides: Sequence[str] = ()) -> Config:
    """What all variants share, named `<config>-<study>`: `config`, changed by the study's own set.

    Args:
        config: YAML file of the data set.
        overrides: `section.key=value`; these win over the study. None asks for a refit.

    Raises:
        ConfigError: as `load_config`.
    """
    loaded = load_config(config, [*_as_overrides(study.set), *overrides, NO_REFIT])
    return loaded.model_copy(update={"name": f"{loaded.name}-{study.name}"})


def variant_configs(study: Study, config: Path, overrides: Sequence[str] = ()) -> dict[str, Config]:
    """The configs that a study trains, by the variant's name: `study_config`, changed by the variant.

    All are of the same images in the same folds; each is named `<config>-<study>-<variant>`.

    Raises:
        ConfigError: as `load_config`; or a variant has images or folds of its own, or is the same as another one.
    """
    shared = study_config(study, config, overrides)
    found: dict[str, Config] = {}
    for variant in study.variants:
        loaded = load_config(config, [*_as_overrides({**study.set, **variant.set}), *overrides, NO_REFIT])
        found[variant.name] = loaded.model_copy(update={"name": f"{shared.name}-{variant.name}"})
    _check_comparable(study, shared, found)
    return found


def _as_overrides(keys: Keys) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in keys.items()]


def _check_comparable(study: Study, shared: Config, configs: Mapping[str, Config]) -> None:
    trained: dict[str, dict[str, Any]] = {}
    for name, config in configs.items():
        if _images_of(config) != _images_of(shared):
            raise ConfigError(
                f"study {study.name}: {name} has images or folds of its own. Set data, folds, evaluate, "
                "model.image_size_px and model.resize for all variants alike, in the study's own set"
            )
        settings = trained_settings(config)
        for other in (other for other, same in trained.items() if same == settings):
            raise ConfigError(
                f"study {study.name}: {other} and {name} are trained alike. Check what the variants set, and --set, "
                "which wins over it"
            )
        trained[name] = settings


def _images_of(config: Config) -> dict[str, Any]:
    """What decides which images are read how, divided, and judged."""
    sections = config.model_dump(mode="json", include={"data", "folds", "evaluate"})
    return {**sections, **config.model_dump(mode="json", include={"model": {"image_size_px", "resize"}})}


def _nested(keys: Keys) -> dict[str, Any]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`."""
    nested: dict[str, Any] = {}
    for key, value in keys.items():
        *sections, last = key.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return nested
