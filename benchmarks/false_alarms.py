"""How often the audit accuses drawn sets that have no fault, and how often it finds the tag in those that have one.

For every seed, organisms and scans are drawn, prepared and audited, once without faults and once with. Every verdict
on the former that is not `pass` is a false alarm; on the tagged scans, `shortcuts` must not pass and must name the
corner.

usage: python -m benchmarks.false_alarms [--seeds 50] [--first 0]     about a minute a seed on two busy cores
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from microscopy_cls.config import Paths, load_config
from microscopy_cls.dataset.prepare import prepare
from microscopy_cls.evaluation.audit.audit import audit
from microscopy_cls.samples.draw import Extent, draw_extent

CONFIGS = Path(__file__).parents[1] / "configs"
SETS = ("organisms", "covid")
TAGGED = "bottom-right corner"
EXTENT = Extent(slide_side_px=1024)  # the slide is not audited


def audited(name: str) -> dict[str, Any]:
    """Prepare and audit one of the demo sets drawn into data/raw/demo of the working directory."""
    config = load_config(CONFIGS / f"demo-{name}.yaml")
    prepare(config, Paths(config.name))
    return audit(config, Paths(config.name))


def audits_of(seed: int, faults: bool) -> dict[str, dict[str, Any]]:
    """The audits of both sets of a seed."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        draw_extent(Path("data/raw/demo"), seed, faults, EXTENT)
        return {name: audited(name) for name in SETS}


def is_found(found: dict[str, Any]) -> bool:
    """Whether the tag is the first artefact told, and not passed over."""
    top = found["shortcuts"]["top_features"]
    return found["verdicts"]["shortcuts"] != "pass" and bool(top) and top[0]["feature"] == TAGGED


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args(words)
    logging.disable(logging.WARNING)  # what prepare says of planted faults
    alarms: Counter[str] = Counter()
    num_found = 0
    for seed in range(given.first, given.first + given.seeds):
        for name, found in audits_of(seed, faults=False).items():
            for question, verdict in found["verdicts"].items():
                alarms[f"{name} {question}"] += verdict != "pass"
                if verdict != "pass":
                    print(f"seed {seed} {name} {question}: {verdict}. {found['reasons'][question]}", flush=True)
        tagged = audits_of(seed, faults=True)["covid"]
        num_found += is_found(tagged)
        if not is_found(tagged):
            print(f"seed {seed} tag not found: {tagged['reasons']['shortcuts']}", flush=True)
    for question, count in sorted(alarms.items()):
        print(f"false alarms, {question}: {count} of {given.seeds}")
    print(f"tag found and named: {num_found} of {given.seeds}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
