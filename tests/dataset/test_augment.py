"""An augmented image differs by image, epoch and seed, by nothing else, and only in ways that its modality allows."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

import microscopy_cls
from microscopy_cls.config.schema import Preset
from microscopy_cls.dataset.augment import REASONS, Augmenter, item_seed
from microscopy_cls.errors import ConfigError

PRESETS: tuple[Preset, ...] = get_args(Preset)
RANDOM_PRESETS = [preset for preset in PRESETS if preset != "none"]
SIZE_PX = 40


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (SIZE_PX, SIZE_PX, 3), dtype=np.uint8)


@pytest.fixture
def corner() -> NDArray[np.uint8]:
    """Bright in the upper left quarter alone: every flip and quarter turn moves it to another corner."""
    image = np.full((SIZE_PX, SIZE_PX, 3), 40, np.uint8)
    image[: SIZE_PX // 2, : SIZE_PX // 2] = 200
    return image


def brightest_corner(image: NDArray[np.uint8]) -> tuple[str, str]:
    half = SIZE_PX // 2
    corners = {
        (rows, columns): image[slice(*vertical), slice(*horizontal)].mean()
        for rows, vertical in (("upper", (0, half)), ("lower", (half, SIZE_PX)))
        for columns, horizontal in (("left", (0, half)), ("right", (half, SIZE_PX)))
    }
    return max(corners, key=lambda corner: float(corners[corner]))


# Seeds


def test_seeds_differ_between_runs_epochs_and_images_and_fit_into_32_bits() -> None:
    seeds = [item_seed(seed, epoch, f"a/{i}.png") for seed in range(5) for epoch in range(20) for i in range(20)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_seeds_are_the_same_in_every_process_and_version() -> None:
    """A resumed run must draw what the interrupted one would have drawn."""
    assert item_seed(0, 0, "a.png") == 3055801642
    assert item_seed(1, 11, "ä") != item_seed(11, 1, "ä")


# Presets


def test_every_preset_has_its_reason() -> None:
    assert set(REASONS) == set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size_px", [32, 45])
def test_shape_and_type_are_kept(preset: Preset, size_px: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
    augment = Augmenter(preset, size_px)
    for seed in range(20):
        changed = augment(image, seed)
        assert changed.shape == image.shape
        assert changed.dtype == np.uint8


@pytest.mark.parametrize("preset", PRESETS)
def test_the_same_seed_gives_the_same_change_whatever_was_drawn_before(
    preset: Preset, pixels: NDArray[np.uint8]
) -> None:
    augment, other = Augmenter(preset, SIZE_PX), Augmenter(preset, SIZE_PX)
    first = [augment(pixels, seed) for seed in range(20)]
    again = [other(pixels, seed) for seed in reversed(range(20))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_the_generators_of_others_are_neither_used_nor_changed(pixels: NDArray[np.uint8]) -> None:
    augment = Augmenter("brightfield", SIZE_PX)
    np.random.seed(1)
    first, state = augment(pixels, 3), np.random.get_state()[1]
    np.random.seed(2)
    assert np.array_equal(augment(pixels, 3), first)
    np.random.seed(1)
    assert np.array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("preset", RANDOM_PRESETS)
def test_two_seeds_never_give_the_same_change(preset: Preset, pixels: NDArray[np.uint8]) -> None:
    augment = Augmenter(preset, SIZE_PX)
    assert len({augment(pixels, seed).tobytes() for seed in range(50)}) == 50


@pytest.mark.parametrize("preset", PRESETS)
def test_the_image_given_is_not_written_to_even_when_it_may_not_be(preset: Preset, pixels: NDArray[np.uint8]) -> None:
    before = pixels.copy()
    pixels.flags.writeable = False
    for seed in range(10):
        Augmenter(preset, SIZE_PX)(pixels, seed)
    assert np.array_equal(pixels, before)


def test_none_changes_nothing(pixels: NDArray[np.uint8]) -> None:
    assert np.array_equal(Augmenter("none", SIZE_PX)(pixels, 1), pixels)


@pytest.mark.parametrize("preset", ["xray", "ct"])
def test_a_chest_is_never_flipped_or_turned(preset: Preset, corner: NDArray[np.uint8]) -> None:
    augment = Augmenter(preset, SIZE_PX)
    assert {brightest_corner(augment(corner, seed)) for seed in range(200)} == {("upper", "left")}


@pytest.mark.parametrize("preset", ["brightfield", "fluorescence"])
def test_a_cell_may_lie_in_any_orientation(preset: Preset, corner: NDArray[np.uint8]) -> None:
    augment = Augmenter(preset, SIZE_PX)
    assert len({brightest_corner(augment(corner, seed)) for seed in range(60)}) == 4


@pytest.mark.parametrize("preset", ["fluorescence", "xray", "ct"])
def test_colours_are_not_exchanged_where_they_are_channels_or_grey(preset: Preset) -> None:
    ramp = np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)
    ramp[..., 0], ramp[..., 1], ramp[..., 2] = 160, 90, 30
    augment = Augmenter(preset, SIZE_PX)
    for seed in range(50):
        red, green, blue = augment(ramp, seed).reshape(-1, 3).mean(0)
        assert red > green > blue


@pytest.mark.parametrize("preset", RANDOM_PRESETS)
def test_an_image_stays_recognisable(preset: Preset, corner: NDArray[np.uint8]) -> None:
    """Neither black nor white nor flat, whatever is drawn."""
    augment = Augmenter(preset, SIZE_PX)
    for seed in range(100):
        changed = augment(corner, seed)
        assert 20 < changed.mean() < 235
        assert changed.std() > 10


def test_one_module_alone_imports_albumentations() -> None:
    package = Path(microscopy_cls.__file__).parent
    importing = []
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        if any(name.partition(".")[0] == "albumentations" for name in names):
            importing.append(path.relative_to(package).as_posix())
    assert importing == ["dataset/augment.py"]


def test_strength_scales_the_change_and_zero_leaves_only_flips_and_turns() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    turned = {np.rot90(side, turns).tobytes() for side in (image, image[:, ::-1]) for turns in range(4)}
    still = Augmenter("brightfield", 32, 0.0)
    assert {still(image, seed).tobytes() for seed in range(20)} <= turned
    upright = [Augmenter("xray", 32, strength) for strength in (0.5, 1.0)]
    small, large = (
        np.mean([np.abs(one(image, seed) - image.astype(int)).mean() for seed in range(30)]) for one in upright
    )
    assert 0 < small < large


def test_without_albumentations_only_the_preset_that_changes_nothing_works(
    monkeypatch: pytest.MonkeyPatch, pixels: NDArray[np.uint8]
) -> None:
    monkeypatch.setitem(sys.modules, "albumentations", None)
    assert np.array_equal(Augmenter("none", SIZE_PX)(pixels, 0), pixels)
    message = r"augment.preset ct: needs albumentations, which is not installed. Install it with `pip .*preset to none."
    with pytest.raises(ConfigError, match=message):
        Augmenter("ct", SIZE_PX)
