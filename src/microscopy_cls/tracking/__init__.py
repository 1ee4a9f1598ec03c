"""MLflow, or nothing, behind one small interface. Nothing here imports MLflow before it is needed."""

from microscopy_cls.tracking.names import safe_name
from microscopy_cls.tracking.opening import open_tracker
from microscopy_cls.tracking.registry import bundle_dir_of, promote
from microscopy_cls.tracking.tracker import FoldLog, NullTracker, Tracker

__all__ = [
    "FoldLog",
    "NullTracker",
    "Tracker",
    "bundle_dir_of",
    "open_tracker",
    "promote",
    "safe_name",
]
