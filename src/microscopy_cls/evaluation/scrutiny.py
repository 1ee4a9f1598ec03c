"""What a sceptical reader asks of a finished run, answered with the model itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.config import Config, Paths
from microscopy_cls.dataset.cache import open_pixels
from microscopy_cls.dataset.manifest import trainable
from microscopy_cls.evaluation.audit.answers import score_answers, task_of
from microscopy_cls.evaluation.audit.audit import current_audit
from microscopy_cls.evaluation.audit.judge import judge_shortcuts
from microscopy_cls.evaluation.audit.occlusion import hide_border, hide_centre, judge_occlusion
from microscopy_cls.evaluation.doubt import Doubt
from microscopy_cls.evaluation.explain import choose, explain, write_cams
from microscopy_cls.evaluation.external import external_metrics
from microscopy_cls.evaluation.external_images import ExternalImages
from microscopy_cls.evaluation.figures import figures
from microscopy_cls.evaluation.held_out import HeldOut
from microscopy_cls.evaluation.intervals import Array
from microscopy_cls.evaluation.label_errors import find_label_errors, listed_label_errors
from microscopy_cls.model.answers import member_answers
from microscopy_cls.model.bundle import BundleInfo
from microscopy_cls.model.doubt import softmax
from microscopy_cls.system.files import write_csv

MAX_HIDDEN = 400  # images answered again with a part hidden: their accuracy is then known to about 5 points
# Calibration errors after scaling that a reader would notice: "90 % sure" and 85 %, or 80 %, right.
ECE_WARN, ECE_FAIL = 0.05, 0.10
SEVERITY = ("pass", "warn", "fail")

Json = dict[str, Any]
Squares = NDArray[np.uint8]


def scrutinise(
    config: Config,
    paths: Paths,
    manifest: pd.DataFrame,
    oof: pd.DataFrame,
    held_out: HeldOut,
    doubt: Doubt,
    info: BundleInfo,
    metrics: Mapping[str, Any],
    external: ExternalImages | None,
) -> Json:
    """Judge shortcuts by the model, hide parts of the images, look for wrong labels, explain, test outside.

    Writes `label_errors.csv` and `cams.safetensors`, without rows where the network has no such maps.

    Args:
        oof: a row a trainable image.
        held_out: the same as arrays.
        doubt: fitted on them.
        info: of the run's bundle, which is written already.
        metrics: of the run so far.
        external: images to test on, if there are any.

    Returns:
        The sections `verdicts, reasons, audit, label_errors, external_test` of `metrics.json`.
    """
    classes = list(held_out.classes)
    images = trainable(manifest).reset_index(names="row").set_index("image_id").loc[oof["image_id"]]
    errors = find_label_errors(oof, images["path"], classes)
    write_csv(paths.label_errors, errors)  # cut down to what is wrong, it is what data.exclude takes
    _explain(paths, images, oof, classes)
    audit = _judged_by_the_model(config, paths, images, held_out, info)
    verdict, reason = _judge_calibration(metrics)
    return {
        "verdicts": audit["verdicts"] | {"calibration": verdict},
        "reasons": audit["reasons"] | {"calibration": reason},
        "audit": audit,
        "label_errors": listed_label_errors(errors),
        "external_test": None if external is None else _external(config, paths, external, doubt, info, metrics),
    }


def _explain(paths: Paths, images: pd.DataFrame, oof: pd.DataFrame, classes: list[str]) -> None:
    places, kinds = choose(oof, classes)
    rows = images["row"].to_numpy(np.int64)[places]
    cams = explain(oof.iloc[places], rows, classes, paths.bundle, paths.prepared)
    if cams is None:  # an empty file, because the pipeline counts on it
        rows, kinds, cams = rows[:0], kinds[:0], np.empty((0, 1, 1), np.uint8)
    write_cams(paths.cams, rows, cams, kinds)


def _judged_by_the_model(
    config: Config, paths: Paths, images: pd.DataFrame, held_out: HeldOut, info: BundleInfo
) -> Json:
    """The audit, its verdict on shortcuts founded on the model's own answers and on what hiding does to them."""
    audit = current_audit(config, paths)
    task = task_of(images, config.evaluate.bootstrap_samples, config.runtime.seed)
    scores = score_answers(task, held_out.probs.argmax(1))
    found, *on_artefacts = judge_shortcuts(audit["shortcuts"], scores, "model")
    hidden = _occlusion(paths, images["row"].to_numpy(np.int64), held_out, info, task.resamples, task.seed)
    on_hiding = judge_occlusion(hidden, task.chance)
    verdict, reason = max((tuple(on_artefacts), on_hiding), key=lambda judged: SEVERITY.index(judged[0]))
    return audit | {
        "shortcuts": found | {"occlusion": hidden, "occlusion_reason": on_hiding[1]},
        "verdicts": audit["verdicts"] | {"shortcuts": verdict},
        "reasons": audit["reasons"] | {"shortcuts": reason},
    }


def _occlusion(
    paths: Paths, rows: NDArray[np.int64], held_out: HeldOut, info: BundleInfo, resamples: int, seed: int
) -> Json:
    """Accuracy on whole images, with their centre and with their border hidden, by members that never saw them."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:MAX_HIDDEN])
    pixels = np.asarray(open_pixels(paths.prepared)[rows[chosen]])
    truth, folds = held_out.truth[chosen], held_out.folds[chosen]
    right = {"whole": held_out.logits[chosen].argmax(1) == truth}
    for name, hide in (("centre_hidden", hide_centre), ("border_hidden", hide_border)):
        right[name] = _answered(paths, info, hide, pixels, folds).argmax(1) == truth

    def accuracies(weights: Array) -> dict[str, Array]:
        return {name: weights @ values / weights.sum(1) for name, values in right.items()}

    groups = held_out.groups[chosen]
    shares: dict[str, Any] = dict.fromkeys(right, len(set(groups)))
    return {"num_images": len(chosen)} | figures(accuracies, groups, resamples=resamples, seed=seed, shares=shares)


def _answered(
    paths: Paths, info: BundleInfo, hide: Callable[[Squares], Squares], pixels: Squares, folds: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Logits (n, classes) of changed images, each by the member of its fold."""
    logits = np.empty((len(pixels), len(info.classes)), np.float32)
    for member in info.members:
        inside = folds == member.fold
        if inside.any():
            logits[inside] = member_answers(paths.bundle, info, member, hide(pixels[inside]))[0]
    return logits


def _judge_calibration(metrics: Mapping[str, Any]) -> tuple[str, str]:
    """Whether a stated probability can be taken at its word; judged on the lower end of the error's interval."""
    before, after = metrics["calibration"]["ece_before"], metrics["calibration"]["ece_after"]
    verdict = "fail" if after["ci_low"] >= ECE_FAIL else "warn" if after["ci_low"] >= ECE_WARN else "pass"
    told = (
        f"Stated probabilities are off by {100 * after['value']:.1f} points on average "
        f"({100 * before['value']:.1f} before calibration)"
    )
    return verdict, f"{told}." if verdict == "pass" else f"{told}: do not read them as chances."


def _external(
    config: Config, paths: Paths, external: ExternalImages, doubt: Doubt, info: BundleInfo, metrics: Mapping[str, Any]
) -> Json:
    """The external test by the whole bundle: the mean of all members' calibrated probabilities."""
    classes = list(info.classes)

    def answer(squares: Squares) -> Array:
        parts = [
            softmax(
                doubt.calibrated.by_fold[member.fold].scaled(member_answers(paths.bundle, info, member, squares)[0])
            )
            for member in info.members
        ]
        mean: Array = np.mean(parts, axis=0)
        return mean

    return external_metrics(external, answer, metrics, classes, resamples=config.evaluate.bootstrap_samples)
