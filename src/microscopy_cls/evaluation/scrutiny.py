"""What a sceptical reader asks of a finished run, answered with the model itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microscopy_cls.config import Config, Paths
from microscopy_cls.dataset.cache import open_pixels
from microscopy_cls.dataset.manifest import trainable
from microscopy_cls.evaluation.assemble import Bundle
from microscopy_cls.evaluation.audit.answers import score_answers, task_of
from microscopy_cls.evaluation.audit.audit import current_audit
from microscopy_cls.evaluation.audit.judge import judge_shortcuts
from microscopy_cls.evaluation.audit.occlusion import hide_border, hide_centre, judge_occlusion
from microscopy_cls.evaluation.cached_squares import CachedSquares
from microscopy_cls.evaluation.explain import choose, explain, write_cams
from microscopy_cls.evaluation.external import external_metrics
from microscopy_cls.evaluation.external_images import ExternalImages
from microscopy_cls.evaluation.figures import figures
from microscopy_cls.evaluation.held_out import HeldOut
from microscopy_cls.evaluation.intervals import Array
from microscopy_cls.evaluation.label_errors import find_label_errors, listed_label_errors
from microscopy_cls.model.answers import member_runner
from microscopy_cls.model.ensemble import member_probs
from microscopy_cls.system.files import write_csv

HIDINGS = {"centre_hidden": hide_centre, "border_hidden": hide_border}
MAX_HIDDEN = 400  # images answered again with a part hidden: their accuracy is then known to about 5 points
# Calibration errors after scaling that a reader would notice: "90 % sure" and 85 %, or 80 %, right.
ECE_WARN, ECE_FAIL = 0.05, 0.10
SEVERITY = ("pass", "warn", "fail")

Json = dict[str, Any]


def scrutinise(
    config: Config,
    paths: Paths,
    manifest: pd.DataFrame,
    oof: pd.DataFrame,
    held_out: HeldOut,
    calibrated: Array,
    tested: Bundle,
    kept: Bundle,
    metrics: Mapping[str, Any],
    tests: Mapping[str, ExternalImages | None],
) -> Json:
    """Judge shortcuts by the model, hide parts of the images, look for wrong labels, explain, test outside.

    Writes `label_errors.csv` and `cams.safetensors`, without rows where the network has no such maps.

    Args:
        oof: a row a trainable image.
        held_out: the same as arrays.
        calibrated: its probabilities, cross-fitted, (n, classes).
        tested: the bundle of the members that gave them.
        kept: the bundle that classifies later, the same one or of the refit.
        metrics: of the run so far.
        tests: images outside the cross-validation, by the section that their figures go to.

    Returns:
        The sections `verdicts, reasons, audit, label_errors` of `metrics.json`, and one a test (None without images).
    """
    classes = list(held_out.classes)
    images = trainable(manifest).reset_index(names="row").set_index("image_id").loc[oof["image_id"]]
    errors = find_label_errors(oof, images["path"], classes)
    write_csv(paths.label_errors, errors)  # cut down to what is wrong, it is what data.exclude takes
    _explain(paths, tested, images, oof, classes)
    audit = _judged_by_the_model(config, paths, images, held_out, tested)
    verdict, reason = judge_calibration(metrics["calibration"])
    resamples = config.evaluate.bootstrap_samples
    return {
        "verdicts": audit["verdicts"] | {"calibration": verdict},
        "reasons": audit["reasons"] | {"calibration": reason},
        "audit": audit,
        "label_errors": listed_label_errors(errors),
        **{
            name: None if test is None else tested_outside(test, kept, held_out, calibrated, resamples=resamples)
            for name, test in tests.items()
        },
    }


def _explain(paths: Paths, tested: Bundle, images: pd.DataFrame, oof: pd.DataFrame, classes: list[str]) -> None:
    places, kinds = choose(oof, classes)
    rows = images["row"].to_numpy(np.int64)[places]
    cams = explain(oof.iloc[places], rows, classes, tested.folder, paths.prepared)
    if cams is None:  # an empty file, because the pipeline counts on it
        rows, kinds, cams = rows[:0], kinds[:0], np.empty((0, 1, 1), np.uint8)
    write_cams(paths.cams, rows, cams, kinds)


def _judged_by_the_model(config: Config, paths: Paths, images: pd.DataFrame, held_out: HeldOut, tested: Bundle) -> Json:
    """The audit, its verdict on shortcuts founded on the model's own answers and on what hiding does to them."""
    audit = current_audit(config, paths)
    task = task_of(images, config.evaluate.bootstrap_samples, config.runtime.seed)
    scores = score_answers(task, held_out.probs.argmax(1))
    found, *on_artefacts = judge_shortcuts(audit["shortcuts"], scores, "model")
    hidden = _occlusion(paths, images["row"].to_numpy(np.int64), held_out, tested, task.resamples, task.seed)
    on_hiding = judge_occlusion(hidden, task.chance)
    verdict, reason = max((tuple(on_artefacts), on_hiding), key=lambda judged: SEVERITY.index(judged[0]))
    return audit | {
        "shortcuts": found | {"occlusion": hidden, "occlusion_reason": on_hiding[1]},
        "verdicts": audit["verdicts"] | {"shortcuts": verdict},
        "reasons": audit["reasons"] | {"shortcuts": reason},
    }


def _occlusion(
    paths: Paths, rows: NDArray[np.int64], held_out: HeldOut, tested: Bundle, resamples: int, seed: int
) -> Json:
    """Accuracy on whole images, with their centre and with their border hidden, by members that never saw them."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:MAX_HIDDEN])
    pixels, shown = open_pixels(paths.prepared), rows[chosen]
    truth, folds = held_out.truth[chosen], held_out.folds[chosen]
    right = {"whole": held_out.logits[chosen].argmax(1) == truth}
    hidden = {name: CachedSquares(pixels, shown, hide) for name, hide in HIDINGS.items()}
    for name, logits in _answered(tested, hidden, folds).items():
        right[name] = logits.argmax(1) == truth

    def accuracies(weights: Array) -> dict[str, Array]:
        return {name: weights @ values / weights.sum(1) for name, values in right.items()}

    groups = held_out.groups[chosen]
    shares: dict[str, Any] = dict.fromkeys(right, len(set(groups)))
    return {"num_images": len(chosen)} | figures(accuracies, groups, resamples=resamples, seed=seed, shares=shares)


def _answered(
    tested: Bundle, changed: Mapping[str, CachedSquares], folds: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    """Logits (n, classes) of images changed in several ways, each by the member of its fold."""
    logits = {name: np.empty((len(folds), len(tested.info.classes)), np.float32) for name in changed}
    for member in tested.info.members:
        inside = folds == member.fold
        if inside.any():
            answer = member_runner(tested.folder, tested.info, member)
            for name, squares in changed.items():
                logits[name][inside] = answer(replace(squares, rows=squares.rows[inside]))[0]
    return logits


def judge_calibration(found: Mapping[str, Any]) -> tuple[str, str]:
    """Whether a stated probability can be taken at its word.

    Few images raise the error: of 240, a model without any shows 0.10. Resampling raises it once more by as much, so
    that the lower end that counts is as far below the value as the resamples' upper end is above it (the basic
    bootstrap interval). Measured on 40 draws from a calibrated model's own probabilities, sets as large as the demo's:
    by this end 4 and 2 of 40 warn, by the resamples' own lower end all.

    Args:
        found: `ece_before` and `ece_after`, figures.

    Returns:
        Verdict and reason.
    """
    before, after = found["ece_before"], found["ece_after"]
    lowest = 2 * after["value"] - after["ci_high"]
    verdict = "fail" if lowest >= ECE_FAIL else "warn" if lowest >= ECE_WARN else "pass"
    told = (
        f"Stated probabilities are off by {100 * after['value']:.1f} points on average "
        f"({100 * before['value']:.1f} before calibration)"
    )
    if verdict != "pass":
        return verdict, f"{told}: do not read them as chances."
    return verdict, f"{told}, which so few images can give by chance." if after["value"] >= ECE_WARN else f"{told}."


def tested_outside(
    images: ExternalImages, bundle: Bundle, held_out: HeldOut, calibrated: Array, *, resamples: int
) -> Json:
    """Figures of the whole bundle on images that no member saw: the mean of its members' calibrated probabilities."""

    def answer(squares: CachedSquares) -> Array:
        mean: Array = member_probs(bundle.folder, bundle.info, squares).mean(0)
        return mean

    return external_metrics(images, answer, held_out, calibrated, resamples=resamples)
