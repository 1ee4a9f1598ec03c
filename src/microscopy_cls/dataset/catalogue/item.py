"""One image of a set, as it will lie."""

from __future__ import annotations

from dataclasses import dataclass, replace

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Item:
    """Where an image comes from and what is known of it.

    Attributes:
        path: in the repository.
        label: its class, and the folder that it is laid into.
        name: of its file there.
        group: what must stay in one fold with it; "" where nothing is known.
        box: the part of the picture that it is, [left, right) and [top, bottom) as (left, top, right, bottom) in
            pixels; None: the file as it is, byte for byte.
    """

    path: str
    label: str
    name: str
    group: str = ""
    box: Box | None = None

    @property
    def file(self) -> str:
        """Relative to the set's folder."""
        return f"{self.label}/{self.name}"

    def with_group(self, group: str) -> Item:
        """The same image in a group."""
        return replace(self, group=group)
