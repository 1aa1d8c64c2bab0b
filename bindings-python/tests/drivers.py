"""Every driver through which a user's own connection may come, used as its users do."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiosqlite
import asyncpg
import psycopg
import psycopg_pool
import sqlalchemy
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path


@dataclass(frozen=True)
class Driver:
    """One way to a database."""

    name: str
    dialect: str
    transaction: Callable[[str], AbstractAsyncContextManager[Any]]
    """A connection in a transaction, which commits unless something is raised."""
    autocommit: Callable[[str], AbstractAsyncContextManager[Any]] | None = None
    """A connection that commits each statement."""
    is_async: bool = True


@asynccontextmanager
async def psycopg_sync(url: str, **options: Any) -> AsyncIterator[Any]:
    # A commit that fails leaves it open.
    with closing(psycopg.connect(url, **options)) as connection, connection:
        yield connection


@asynccontextmanager
async def psycopg_sync_block(url: str) -> AsyncIterator[Any]:
    with psycopg.connect(url, autocommit=True) as connection, connection.transaction():
        yield connection


@asynccontextmanager
async def psycopg_cursor(url: str) -> AsyncIterator[Any]:
    async with psycopg_sync(url) as connection:
        with connection.cursor() as cursor:
            yield cursor


@asynccontextmanager
async def psycopg_dict_rows(url: str) -> AsyncIterator[Any]:
    async with psycopg_sync(url, row_factory=dict_row) as connection:
        yield connection


@asynccontextmanager
async def psycopg_async(url: str) -> AsyncIterator[Any]:
    connection = await psycopg.AsyncConnection.connect(url)
    try:
        async with connection:
            yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def psycopg_async_pool(url: str) -> AsyncIterator[Any]:
    options = {"autocommit": True}
    async with (
        psycopg_pool.AsyncConnectionPool(url, kwargs=options, open=False) as pool,
        pool.connection() as connection,
        connection.transaction() as transaction,
    ):
        yield transaction


@asynccontextmanager
async def psycopg_pipeline(url: str) -> AsyncIterator[Any]:
    async with (
        await psycopg.AsyncConnection.connect(url, autocommit=True) as connection,
        connection.pipeline(),
        connection.transaction(),
    ):
        yield connection


@asynccontextmanager
async def psycopg_autocommit(url: str) -> AsyncIterator[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@asynccontextmanager
async def psycopg_async_autocommit(url: str) -> AsyncIterator[Any]:
    connect = psycopg.AsyncConnection.connect
    async with await connect(url, autocommit=True) as connection:
        yield connection


@asynccontextmanager
async def psycopg_pipeline_autocommit(url: str) -> AsyncIterator[Any]:
    async with psycopg_async_autocommit(url) as connection, connection.pipeline():
        yield connection


@asynccontextmanager
async def asyncpg_plain(url: str) -> AsyncIterator[Any]:
    async with asyncpg_autocommit(url) as connection, connection.transaction():
        yield connection


@asynccontextmanager
async def asyncpg_transaction(url: str) -> AsyncIterator[Any]:
    async with asyncpg_autocommit(url) as connection:
        transaction = connection.transaction()
        async with transaction:
            yield transaction


@asynccontextmanager
async def asyncpg_pool(url: str) -> AsyncIterator[Any]:
    async with (
        asyncpg.create_pool(url, min_size=1, max_size=2) as pool,
        pool.acquire() as connection,
        connection.transaction(),
    ):
        yield connection


@asynccontextmanager
async def asyncpg_autocommit(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def alchemy_url(driver: str, url: str) -> str:
    """SQLAlchemy's form of a URL."""
    if "sqlite" in driver:
        return f"{driver}:///{url}"
    return driver + url[url.index(":") :]


def alchemy(driver: str, **options: Any) -> Any:
    @asynccontextmanager
    async def connection(url: str) -> AsyncIterator[Any]:
        engine = sqlalchemy.create_engine(alchemy_url(driver, url), **options)
        try:
            with engine.begin() as opened:
                yield opened
        finally:
            engine.dispose()

    return connection


def alchemy_session(driver: str) -> Any:
    @asynccontextmanager
    async def session(url: str) -> AsyncIterator[Any]:
        engine = sqlalchemy.create_engine(alchemy_url(driver, url))
        try:
            with Session(engine) as opened, opened.begin():
                yield opened
        finally:
            engine.dispose()

    return session


def alchemy_scoped_session(driver: str) -> Any:
    @asynccontextmanager
    async def session(url: str) -> AsyncIterator[Any]:
        engine = sqlalchemy.create_engine(alchemy_url(driver, url))
        sessions = scoped_session(sessionmaker(engine))
        try:
            with sessions.begin():
                yield sessions
        finally:
            sessions.remove()
            engine.dispose()

    return session


def alchemy_async(driver: str, **options: Any) -> Any:
    @asynccontextmanager
    async def connection(url: str) -> AsyncIterator[Any]:
        engine = create_async_engine(alchemy_url(driver, url), **options)
        try:
            async with engine.begin() as opened:
                yield opened
        finally:
            await engine.dispose()

    return connection


def alchemy_async_session(driver: str) -> Any:
    @asynccontextmanager
    async def session(url: str) -> AsyncIterator[Any]:
        engine = create_async_engine(alchemy_url(driver, url))
        try:
            async with AsyncSession(engine) as opened, opened.begin():
                yield opened
        finally:
            await engine.dispose()

    return session


def alchemy_async_scoped_session(driver: str) -> Any:
    @asynccontextmanager
    async def session(url: str) -> AsyncIterator[Any]:
        engine = create_async_engine(alchemy_url(driver, url))
        made = async_sessionmaker(engine)
        sessions = async_scoped_session(made, asyncio.current_task)
        try:
            async with sessions.begin():
                yield sessions
        finally:
            await sessions.remove()
            await engine.dispose()

    return session


@asynccontextmanager
async def sqlite3_plain(path: str) -> AsyncIterator[Any]:
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


@asynccontextmanager
async def sqlite3_rows(path: str) -> AsyncIterator[Any]:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.row_factory = sqlite3.Row
        yield connection


@asynccontextmanager
async def sqlite3_begun(path: str) -> AsyncIterator[Any]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection.cursor()
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


@asynccontextmanager
async def sqlite3_autocommit(path: str) -> AsyncIterator[Any]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@asynccontextmanager
async def aiosqlite_plain(path: str) -> AsyncIterator[Any]:
    async with aiosqlite.connect(path) as connection:
        try:
            yield connection
        except BaseException:
            await connection.rollback()
            raise
        await connection.commit()


@asynccontextmanager
async def aiosqlite_autocommit(path: str) -> AsyncIterator[Any]:
    async with aiosqlite.connect(path, isolation_level=None) as connection:
        yield connection


PG, LITE = "postgres", "sqlite"
AUTO: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"}
psycopg_, asyncpg_ = "postgresql+psycopg", "postgresql+asyncpg"

POSTGRES = [
    Driver("psycopg", PG, psycopg_sync, psycopg_autocommit, is_async=False),
    Driver("psycopg-block", PG, psycopg_sync_block, is_async=False),
    Driver("psycopg-cursor", PG, psycopg_cursor, is_async=False),
    Driver("psycopg-dict-rows", PG, psycopg_dict_rows, is_async=False),
    Driver("psycopg-async", PG, psycopg_async, psycopg_async_autocommit),
    Driver("psycopg-async-pool", PG, psycopg_async_pool),
    Driver("psycopg-pipeline", PG, psycopg_pipeline, psycopg_pipeline_autocommit),
    Driver("asyncpg", PG, asyncpg_plain, asyncpg_autocommit),
    Driver("asyncpg-transaction", PG, asyncpg_transaction),
    Driver("asyncpg-pool", PG, asyncpg_pool),
    Driver(
        "sqlalchemy-psycopg",
        PG,
        alchemy(psycopg_),
        alchemy(psycopg_, **AUTO),
        is_async=False,
    ),
    Driver("sqlalchemy-session", PG, alchemy_session(psycopg_), is_async=False),
    Driver(
        "sqlalchemy-scoped-session",
        PG,
        alchemy_scoped_session(psycopg_),
        is_async=False,
    ),
    Driver(
        "sqlalchemy-psycopg-async",
        PG,
        alchemy_async(psycopg_),
        alchemy_async(psycopg_, **AUTO),
    ),
    Driver(
        "sqlalchemy-asyncpg",
        PG,
        alchemy_async(asyncpg_),
        alchemy_async(asyncpg_, **AUTO),
    ),
    Driver("sqlalchemy-asyncpg-session", PG, alchemy_async_session(asyncpg_)),
    Driver(
        "sqlalchemy-async-scoped-session", PG, alchemy_async_scoped_session(asyncpg_)
    ),
]

SQLITE = [
    Driver("sqlite3", LITE, sqlite3_plain, sqlite3_autocommit, is_async=False),
    Driver("sqlite3-rows", LITE, sqlite3_rows, is_async=False),
    Driver("sqlite3-begun", LITE, sqlite3_begun, is_async=False),
    Driver("aiosqlite", LITE, aiosqlite_plain, aiosqlite_autocommit),
    Driver(
        "sqlalchemy-sqlite",
        LITE,
        alchemy("sqlite"),
        alchemy("sqlite", **AUTO),
        is_async=False,
    ),
    Driver(
        "sqlalchemy-sqlite-session", LITE, alchemy_session("sqlite"), is_async=False
    ),
    Driver("sqlalchemy-aiosqlite", LITE, alchemy_async("sqlite+aiosqlite")),
    Driver(
        "sqlalchemy-aiosqlite-session",
        LITE,
        alchemy_async_session("sqlite+aiosqlite"),
    ),
]

DRIVERS = POSTGRES + SQLITE


@contextlib.contextmanager
def seems_open_on(store: Path) -> Iterator[sqlite3.Connection]:
    """A connection that says it has the file of a store open.

    In truth it has another one: a second SQLite library on a store's file cuts off the
    memory that the first one has mapped, which kills the process now and then.
    """
    name = store.with_name("elsewhere.db")
    with closing(sqlite3.connect(name)) as connection, connection:
        connection.execute("CREATE TABLE notes (id)")
        name.rename(store.with_name("real.db"))
        name.symlink_to(store)
        yield connection


class RolledBackError(Exception):
    """What the tests raise to roll back."""


@asynccontextmanager
async def rolled_back(driver: Driver, url: str) -> AsyncIterator[Any]:
    """A connection in a transaction that comes to nothing."""
    with contextlib.suppress(RolledBackError):
        async with driver.transaction(url) as connection:
            yield connection
            raise RolledBackError
