from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# The shop is a module of its own: messages are named after their modules.
sys.path.insert(0, str(Path(__file__).parent))

from postgres import Database
from rabbit import Host


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty store of each kind."""
    if request.param == "postgres":
        database = Database()
        yield database.url
        database.drop()
    else:
        file = f"sqlite:{tmp_path}/store.db"
        yield "memory:" if request.param == "memory" else file


@pytest.fixture
def database() -> Iterator[Database]:
    """An empty database in PostgreSQL."""
    database = Database()
    yield database
    database.drop()


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """The URL of an empty SQLite store."""
    return f"sqlite:{tmp_path}/store.db"


@pytest.fixture
def host() -> Iterator[Host]:
    """A virtual host of its own at the broker."""
    host = Host()
    yield host
    host.delete()
