"""The outbox and the inbox from Python, without a broker."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from boards import eventually, gone
from orkestra import (
    Inbox,
    Metadata,
    Orkestra,
    OutboxBacklog,
    Reject,
    id_of,
    metadata_of,
)
from orkestra.errors import (
    InvalidConnectionError,
    InvalidHandlerError,
    InvalidIdError,
    WrongKindError,
)
from shop import OrderCancelled, OrderPlaced, PlaceOrder

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
    errors: list[InvalidConnectionError] = []

    @app.event_handler(OrderPlaced, inbox=True, max_retries=0)
    async def claims(_event: OrderPlaced, inbox: Inbox) -> None:
        with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
            try:
                await inbox.claim(connection)
            except InvalidConnectionError as error:
                errors.append(error)
        assert inbox.handler == "shop.claims"

    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        with pytest.raises(InvalidConnectionError) as refused:
            await app.outbox.add(OrderPlaced(order_id="o"), connection)
        assert "PostgreSQL database that keeps the app's state" in str(refused.value)
        assert refused.value.found.startswith("sqlite3.Connection")
        with pytest.raises(InvalidConnectionError):
            await app.outbox.add(OrderPlaced(order_id="o"), "postgres://")
    async with app:
        await app.outbox.add(OrderPlaced(order_id="o"))
        await gone(app)
    assert len(errors) == 1


def test_a_parameter_for_the_inbox_needs_the_option() -> None:
    app = Orkestra("shop", store="memory:")
    with pytest.raises(InvalidHandlerError, match="inbox=True"):

        @app.event_handler(OrderPlaced)
        async def claims(_event: OrderPlaced, inbox: Inbox) -> None: ...

    @app.event_handler(OrderPlaced, inbox=True)
    def sync(_event: OrderPlaced, _metadata: Metadata, inbox: Inbox) -> None: ...
