"""A soup of a run's members, scored beside them on images that none of them saw.

Every image of the folds was seen by all members but one, so nothing can be said of the soup out of fold: it takes a
test split or `data.test`. For the same reason it has no held-out fold to be calibrated on. It takes a
temperature, which changes no answer, and prediction sets that are fitted on the test images themselves; what is
reported of each half of these (whole groups) is fitted on the other half. The members are scored as they classify, with
their scaling, which may correct answers and does not carry over: on pollen the soup's 0.77 were 0.71 with the mean of
the members' scalings; its members had 0.73 without theirs and 0.79 with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.torch import load_file

from microscopy_cls.config import Config, Paths
from microscopy_cls.dataset.cache import open_pixels
from microscopy_cls.dataset.manifest import trainable
from microscopy_cls.dataset.prepare import reading_of
from microscopy_cls.errors import BundleError, DataError
from microscopy_cls.evaluation.assemble import Bundle, bundle_of_folds
from microscopy_cls.evaluation.cached_squares import CachedSquares
from microscopy_cls.evaluation.compare import JUDGED, WORDS
from microscopy_cls.evaluation.external_images import read_tests
from microscopy_cls.evaluation.figures import figures
from microscopy_cls.evaluation.finished import trained_manifest
from microscopy_cls.evaluation.intervals import Array
from microscopy_cls.evaluation.metrics import Json
from microscopy_cls.evaluation.names import check_name
from microscopy_cls.evaluation.scores import Predicted, scores_of_answers
from microscopy_cls.evaluation.soup_bundle import Tasted, taste, write_soup
from microscopy_cls.model.bundle import checked
from microscopy_cls.model.ensemble import member_probs
from microscopy_cls.model.graph import Graph, load_graph
from microscopy_cls.model.soup import mean_weights, measure_statistics, share_statistics
from microscopy_cls.system.files import write_json

RESAMPLES = 2000
MIN_GROUPS = 2  # one a half
REPORT = "soup.json"
CAUTIONS = [
    "Whether to write the soup was decided by these images, and its temperature is fitted on halves of them, those of "
    "the members on the folds: its log loss is flattered. Trust the accuracy more, and other images more than these."
]


@dataclass(frozen=True)
class Souped:
    """What came of it.

    Attributes:
        report: content of `soup.json`.
        bundle: the folder of the soup, None where it was not worth writing.
    """

    report: Json
    bundle: Path | None


def soup(name: str, new: str, *, keep: bool = False) -> Souped:
    """Average the weights of a run's members, score the soup on images that none saw, and write it if it is worth it.

    That is where its accuracy is at least that of its members, which cost the same: on average over them, since nothing
    else says which to take. Writes `reports/<new>/soup.json` in any case.

    Args:
        name: of the run, evaluated.
        new: of the soup.
        keep: write the bundle whatever it is worth.

    Raises:
        BundleError: the run was not evaluated, its bundle is damaged, an ensemble, or has one member.
        DataError: there is nothing that all members never saw, or it is a single group; the images are not those that
            the run was trained on, or are read otherwise; the soup's name is a run's or an ensemble's.
        ConfigError: the soup's name cannot name a folder.
    """
    check_name(new, "a soup")
    run, paths = Paths(name), Paths(new)
    tested = bundle_of_folds(run)
    _check(tested)
    info = tested.info
    config = Config.model_validate(info.config)
    reading = reading_of(config)
    manifest = trained_manifest(run, info.training_data["manifest_digest"], reading)
    tests = read_tests(config.data, reading, manifest, list(info.classes), run.prepared, run.external)
    external = tests["test_split"] or tests["external_test"]
    if external is None:
        raise DataError(
            f"{name}: has neither data.test nor images of the split test, and there is nothing else that all members "
            "never saw. Set images apart (data.test, or rows of a table whose split is test), then prepare, train and "
            "evaluate again; or use the members' average."
        )
    if external.images["group"].nunique() < MIN_GROUPS:
        raise DataError(f"{external.source}: all images are one group, and a soup is calibrated on one half of them.")
    graph, remeasured = _cooked(tested, run.prepared, manifest, config)
    tasted = taste(graph, external, info, config)
    members = member_probs(tested.folder, info, external.squares)
    report = {
        "name": new, "of": name, "num_members": len(info.members), "statistics_measured": remeasured,
        "source": external.source, "num_images": len(external.images), "num_groups": len(set(tasted.held_out.groups)),
        **_scores(tasted, members), **tasted.report(),
    }  # fmt: skip
    gain = report["gain_over_members"][JUDGED]
    report["is_worth_it"] = gain["value"] >= 0
    written = bool(keep or report["is_worth_it"])
    report |= {"is_written": written, "verdict": _verdict(report), "cautions": CAUTIONS}
    write_json(paths.reports / REPORT, report)
    if written:
        write_soup(paths.bundle, new, info, graph, tasted, external)
    return Souped(report, paths.bundle if written else None)


def _check(tested: Bundle) -> None:
    if tested.info.parts:
        raise BundleError(f"{tested.folder}: is an ensemble, whose networks differ. Make a soup of one of its runs.")
    if len(tested.info.members) < 2:
        raise BundleError(f"{tested.folder}: has one member, and a soup needs two or more.")


def _cooked(tested: Bundle, prepared: Path, manifest: pd.DataFrame, config: Config) -> tuple[Graph, bool]:
    """The soup, and whether the statistics of its batch norms were measured anew, on all images of the folds."""
    folder, info = tested.folder, tested.info
    states = [load_file(checked(folder, member.file, member.sha256)) for member in info.members]
    graph = load_graph(folder, info, info.members[0])
    graph.network.load_state_dict(mean_weights(states))
    remeasured = not share_statistics(states)
    if remeasured:
        rows = np.random.default_rng(config.runtime.seed).permutation(trainable(manifest).index.to_numpy())
        measure_statistics(graph, CachedSquares(open_pixels(prepared), rows), config.runtime.device)
    return graph, remeasured


def _scores(tasted: Tasted, members: Array) -> Json:
    """Figures of the soup, of its members (the mean of their figures) and of the members' average, and differences.

    Args:
        tasted: the soup's answers.
        members: calibrated probabilities (members, n, classes).
    """
    truth = tasted.held_out.truth
    soup_, average = Predicted(truth, tasted.probs), Predicted(truth, members.mean(0))
    singles = [Predicted(truth, probs) for probs in members]

    def scores(weights: Array) -> dict[str, Array]:
        found = {}
        mine, theirs = scores_of_answers(soup_, weights)[0], scores_of_answers(average, weights)[0]
        each = [scores_of_answers(one, weights)[0] for one in singles]
        for name in WORDS:
            alone = np.mean([one[name] for one in each], axis=0)
            columns = (mine[name], alone, theirs[name], mine[name] - alone, mine[name] - theirs[name])
            found[name] = np.stack(columns, 1)
        return found

    num = tasted.held_out.num_groups()
    shares = {name: (num, num, num, 0, 0) for name in WORDS if name != "log_loss"}
    found = figures(scores, tasted.held_out.groups, resamples=RESAMPLES, shares=shares)
    kinds = ("soup", "members", "ensemble", "gain_over_members", "gain_over_ensemble")
    return {kind: {name: found[name][place] for name in WORDS} for place, kind in enumerate(kinds)}


def _verdict(report: Json) -> str:
    """What the intervals allow to say."""
    together = _compared("all of them together", report["gain_over_ensemble"][JUDGED])
    alone = _compared("one of its members, on average over these,", report["gain_over_members"][JUDGED])
    return f"On {report['num_images']} images that no member saw, the soup is {alone}; and {together}."


def _compared(than: str, gain: Json) -> str:
    value, low, high = (100 * gain[end] for end in ("value", "ci_low", "ci_high"))
    judged = "better than" if low > 0 else "worse than" if high < 0 else "not shown to differ from"
    return f"{judged} {than} ({value:+.1f} points of accuracy, 95 % interval {low:+.1f} to {high:+.1f})"
