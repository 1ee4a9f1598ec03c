"""A tiny bundle with random members."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from microscopy_cls.images.appearance import NUM_NUMBERS
from microscopy_cls.model import get_model
from microscopy_cls.model.bundle import write_bundle
from microscopy_cls.model.doubt import Experience, Known, Usual
from microscopy_cls.model.graph import add_openvino
from microscopy_cls.model.members import save_weights

SIZE_PX = 32
INFO: dict[str, Any] = {
    "name": "tiny",
    "classes": ("dark", "light"),
    "architecture": "test_resnet",
    "weights": {},
    "preprocessing": {
        "size_px": SIZE_PX, "resize": "stretch", "intensity": "percentile", "page": 0, "max_pixels": 10_000,
        "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25),
    },
    "training_data": {},
    "metrics": {},
    "config": {"augment": {"preset": "brightfield"}},
    "versions": {},
}  # fmt: skip


def make_bundle(
    folder: Path,
    num_members: int = 2,
    *,
    graphs: bool = False,
    experience: dict[int, Experience] | None = None,
    **changes: Any,
) -> Path:
    """Write a bundle into `folder`; `changes` are fields of its description."""
    info = INFO | changes
    files = {}
    for fold in range(num_members):
        torch.manual_seed(fold)
        network = get_model(info["architecture"], len(info["classes"]), "none", **info.get("architecture_options", {}))
        _settle(network)
        files[fold] = folder.with_name(f"{folder.name}_{fold}.safetensors")
        save_weights(files[fold], network.state_dict())
    inputs = {"pixels": squares(40, seed=7), "folds": np.arange(40) % num_members}
    write_bundle(folder, info, files, inputs, experience=experience, **({"add_graphs": add_openvino} if graphs else {}))
    return folder


def some_experience(num_members: int, threshold: float = 0.9) -> dict[int, Experience]:
    """What members have seen where it does not matter what: random directions, and looks that flag nothing."""
    dim = get_model(INFO["architecture"], 2, "none").num_features + 1
    rng = np.random.default_rng(0)
    usual = Usual(np.zeros(NUM_NUMBERS), np.eye(NUM_NUMBERS), 1e3)
    return {
        fold: Experience(
            Known(0.9 * np.linalg.qr(rng.normal(size=(dim, dim // 4)))[0].T.astype(np.float32), 1.0, threshold), usual
        )
        for fold in range(num_members)
    }


@torch.no_grad()
def _settle(network: Any) -> None:
    """Statistics and a classifier as after training: fresh weights give all images nearly the same answer."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)
            module.momentum = None
    images = torch.from_numpy(squares(64)).permute(0, 3, 1, 2).float() / 64 - 2
    features = network.train().forward_head(network.forward_features(images), pre_logits=True)
    torch.nn.init.normal_(network.get_classifier().weight, std=float(1 / features.std(0).norm()))
    torch.nn.init.zeros_(network.get_classifier().bias)


def squares(num: int, seed: int = 0) -> np.ndarray:
    """Random images that differ in brightness, uint8 (num, SIZE_PX, SIZE_PX, 3)."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(30, 220, (num, 1, 1, 3))
    return np.clip(rng.normal(level, 40, (num, SIZE_PX, SIZE_PX, 3)), 0, 255).astype(np.uint8)
