"""Progress bars with rate and time left: on a terminal only, always on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], description: str, total: int | None = None, unit: str = "image") -> Iterator[Item]:
    """Yield `items`, showing how many per second and how long is left. Log lines pass above the bar."""
    with bar(description, total if total is not None else _length(items), unit) as shown:
        for item in items:
            yield item
            shown.update(1)


@contextmanager
def bar(description: str, total: int | None, unit: str = "image", *, shown: bool = True) -> Iterator[tqdm[Any]]:
    """A bar to be moved by hand with `.update(n)`."""
    hidden = not (shown and sys.stderr.isatty())
    with (
        logging_redirect_tqdm(loggers=[logging.getLogger()]),
        tqdm(total=total, desc=description, unit=unit, file=sys.stderr, disable=hidden, dynamic_ncols=True) as moved,
    ):
        yield moved


def _length(items: Iterable[Item]) -> int | None:
    return len(items) if isinstance(items, Sized) else None
