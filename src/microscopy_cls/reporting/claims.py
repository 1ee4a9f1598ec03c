"""Sentences: what was measured, and what the figures do and do not claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from microscopy_cls.config import Config
from microscopy_cls.reporting.external import outside_tests
from microscopy_cls.reporting.inputs import Inputs
from microscopy_cls.reporting.numbers import PERCENT, Estimate, count, counted, finite, named, shown
from microscopy_cls.reporting.repeats import num_repeats
from microscopy_cls.reporting.tables import ClassRow
from microscopy_cls.reporting.together import gain, run_names

FEW_GROUPS = 30  # below, one group more or less moves a class's recall by over three points
NUM_NAMED = 8


@dataclass(frozen=True)
class Claim:
    """One remark: a title and its explanation."""

    title: str
    text: str


def measured(config: Config, inputs: Inputs) -> str:
    """On what, how, and where the intervals come from."""
    metrics = inputs.metrics
    groups = int(metrics.get("num_groups") or 0)
    interval = metrics.get("interval") or {}
    level = f"{100 * (finite(interval.get('level')) or 0.95):g}{PERCENT}"
    how = f"{count(int(interval['resamples']))} bootstrap resamples" if interval.get("resamples") else "bootstrap"
    folds, size = counted(int(metrics.get("num_folds") or 0), "fold"), counted(inputs.num_images, "image")
    if inputs.grouped:
        apart = "one a group" if config.folds.scheme == "leave_one_group_out" else "no group in two of them"
        return (
            f"{folds}, {apart}; {size} in {counted(groups, 'group')}. Each image is predicted once, by "
            f"a model that was trained on no image of its group. {level} intervals by {how} over groups."
        )
    return (
        f"{folds}; {size}, no groups declared. Each image is predicted once, by a model that was not trained on it. "
        f"{level} intervals by {how} over images."
    )


def compared(inputs: Inputs, classes: Sequence[ClassRow]) -> str | None:
    """What always naming the largest class would give, and whether the model is clearly better."""
    majority = finite(inputs.metrics.get("majority_accuracy"))
    if majority is None or not classes:
        return None
    largest = max(classes, key=lambda row: row.num_images)
    sentence = (
        f"For comparison: always answering “{named(largest.name)}” would be right for {shown(majority, 'percent')}."
    )
    accuracy = Estimate.read(inputs.metrics.get("accuracy"), "percent")
    if accuracy.low is not None and accuracy.low <= majority:
        sentence += " The interval of the accuracy reaches down to that: the model is not shown to be better."
    return sentence


def claims(config: Config, inputs: Inputs, classes: Sequence[ClassRow]) -> list[Claim]:
    """The remarks that apply to this run."""
    remarks = [
        _source(inputs),
        _grouping(inputs),
        _choice(config, inputs),
        _division(config, inputs),
        _refit(config, inputs),
        Claim(
            "What the intervals cover.",
            "Which images happened to be collected. Not the luck of training (another random seed gives slightly other "
            "figures), and not wrong labels.",
        ),
        _few_groups(inputs),
        _few(classes, inputs),
        _kept_out(inputs),
        Claim(
            "Research software.",
            "Not a medical device, not validated for diagnosis or for decisions about patients.",
        ),
    ]
    return [remark for remark in remarks if remark is not None]


def _source(inputs: Inputs) -> Claim:
    beyond = "They say nothing about another laboratory; only an external test set would."
    if inputs.metrics.get("external_test"):
        beyond = "What became of them on an external test set stands under External test."
    text = "The figures hold for new images made as these were: same instruments, preparation and labelling."
    return Claim("Same source only.", f"{text} {beyond}")


def _grouping(inputs: Inputs) -> Claim:
    if inputs.grouped:
        return Claim(
            "Groups are kept apart.",
            "Images of one declared group (patient, slide, day) are never on both sides of a fold. "
            "The figures are for new groups, as far as the declared ones are the right ones.",
        )
    return Claim(
        "No groups were declared.",
        "Images of one specimen, slide or patient may be on both sides of a fold, and the figures then be too good. "
        "If such groups exist, name them (data.group_regex or data.columns.group) and run again.",
    )


def _choice(config: Config, inputs: Inputs) -> Claim:
    if run_names(inputs.metrics):
        return Claim(
            "Averaged without weights.",
            f"Each run counts the same, and chose as its own page says. {gain(inputs.metrics)} Which runs to average "
            "was a choice, too: if several sets of them were tried, the best one’s figures are a little too good.",
        )
    fraction, epochs = config.finetune.validation_fraction, counted(config.finetune.epochs, "epoch")
    if config.finetune.strategy == "probe":
        how = "Each fold’s penalty was chosen by inner folds of its training images, not on the fold that is reported."
    elif fraction:
        part = f"about {100 * fraction:g}{PERCENT} of its training images"
        how = f"Each fold’s epoch was chosen on {part}, not on the fold that is reported."
    else:
        how = f"The schedule was fixed ({epochs}, the last one taken), so the reported folds chose nothing."
    return Claim(
        "Chosen without the reported folds.",
        f"{how} If several configurations were tried, the best one’s figures are a little too good all the same.",
    )


def _division(config: Config, inputs: Inputs) -> Claim | None:
    if config.folds.scheme == "leave_one_group_out":
        text = (
            "Each group is a fold. A fold has the classes of its group only, so a figure of one fold is of these, and "
            "one that needs several classes is missing. The figures above are of all folds at once."
        )
        return Claim("One group left out at a time.", text)
    if num_repeats(inputs.metrics) == 1:
        return None
    text = (
        "The images were divided anew, with other seeds, and all folds trained again under the same random seeds; a "
        "spread over so few divisions is rough itself. The page shows the first one, not the best."
    )
    return Claim("Drawn more than once.", text)


def _refit(config: Config, inputs: Inputs) -> Claim | None:
    if not inputs.metrics.get("refit"):
        return None
    how = f"for {counted(int(inputs.metrics['refit']['num_epochs']), 'epoch')}, the median of the folds, "
    if config.finetune.strategy == "probe":
        how = ""
    tests = " and ".join(test.named for test in outside_tests(inputs.metrics))
    tested = f"only {tests} tested it" if tests else "nothing here tested it"
    text = (
        f"The model that classifies was trained on all images of the folds {how}after the folds. More images usually "
        f"make it a little better than the figures, but {tested}. Its calibration and the thresholds of its "
        "prediction sets are those of all out-of-fold answers, and that of its novelty was found on the folds’ members."
    )
    return Claim("A refit.", text)


def _few_groups(inputs: Inputs) -> Claim | None:
    num = int(inputs.metrics.get("num_groups") or 0)
    if not inputs.grouped or num >= FEW_GROUPS:
        return None
    return Claim(
        f"Only {counted(num, 'group')}.",
        "The intervals allow for that as far as intervals can. What the next group will be like, so few hardly tell.",
    )


def _few(classes: Sequence[ClassRow], inputs: Inputs) -> Claim | None:
    few = sorted((row for row in classes if row.num_groups < FEW_GROUPS), key=lambda row: row.num_groups)
    if not few:
        return None
    unit = "groups" if inputs.grouped else "images"
    listed = ", ".join(f"{named(row.name)} ({row.num_groups})" for row in few[:NUM_NAMED])
    more = f" and {len(few) - NUM_NAMED} more" if len(few) > NUM_NAMED else ""
    return Claim(f"Few {unit}.", f"{listed}{more}: below {FEW_GROUPS} {unit} a class’s own figures are uncertain.")


def _kept_out(inputs: Inputs) -> Claim | None:
    usable = inputs.usable
    num_kept = int((~usable["image_id"].isin(inputs.oof["image_id"])).sum())
    if not num_kept:
        return None
    where = "its own figures stand under Test split" if inputs.metrics.get("test_split") else "it has no figures"
    text = (
        f"{counted(num_kept, 'usable image')} (the test split) took no part in training and cross-validation; {where}."
    )
    return Claim("Kept out.", text)
