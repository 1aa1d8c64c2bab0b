"""The database of the board: the user's own, which Orkestra knows nothing of.

With PostgreSQL it is the one that holds the log, through psycopg. With SQLite it is
another file, through sqlite3: nothing else may open the file of a store.
"""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from psycopg import AsyncConnection

Values = tuple[str | int, ...]
LIBPQ = ("host", "sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout")


class Transaction(Protocol):
    """An open transaction: the connection, and statements with ``?``."""

    connection: Any

    async def execute(self, sql: str, rows: Sequence[Values] = ()) -> None: ...

    async def fetch(self, sql: str) -> list[tuple[Any, ...]]: ...


class View(Protocol):
    """A database for views."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]: ...

    async def close(self) -> None: ...


async def open_view(store: str) -> View:
    """The database for the views of a store."""
    if store.startswith("sqlite:"):
        return SqliteView(f"{store.removeprefix('sqlite:')}.board")
    return await PostgresView.open(libpq_url(store))


def libpq_url(store: str) -> str:
    """The URL of a store for a driver: with what libpq knows, such as ``sslmode``."""
    parts = urlsplit(store)
    known = [(name, value) for name, value in parse_qsl(parts.query) if name in LIBPQ]
    return parts._replace(query=urlencode(known)).geturl()


class SqliteView:
    """A file of its own."""

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqliteView]:
        with self.connection:
            yield self

    async def execute(self, sql: str, rows: Sequence[Values] = ()) -> None:
        if rows:
            self.connection.executemany(sql, rows)
        else:
            self.connection.execute(sql)

    async def fetch(self, sql: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql).fetchall()

    async def close(self) -> None:
        self.connection.close()


class PostgresView:
    """A connection to the database of the store."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection

    @classmethod
    async def open(cls, url: str) -> PostgresView:
        # Who keeps nothing in PostgreSQL needs no driver for it.
        import psycopg

        connect = psycopg.AsyncConnection.connect
        return cls(await connect(url, autocommit=True))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresView]:
        async with self.connection.transaction():
            yield self

    async def execute(self, sql: str, rows: Sequence[Values] = ()) -> None:
        statement = sql.replace("?", "%s").encode()
        async with self.connection.cursor() as cursor:
            if rows:
                await cursor.executemany(statement, rows)
            else:
                await cursor.execute(statement)

    async def fetch(self, sql: str) -> list[tuple[Any, ...]]:
        cursor = await self.connection.execute(sql.encode())
        return await cursor.fetchall()

    async def close(self) -> None:
        await self.connection.close()
