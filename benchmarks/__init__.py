"""Measurements. Each prints ratios taken in one run, because machines are noisy; figures stand in RESULTS.md."""

from microscopy_cls.system.environment import set_defaults

set_defaults()  # before any of them loads torch
