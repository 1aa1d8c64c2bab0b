"""What type checkers infer: mypy and pyright read this file, and it runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import assert_type

from orkestra import (
    AggregateAnswer,
    Appended,
    Call,
    Command,
    EventEnvelope,
    Executed,
    Handlers,
    Health,
    Metadata,
    Orkestra,
    RecordedEvent,
    id_of,
    metadata_of,
)
from orkestra.testing import TestApp, given
from shop import AddStock, OrderPlaced, Stock, StockAdded, StockItem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Typed(Command[dict[str, int]]):
    n: int


class Untyped(Command):
    n: int


def make(app: Orkestra) -> None:
    handlers = Handlers()

    @handlers.command_handler(Typed)
    async def typed(command: Typed, metadata: Metadata) -> dict[str, int]:
        return {metadata.actor_type: command.n}

    @handlers.command_handler(Untyped, inline=True)
    def untyped(command: Untyped) -> str:
        return str(command.n)

    app.include(handlers)
    app.add_aggregate(StockItem)


async def test_the_result_is_what_the_command_declares() -> None:
    app = TestApp("shop")
    make(app)
    assert_type(app.dispatch(Typed(n=1), actor_id="a"), Call[dict[str, int]]).close()
    result = assert_type(await app.dispatch(Typed(n=1)), dict[str, int])
    assert result == {"system": 1}
    anything = assert_type(await app.dispatch(Untyped(n=1)), Any)
    assert anything == "1"
    task = assert_type(
        asyncio.create_task(app.dispatch(Typed(n=1))), asyncio.Task[dict[str, int]]
    )
    await task
    one, two = await asyncio.gather(app.dispatch(Typed(n=1)), app.dispatch(Typed(n=2)))
    assert_type(one, dict[str, int])
    assert_type(two, dict[str, int])
    assert_type(await app.send(Typed(n=1)), str)
    event = OrderPlaced(order_id="o")
    assert_type(await app.publish(event), EventEnvelope)
    assert_type(id_of(event), str)
    assert_type(metadata_of(event), Metadata)


async def test_aggregates_and_the_store_are_typed() -> None:
    app = TestApp("shop")
    make(app)
    done = assert_type(
        await app.execute(StockItem, AddStock(sku="a", quantity=1)), Executed[Stock]
    )
    assert_type(done.state, Stock)
    assert_type(await app.store.append("s", [StockAdded(quantity=1)]), Appended)
    async for recorded in app.store.read_all(limit=1):
        assert_type(recorded, RecordedEvent)
    reading: AsyncIterator[RecordedEvent] = app.store.read_stream("s")
    assert len([r async for r in reading]) == 1
    assert_type(await app.store.head(), "int | None")
    assert_type(await app.health(), Health)
    state = given(StockItem).when(AddStock(sku="a", quantity=2)).state
    assert assert_type(state, Stock) == Stock(2, 1)
    answer: AggregateAnswer = await app.dispatch(AddStock(sku="a", quantity=1))
    assert answer["stream"] == "stock-a"


def test_waiting_is_typed() -> None:
    app = Orkestra("shop", store="memory:")
    make(app)
    assert_type(app.dispatch(Typed(n=1)).wait(timeout=10), dict[str, int])
    with pytest.raises(TypeError):
        app.dispatch(Typed(n=1), nobody=1)  # type: ignore[call-arg]
    app.close().wait()
