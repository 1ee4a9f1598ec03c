"""What a study found: each variant's figures and cost, differences between them, and whether its claim holds here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from microscopy_cls.config import Config, Paths
from microscopy_cls.config.study import Claim, Study
from microscopy_cls.errors import DataError
from microscopy_cls.evaluation.compare import RESAMPLES, Json, compare
from microscopy_cls.evaluation.figures import figures
from microscopy_cls.evaluation.finished import FinishedRun, read_finished
from microscopy_cls.evaluation.intervals import Array
from microscopy_cls.evaluation.scores import scores_of_answers
from microscopy_cls.model.cost import cost_of
from microscopy_cls.system.files import read_json

MEASURES = ("accuracy", "f1_macro")
JUDGED = MEASURES[0]  # chosen here and not by the numbers, as in compare
HEADLINES = {
    "holds": "The claim holds on these images.",
    "fails": "The claim does not hold on these images.",
    "open": "Whether the claim holds cannot be told from these images.",
}


def study_results(study: Study, name: str, configs: Mapping[str, Config]) -> Json:
    """The content of `study.json`, of variants whose runs are finished.

    Args:
        name: of the data set's config.
        configs: of each variant, as `variant_configs` gives them.

    Returns:
        `name, config, question, source`; `claim`: `sentence, better, than, verdict` (holds, fails or open), `headline`
        and `sentences` that tell it, and `half_width` of the widest interval behind it; `num_images, num_groups,
        num_folds, num_repeats` (divisions into folds; all else is of the first), `num_classes, majority_accuracy,
        image_size_px`; `variants`, each with `name, run, set, params,
        gflops, gmacs, core_minutes` (time by threads on a CPU), `device_minutes` (time on anything else; one of the two
        is None), `accuracy` and `f1_macro` (`value, ci_low, ci_high`), and `difference` of both to the first variant
        (None for itself); `cautions`, a list of sentences. Shares are from 0 to 1, intervals of 95 %.

    Raises:
        DataError: a run is not finished or does not say what it took, or they are not of the same images.
    """
    runs = {variant: read_finished(config.name) for variant, config in configs.items()}
    first = study.variants[0].name
    against = {
        variant: None if variant == first else compare(runs[first].name, run.name) for variant, run in runs.items()
    }
    rows = [
        {
            "name": variant.name,
            "run": runs[variant.name].name,
            "set": variant.set,
            **_cost(configs[variant.name], runs[variant.name]),
            **_figures(runs[variant.name]),
            "difference": _differences(against[variant.name]),
        }
        for variant in study.variants
    ]
    return {
        "name": study.name,
        "config": name,
        "question": study.question,
        "source": study.source,
        "claim": _claim(study.claim, runs),
        **_images(runs[first]),
        "image_size_px": configs[first].model.image_size_px,
        "variants": rows,
        "cautions": _cautions(against),
    }


def _figures(run: FinishedRun) -> Json:
    def values(weights: Array) -> dict[str, Array]:
        scores = scores_of_answers(run.predicted, weights)[0]
        return {name: scores[name] for name in MEASURES}

    groups = run.images["split_group"].to_numpy(dtype=object)
    return figures(values, groups, resamples=RESAMPLES, shares=dict.fromkeys(MEASURES, len(np.unique(groups))))


def _cost(config: Config, run: FinishedRun) -> Json:
    """Parameters and operations with a classifier for these classes, and what training on the first division took."""
    model = config.model
    cost = cost_of(model.name, model.image_size_px, num_classes=len(run.classes), **model.shape)
    file = Paths(config.name).runs / "run_state.json"
    state, folds = read_json(file), [str(fold) for fold in np.unique(run.folds)]
    if unknown := [fold for fold in folds if fold not in state["fold_seconds"]]:
        raise DataError(
            f"{file}: does not say how long the folds {', '.join(unknown)} took. Remove {file.parent} and run the "
            "study again."
        )
    minutes = sum(state["fold_seconds"][fold] for fold in folds) / 60
    on_cpu = state["device"] == "cpu"
    return {
        "params": cost.num_params,
        "gflops": None if cost.num_flops is None else round(cost.num_flops / 1e9, 6),
        "gmacs": None if cost.num_macs is None else round(cost.num_macs / 1e9, 6),
        "core_minutes": round(minutes * state["num_threads"], 2) if on_cpu else None,
        "device_minutes": None if on_cpu else round(minutes, 2),
    }


def _images(run: FinishedRun) -> Json:
    return {
        "num_images": len(run.images),
        "num_groups": int(run.images["split_group"].nunique()),
        "num_folds": len(np.unique(run.folds)),
        "num_repeats": len(run.divisions),
        "num_classes": len(run.classes),
        "majority_accuracy": round(float(run.images["label"].value_counts(normalize=True).max()), 6),
    }


def _differences(compared: Json | None) -> Json | None:
    return None if compared is None else {name: compared["metrics"][name]["difference"] for name in MEASURES}


def _claim(claim: Claim, runs: Mapping[str, FinishedRun]) -> Json:
    """Its verdict by the differences in accuracy, `better` minus each of the others."""
    compared = {than: compare(runs[than].name, runs[claim.better].name) for than in claim.than}
    found = {than: one["metrics"][JUDGED]["difference"] for than, one in compared.items()}
    verdict = verdict_of(found.values())
    doubts = [sentence for name in (claim.better, *claim.than) if (sentence := unlearnt(name, runs[name]))]
    width = max((one["ci_high"] - one["ci_low"]) / 2 for one in found.values())
    return {
        **claim.model_dump(mode="json"),
        "verdict": verdict,
        "headline": HEADLINES[verdict],
        "sentences": [*(told(claim.better, than, one) for than, one in found.items()), detectable(width), *doubts],
        "half_width": round(width, 6),
    }


def unlearnt(name: str, run: FinishedRun) -> str | None:
    """A warning where a variant is not shown to be better than no network at all."""
    accuracy, guessed = _figures(run)["accuracy"], _images(run)["majority_accuracy"]
    if accuracy["ci_low"] > guessed:
        return None
    return (
        f"{name} is not shown to be better than always naming the commonest class ({100 * guessed:.1f} %): networks "
        "that have hardly learnt tell little about their shapes. Train longer (finetune.epochs)."
    )


def detectable(half_width: float) -> str:
    """What the widest interval behind a verdict could have shown; `half_width` as a share."""
    if half_width == 0:
        return "They are right on the same images, so nothing tells how large a difference would have been seen."
    return f"A difference below about {100 * half_width:.1f} percentage points could not be told from none here."


def verdict_of(differences: Iterable[Mapping[str, float]]) -> str:
    """`holds` where every interval lies above 0, `fails` where one lies below it, else `open`."""
    ends = [(one["ci_low"], one["ci_high"]) for one in differences]
    if all(low > 0 for low, _ in ends):
        return "holds"
    return "fails" if any(high < 0 for _, high in ends) else "open"


def told(better: str, than: str, difference: Mapping[str, float]) -> str:
    """A sentence on a difference in accuracy, `better` minus `than`, that says no more than its interval."""
    points, low, high = (100 * difference[key] for key in ("value", "ci_low", "ci_high"))
    ends = f"{points:+.1f} percentage points of accuracy, 95 % interval {low:+.1f} to {high:+.1f}"
    if low <= 0 <= high:
        return f"No evidence of a difference between {better} and {than}: {ends}."
    return f"{better} is {'better' if low > 0 else 'worse'} than {than}: {ends}."


def _cautions(against: Mapping[str, Json | None]) -> list[str]:
    sentences = [caution for compared in against.values() if compared for caution in compared["cautions"]]
    num_differences = len(against) - 1
    if num_differences > 1:
        sentences.append(
            f"There are {num_differences} differences to the first variant, each with an interval for itself: one in "
            "twenty such intervals misses the truth by chance, so the largest of several is no finding."
        )
    return list(dict.fromkeys(sentences))
