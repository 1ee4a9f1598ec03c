"""Environment variables that must stand before torch loads; what the user has set stays."""

from __future__ import annotations

import os

DEFAULTS = {
    # Spinning threads of two libraries on few cores cost a factor of ten, so idle threads sleep,
    "OMP_WAIT_POLICY": "PASSIVE",
    # but only after some tens of microseconds (libgomp's count): a step of a small network has a thousand parallel
    # regions, and waking a sleeping thread for each costs a quarter of it (benchmarks/RESULTS.md).
    "GOMP_SPINCOUNT": "20000",
}


def set_defaults() -> None:
    """Set what is not set. Must run before torch is imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
