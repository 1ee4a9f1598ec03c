"""Tiny evaluated runs in the working directory: drawn images, random networks, their true out-of-fold answers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.numpy import save_file

from microscopy_cls.config import Config, Paths
from microscopy_cls.config.identity import trained_settings
from microscopy_cls.dataset.cache import open_pixels
from microscopy_cls.dataset.manifest import manifest_digest, trainable
from microscopy_cls.dataset.prepare import prepare
from microscopy_cls.evaluation.evaluate import evaluate
from microscopy_cls.model import get_model
from microscopy_cls.model.answers import torch_answers
from microscopy_cls.model.bundle import WITHOUT_FOLD
from microscopy_cls.model.doubt import softmax
from microscopy_cls.model.graph import Graph
from microscopy_cls.model.members import save_weights
from microscopy_cls.model.preprocess import Normalise
from microscopy_cls.system.files import read_json, write_json
from microscopy_cls.tracking import NullTracker

ARCHITECTURE = "test_resnet"
CLASSES = ["alga", "yeast"]
SPREAD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def draw(num_train: int = 6, num_test: int = 3) -> None:
    """Slides of three images of each class, darker and lighter on the whole, and a table that divides the slides."""
    rng, rows = np.random.default_rng(0), []
    for slide in range(num_train + num_test):
        for kind, label in enumerate(CLASSES):
            for i in range(3):
                path = Path(f"raw/{label}_{slide}_{i}.png")
                path.parent.mkdir(exist_ok=True)
                pixels = rng.normal(rng.normal(110 + 30 * kind, 30), 40, (16, 16, 3))
                Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
                rows.append((path.name, label, f"s{slide}", "train" if slide < num_train else "test"))
    pd.DataFrame(rows, columns=["path", "label", "group", "split"]).to_csv("table.csv", index=False)


def config_of(name: str, *, split: bool = True, **sections: Any) -> Config:
    columns = {"group": "group", "split": "split"} if split else {"group": "group"}
    values = {
        "name": name,
        "data": {"root": "raw", "table": "table.csv", "columns": columns},
        "folds": {"num": 2},
        "model": {"name": ARCHITECTURE, "weights": "none", "image_size_px": 32},
        "evaluate": {"bootstrap_samples": 100},
        "tracking": {"mlflow": False},
    }
    return Config.model_validate(values | sections)


def network_of(seed: int) -> torch.nn.Module:
    """Random weights, and statistics as after training: fresh ones give all images nearly the same answer."""
    torch.manual_seed(seed)
    network = get_model(ARCHITECTURE, 2, "none")
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)
            module.momentum = None
    with torch.no_grad():
        network.train()(torch.from_numpy(np.random.default_rng(1).normal(size=(64, 3, 32, 32))).float())
        network.get_classifier().weight.normal_(std=0.3)
    return network.eval()


def finish(config: Config, *seeds: int) -> Paths:
    """Prepare, put the networks of these seeds in the place of trained members, and evaluate."""
    paths = Paths(config.name)
    manifest = prepare(config, paths).manifest
    rows, pixels = trainable(manifest), open_pixels(paths.prepared)
    answers: list[Any] = [np.empty((len(rows), 2), np.float32), None]
    for fold, seed in enumerate(seeds):
        network = network_of(seed)
        paths.members.mkdir(parents=True, exist_ok=True)
        save_weights(paths.members / f"fold_{fold}.safetensors", network.state_dict())
        inside = (rows["fold"] == fold).to_numpy()
        for place, found in enumerate(torch_answers(Graph(network, Normalise(*SPREAD)), pixels[rows.index[inside]])):
            answers[place] = np.empty((len(rows), found.shape[1]), np.float32) if place and not fold else answers[place]
            answers[place][inside] = found
    _write(paths, rows, *answers)
    identity = trained_settings(config) | {"manifest": manifest_digest(manifest), "weights": "none"}
    weights = {"source": "none", "mean": SPREAD[0], "std": SPREAD[1]}
    write_json(paths.runs / "run_state.json", {"identity": identity, "weights": weights, "git_commit": None})
    evaluate(config, paths, NullTracker(), read_json(paths.runs / "run_state.json"))
    return paths


def hide_behind_a_refit(name: str) -> None:
    """What `evaluate.bundle: refit` leaves: the folds' bundle beside the run, one member of all images in its place."""
    paths = Paths(name)
    shutil.copytree(paths.bundle, paths.tested)
    path = paths.bundle / "bundle.json"
    content = read_json(path)
    member = content["members"][0] | {"fold": WITHOUT_FOLD, "file": "member_refit.safetensors"}
    write_json(path, content | {"members": [member]})


def _write(paths: Paths, rows: pd.DataFrame, logits: np.ndarray, features: np.ndarray) -> None:
    probs = softmax(logits.astype(np.float64))
    oof = rows[["image_id", "fold", "label"]].reset_index(drop=True)
    oof["predicted"] = np.array(CLASSES, object)[probs.argmax(1)]
    oof.join(pd.DataFrame(probs, columns=[f"prob_{name}" for name in CLASSES])).to_parquet(paths.oof)
    save_file({"logits": logits}, paths.runs / "oof_logits.safetensors")
    save_file({"features": features}, paths.runs / "oof_features.safetensors")
    curve = {"fold": [0, 1], "epoch": [0, 0], "train_loss": [0.7, 0.6], "val_loss": [0.7, 0.7]}
    pd.DataFrame(curve | {"val_f1_macro": [0.5, 0.5], "chosen": [1, 1]}).to_csv(paths.curves, index=False)
