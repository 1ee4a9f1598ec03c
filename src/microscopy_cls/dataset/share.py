"""One prepared folder under several names: experiments on the same images need not keep them twice."""

from __future__ import annotations

import logging
from pathlib import Path

from microscopy_cls.errors import DataError

log = logging.getLogger(__name__)


def part_prepared(prepared: Path) -> None:
    """Remove `prepared` where it is a link that `share_prepared` made: what is written there is other names' too.

    A link to elsewhere, as to another disk, is a person's own and stays.
    """
    if prepared.is_symlink() and prepared.readlink().parent == Path():
        log.warning("%s: was a link to %s; from here on it has images of its own", prepared, prepared.readlink())
        prepared.unlink()


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
