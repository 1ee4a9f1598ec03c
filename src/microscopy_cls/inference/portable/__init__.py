"""A bundle as a folder for programs that do not know this one: a graph, a note, the classes, the thresholds."""

from microscopy_cls.inference.portable.check import TOLERANCE
from microscopy_cls.inference.portable.export import FORMATS, Exported, export_bundle

__all__ = ["FORMATS", "TOLERANCE", "Exported", "export_bundle"]
