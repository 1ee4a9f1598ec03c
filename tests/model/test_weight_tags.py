"""The table of free weights agrees with the timm that is installed."""

from __future__ import annotations

import pytest
import timm  # noqa: TID251
from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg  # noqa: TID251

from microscopy_cls.model.tags import FREE_NEIGHBOURS, FREE_WEIGHTS, is_non_commercial

CHOSEN = {name: free for name, free in FREE_WEIGHTS.items() if free}


def test_every_resnext_of_timm_stands_in_the_table() -> None:
    assert {name for name in timm.list_models() if "resnext" in name} <= set(FREE_WEIGHTS)


@pytest.mark.parametrize("name", CHOSEN)
def test_each_chosen_tag_exists_is_free_and_knows_imagenet(name: str) -> None:
    free = CHOSEN[name]
    published = get_pretrained_cfg(f"{name}.{free.tag}")
    assert published.has_weights
    assert not free.tag.startswith("fb_")
    assert free.licence == published.license
    assert not is_non_commercial(free.licence)
    assert published.num_classes == 1000
    assert (published.test_input_size or published.input_size)[1] == free.tested_at_px


def test_only_architectures_without_any_free_tag_have_none() -> None:
    for name in set(FREE_WEIGHTS) - set(CHOSEN):
        published = [cfg for cfg in get_arch_pretrained_cfgs(name).values() if cfg.has_weights]
        assert all(is_non_commercial(cfg.license) for cfg in published)


def test_each_architecture_without_free_weights_has_a_neighbour_with_some() -> None:
    assert set(FREE_NEIGHBOURS) == set(FREE_WEIGHTS) - set(CHOSEN)
    assert set(FREE_NEIGHBOURS.values()) <= set(CHOSEN)


@pytest.mark.parametrize(
    ("licence", "forbidden"),
    [
        ("cc-by-nc-4.0", True),
        ("cc-by-nc-sa-4.0", True),
        ("fair-noncommercial-research-license", True),
        ("apple-amlr", True),
        ("seer-license", True),
        ("apache-2.0", False),
        ("bsd-3-clause", False),
        ("cc-by-4.0", False),
        ("mit", False),
        (None, False),
    ],
)
def test_licences_that_forbid_commercial_use_are_told_apart(licence: str | None, forbidden: bool) -> None:
    assert is_non_commercial(licence) is forbidden
