"""One YAML file = one experiment, complete: typed, frozen, validated when loaded."""

from microscopy_cls.config.load import load_config, to_yaml
from microscopy_cls.config.paths import Paths
from microscopy_cls.config.schema import Config

__all__ = ["Config", "Paths", "load_config", "to_yaml"]
