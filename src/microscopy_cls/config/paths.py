"""Where each stage writes. Relative to the working directory, so that DVC and people see the same tree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """The folders and files of one experiment."""

    name: str

    @property
    def prepared(self) -> Path:
        """Manifest and pixel cache, written by `prepare`."""
        return Path("data/prepared") / self.name

    @property
    def manifest(self) -> Path:
        """A row per file."""
        return self.prepared / "manifest.parquet"

    @property
    def runs(self) -> Path:
        """Checkpoints, members and out-of-fold predictions, written by `train`."""
        return Path("data/runs") / self.name

    @property
    def oof(self) -> Path:
        """A row per usable image, predicted by the member that never saw its group."""
        return self.oof_of(0)

    def oof_of(self, repeat: int) -> Path:
        """The same of one division of the images: 0 is `oof`."""
        return self.runs / (f"oof_{repeat}.parquet" if repeat else "oof.parquet")

    @property
    def curves(self) -> Path:
        """A row per fold and epoch."""
        return self.runs / "curves.csv"

    @property
    def members(self) -> Path:
        """One weights file per fold, and that of the refit."""
        return self.runs / "members"

    @property
    def refit_answers(self) -> Path:
        """What the network that was trained on all images says of these, which is no test."""
        return self.runs / "refit" / "seen.safetensors"

    @property
    def tested(self) -> Path:
        """The bundle of the folds' members where `bundle` holds another model."""
        return self.runs / "tested"

    @property
    def bundle(self) -> Path:
        """The model that is enough alone to classify, written by `evaluate`."""
        return Path("data/models") / self.name

    @property
    def reports(self) -> Path:
        """Figures and the page, written by `evaluate` and `report`."""
        return Path("reports") / self.name

    @property
    def audit(self) -> Path:
        """Copies, leakage, shortcuts and picture quality, written by `audit`."""
        return self.reports / "audit.json"

    @property
    def metrics(self) -> Path:
        """Out-of-fold metrics."""
        return self.reports / "metrics.json"

    @property
    def label_errors(self) -> Path:
        """Images whose label the predictions contradict, written by `evaluate`."""
        return self.reports / "label_errors.csv"

    @property
    def cams(self) -> Path:
        """Where the networks found the evidence for some answers, written by `evaluate`."""
        return self.reports / "cams.safetensors"

    @property
    def external(self) -> Path:
        """Pixel cache of the external test set, written by `evaluate`; not beside `prepare`'s, which is its output."""
        return self.runs / "test"

    @property
    def plots(self) -> Path:
        """Tables that DVC draws."""
        return self.reports / "plots"

    @property
    def page(self) -> Path:
        """The report."""
        return self.reports / "index.html"


@dataclass(frozen=True)
class EnsemblePaths(Paths):
    """An ensemble's own files, beside the images that one of its runs was trained on.

    Attributes:
        images_of: the name of that run.
    """

    images_of: str

    @property
    def prepared(self) -> Path:
        """Manifest and pixel cache of the run."""
        return Paths(self.images_of).prepared

    @property
    def audit(self) -> Path:
        """Of these images."""
        return Paths(self.images_of).audit

    @property
    def external(self) -> Path:
        """Pixel cache of the run's external test set."""
        return Paths(self.images_of).external


def paths_of_images(name: str, images_of: str | None) -> Paths:
    """The files of a run, or of an ensemble where `images_of` names the run whose images it is of."""
    return Paths(name) if images_of is None else EnsemblePaths(name, images_of)
