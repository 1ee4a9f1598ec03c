"""Text to take away: a method paragraph for a paper, and a model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from microscopy_cls.config import Config
from microscopy_cls.reporting.external import external_test
from microscopy_cls.reporting.inputs import Inputs
from microscopy_cls.reporting.numbers import PERCENT, Estimate, count, counted, finite, named
from microscopy_cls.reporting.verdict import VerdictBox

NAMED_VERSIONS = ("microscopy-cls", "python", "torch", "timm", "scikit-learn")
NUM_NAMED = 20  # classes that the card lists
STRATEGIES = {
    "full": "", "head_then_full": ", beginning with the classifier of a linear probe,",
    "gradual": ", unfrozen stage by stage from the classifier downwards,",
}  # fmt: skip
INTENDED = "Research: sorting images made and labelled as the training images were; a person looks at what is referred."
NOT_INTENDED = [
    "Diagnosis, or any decision about a person. This is research software, no medical device.",
    "Images of another kind, instrument or preparation, before they were tested.",
]


def method(config: Config, inputs: Inputs) -> str:
    """The paragraph: data, model, protocol, figures, software. Only what the files say."""
    sentences = [
        _data(inputs), _model(config, inputs), _protocol(config, inputs), _result(inputs), *_trust(inputs.metrics),
        _external(inputs.metrics), _software(inputs),
    ]  # fmt: skip
    return " ".join(sentence for sentence in sentences if sentence)


def _data(inputs: Inputs) -> str:
    of = f" from {counted(int(inputs.metrics.get('num_groups') or 0), 'group')}" if inputs.grouped else ""
    num_aside = int((inputs.manifest["status"] != "ok").sum())
    aside = (
        f"; {counted(num_aside, 'further file')} {'was' if num_aside == 1 else 'were'} set aside" if num_aside else ""
    )
    return f"We classified {counted(inputs.num_images, 'image')}{of} into {len(inputs.classes)} classes{aside}."


def _model(config: Config, inputs: Inputs) -> str:
    weights, tune = inputs.run_state.get("weights") or {}, config.finetune
    start = weights.get("tag") or weights.get("location") or config.model.weights
    started = "trained from random weights" if config.model.weights == "none" else f"fine-tuned from {start} weights"
    side, batch = config.model.image_size_px, inputs.run_state.get("batch_size")
    if tune.strategy == "probe":
        frozen = "random weights" if config.model.weights == "none" else f"{start} weights"
        return (
            f"Features of a {config.model.title} with {frozen}, left as they are, on inputs of {side} × {side} pixels "
            f"were classified by multinomial logistic regression with an L2 penalty (seed {config.runtime.seed})."
        )
    batches = f" in batches of {batch}" if batch else ""
    return (
        f"A {config.model.title} was {started} on inputs of {side} × {side} pixels for {counted(tune.epochs, 'epoch')}"
        f"{STRATEGIES[tune.strategy]}{batches} (AdamW, peak learning rate {tune.peak_rate:g} with cosine decay, "
        f"weight decay {tune.weight_decay:g}, label smoothing {tune.label_smoothing:g}, {config.augment.preset} "
        f"augmentation at strength {config.augment.strength:g}; seed {config.runtime.seed})."
    )


def _protocol(config: Config, inputs: Inputs) -> str:
    folds, fraction = int(inputs.metrics.get("num_folds") or config.folds.num), config.finetune.validation_fraction
    copies = "cluster of copies" if config.folds.group_near_duplicates else "exact copy"
    apart = f"no group or {copies} in two folds" if inputs.grouped else f"no {copies} in two folds"
    own_copy = "copy of it" if config.folds.group_near_duplicates else "exact copy of it"
    unit = "image of its group" if inputs.grouped else own_copy
    chosen = f"on {100 * fraction:g}{PERCENT} of its training images" if fraction else "beforehand"
    setting = "number of epochs"
    if config.finetune.strategy == "probe":
        setting, chosen = "penalty", "by inner folds of its training images"
    return (
        f"Performance was estimated by stratified {folds}-fold cross-validation with {apart}: each image was predicted "
        f"once, by a model that had seen no {unit}. "
        f"The {setting} was chosen {chosen}, never on the fold reported."
    )


def _result(inputs: Inputs) -> str:
    metrics, interval = inputs.metrics, inputs.metrics.get("interval") or {}
    accuracy = Estimate.read(metrics.get("accuracy"), "percent").full
    f1, auroc = (Estimate.read(metrics.get(key), "decimal").full for key in ("f1_macro", "auroc_macro"))
    resamples = f"{count(int(interval['resamples']))} " if interval.get("resamples") else ""
    level = f"{100 * (finite(interval.get('level')) or 0.95):g}{PERCENT}"
    unit = "groups" if inputs.grouped else "images"
    return (
        f"Accuracy was {accuracy}, macro F1 {f1} and macro AUROC {auroc}; these are {level} intervals from {resamples}"
        f"bootstrap resamples of {unit}, and all figures are computed from all predictions at once."
    )


def _trust(metrics: Mapping[str, Any]) -> list[str]:
    sentences = []
    calibration, sets = metrics.get("calibration") or {}, metrics.get("conformal") or {}
    if calibration.get("ece_after") and calibration.get("method") != "none":
        before, after = (Estimate.read(calibration[key], "decimal").full for key in ("ece_before", "ece_after"))
        sentences.append(
            f"Probabilities were calibrated ({calibration.get('method')} scaling, fitted on the other folds): the "
            f"expected calibration error changed from {before} to {after}."
        )
    if sets.get("coverage"):
        covered = Estimate.read(sets["coverage"], "percent").full
        target = 100 * (finite(sets.get("target_coverage")) or 0)
        sentences.append(
            f"Class-wise conformal prediction sets aimed at {target:g}{PERCENT} coverage and reached {covered}."
        )
    return sentences


def _external(metrics: Mapping[str, Any]) -> str:
    found = external_test(metrics)
    if found is None:
        return ""
    which = "an external test set" if found.elsewhere else "a test split"
    return f"On {which} ({found.size}) the accuracy was {found.figures[0].outside.full}."


def _software(inputs: Inputs) -> str:
    versions = inputs.run_state.get("versions") or {}
    found = [f"{name} {versions[name]}" for name in NAMED_VERSIONS if name in versions]
    return f"Software: {', '.join(found)}." if found else ""


def model_card(config: Config, inputs: Inputs, box: VerdictBox) -> list[tuple[str, list[str]]]:
    """Headings, each with its sentences."""
    folds, side = int(inputs.metrics.get("num_folds") or config.folds.num), config.model.image_size_px
    licence = (inputs.run_state.get("weights") or {}).get("licence") or "not stated, or random weights"
    model = [
        f"{config.model.title}, one member per fold ({folds}); input {side} × {side} pixels.",
        f"Licence of the weights it started from: {licence}.",
    ]
    return [
        ("Model", model),
        ("Intended use", [INTENDED]),
        ("Not intended for", NOT_INTENDED),
        ("Training data", _training_data(config, inputs)),
        ("Figures", box.may),
        ("Not shown by the figures", box.may_not),
        ("Checks", [f"{light.title}: {light.word}. {light.reason}" for light in box.lights]),
    ]


def _training_data(config: Config, inputs: Inputs) -> list[str]:
    classes = ", ".join(map(named, inputs.classes[:NUM_NAMED]))
    more = f" and {len(inputs.classes) - NUM_NAMED} more" if len(inputs.classes) > NUM_NAMED else ""
    source = config.data.table or config.data.root
    told = [
        f"{counted(inputs.num_images, 'image')} under {source}, classes: {classes}{more}.",
        f"Manifest (SHA-256): {inputs.manifest_sha256}.",
    ]
    return [config.data.notice, *told] if config.data.notice else told
