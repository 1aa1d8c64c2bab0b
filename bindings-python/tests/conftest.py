from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# The shop is a module of its own: messages are named after their modules.
sys.path.insert(0, str(Path(__file__).parent))

from rabbit import Host


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store of each kind."""
    return "memory:" if request.param == "memory" else f"sqlite:{tmp_path}/store.db"


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
