"""Statements of ours in the user's own transaction, through every driver."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg_pool
import pytest
import sqlalchemy

from drivers import DRIVERS, Driver, rolled_back
from orkestra._drivers import Dialect, Done, Statement, Steps, is_async, run
from orkestra.errors import InvalidConnectionError, NoTransactionError
from postgres import Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EACH = pytest.mark.parametrize("driver", DRIVERS, ids=lambda d: d.name)
COMMITTING = pytest.mark.parametrize(
    "driver", [d for d in DRIVERS if d.autocommit], ids=lambda d: d.name
)


@pytest.fixture
def url(driver: Driver, tmp_path: Path) -> Iterator[str]:
    """An empty database for the driver."""
    if driver.dialect == "sqlite":
        yield str(tmp_path / "view.db")
        return
    database = Database()
    yield database.url
    database.drop()


def mark(dialect: Dialect) -> str:
    return "$" if dialect == "postgres" else "?"


def keep(name: str, number: int | None) -> Any:
    """Keeps a number under a name, as checkpoints are kept; gives what is kept."""

    def work(dialect: Dialect) -> Steps[list[Any]]:
        p = mark(dialect)
        yield Statement(
            "CREATE TABLE IF NOT EXISTS kept (name text PRIMARY KEY, number bigint)"
        )
        done = yield Statement(
            f"INSERT INTO kept VALUES ({p}1, {p}2) ON CONFLICT (name) DO UPDATE "
            f"SET number = {p}2 WHERE '%s' <> {p}1 RETURNING name, number",
            (name, number),
        )
        return done

    return work


def kept(dialect: Dialect) -> Steps[list[Any]]:
    if dialect == "postgres":
        there = yield Statement("SELECT to_regclass($1) IS NOT NULL", ("kept",))
    else:
        there = yield Statement(
            "SELECT count(*) FROM sqlite_master WHERE name = ?1", ("kept",)
        )
    if not there[0][0]:
        return []
    return (yield Statement("SELECT name, number FROM kept ORDER BY name"))


@EACH
async def test_what_is_written_commits_with_the_transaction(
    driver: Driver, url: str
) -> None:
    async with driver.transaction(url) as connection:
        done = run(connection, keep("a'b %s", 2**40))
        assert isinstance(done, Done) is not driver.is_async
        assert is_async(connection) is driver.is_async
        assert await done == [("a'b %s", 2**40)]
        assert await run(connection, keep("none", None)) == [("none", None)]
    async with driver.transaction(url) as connection:
        assert await run(connection, keep("none", 1)) == [("none", 1)]
    async with driver.transaction(url) as connection:
        assert await run(connection, kept) == [("a'b %s", 2**40), ("none", 1)]


@EACH
async def test_what_is_written_is_gone_after_a_rollback(
    driver: Driver, url: str
) -> None:
    async with rolled_back(driver, url) as connection:
        assert await run(connection, keep("a", 1))

    async with driver.transaction(url) as connection:
        assert await run(connection, kept) == []


@COMMITTING
async def test_a_connection_that_commits_by_itself_is_refused(
    driver: Driver, url: str
) -> None:
    assert driver.autocommit is not None
    async with driver.autocommit(url) as connection:
        with pytest.raises(NoTransactionError) as refused:
            await run(connection, keep("a", 1))
        kind = type(connection)
        assert refused.value.connection.rpartition(".")[2] in [
            base.__name__ for base in (kind, *kind.__mro__, sqlalchemy.Connection)
        ]

    async with driver.transaction(url) as connection:
        assert await run(connection, kept) == []


@EACH
async def test_steps_see_what_the_driver_raises(driver: Driver, url: str) -> None:
    seen: list[BaseException] = []

    def wrong(_dialect: Dialect) -> Steps[None]:
        try:
            yield Statement("SELECT * FROM nowhere")
        except Exception as error:
            seen.append(error)
            raise

    with pytest.raises(Exception, match="nowhere"):
        async with driver.transaction(url) as connection:
            await run(connection, wrong)
    assert len(seen) == 1


async def test_what_is_no_connection_is_named() -> None:
    pool: Any = psycopg_pool.AsyncConnectionPool("", open=False)
    engine = sqlalchemy.create_engine("sqlite://")
    things: list[tuple[object, str]] = [
        (pool, "psycopg_pool.pool_async.AsyncConnectionPool"),
        (engine, "sqlalchemy.engine.base.Engine"),
        (asyncpg.create_pool("postgres://"), "asyncpg.pool.Pool"),
        (None, "builtins.NoneType"),
        ("postgres://", "builtins.str"),
    ]
    for given, found in things:
        with pytest.raises(InvalidConnectionError) as refused:
            run(given, kept)
        assert refused.value.found == found
        assert "psycopg, asyncpg, SQLAlchemy or sqlite3" in str(refused.value)


def test_other_databases_of_sqlalchemy_are_named() -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        connection.dialect.driver = "pysqlcipher"
        with pytest.raises(InvalidConnectionError) as refused:
            run(connection, kept)
    assert refused.value.found.endswith("Connection (sqlite+pysqlcipher)")
    assert "over psycopg, asyncpg, sqlite3 or aiosqlite" in str(refused.value)


def test_importing_orkestra_imports_no_driver() -> None:
    names = "psycopg asyncpg sqlalchemy aiosqlite fastapi starlette"
    code = (
        "import sys, orkestra, orkestra.testing\n"
        f"print([n for n in '{names}'.split() if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
