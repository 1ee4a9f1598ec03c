"""One self-contained page that says what was measured, on what, and what it may and may not claim."""

from microscopy_cls.reporting.page import write_report

__all__ = ["write_report"]
