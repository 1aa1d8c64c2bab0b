from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The shop is a module of its own: messages are named after their modules.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store of each kind."""
    return "memory:" if request.param == "memory" else f"sqlite:{tmp_path}/store.db"


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """The URL of an empty SQLite store."""
    return f"sqlite:{tmp_path}/store.db"
