"""Two classes of tiny pictures and a config that trains timm's test network on them: what tests of trainings share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from microscopy_cls.config import Config


def tiny_config(finetune: dict[str, Any], **sections: dict[str, Any]) -> Config:
    """One epoch on two folds, no image put aside, but for what is given."""
    base: dict[str, dict[str, Any]] = {
        "data": {"root": "raw", "group_regex": r"(g\d)"},
        "folds": {"num": 2},
        "model": {"name": "test_resnet", "weights": "none", "image_size_px": 32},
        "finetune": {"epochs": 1, "batch_size": 4, "validation_fraction": 0, "learning_rate": 1e-3},
        "tracking": {"mlflow": False},
        "runtime": {"device": "cpu", "precision": "fp32"},
    }
    given = {"finetune": finetune, **sections}
    return Config.model_validate(
        {"name": "tiny"} | {key: base.get(key, {}) | given.get(key, {}) for key in base | given}
    )


def draw_tiny(num: int, a_group: int, width_px: int = 32) -> None:
    """`num` pictures of each class below `raw`, the number of the group in the name; the same every time."""
    rng = np.random.default_rng(0)
    for name, level in {"dark": 60, "light": 180}.items():
        Path("raw", name).mkdir(parents=True)
        for number in range(num):
            pixels = np.clip(rng.normal(level, 30, (32, width_px, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(f"raw/{name}/g{number // a_group}_{number}.png", pixels)
