"""Text to take away: a method paragraph for a paper, and a model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from microscopy_cls.config import Config
from microscopy_cls.reporting.external import outside_tests
from microscopy_cls.reporting.inputs import Inputs
from microscopy_cls.reporting.numbers import PERCENT, Estimate, count, counted, finite, named
from microscopy_cls.reporting.repeats import num_repeats
from microscopy_cls.reporting.together import gain, listed_runs, run_names
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
        _data(inputs), _model(config, inputs), _search(config), _protocol(config, inputs), _result(inputs),
        *_trust(inputs.metrics), *_outside(inputs.metrics), _software(inputs),
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
    if run_names(inputs.metrics):
        return f"Calibrated probabilities of several models were averaged, fold by fold: {listed_runs(inputs.metrics)}."
    weights, tune = inputs.run_state.get("weights") or {}, config.finetune
    start = weights.get("tag") or weights.get("location") or config.model.weights
    if weights.get("kind") == "file":  # where it lay is nobody's business in a paper
        start = Path(start).name
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


def _search(config: Config) -> str:
    search = config.search
    if not search.trials:
        return ""
    score = "macro F1" if search.score == "f1_macro" else "cross-entropy"
    return (
        f"Within each fold {', '.join(search.space)} {'was' if len(search.space) == 1 else 'were'} chosen by "
        f"{counted(search.trials, 'trial')} (tree-structured Parzen estimator, {score} on "
        f"{100 * search.validation_fraction:g}{PERCENT} of its training images), in place of the values above."
    )


def _protocol(config: Config, inputs: Inputs) -> str:
    folds, fraction = int(inputs.metrics.get("num_folds") or config.folds.num), config.finetune.validation_fraction
    copies = "cluster of copies" if config.folds.group_near_duplicates else "exact copy"
    apart = f"no group or {copies} in two folds" if inputs.grouped else f"no {copies} in two folds"
    own_copy = "copy of it" if config.folds.group_near_duplicates else "exact copy of it"
    unit = "image of its group" if inputs.grouped else own_copy
    chosen = f"on about {100 * fraction:g}{PERCENT} of its training images" if fraction else "beforehand"
    setting = "number of epochs"
    if config.finetune.strategy == "probe":
        setting, chosen = "penalty", "by inner folds of its training images"
    told = (
        f"Performance was estimated by {_scheme(config, folds)} with {apart}: each image was predicted "
        f"once, by a model that had seen no {unit}."
    )
    if run_names(inputs.metrics):
        return f"{told} All models had the same folds."
    return f"{told} The {setting} was chosen {chosen}, never on the fold reported.{_repeated(inputs.metrics)}"


def _scheme(config: Config, folds: int) -> str:
    if config.folds.scheme == "leave_one_group_out":
        return f"leave-one-group-out cross-validation ({folds} folds)"
    return f"stratified {folds}-fold cross-validation"


def _repeated(metrics: Mapping[str, Any]) -> str:
    if num_repeats(metrics) == 1:
        return ""
    entry = metrics["repeats"]["accuracy"]
    mean, std = 100 * entry["mean"], 100 * entry["std"]
    return (
        f" The cross-validation was repeated on {num_repeats(metrics)} divisions of the images: accuracy {mean:.1f}"
        f"{PERCENT} on average, with a standard deviation of {std:.1f} points; the other figures are of the first."
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


def _outside(metrics: Mapping[str, Any]) -> list[str]:
    model = "the mean of all models"
    if metrics.get("refit"):
        model = "one model, trained on all images of the folds,"
    return [
        f"On {test.named} ({test.size}) {model} had an accuracy of {test.accuracy.outside.full}."
        for test in outside_tests(metrics)
    ]


def _software(inputs: Inputs) -> str:
    versions = inputs.run_state.get("versions") or {}
    found = [f"{name} {versions[name]}" for name in NAMED_VERSIONS if name in versions]
    return f"Software: {', '.join(found)}." if found else ""


def model_card(config: Config, inputs: Inputs, box: VerdictBox) -> list[tuple[str, list[str]]]:
    """Headings, each with its sentences."""
    folds, side = int(inputs.metrics.get("num_folds") or config.folds.num), config.model.image_size_px
    licence = (inputs.run_state.get("weights") or {}).get("licence") or "not stated, or random weights"
    members = f"one member per fold ({folds}){' of the first division' if num_repeats(inputs.metrics) > 1 else ''}"
    refit = inputs.metrics.get("refit")
    if refit:
        members = f"one network, refitted on all {counted(inputs.num_images, 'image')} after the folds"
    model = [
        f"{config.model.title}, {members}; input {side} × {side} pixels.",
        f"Licence of the weights it started from: {licence}.",
    ]
    if refit:
        model.append(f"The {folds} members that were tested lie in {refit['tested']}, a model of their own.")
    if run_names(inputs.metrics):
        model = [f"The average of runs, one member per fold ({folds}) of each: {listed_runs(inputs.metrics)}."]
        model += ["Licences of the weights: see the pages of the runs.", gain(inputs.metrics)]
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
