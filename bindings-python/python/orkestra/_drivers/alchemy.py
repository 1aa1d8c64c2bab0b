"""SQLAlchemy 2, over psycopg, asyncpg, sqlite3 and aiosqlite."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from orkestra._drivers.link import (
    Dialect,
    Link,
    Row,
    SyncLink,
    full_name,
    no_transaction,
)
from orkestra._drivers.postgres import psycopg_commits_each
from orkestra._drivers.sqlite import begin_for, unnumbered
from orkestra.errors import InvalidConnectionError

if TYPE_CHECKING:
    from orkestra._drivers.link import Statement, Work

__all__ = [
    "Alchemy",
    "AlchemyAsync",
    "AlchemyAsyncScopedSession",
    "AlchemyAsyncSession",
    "AlchemySession",
]

T = TypeVar("T")

_DIALECTS: dict[tuple[str, str], Dialect] = {
    ("postgresql", "psycopg"): "postgres",
    ("postgresql", "psycopg_async"): "postgres",
    ("postgresql", "asyncpg"): "postgres",
    ("sqlite", "pysqlite"): "sqlite",
    ("sqlite", "aiosqlite"): "sqlite",
}


class Alchemy(SyncLink):
    """A ``sqlalchemy.Connection``."""

    def __init__(self, connection: Any) -> None:
        dialect = connection.dialect
        known = _DIALECTS.get((dialect.name, dialect.driver))
        if known is None:
            expected = "SQLAlchemy over psycopg, asyncpg, sqlite3 or aiosqlite"
            found = f"{full_name(type(connection))} ({dialect.name}+{dialect.driver})"
            message = f"expected {expected}, found {found}"
            raise InvalidConnectionError(
                message, {"expected": expected, "found": found}
            )
        self.dialect = known
        self._connection = connection

    def _require_transaction(self) -> None:
        connection = self._connection
        if not connection.in_transaction():
            # As the first statement would; a listener may say BEGIN here.
            connection.begin()
        driver = connection.connection.driver_connection
        if self.dialect == "sqlite":
            begin = begin_for(driver)
            if begin is not None:
                connection.exec_driver_sql(begin)
        elif connection.dialect.driver == "asyncpg":
            # Otherwise the adapter opens one before its next statement.
            adapter = connection.connection.dbapi_connection
            if adapter.autocommit and not driver.is_in_transaction():
                raise no_transaction(connection)
        elif psycopg_commits_each(driver):
            raise no_transaction(connection)

    def _rows(self, statement: Statement) -> list[Row]:
        if self.dialect == "sqlite":
            statement = unnumbered(statement)
        sql, parameters = statement
        if self._connection.dialect.paramstyle == "pyformat":
            sql = re.sub(r"\$(\d+)", r"%(p\1)s", sql.replace("%", "%%"))
            named = {f"p{n}": value for n, value in enumerate(parameters, 1)}
            result = self._connection.exec_driver_sql(sql, named)
        else:
            result = self._connection.exec_driver_sql(sql, parameters)
        with result:
            return [tuple(row) for row in result] if result.returns_rows else []


class AlchemySession(Alchemy):
    """A ``sqlalchemy.orm.Session``."""

    def __init__(self, session: Any) -> None:
        super().__init__(session.connection())


class AlchemyAsync(Link):
    """A ``sqlalchemy.ext.asyncio.AsyncConnection``."""

    _sync: type[Alchemy] = Alchemy

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def run(self, work: Work[T]) -> T:
        def run(connection: Any) -> T:
            return self._sync(connection).run(work).value

        result: T = await self._connection.run_sync(run)
        return result


class AlchemyAsyncSession(AlchemyAsync):
    """A ``sqlalchemy.ext.asyncio.AsyncSession``."""

    _sync = AlchemySession


class AlchemyAsyncScopedSession(AlchemyAsyncSession):
    """A ``sqlalchemy.ext.asyncio.async_scoped_session``."""

    def __init__(self, sessions: Any) -> None:
        # It hands on most of what a session has, but not all.
        super().__init__(sessions())
