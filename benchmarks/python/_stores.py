"""Where the sides keep their events: `sqlite` in this process's folder, or the
empty `postgres` database that run.py made for this process."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from _timing import work_file


def postgres_url() -> str:
    """Returns the URL of the database that run.py made for this process."""
    return os.environ["BENCH_POSTGRES"]


def ours(store: str) -> str:
    """Returns Orkestra's URL of `store`."""
    return postgres_url() if store == "postgres" else f"sqlite:{work_file('ours.db')}"


def eventsourcing(store: str, connections: int) -> dict[str, str]:
    """Returns the settings of `eventsourcing` for `store`."""
    if store == "sqlite":
        return {
            "PERSISTENCE_MODULE": "eventsourcing.sqlite",
            "SQLITE_DBNAME": str(work_file("eventsourcing.db")),
            "SQLITE_LOCK_TIMEOUT": "30",
        }
    url = urlsplit(postgres_url())
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": url.path.lstrip("/"),
        "POSTGRES_HOST": url.hostname or "",
        "POSTGRES_PORT": str(url.port),
        "POSTGRES_USER": url.username or "",
        "POSTGRES_PASSWORD": url.password or "",
        "POSTGRES_POOL_SIZE": str(connections),
        "POSTGRES_MAX_OVERFLOW": "0",
        "POSTGRES_MAX_WAITING": "0",
    }
