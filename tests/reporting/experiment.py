"""A tiny finished experiment, written the way the stages write theirs, and the page that comes of it."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from microscopy_cls.config import Config, Paths
from microscopy_cls.dataset.manifest import manifest_digest, read_manifest
from microscopy_cls.reporting import write_report

SIDE_PX = 16
NUM_FOLDS = 3
SCORES = ("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "precision_macro", "recall_macro", "auroc_macro",
          "log_loss", "ece")  # fmt: skip
VOID = {"meta", "img", "br", "link", "input", "hr"}


def write_manifest(paths, classes, per_class, *, grouped=True, bad=()):
    """Files of every class in turn; `bad` gives (status, reason) for the first ones."""
    num = per_class * len(classes)
    labels = [classes[i % len(classes)] for i in range(num)]
    ids = [f"{label.replace('/', '_')}/{i:05d} <b>.png" for i, label in enumerate(labels)]
    groups = [f"slide {i // (2 * len(classes))}" for i in range(num)] if grouped else ids
    manifest = pd.DataFrame(
        {
            "image_id": ids, "path": [f"raw/{name}" for name in ids], "label": labels, "group": groups,
            "split_group": groups, "split": "train", "fold": [i // (2 * len(classes)) % NUM_FOLDS for i in range(num)],
            "sha256": "0" * 64, "status": "ok", "error": "", "width_px": 40, "height_px": 20, "channels": 3,
            "bit_depth": 8, "format": "PNG", "num_bytes": 100, "brightness": 120.0, "contrast": 30.0,
            "pixel_digest": "",
        }
    )  # fmt: skip
    for row, (status, reason) in enumerate(bad):
        manifest.loc[row, ["status", "error", "fold"]] = [status, reason, -1]
    paths.prepared.mkdir(parents=True, exist_ok=True)
    manifest.to_parquet(paths.manifest, index=False)
    pixels = np.random.default_rng(0).integers(0, 255, (num, SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
    np.save(paths.prepared / "pixels.npy", pixels)
    return manifest


def write_run(paths, manifest, classes, *, validated=True, num_wrong=5):
    """Predictions, curves and circumstances; the first `num_wrong` answers are the next class."""
    used = manifest[(manifest["status"] == "ok") & (manifest["split"] == "train")].reset_index(drop=True)
    truth = pd.Categorical(used["label"], categories=classes).codes
    picked = (truth + (np.arange(len(used)) < num_wrong)) % len(classes)
    probs = np.full((len(used), len(classes)), 0.3 / (len(classes) - 1))
    probs[np.arange(len(used)), picked] = 0.7
    oof = used[["image_id", "fold", "label"]].assign(predicted=np.array(classes, dtype=object)[picked])
    oof = oof.join(pd.DataFrame(probs, columns=[f"prob_{name}" for name in classes]))
    paths.runs.mkdir(parents=True, exist_ok=True)
    oof.to_parquet(paths.oof, index=False)
    value = 0.5 if validated else float("nan")
    rows = [
        {"fold": fold, "epoch": epoch, "train_loss": 1 / (1 + epoch), "val_loss": value, "val_accuracy": value,
         "val_f1_macro": value, "learning_rate": 1e-3, "images_per_second": 9.0, "chosen": int(epoch == 2)}
        for fold in range(NUM_FOLDS) for epoch in range(4)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(paths.curves, index=False)
    state = {"fingerprint": "ab" * 32, "device": "cpu", "precision": "fp32", "batch_size": 8, "num_threads": 2,
             "started": "2026-01-02T03:04:05+00:00", "seconds": 125.0, "versions": {"torch": "2.9"}, "git_commit": None,
             "weights": {"tag": "a1_in1k", "licence": "apache-2.0"},
             "identity": {"manifest": manifest_digest(read_manifest(paths.manifest))}}  # fmt: skip
    (paths.runs / "run_state.json").write_text(json.dumps(state))
    return truth, picked


def write_metrics(paths, classes, truth, picked, **changed):
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (truth, picked), 1)
    one = {"value": 0.8, "ci_low": 0.7, "ci_high": 0.9}
    figure = one | {"fold_values": [0.75, 0.8, 0.85]}
    metrics = {
        "name": paths.name, "classes": list(classes), "num_images": len(truth), "num_groups": 7, "num_folds": NUM_FOLDS,
        "interval": {"level": 0.95, "resamples": 1000, "unit": "group"}, "majority_accuracy": 0.4,
        **dict.fromkeys(SCORES, figure),
        "per_class": {
            name: {"num_images": int(counts[k].sum()), "num_groups": 5,
                   **dict.fromkeys(("precision", "recall", "f1", "auroc"), one)}
            for k, name in enumerate(classes)
        },
        "confusion_matrix": counts.tolist(),
    }  # fmt: skip
    if len(classes) == 2:
        rates = dict.fromkeys(("sensitivity", "specificity", "average_precision"), figure)
        metrics["binary"] = {"positive_class": classes[1], "threshold": 0.42, **rates}
    paths.metrics.parent.mkdir(parents=True, exist_ok=True)
    paths.metrics.write_text(json.dumps(metrics | changed))


def experiment(classes=("alga", "ciliate", "diatom"), per_class=8, *, validated=True, num_wrong=5, **manifest_options):
    """Write a whole experiment into the working directory."""
    paths, classes = Paths("tiny"), list(classes)
    manifest = write_manifest(paths, classes, per_class, **manifest_options)
    truth, picked = write_run(paths, manifest, classes, validated=validated, num_wrong=num_wrong)
    write_metrics(paths, classes, truth, picked)
    return paths


def config(**sections):
    data = {"root": "raw"} | sections.pop("data", {})
    return Config.model_validate({"name": "tiny", "data": data} | sections)


class Page(HTMLParser):
    """The parsed page: fails on an unbalanced tag, collects elements and text."""

    def __init__(self, text):
        super().__init__()
        self.text, self.open, self.elements, self.words = text, [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def shown(self):
        return re.sub(r"[\s\u202f]+", " ", " ".join(self.words))

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def report(paths, settings=None):
    return Page(write_report(settings or config(), paths).read_text(encoding="utf-8"))


def figure(value, low=None, high=None):
    return {
        "value": value,
        "ci_low": value - 0.1 if low is None else low,
        "ci_high": value + 0.1 if high is None else high,
    }


def complete(paths):
    """What a whole `evaluate` adds to the metrics file, about the images of this experiment."""
    metrics = json.loads(paths.metrics.read_text())
    oof = pd.read_parquet(paths.oof)
    classes, ids = metrics["classes"], list(oof["image_id"])
    audit = {
        "name": paths.name, "num_images": len(oof), "num_groups": 7, "grouped": True,
        "verdicts": {"duplicates": "fail", "leakage": "pass", "shortcuts": "warn", "quality": "pass"},
        "reasons": {"duplicates": "Copies.", "leakage": "No leak.", "shortcuts": "Size tells.", "quality": "Fine."},
        "duplicates": [ids[:2], ids[2:11]], "num_exact": 1, "num_near": 1,
        "clusters_across_groups": 1, "clusters_across_folds": 1,
        "conflicts": [{"image_ids": ids[:2], "labels": classes[:2]}],
        "mixed_groups": [{"group": "slide 0", "labels": dict.fromkeys(classes, 2)}],
        "leakage": {"random": figure(0.7), "grouped": figure(0.6), "inflation": figure(0.1, -0.02, 0.15),
                    "classifier": "nearest neighbour", "metric": "accuracy"},
        "shortcuts": _shortcuts(classes),
        "quality": {"blurred": ids[:9], "dark": [], "constant": ["gone.png"]}, "quality_share": 0.4,
    }  # fmt: skip
    wrong = oof[oof["label"] != oof["predicted"]]
    metrics |= {
        "audit": audit,
        "verdicts": audit["verdicts"] | {"calibration": "pass"},
        "reasons": audit["reasons"] | {"calibration": "Honest."},
        "label_errors": {"num": 30, "listed": [
            {"image_id": row["image_id"], "label": row["label"], "suggested": row["predicted"], "prob_label": 0.1,
             "prob_suggested": 0.7, "rank": rank} for rank, row in enumerate(wrong.to_dict("records"))
        ]},
        "external_test": {
            "source": "other <lab>", "num_images": 12, "num_groups": 4, "failed": 1, "accuracy": figure(0.6),
            "f1_macro": figure(0.5), "balanced_accuracy": figure(0.6), "ece": figure(0.2),
            "drop": {"accuracy": figure(0.2), "balanced_accuracy": figure(0.2), "f1_macro": figure(0.3)},
            "per_class": {name: {"recall": figure(0.6), "num_images": 4} for name in classes},
            "inside": {"accuracy": figure(0.81), "f1_macro": figure(0.8), "balanced_accuracy": figure(0.82),
                       "ece": figure(0.15), "per_class": {name: {"recall": figure(0.83)} for name in classes}},
        },
        "test_split": {
            "source": "split test of the data", "num_images": 6, "num_groups": 6, "failed": 0,
            "accuracy": figure(0.75), "f1_macro": figure(0.7), "balanced_accuracy": figure(0.75), "ece": figure(0.1),
            "drop": {name: figure(0.05) for name in ("accuracy", "balanced_accuracy", "f1_macro")}, "per_class": {},
        },
        **_trust(classes),
    }  # fmt: skip
    return metrics


def _shortcuts(classes):
    def family(accuracy, judged=True, verdict="pass"):
        skill = {"accuracy": figure(accuracy), "balanced_accuracy": figure(accuracy), "skill": figure(0.2)}
        return skill | {"ratio": 0.3, "judged": judged, "verdict": verdict if judged else None}

    return {
        "accuracy": figure(0.5), "balanced_accuracy": figure(0.5), "chance": 0.33, "p_value": 0.01,
        "skill": figure(0.2),
        "model": {"name": "model", "accuracy": figure(0.8), "skill": figure(0.7)}, "ratio": figure(0.45),
        "decisive": {"family": "size", "class": classes[0]},
        "by_family": {"size": family(0.5, verdict="warn"), "bytes": family(0.4), "grey": family(0.6, judged=False)},
        "top_features": [{"feature": "width", "family": "size", "importance": 0.3,
                          "told": f"width: wider in {classes[0]}."}],
        "thresholds": {"warn": 0.4, "fail": 0.8},
        "occlusion": {"whole": figure(0.8), "centre_hidden": figure(0.4), "border_hidden": figure(0.75)},
    }  # fmt: skip


def _trust(classes):
    bins = [
        {"confidence": c, "accuracy": c - 0.1, "ci_low": c - 0.2, "ci_high": c, "num_images": 9} for c in (0.5, 0.9)
    ]
    points = [
        {"coverage": c, "accuracy": 1 - c / 5, "ci_low": 0.6, "ci_high": 1.0, "min_confidence": 0.5} for c in (0.2, 1.0)
    ]
    return {
        "calibration": {
            "method": "temperature", "ece_before": figure(0.2), "ece_after": figure(0.15),
            "log_loss_before": figure(0.9),
            "log_loss_after": figure(0.8), "accuracy_after": figure(0.8), "temperatures": [0.7, 0.8, 1.1],
            "bins_before": bins, "bins_after": bins,
        },
        "conformal": {
            "target_coverage": 0.9, "coverage": figure(0.88),
            "coverage_per_class": dict.fromkeys(classes, figure(0.85)),
            "mean_set_size": figure(1.2), "set_sizes": {"1": 20, "0": 2, "2": 2}, "coarse_classes": classes[:1],
            "thresholds": dict.fromkeys(classes, 0.25), "num_calibration": dict.fromkeys(classes, 8),
        },
        "risk_coverage": {
            "points": points,
            "referred": {"share": figure(0.12), "accuracy_kept": figure(0.98, 0.9, 1.0),
                         "accuracy_referred": figure(0.5)},
        },
        "novelty": {
            "method": "mahalanobis", "threshold_share": 0.99,
            "false_alarms": figure(0.02, 0.0, 0.05),
            "auroc": {"noise": 0.99, "blank": 1.0, "text": 0.95},
            "flagged": {"noise": 1.0, "blank": 1.0, "text": 0.98},
        },
    }  # fmt: skip


def write_complete(paths, *, cams=True, **changed):
    """Complete the metrics file of an experiment; `changed` replaces or (None) removes entries."""
    metrics = complete(paths) | changed
    paths.metrics.write_text(json.dumps({key: value for key, value in metrics.items() if value is not None}))
    if cams:
        write_cams(paths)
    return paths


def write_cams(paths):
    """Evidence in the top left quarter for the first mistake, the first and the last right answer."""
    oof, manifest = pd.read_parquet(paths.oof), pd.read_parquet(paths.manifest)
    right = oof["label"] == oof["predicted"]
    chosen = [oof[~right]["image_id"].iloc[0], oof[right]["image_id"].iloc[0], oof[right]["image_id"].iloc[-1]]
    rows = np.array([list(manifest["image_id"]).index(one) for one in chosen], np.int64)
    cam = np.zeros((3, 4, 4), np.uint8)
    cam[:, :2, :2] = 255
    save_file({"rows": rows, "cam": cam, "kind": np.array([0, 1, 2])}, paths.reports / "cams.safetensors")
