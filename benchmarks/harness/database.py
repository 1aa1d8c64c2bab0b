"""The private PostgreSQL server of a run, and an empty database for each process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.broker import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _quarter_of_memory() -> int:
    """Tells what PostgreSQL's manual advises for its own cache, in MiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4 // 1024**2


# What commits promise stays PostgreSQL's own: fsync and synchronous_commit are on. A
# checkpoint in the middle of a measurement would hit one side and not the other.
_SETTINGS = {
    "shared_buffers": f"{_quarter_of_memory()}MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
}
_NAME = "bench"


class Database:
    """A server of `scripts/postgres.sh` that ends with this process."""

    def __init__(self, checkout: Path) -> None:
        """Starts it."""
        self._script = str(checkout / "scripts/postgres.sh")
        self._port = free_port()
        self._folder = tempfile.mkdtemp(prefix="orkestra-bench-postgres.")
        self._call("start", str(self._port), str(os.getpid()))
        for name, value in _SETTINGS.items():
            self._sql(f"ALTER SYSTEM SET {name} = '{value}'")
        self._call("restart")

    @contextmanager
    def empty(self) -> Iterator[str]:
        """Makes an empty database and gives its URL; deletes it at the end."""
        self._call("database", _NAME)
        try:
            where = f"127.0.0.1:{self._port}/{_NAME}"
            yield f"postgres://orkestra:orkestra@{where}?sslmode=disable"
        finally:
            self._sql(f"DROP DATABASE {_NAME} WITH (FORCE)")

    def _sql(self, statement: str) -> None:
        self._call("sql", "postgres", statement)

    def _call(self, command: str, *words: str) -> None:
        call = [self._script, command, self._folder, *words]
        subprocess.run(call, check=True, stdout=sys.stderr)
