"""What all tests of trainings run under."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True)
def _without_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate collects garbage after each training, which takes longer than these trainings."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)
