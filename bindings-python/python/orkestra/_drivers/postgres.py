"""psycopg and asyncpg."""

from __future__ import annotations

from typing import Any

from orkestra._drivers.link import (
    AsyncLink,
    Row,
    Statement,
    SyncLink,
    no_transaction,
)

__all__ = ["Asyncpg", "Psycopg", "PsycopgAsync", "psycopg_commits_each"]


def psycopg_commits_each(connection: Any) -> bool:
    """Whether a psycopg connection is in autocommit mode, outside of a transaction."""
    # Without autocommit the next statement begins a transaction.
    return bool(connection.autocommit) and connection.info.transaction_status == 0


def _in_pipeline(connection: Any) -> bool:
    """Whether what was sent may not have been executed yet, such as a BEGIN."""
    return bool(connection.pgconn.pipeline_status)


class Psycopg(SyncLink):
    """A ``psycopg.Connection``."""

    dialect = "postgres"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def _require_transaction(self) -> None:
        if not psycopg_commits_each(self._connection):
            return
        if _in_pipeline(self._connection):
            self._rows(Statement("SELECT 1"))
            if not psycopg_commits_each(self._connection):
                return
        raise no_transaction(self._connection)

    def _rows(self, statement: Statement) -> list[Row]:
        with self._cursor() as cursor:
            if _in_pipeline(self._connection):
                # Only at the end of a pipeline it is known what came.
                with self._connection.pipeline():
                    cursor.execute(*statement)
            else:
                cursor.execute(*statement)
            return cursor.fetchall() if cursor.description else []

    def _cursor(self) -> Any:
        from psycopg import RawCursor
        from psycopg.rows import tuple_row

        # Not the connection's own cursors: users choose what those return.
        return RawCursor(self._connection, row_factory=tuple_row)


class PsycopgAsync(AsyncLink):
    """A ``psycopg.AsyncConnection``."""

    dialect = "postgres"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def _require_transaction(self) -> None:
        if not psycopg_commits_each(self._connection):
            return
        if _in_pipeline(self._connection):
            await self._rows(Statement("SELECT 1"))
            if not psycopg_commits_each(self._connection):
                return
        raise no_transaction(self._connection)

    async def _rows(self, statement: Statement) -> list[Row]:
        async with self._cursor() as cursor:
            if _in_pipeline(self._connection):
                async with self._connection.pipeline():
                    await cursor.execute(*statement)
            else:
                await cursor.execute(*statement)
            return await cursor.fetchall() if cursor.description else []

    def _cursor(self) -> Any:
        from psycopg import AsyncRawCursor
        from psycopg.rows import tuple_row

        return AsyncRawCursor(self._connection, row_factory=tuple_row)


class Asyncpg(AsyncLink):
    """An ``asyncpg.Connection``, or what its pool lends."""

    dialect = "postgres"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def _require_transaction(self) -> None:
        if self._connection.is_in_transaction():
            return
        if self._connection.is_closed():
            # What the driver says of it: the transaction went with the connection.
            await self._connection.fetch("SELECT 1")
        raise no_transaction(self._connection)

    async def _rows(self, statement: Statement) -> list[Row]:
        records = await self._connection.fetch(statement.sql, *statement.parameters)
        return [tuple(record) for record in records]
