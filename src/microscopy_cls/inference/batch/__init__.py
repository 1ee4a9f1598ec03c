"""Classify many inputs overnight: readers that may crash, an engine that does not wait, a journal that survives."""

from microscopy_cls.inference.batch.classify import Request, Summary, classify

__all__ = ["Request", "Summary", "classify"]
