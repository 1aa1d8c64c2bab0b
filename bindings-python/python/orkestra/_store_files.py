"""The files of an app's own stores, which nothing else may open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orkestra._drivers import Statement
from orkestra.errors import StoreFileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orkestra._drivers import Steps

__all__ = ["refuse_store_file"]


def refuse_store_file(store_files: Sequence[str]) -> Steps[None]:
    """Refuses a SQLite connection on one of these files.

    Two SQLite libraries in one process do not exclude each other and destroy data.

    Raises:
        StoreFileError: The connection has one of them open.
    """
    if not store_files:
        return
    for _, _, path in (yield Statement("PRAGMA database_list")):
        for own in store_files:
            if path and _same(Path(path), Path(own)):
                message = f"{path}: expected another file than the store's own"
                raise StoreFileError(message, {"path": path})


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
