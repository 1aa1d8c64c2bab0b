"""What says that something is away: it is waited for, and no event is given up."""

from __future__ import annotations

import asyncio
import errno
import socket
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from orkestra import Checkpoint, Orkestra, RecordedEvent, RetryPolicy
from orkestra._failures import also_known_as, records
from orkestra.errors import StoreUnavailableError
from shop import OrderPlaced

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from postgres import Database

NO_WAIT = RetryPolicy(max_retries=0, initial=0.001, max_delay=0.002)


def closed_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


async def through_asyncpg(_folder: Path) -> None:
    await asyncpg.connect(host="localhost", port=closed_port(), user="nobody")


async def through_psycopg(_folder: Path) -> None:
    url = f"postgres://nobody@localhost:{closed_port()}/nothing"
    await psycopg.AsyncConnection.connect(url)


async def through_alchemy(_folder: Path) -> None:
    url = f"postgresql+asyncpg://nobody@localhost:{closed_port()}/nothing"
    engine = create_async_engine(url)
    try:
        async with engine.connect():
            raise AssertionError
    finally:
        await engine.dispose()


async def through_an_unknown_host(_folder: Path) -> None:
    await asyncio.get_running_loop().getaddrinfo("no-such-host.invalid", 5432)


async def through_an_exhausted_pool(folder: Path) -> None:
    url = f"sqlite:///{folder}/view.db"
    engine = sqlalchemy.create_engine(
        url,
        pool_size=1,
        max_overflow=0,
        pool_timeout=0,
        poolclass=sqlalchemy.QueuePool,
    )
    with engine.connect():
        engine.connect()


async def through_a_lock(folder: Path) -> None:
    path = folder / "locked.db"
    with (
        closing(sqlite3.connect(path)) as one,
        closing(sqlite3.connect(path, timeout=0)) as other,
    ):
        one.execute("BEGIN IMMEDIATE")
        other.execute("BEGIN IMMEDIATE")


async def through_a_limit_of_time(_folder: Path) -> None:
    await asyncio.wait_for(asyncio.Event().wait(), 0.001)


async def through_another_error(_folder: Path) -> None:
    try:
        raise ConnectionResetError("by peer")
    except ConnectionResetError as error:
        raise LookupError("the index could not be asked") from error


async def through_our_own_store(_folder: Path) -> None:
    details = {"store": "elsewhere", "reason": "gone"}
    raise StoreUnavailableError("the store elsewhere is away", details)


WAYS = [
    through_asyncpg,
    through_psycopg,
    through_alchemy,
    through_an_unknown_host,
    through_an_exhausted_pool,
    through_a_lock,
    through_a_limit_of_time,
    through_another_error,
    through_our_own_store,
]


@pytest.mark.parametrize("away", WAYS, ids=lambda way: way.__name__)
async def test_what_is_away_costs_no_event(
    away: Callable[[Path], Awaitable[Any]], tmp_path: Path
) -> None:
    app = Orkestra("shop", store="memory:")
    calls = 0

    @app.projection("board", events=[OrderPlaced], retry=NO_WAIT)
    async def board(_events: list[RecordedEvent], _checkpoint: Checkpoint) -> None:
        nonlocal calls
        calls += 1
        if calls <= 3:
            await away(tmp_path)

    async with app:
        done = await app.store.append("orders", [OrderPlaced(order_id="o")])
        assert done.position is not None
        await app.caught_up("board", done.position)
        assert (await app.dead_letters.list()).total == 0
    assert calls == 4


async def test_a_connection_that_was_lost_before_is_away(database: Database) -> None:
    connection = await asyncpg.connect(database.url)
    connection.terminate()
    with pytest.raises(asyncpg.InterfaceError) as lost:
        await connection.execute("SELECT 1")
    assert "08003" in also_known_as(lost.value)


def test_an_error_that_is_its_own_cause_is_told_once() -> None:
    with pytest.raises(ValueError, match="no") as raised:
        try:
            raise ValueError("no")
        except ValueError as error:
            raise error from error
    assert raised.value.__cause__ is raised.value
    assert also_known_as(raised.value) == []
    assert len(records(raised.value)) == 1


def test_what_was_hidden_on_purpose_does_not_count() -> None:
    def hide() -> None:
        try:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "away")
        except ConnectionRefusedError:
            raise ValueError("no") from None

    with pytest.raises(ValueError, match="no") as raised:
        hide()
    assert also_known_as(raised.value) == []
