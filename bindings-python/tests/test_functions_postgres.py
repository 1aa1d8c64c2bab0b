"""The SQL functions of the store, called by the user's own drivers in transactions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from drivers import POSTGRES, Driver, rolled_back
from orkestra import Orkestra
from orkestra._drivers import Dialect, Statement, Steps, run
from shop import (
    AddStock,
    OrderCancelled,
    OrderPlaced,
    PlaceOrder,
    StockItem,
)
from waiting import eventually

if TYPE_CHECKING:
    from orkestra import DeadLetter
    from postgres import Database

EACH = pytest.mark.parametrize("driver", POSTGRES, ids=lambda d: d.name)
SAVE = (
    "SELECT orkestra.save_checkpoint(CAST($1 AS text), CAST($2 AS bigint), "
    "CAST($3 AS bigint), CAST($4 AS bigint))"
)
APPEND = "SELECT orkestra.append(CAST($1 AS text), CAST($2 AS jsonb), CAST($3 AS text))"


async def call(connection: Any, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """A statement of the user's, in their transaction."""

    def work(_dialect: Dialect) -> Steps[list[tuple[Any, ...]]]:
        return (yield Statement(sql, parameters))

    return await run(connection, work)


def sqlstate(error: BaseException) -> str | None:
    """What the database said, through whichever driver and wrapper."""
    current: BaseException | None = error
    while current is not None:
        if isinstance(state := getattr(current, "sqlstate", None), str):
            return state
        current = current.__cause__
    return None


async def migrate(url: str) -> None:
    """Makes the tables."""
    app = Orkestra("shop", store=url)
    await app.store.head()
    await app.close()


@EACH
async def test_a_checkpoint_is_saved_with_the_rows_it_is_of(
    driver: Driver, database: Database
) -> None:
    await migrate(database.url)
    database.sql("CREATE TABLE board (id text)")
    insert = "INSERT INTO board VALUES (CAST($1 AS text))"

    async with rolled_back(driver, database.url) as connection:
        await call(connection, insert, "gone")
        await call(connection, SAVE, "reports", None, 3, 1)
    async with driver.transaction(database.url) as connection:
        await call(connection, insert, "kept")
        await call(connection, SAVE, "reports", None, 5, 1)

    saved = "SELECT position, token FROM orkestra.view_checkpoints"
    assert database.sql("SELECT id FROM board") == [("kept",)]
    assert database.sql(saved) == [(5, 1)]


@EACH
async def test_a_save_is_refused_from_elsewhere_and_to_a_stale_owner(
    driver: Driver, database: Database
) -> None:
    await migrate(database.url)
    database.sql("CREATE TABLE board (id text)")
    async with driver.transaction(database.url) as connection:
        await call(connection, SAVE, "reports", None, 5, 2)

    refused = [
        ("ORK07", "expected 4, found 5", (4, 9, 2)),
        ("ORK07", "expected none, found 5", (None, 9, 2)),
        ("ORK08", "token 1 is older than 2", (5, 9, 1)),
    ]
    for state, message, (expected, position, token) in refused:
        with pytest.raises(Exception, match=message) as raised:
            async with driver.transaction(database.url) as connection:
                await call(connection, "INSERT INTO board VALUES ('gone')")
                await call(connection, SAVE, "reports", expected, position, token)
        assert sqlstate(raised.value) == state
    # A new owner goes on from there.
    async with driver.transaction(database.url) as connection:
        await call(connection, SAVE, "reports", 5, 9, 3)

    saved = "SELECT position, token FROM orkestra.view_checkpoints"
    assert database.sql(saved) == [(9, 3)]
    assert database.sql("SELECT id FROM board") == []


@EACH
async def test_events_are_appended_when_the_transaction_commits(
    driver: Driver, database: Database
) -> None:
    app = Orkestra("shop", store=database.url)
    seen: list[str] = []

    @app.event_handler(OrderPlaced, start="origin")
    async def note(event: OrderPlaced) -> None:
        seen.append(event.order_id)

    def events(id: str) -> str:
        data = {"order_id": id, "quantity": 1}
        return json.dumps([{"type": "Shop.OrderPlaced", "data": data}])

    async with app:
        async with rolled_back(driver, database.url) as connection:
            await call(connection, APPEND, "order-1", events("gone"), "any")
        async with driver.transaction(database.url) as connection:
            await call(connection, APPEND, "order-1", events("new"), "no_stream")
        with pytest.raises(Exception, match="order-1") as conflict:
            async with driver.transaction(database.url) as connection:
                await call(connection, APPEND, "order-1", events("late"), "no_stream")
        async with driver.transaction(database.url) as connection:
            await call(connection, APPEND, "order-1", events("more"), "any")
        # It is in its place when the next append is.
        done = await app.store.append("order-2", [OrderPlaced(order_id="last")])
        assert done.position is not None
        await app.caught_up("note", done.position)

    assert sqlstate(conflict.value) == "ORK01"
    assert seen == ["new", "more", "last"]


async def test_a_stored_trace_goes_on_to_what_its_handlers_do(
    database: Database,
) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    app = Orkestra("shop", store=database.url)
    app.add_aggregate(StockItem)

    @app.command_handler(PlaceOrder)
    async def place(_command: PlaceOrder) -> None:
        await app.store.append("placed", [OrderCancelled(order_id="1")])

    @app.event_handler(OrderPlaced, max_retries=0, start="origin")
    async def handle(event: OrderPlaced) -> None:
        await app.execute(StockItem, AddStock(sku="a", quantity=1), actor_id="anna")
        await app.dispatch(PlaceOrder(product_id="p", quantity=1))
        raise ValueError(event.order_id)

    events = [
        {
            "type": "Shop.OrderPlaced",
            "data": {"order_id": "1", "quantity": 1},
            "metadata": {"traceparent": trace},
        }
    ]
    letters: list[DeadLetter] = []
    app.on_dead_letter(letters.append)
    async with app:
        await app.store.head()
        database.sql("SELECT orkestra.append($1, $2, 'any')", "o", json.dumps(events))
        await eventually(lambda: letters)
    assert letters[0].trace_id == trace.split("-")[1]
    stored = "SELECT stream, metadata ->> 'traceparent' FROM orkestra.log ORDER BY 1"
    assert database.sql(stored) == [("o", trace), ("placed", trace), ("stock-a", trace)]
