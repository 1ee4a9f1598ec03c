"""Sentences on a terminal."""

from __future__ import annotations

import textwrap

WIDTH = 100  # columns


def wrapped(sentence: str, first: str, other: str) -> list[str]:
    """Lines of at most `WIDTH` columns that begin with `first` and then `other`; paths and words stay whole."""
    return textwrap.wrap(
        sentence, WIDTH, initial_indent=first, subsequent_indent=other, break_on_hyphens=False, break_long_words=False
    )
