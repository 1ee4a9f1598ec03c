"""How often the audit accuses drawn sets that have no fault, and how often it finds the tag in those that have one.

For every seed, organisms and scans are drawn, prepared and audited, once without faults and once with. Every verdict
on the former that is not `pass` is a false alarm; on the tagged scans, `shortcuts` must not pass and must name the
corner.

With `--final` the sets without faults run through the whole chain, and the verdicts are those that `evaluate` gives
with a model: a quick one, a linear head on the features of a random network at 64 px. Its `calibration` is no false
alarm where the model is indeed too sure on new groups; the error is printed.

usage: python -m benchmarks.false_alarms [--seeds 50] [--first 0] [--final]     about a minute a seed on two busy cores
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from microscopy_cls.config import Paths, load_config
from microscopy_cls.dataset.prepare import prepare
from microscopy_cls.evaluation.audit.audit import audit
from microscopy_cls.evaluation.evaluate import evaluate
from microscopy_cls.samples.draw import Extent, draw_extent
from microscopy_cls.tracking import NullTracker
from microscopy_cls.training.cross_validation import CrossValidation
from microscopy_cls.training.run_state import require_finished

CONFIGS = Path(__file__).parents[1] / "configs"
SETS = ("organisms", "covid")
TAGGED = "bottom-right corner"
EXTENT = Extent(slide_side_px=1024)  # the slide is not audited
QUICK = ["finetune.strategy=probe", "model.image_size_px=64"]

Judged = dict[str, Any]


def audited(name: str) -> Judged:
    """Prepare and audit one of the demo sets drawn into data/raw/demo of the working directory."""
    config = load_config(CONFIGS / f"demo-{name}.yaml")
    prepare(config, Paths(config.name))
    return audit(config, Paths(config.name))


def evaluated(name: str) -> Judged:
    """The same, judged with a model."""
    config = load_config(CONFIGS / f"demo-{name}.yaml", QUICK)
    paths = Paths(config.name)
    prepare(config, paths)
    CrossValidation(config, paths, NullTracker()).run()
    return evaluate(config, paths, NullTracker(), asdict(require_finished(paths.runs, config)))


def judged(seed: int, *, faults: bool, judge: Callable[[str], Judged]) -> dict[str, Judged]:
    """What is found in both sets of a seed: `verdicts` and `reasons`, among others."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        draw_extent(Path("data/raw/demo"), seed, faults, EXTENT)
        return {name: judge(name) for name in SETS}


def is_found(found: Judged) -> bool:
    """Whether the tag is the first artefact told, and not passed over."""
    top = found["shortcuts"]["top_features"]
    return found["verdicts"]["shortcuts"] != "pass" and bool(top) and top[0]["feature"] == TAGGED


def count_alarms(seeds: range, judge: Callable[[str], Judged]) -> Counter[str]:
    """How many sets without faults are accused, by set and question; prints each accusation."""
    alarms: Counter[str] = Counter()
    for seed in seeds:
        for name, found in judged(seed, faults=False, judge=judge).items():
            for question, verdict in found["verdicts"].items():
                alarms[f"{name} {question}"] += verdict != "pass"
                if verdict != "pass":
                    print(f"seed {seed} {name} {question}: {verdict}. {found['reasons'][question]}", flush=True)
    return alarms


def count_found(seeds: range) -> int:
    """In how many sets with faults the tag is found; prints the others."""
    num_found = 0
    for seed in seeds:
        tagged = judged(seed, faults=True, judge=audited)["covid"]
        num_found += is_found(tagged)
        if not is_found(tagged):
            print(f"seed {seed} tag not found: {tagged['reasons']['shortcuts']}", flush=True)
    return num_found


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--final", action="store_true", help="the verdicts of evaluate instead of those of audit")
    given = parser.parse_args(words)
    logging.disable(logging.WARNING)  # what prepare says of planted faults
    seeds = range(given.first, given.first + given.seeds)
    for question, count in sorted(count_alarms(seeds, evaluated if given.final else audited).items()):
        print(f"false alarms, {question}: {count} of {given.seeds}")
    if not given.final:
        print(f"tag found and named: {count_found(seeds)} of {given.seeds}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
