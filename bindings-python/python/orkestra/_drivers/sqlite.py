"""sqlite3 and aiosqlite."""

from __future__ import annotations

import re
from contextlib import closing
from functools import lru_cache
from typing import Any

from orkestra._drivers.link import (
    AsyncLink,
    Row,
    Statement,
    SyncLink,
    no_transaction,
)

__all__ = ["Aiosqlite", "Sqlite", "begin_for", "unnumbered"]

_LEGACY = -1
"""``sqlite3.LEGACY_TRANSACTION_CONTROL``, which Python has from 3.12 on."""


def begin_for(connection: Any) -> str | None:
    """The statement that begins a transaction, ``None`` when one is open.

    Before the first INSERT, UPDATE or DELETE sqlite3 says ``BEGIN`` by itself, which is
    too late for what we read and create before.

    Raises:
        NoTransactionError: It would commit each statement by itself.
    """
    if connection.in_transaction:
        return None
    # aiosqlite does not hand it on.
    inner = getattr(connection, "_conn", connection)
    autocommit = getattr(inner, "autocommit", _LEGACY)
    level = connection.isolation_level
    if autocommit is True or (autocommit == _LEGACY and level is None):
        raise no_transaction(connection)
    return f"BEGIN {level or ''}".rstrip()


@lru_cache
def _places(sql: str) -> tuple[str, tuple[int, ...]]:
    numbers = tuple(int(number) - 1 for number in re.findall(r"\?(\d+)", sql))
    return re.sub(r"\?\d+", "?", sql), numbers


def unnumbered(statement: Statement) -> Statement:
    """The statement with ``?`` for ``?1``.

    Python 3.12's sqlite3 takes a number for a name, which goes with a dictionary only.
    """
    sql, places = _places(statement.sql)
    return Statement(sql, tuple(statement.parameters[place] for place in places))


class Sqlite(SyncLink):
    """A ``sqlite3.Connection``."""

    dialect = "sqlite"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def _require_transaction(self) -> None:
        begin = begin_for(self._connection)
        if begin is not None:
            self._connection.execute(begin)

    def _rows(self, statement: Statement) -> list[Row]:
        with closing(self._connection.cursor()) as cursor:
            # Users choose what their connection returns.
            cursor.row_factory = None
            rows: list[Row] = cursor.execute(*unnumbered(statement)).fetchall()
            return rows


class Aiosqlite(AsyncLink):
    """An ``aiosqlite.Connection``."""

    dialect = "sqlite"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def _require_transaction(self) -> None:
        begin = begin_for(self._connection)
        if begin is not None:
            await self._connection.execute(begin)

    async def _rows(self, statement: Statement) -> list[Row]:
        async with self._connection.cursor() as cursor:
            cursor.row_factory = None
            await cursor.execute(*unnumbered(statement))
            return [tuple(row) for row in await cursor.fetchall()]
