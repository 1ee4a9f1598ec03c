from __future__ import annotations

import pytest

from microscopy_cls.tracking import safe_name
from microscopy_cls.tracking.names import MAX_NAME, flatten, safe_keys, shorten


@pytest.mark.parametrize("name", ["val_f1_macro", "f1_class_Staphylococcus aureus", "f1/größe", "a.b-c", "1"])
def test_a_name_that_mlflow_takes_stays_as_it_is(name):
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("f1 (mild) & more", "f1 _mild_ _ more"),
        ("f1:a", "f1_a"),
        ("../secret", "_/secret"),
        ("/a//b/", "_/a/_/b/_"),
        ("", "_"),
        ("x" * 1000, "x" * MAX_NAME),
    ],
)
def test_what_mlflow_refuses_is_replaced(name, safe):
    assert safe_name(name) == safe


def test_names_that_would_collide_are_kept_apart_whatever_their_order():
    values = {"f1_(a)": 1, "f1_[a]": 2, "f1__a_": 3, "f1_b": 4}
    safe = safe_keys(values)
    assert sorted(safe.values()) == [1, 2, 3, 4]
    assert safe["f1__a_"] == 3
    assert safe["f1_b"] == 4
    assert safe == safe_keys(dict(reversed(values.items())))


def test_long_names_that_begin_alike_are_kept_apart_within_the_limit():
    safe = safe_keys({"x" * 300: 1, "x" * 301: 2})
    assert len(safe) == 2
    assert max(map(len, safe)) <= 250


def test_nested_params_become_dotted_texts():
    params = {"name": "demo", "model": {"mean": (0.5, 0.5), "weights": None}, "columns": {}}
    assert flatten(params) == {
        "name": "demo",
        "model.mean": "(0.5, 0.5)",
        "model.weights": "None",
        "columns": "{}",
    }


def test_only_too_long_texts_are_cut_and_show_it():
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdef", 5) == "abcd…"
