"""The outbox and the inbox from Python, without a broker."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from boards import Board
from drivers import SQLITE, Driver, RolledBackError, seems_open_on
from orkestra import (
    Inbox,
    Metadata,
    Orkestra,
    OutboxBacklog,
    Reject,
    RetryPolicy,
    id_of,
    metadata_of,
)
from orkestra.errors import (
    InvalidConnectionError,
    InvalidHandlerError,
    InvalidIdError,
    NotCaughtUpError,
    StoreFileError,
    WrongKindError,
)
from shop import OrderCancelled, OrderPlaced, PlaceOrder
from waiting import eventually, gone

if TYPE_CHECKING:
    from pathlib import Path


async def test_what_is_added_reaches_its_handlers(store: str) -> None:
    app = Orkestra("shop", store=store)
    seen: list[Any] = []

    @app.event_handler(OrderPlaced)
    async def mail(event: OrderPlaced, metadata: Metadata) -> None:
        seen.append(("mail", event, metadata.actor_id, id_of(event)))

    @app.event_handler(OrderPlaced, OrderCancelled)
    def count(event: OrderPlaced | OrderCancelled) -> None:
        seen.append(("count", event))

    @app.command_handler(PlaceOrder)
    async def place(command: PlaceOrder) -> None:
        seen.append(("place", command))

    event, command = OrderPlaced(order_id="o-1"), PlaceOrder(product_id="p", quantity=1)
    id = await app.outbox.add(event, actor_id="anna")
    await app.outbox.add(command)
    backlog = await app.outbox.pending()
    assert backlog == OutboxBacklog(2, backlog.oldest)
    assert backlog.oldest is not None
    assert (await app.health()).outbox == backlog
    async with app:
        await gone(app)
        await eventually(lambda: len(seen) == 3)
        assert ("mail", event, "anna", id) in seen
        assert ("count", event) in seen
        assert ("place", command) in seen
        assert metadata_of(event).actor_id == "anna"
        assert await app.outbox.pending() == OutboxBacklog(0, None)
        cancelled = OrderCancelled(order_id="o-1")
        await app.outbox.add(cancelled)
        await eventually(lambda: ("count", cancelled) in seen)


async def test_a_message_is_kept_once_under_its_id(sqlite: str) -> None:
    app = Orkestra("shop", store=sqlite)
    id = "0190aaaa-0000-7000-8000-000000000001"
    for _ in range(2):
        assert await app.outbox.add(OrderPlaced(order_id="o-1"), id=id) == id
    assert (await app.outbox.pending()).messages == 1
    with pytest.raises(InvalidIdError):
        await app.outbox.add(OrderPlaced(order_id="o-1"), id="no id")
    with pytest.raises(WrongKindError):
        await app.outbox.add("nothing")  # type: ignore[arg-type]
    await app.close()


async def test_what_fails_is_retried_and_then_a_dead_letter(sqlite: str) -> None:
    app = Orkestra("shop", store=sqlite)
    attempts: list[str] = []

    @app.event_handler(OrderPlaced, max_retries=1)
    async def fails(_event: OrderPlaced) -> None:
        attempts.append("fails")
        raise ValueError("no")

    @app.command_handler(PlaceOrder)
    async def refuses(_command: PlaceOrder) -> None:
        attempts.append("refuses")
        raise Reject("never")

    await app.outbox.add(OrderPlaced(order_id="o-1"))
    await app.outbox.add(PlaceOrder(product_id="p", quantity=1))
    async with app:
        await gone(app)
        await eventually(lambda: len(attempts) == 3)
        assert sorted(attempts) == ["fails", "fails", "refuses"]
        page = await app.dead_letters.list()
        assert [letter.handler for letter in page.items] == ["shop.fails"]


async def test_a_command_nobody_handles_is_a_dead_letter(sqlite: str) -> None:
    app = Orkestra("shop", store=sqlite)
    told: list[Any] = []
    app.on_dead_letter(told.append)

    # An app without handlers leaves the outbox to those that have some.
    @app.event_handler(OrderPlaced)
    async def mail(event: OrderPlaced) -> None: ...

    await app.outbox.add(PlaceOrder(product_id="p", quantity=1))
    async with app:
        await gone(app)
        await eventually(lambda: told)
    assert told[0].type == "Shop.PlaceOrder"


async def test_an_inbox_handles_what_comes_again_once(sqlite: str) -> None:
    app = Orkestra("shop", store=sqlite)
    seen: list[str] = []

    @app.event_handler(OrderPlaced, inbox=True)
    async def once(event: OrderPlaced) -> None:
        seen.append(event.order_id)

    @app.event_handler(OrderPlaced)
    async def always(event: OrderPlaced) -> None:
        seen.append(f"always {event.order_id}")

    id = "0190aaaa-0000-7000-8000-000000000002"
    async with app:
        for _ in range(2):
            await app.outbox.add(OrderPlaced(order_id="o-1"), id=id)
            await gone(app)
        await eventually(lambda: len(seen) == 3)
    assert sorted(seen) == ["always o-1", "always o-1", "o-1"]


async def test_an_inbox_keeps_what_came_from_the_log(sqlite: str) -> None:
    app = Orkestra("shop", store=sqlite)
    seen: list[str] = []

    @app.event_handler(OrderPlaced, inbox=True, start="origin")
    async def once(event: OrderPlaced) -> None:
        seen.append(event.order_id)

    event = OrderPlaced(order_id="o-1")
    async with app:
        done = await app.store.append("orders", [event])
        assert done.position is not None
        await app.caught_up("once", done.position)
        # The same event by another way.
        await app.outbox.add(OrderPlaced(order_id="o-1"), id=id_of(event))
        await gone(app)
    assert seen == ["o-1"]


async def test_connections_that_cannot_be_used_are_named(
    store: str, tmp_path: Path
) -> None:
    app = Orkestra("shop", store=store)

    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        with pytest.raises(InvalidConnectionError) as refused:
            await app.outbox.add(OrderPlaced(order_id="o"), connection)
        assert not connection.in_transaction
        assert "PostgreSQL database that keeps the app's state" in str(refused.value)
        assert refused.value.found.startswith("sqlite3.Connection")
        with pytest.raises(InvalidConnectionError):
            await app.outbox.add(OrderPlaced(order_id="o"), "postgres://")
    await app.close()


@pytest.mark.parametrize("driver", SQLITE, ids=lambda d: d.name)
async def test_a_claim_commits_with_what_was_done_in_the_users_own_file(
    driver: Driver, sqlite: str, tmp_path: Path
) -> None:
    app = Orkestra("shop", store=sqlite)
    board = Board(driver, str(tmp_path / "shipments.db"))
    await board.sql("CREATE TABLE shipments (id text)")
    claims: list[bool] = []
    fails = iter([True, False])

    @app.event_handler(
        OrderPlaced, inbox=True, retry=RetryPolicy(initial=0.001), start="origin"
    )
    async def ship(event: OrderPlaced, inbox: Inbox) -> None:
        assert inbox.handler == "shop.ship"
        async with driver.transaction(board.url) as connection:
            claims.append(await inbox.claim(connection))
            if claims[-1]:
                insert = f"INSERT INTO shipments VALUES ('{event.order_id}')"
                await board.execute(connection, insert)
            # The second one finds what this transaction has claimed.
            claims.append(await inbox.claim(connection))
            if next(fails, False):
                raise RolledBackError

    id = "0190aaaa-0000-7000-8000-000000000004"
    async with app:
        # What comes again was rolled back, or is known by the record in that file.
        for _ in range(2):
            await app.outbox.add(OrderPlaced(order_id="o-1"), id=id)
            await gone(app)
        done = await app.store.append("orders", [OrderPlaced(order_id="o-2")])
        assert done.position is not None
        await app.caught_up("ship", done.position)

    assert claims == [True, False, True, False, False, False, True, False]
    assert await board.sql("SELECT id FROM shipments ORDER BY id") == [
        ("o-1",),
        ("o-2",),
    ]


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_events_wait_for_an_inbox_that_is_away(
    tmp_path: Path, concurrency: int
) -> None:
    path = tmp_path / "store.db"
    app = Orkestra("shop", store=f"sqlite:{path}")
    seen: list[str] = []

    @app.event_handler(OrderPlaced, inbox=True, concurrency=concurrency)
    async def note(event: OrderPlaced) -> None:
        seen.append(event.order_id)

    def rename(before: str, after: str) -> None:
        # By another process: nothing else in this one may open the file.
        code = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=20).execute("
        code += f"'ALTER TABLE {before} RENAME TO {after}')"
        subprocess.run([sys.executable, "-c", code], check=True)

    numbers = [str(n) for n in range(5)]
    async with app:
        assert await app.store.head() is None
        await asyncio.to_thread(rename, "orkestra_inbox", "away")
        events = [OrderPlaced(order_id=number) for number in numbers]
        done = await app.store.append("orders", events)
        assert done.position is not None
        with pytest.raises(NotCaughtUpError):
            await app.caught_up("note", done.position, timeout=1)
        assert seen == []
        await asyncio.to_thread(rename, "away", "orkestra_inbox")
        await app.caught_up("note", done.position)
    assert seen == numbers


async def test_the_stores_own_file_keeps_no_claims(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    app = Orkestra("shop", store=f"sqlite:{path}")
    refused: list[StoreFileError] = []

    @app.event_handler(OrderPlaced, inbox=True)
    async def ship(_event: OrderPlaced, inbox: Inbox) -> None:
        with seems_open_on(path) as connection:
            try:
                await inbox.claim(connection)
            except StoreFileError as error:
                refused.append(error)

    await app.outbox.add(OrderPlaced(order_id="o-1"))
    async with app:
        await gone(app)
    assert [error.path.rpartition("/")[2] for error in refused] == ["elsewhere.db"]


def test_a_parameter_for_the_inbox_needs_the_option() -> None:
    app = Orkestra("shop", store="memory:")
    with pytest.raises(InvalidHandlerError, match="inbox=True"):

        @app.event_handler(OrderPlaced)
        async def claims(_event: OrderPlaced, inbox: Inbox) -> None: ...

    @app.event_handler(OrderPlaced, inbox=True)
    def sync(_event: OrderPlaced, _metadata: Metadata, inbox: Inbox) -> None: ...
