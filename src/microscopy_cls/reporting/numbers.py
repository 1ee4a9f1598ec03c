"""Numbers as the page writes them: shares in percent and their differences in points with one decimal, others three."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["percent", "decimal", "points"]

NUM_NAME_CHARS = 40
NO_VALUE = "–"
PERCENT = "\u202f%"  # after a narrow space that does not break


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval and its values on the single folds; None where there is no value."""

    kind: Kind
    value: float | None = None
    low: float | None = None
    high: float | None = None
    folds: tuple[float, ...] = ()

    @classmethod
    def read(cls, entry: Any, kind: Kind) -> Estimate:
        """From an entry of the metrics file: `{value, ci_low, ci_high, fold_values}`, any of it null or missing."""
        if not isinstance(entry, dict):
            return cls(kind)
        folds = (finite(value) for value in entry.get("fold_values") or ())
        value, low, high = (finite(entry.get(key)) for key in ("value", "ci_low", "ci_high"))
        return cls(kind, value, low, high, tuple(fold for fold in folds if fold is not None))

    @property
    def text(self) -> str:
        """The figure itself."""
        return shown(self.value, self.kind)

    @property
    def full(self) -> str:
        """The figure with its interval, for a sentence: "90.3 % (88.2–92.3 %)"."""
        return self.text if self.interval == NO_VALUE else f"{self.text} ({self.interval})"

    @property
    def interval(self) -> str:
        """Both ends of the interval."""
        return span(self.low, self.high, self.kind)

    @property
    def bare_interval(self) -> str:
        """Both ends without the percent sign, where it stands beside the figure."""
        return self.interval.removesuffix(PERCENT)

    @property
    def spread(self) -> str:
        """Lowest and highest fold."""
        return span(min(self.folds), max(self.folds), self.kind) if self.folds else NO_VALUE


def finite(value: Any) -> float | None:
    """A number, or None for null, NaN, infinity and anything that is no number."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def shown(value: float | None, kind: Kind) -> str:
    """`0.9034` as "90.3 %" or "0.903", a difference of `-0.041` as "−4.1"."""
    if value is None:
        return NO_VALUE
    texts = {"percent": f"{100 * value:.1f}{PERCENT}", "decimal": f"{value:.3f}", "points": f"{100 * value:+.1f}"}
    return texts[kind].replace("-", "−")


def span(low: float | None, high: float | None, kind: Kind) -> str:
    """Two numbers as "88.2–92.3 %" or "0.882–0.923"; two differences as "−4.1 to +0.3"."""
    if low is None or high is None:
        return NO_VALUE
    if kind == "points":
        return f"{shown(low, kind)} to {shown(high, kind)}"
    return f"{shown(low, kind).removesuffix(PERCENT)}–{shown(high, kind)}"


def count(num: int) -> str:
    """`20000` as "20,000"."""
    return f"{num:,}"


def counted(num: int, noun: str, many: str = "") -> str:
    """A number and its noun: "1 image", "20,000 images"; `many` where an s does not make the plural."""
    return f"{num:,} {noun if num == 1 else many or noun + 's'}"


def duration(seconds: float | None) -> str:
    """Seconds as "2 h 05 min", "4 min 36 s" or "12 s"."""
    if seconds is None:
        return NO_VALUE
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left:02d} min"
    return f"{minutes} min {rest_s:02d} s" if minutes else f"{rest_s} s"


def named(text: str, num_chars: int = NUM_NAME_CHARS) -> str:
    """A class or group inside a sentence: not longer than it, and its writing direction kept from the rest."""
    return f"\u2068{shortened(text, num_chars)}\u2069"


def shortened(text: str, num_chars: int) -> str:
    """At most `num_chars` characters; the middle goes, because names of a kind differ at their ends."""
    if len(text) <= num_chars:
        return text
    head = num_chars * 2 // 3
    return f"{text[:head]}…{text[len(text) - (num_chars - 1 - head) :]}"
