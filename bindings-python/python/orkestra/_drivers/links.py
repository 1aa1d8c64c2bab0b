"""Which driver a connection is of."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from orkestra._drivers.alchemy import (
    Alchemy,
    AlchemyAsync,
    AlchemyAsyncScopedSession,
    AlchemyAsyncSession,
    AlchemySession,
)
from orkestra._drivers.link import Link, SyncLink, Work, full_name
from orkestra._drivers.postgres import Asyncpg, Psycopg, PsycopgAsync
from orkestra._drivers.sqlite import Aiosqlite, Sqlite
from orkestra.errors import InvalidConnectionError

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["SUPPORTED", "is_async", "link", "run"]

T = TypeVar("T")

SUPPORTED = "a connection of psycopg, asyncpg, SQLAlchemy or sqlite3"
"""What can be given, for people."""


class _Kind(NamedTuple):
    module: str
    name: str
    link: type[Link]
    inner: str | None = None
    """The attribute that holds the connection, of what belongs to one."""


_KINDS = (
    _Kind("psycopg", "AsyncConnection", PsycopgAsync),
    _Kind("psycopg", "Connection", Psycopg),
    _Kind("psycopg", "AsyncCursor", PsycopgAsync, "connection"),
    _Kind("psycopg", "Cursor", Psycopg, "connection"),
    _Kind("psycopg", "AsyncTransaction", PsycopgAsync, "connection"),
    _Kind("psycopg", "Transaction", Psycopg, "connection"),
    _Kind("asyncpg", "Connection", Asyncpg),
    _Kind("asyncpg.pool", "PoolConnectionProxy", Asyncpg),
    _Kind("asyncpg.transaction", "Transaction", Asyncpg, "_connection"),
    _Kind("sqlalchemy.ext.asyncio", "AsyncConnection", AlchemyAsync),
    _Kind("sqlalchemy.ext.asyncio", "AsyncSession", AlchemyAsyncSession),
    _Kind("sqlalchemy.ext.asyncio", "async_scoped_session", AlchemyAsyncScopedSession),
    _Kind("sqlalchemy", "Connection", Alchemy),
    _Kind("sqlalchemy.orm", "Session", AlchemySession),
    _Kind("sqlalchemy.orm", "scoped_session", AlchemySession),
    _Kind("sqlite3", "Connection", Sqlite),
    _Kind("sqlite3", "Cursor", Sqlite, "connection"),
    _Kind("aiosqlite", "Connection", Aiosqlite),
)

_FOUND: dict[type[Any], _Kind] = {}


def _kind(given: object) -> _Kind:
    found = _FOUND.get(type(given))
    if found is not None:
        return found
    for kind in _KINDS:
        # Whoever has an object of a driver has imported the driver.
        base = getattr(sys.modules.get(kind.module), kind.name, None)
        if base is not None and isinstance(given, base):
            return _FOUND.setdefault(type(given), kind)
    found_name = full_name(type(given))
    message = f"expected {SUPPORTED}, found {found_name}"
    details = {"expected": SUPPORTED, "found": found_name}
    raise InvalidConnectionError(message, details)


def link(given: object) -> Link:
    """The way to execute statements on the connection that a user gave.

    Raises:
        InvalidConnectionError: It is none that we know.
    """
    kind = _kind(given)
    return kind.link(given if kind.inner is None else getattr(given, kind.inner))


def is_async(given: object) -> bool:
    """Whether what is done with it has to be awaited."""
    kind = _kind(given).link
    return not issubclass(kind, SyncLink)


def run(given: object, work: Work[T]) -> Awaitable[T]:
    """Runs `work` in the open transaction of a user's connection.

    Raises:
        InvalidConnectionError: It is no connection that we know.
        NoTransactionError: It would commit each statement by itself.
    """
    return link(given).run(work)
