"""Every error a user can meet. Each message says what is wrong, where, and what to do."""

from __future__ import annotations

from pathlib import Path


class MicroscopyError(Exception):
    """Base of all expected errors: the command line prints the message and exits with 2, without a traceback."""


class ConfigError(MicroscopyError):
    """A configuration that cannot be used."""


class DataError(MicroscopyError):
    """Input data that cannot be used as they are."""


class ImageError(DataError):
    """One file that gives no pixels.

    Attributes:
        path: the file.
        reason: why, without the path; stands in the `error` column of tables.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[Path, str]]:
        """Worker processes send errors back: rebuild from both arguments."""
        return type(self), (self.path, self.reason)


class FoldError(DataError):
    """Images that cannot be divided into the folds asked for."""


class WeightsError(MicroscopyError):
    """Pretrained weights that cannot be found, used or matched to the model."""


class BundleError(MicroscopyError):
    """A model bundle that cannot be written or read."""


class ExportError(MicroscopyError):
    """A portable model that does not answer as the bundle does."""


class ExplanationError(MicroscopyError):
    """A network that does not show where it finds its evidence."""


class TrainingError(MicroscopyError):
    """Training that cannot go on, such as a loss that is no longer finite."""


class TrackingError(MicroscopyError):
    """A tracking store that refuses what was asked for by name (promotion, registration)."""


class MissingDependencyError(MicroscopyError):
    """An optional library that the command needs is not installed."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {library}, which is not installed. Install it with: pip install 'microscopy-cls[{extra}]'"
        )
