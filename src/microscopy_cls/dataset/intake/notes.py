"""What is said about the choices, collected while they are made."""

from __future__ import annotations

from dataclasses import dataclass, field

TOPICS = (
    "columns", "images", "ignored", "split", "groups", "folds", "balance", "metadata", "sample", "intensity", "size",
    "modality",
)  # fmt: skip
NUM_SHOWN = 3  # examples in a sentence


@dataclass
class Notes:
    """Sentences for the terminal and for the file.

    Attributes:
        findings: a sentence by topic, one of `TOPICS`.
        cautions: what a person should look at.
        reasons: sentences that stand above a key of the file, by dotted key.
    """

    findings: dict[str, str] = field(default_factory=dict)
    cautions: list[str] = field(default_factory=list)
    reasons: dict[str, list[str]] = field(default_factory=dict)

    def find(self, topic: str, sentence: str, key: str | None = None) -> None:
        """Tell on the terminal and, with a key, in the file."""
        assert topic in TOPICS
        self.findings[topic] = sentence
        if key:
            self.explain(key, sentence)

    def caution(self, sentence: str, key: str | None = None) -> None:
        """Tell on the terminal as something to look at and, with a key, in the file."""
        self.cautions.append(sentence)
        if key:
            self.explain(key, sentence)

    def explain(self, key: str, sentence: str) -> None:
        """Tell in the file, above a key."""
        self.reasons.setdefault(key, []).append(f"{sentence[0].upper()}{sentence[1:].rstrip('.')}.")


def count(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def group_sizes(sizes: list[int]) -> str:
    """`10 groups of 17 to 42 images`."""
    return f"{count(len(sizes), 'group')} of {min(sizes)} to {count(max(sizes), 'image')}"
