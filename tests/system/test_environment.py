"""Waiting threads: a default of ours, unless the user has another."""

import os

import pytest

from microscopy_cls.system import environment


def test_what_is_not_set_is_set_and_what_is_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    environment.set_defaults()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert os.environ["GOMP_SPINCOUNT"] == environment.DEFAULTS["GOMP_SPINCOUNT"]
