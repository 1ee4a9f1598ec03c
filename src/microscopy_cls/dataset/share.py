"""One prepared folder under several names: experiments on the same images need not keep them twice."""

from __future__ import annotations

from pathlib import Path

from microscopy_cls.errors import DataError


def share_prepared(prepared: Path, name: Path) -> None:
    """Make `name` a link to the folder `prepared` beside it; a link of an earlier call is renewed.

    Raises:
        DataError: `name` is a folder of its own, with images that were prepared under it.
    """
    if name.is_symlink():
        name.unlink()
    elif name.exists():
        raise DataError(f"{name}: holds images that were prepared under this name. Remove it, or rename the config.")
    name.symlink_to(prepared.name, target_is_directory=True)
