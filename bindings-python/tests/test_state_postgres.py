"""The outbox and the inbox in the user's own transaction, through every driver."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg
import pytest

from boards import Board
from drivers import POSTGRES, Driver, RolledBackError, rolled_back
from orkestra import Inbox, Orkestra, RetryPolicy, id_of
from orkestra.errors import InvalidConnectionError, NoTransactionError
from postgres import need_postgres
from shop import AddStock, OrderPlaced, PlaceOrder, StockItem
from waiting import eventually, gone, until

if TYPE_CHECKING:
    from postgres import Database

EACH = pytest.mark.parametrize("driver", POSTGRES, ids=lambda d: d.name)


async def prepared(url: str) -> Orkestra:
    """An app whose tables are there."""
    app = Orkestra("shop", store=url)
    await app.store.head()
    return app


@EACH
async def test_a_message_and_rows_commit_together(
    driver: Driver, database: Database
) -> None:
    app = await prepared(database.url)
    seen: list[Any] = []

    @app.event_handler(OrderPlaced)
    async def mail(event: OrderPlaced) -> None:
        seen.append(event)

    @app.command_handler(PlaceOrder)
    async def place(command: PlaceOrder) -> None:
        seen.append(command)

    event, command = (
        OrderPlaced(order_id="ö'%s"),
        PlaceOrder(product_id="p", quantity=1),
    )
    async with rolled_back(driver, database.url) as connection:
        await app.outbox.add(OrderPlaced(order_id="never"), connection)
    async with driver.transaction(database.url) as connection:
        id = await app.outbox.add(event, connection, actor_id="anna")
        assert id == id_of(event)
        await app.outbox.add(command, connection, max_retries=2)
        assert (await app.outbox.pending()).messages == 0
    assert (await app.outbox.pending()).messages == 2
    async with app:
        await eventually(lambda: len(seen) == 2)
    assert event in seen
    assert command in seen


@EACH
async def test_a_claim_commits_with_what_was_done(
    driver: Driver, database: Database
) -> None:
    app = await prepared(database.url)
    database.sql("CREATE TABLE shipments (id text)")
    board = Board(driver, database.url)
    tries: list[bool] = []
    fails = iter([True, False])

    @app.event_handler(
        OrderPlaced,
        inbox=True,
        max_retries=3,
        retry=RetryPolicy(initial=0.001),
        start="origin",
    )
    async def ship(event: OrderPlaced, inbox: Inbox) -> None:
        async with driver.transaction(database.url) as connection:
            tries.append(await inbox.claim(connection))
            if tries[-1]:
                insert = f"INSERT INTO shipments VALUES ('{event.order_id}')"
                await board.execute(connection, insert)
            if next(fails, False):
                raise RolledBackError

    id = "0190aaaa-0000-7000-8000-000000000003"
    async with app:
        for _ in range(2):
            await app.outbox.add(OrderPlaced(order_id="o-1"), id=id)
            await gone(app)
        done = await app.store.append("orders", [OrderPlaced(order_id="o-2")])
        assert done.position is not None
        await app.caught_up("ship", done.position)
    assert tries == [True, True, True]
    assert sorted(database.sql("SELECT id FROM shipments")) == [("o-1",), ("o-2",)]


def test_a_handler_that_is_not_async_claims_and_adds_at_once(
    database: Database,
) -> None:
    app = Orkestra("shop", store=database.url)
    app.store.head().wait()
    database.sql("CREATE TABLE shipments (id text)")
    claims: list[bool] = []

    @app.event_handler(OrderPlaced, inbox=True)
    def ship(event: OrderPlaced, inbox: Inbox) -> None:
        with psycopg.connect(database.url) as connection:
            for _ in range(2):
                # As it reads, without a wait for anything.
                if inbox.claim(connection):
                    insert = "INSERT INTO shipments VALUES (%s)"
                    connection.execute(insert, [event.order_id])
                claims.append(inbox.claim(connection).wait())

    with psycopg.connect(database.url) as connection:
        event = OrderPlaced(order_id="o-1")
        assert app.outbox.add(event, connection).wait() == id_of(event)
    with app:
        until(lambda: app.outbox.pending().wait().messages == 0, "it is handled")
    assert claims == [False, False]
    assert database.sql("SELECT id FROM shipments") == [("o-1",)]


async def test_connections_that_cannot_be_used_are_named(database: Database) -> None:
    app = await prepared(database.url)
    event = OrderPlaced(order_id="o")
    with (
        closing(sqlite3.connect(":memory:")) as other,
        pytest.raises(InvalidConnectionError, match="PostgreSQL database"),
    ):
        await app.outbox.add(event, other)
    for driver in POSTGRES:
        if driver.autocommit is None:
            continue
        async with driver.autocommit(database.url) as connection:
            with pytest.raises(NoTransactionError):
                await app.outbox.add(event, connection)
    assert (await app.outbox.pending()).messages == 0
    await app.close()


@EACH
async def test_a_connection_to_a_database_without_our_tables_is_named(
    driver: Driver, database: Database
) -> None:
    app = Orkestra("shop", store=f"{database.url}?schema=elsewhere")
    with pytest.raises(InvalidConnectionError, match="without the schema elsewhere"):
        async with driver.transaction(need_postgres()) as connection:
            await app.outbox.add(OrderPlaced(order_id="o"), connection)
    await app.close()


async def test_a_closed_connection_is_not_taken_for_one_without_a_transaction(
    database: Database,
) -> None:
    app = await prepared(database.url)
    connection = await asyncpg.connect(database.url)
    await connection.transaction().start()
    await connection.close()
    with pytest.raises(asyncpg.InterfaceError, match="closed"):
        await app.outbox.add(OrderPlaced(order_id="o"), connection)
    await app.close()


async def test_a_schema_of_ones_own(database: Database) -> None:
    driver = POSTGRES[0]
    app = await prepared(f"{database.url}?schema=my_shop")
    async with driver.transaction(database.url) as connection:
        await app.outbox.add(OrderPlaced(order_id="o"), connection)
    assert (await app.outbox.pending()).messages == 1
    assert database.sql("SELECT count(*) FROM my_shop.outbox") == [(1,)]
    await app.close()


@pytest.mark.parametrize(
    "driver",
    [d for d in POSTGRES if d.name in ("psycopg-async", "asyncpg")],
    ids=lambda d: d.name,
)
async def test_a_view_beside_the_log_is_read_after_its_write(
    driver: Driver, database: Database
) -> None:
    app = Orkestra("shop", store=database.url)
    app.add_aggregate(StockItem)
    board = Board(driver, database.url)
    board.declare(app)
    async with app:
        for n in range(10):
            done = await app.store.append(f"order-{n}", [OrderPlaced(order_id=str(n))])
            assert done.position is not None
            await app.caught_up("board", done.position)
            assert len(await board.rows()) == n + 1
        executed = await app.execute(StockItem, AddStock(sku="a", quantity=1))
        assert executed.position == await app.store.head()
        progress = await app.rebuild("board")
        assert progress.handled == 10
        assert len(await board.rows()) == 10
