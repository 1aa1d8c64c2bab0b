"""Aggregates from Python."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any, ClassVar, cast

import pytest
from pydantic import BaseModel

from orkestra import Aggregate, Command, Event, Orkestra, Reject, id_of
from orkestra.errors import (
    DuplicateHandlerError,
    InvalidAggregateError,
    InvalidDecisionError,
    RejectedError,
    RevisionConflictError,
    UnexpectedCommandError,
    UnknownEventError,
)
from orkestra.testing import TestApp, given
from shop import AddStock, OrderPlaced, PlaceOrder, Stock, StockAdded, StockItem

ID = "019506b8-9d2a-7c3e-8f00-0123456789ab"


def add(quantity: int, sku: str = "a") -> AddStock:
    return AddStock(sku=sku, quantity=quantity)


def shop(store: str = "memory:") -> Orkestra:
    app = Orkestra("shop", store=store)
    app.add_aggregate(StockItem)
    return app


async def test_a_command_is_decided_and_appended(store: str) -> None:
    async with shop(store) as app:
        done = await app.execute(StockItem, add(3), actor_id="user_1")
        assert done.stream == "stock-a"
        assert done.events == [StockAdded(quantity=3)]
        assert (done.state, done.revision, done.repeated) == (Stock(3, 1), 0, False)
        assert done.position == await app.store.head()
        assert await app.dispatch(add(2)) == {"stream": "stock-a", "revision": 1}
        records = [r async for r in app.store.read_stream("stock-a")]
        assert [r.event.quantity for r in records] == [3, 2]
        assert records[0].metadata.actor_id == "user_1"


async def test_a_refusal_is_a_rejection(store: str) -> None:
    async with shop(store) as app:
        for send in (lambda c: app.execute(StockItem, c), app.dispatch):
            with pytest.raises(RejectedError) as refused:
                await send(add(-1))
            assert refused.value.data == {"left": 0}
        assert (await app.dead_letters.list()).total == 0
        nothing = await app.execute(StockItem, add(0))
        assert (nothing.events, nothing.revision) == ([], None)


async def test_a22_a_command_delivered_twice_appends_once(store: str) -> None:
    async with shop(store) as app:
        await app.execute(StockItem, add(1))
        first = await app.execute(StockItem, add(5), id=ID)
        await app.execute(StockItem, add(-6))
        # Deciding it now would be another thing; at -7 it would even be refused.
        again = await app.execute(StockItem, add(5), id=ID)
        refused = await app.execute(StockItem, add(-7), id=ID)
        for repeated in (again, refused):
            assert repeated.repeated is True
            assert repeated.events == first.events
            assert repeated.state == first.state == Stock(6, 2)
            assert repeated.revision == first.revision == 1
            assert repeated.position == first.position
            assert [id_of(e) for e in repeated.events] == [id_of(first.events[0])]
        assert await app.dispatch(add(5), id=ID) == {"stream": "stock-a", "revision": 1}
        assert len([r async for r in app.store.read_stream("stock-a")]) == 3


async def test_concurrent_commands_decide_again(store: str) -> None:
    class Patient(StockItem):
        conflict_retries: ClassVar[int] = 20

    app = Orkestra("shop", store=store)
    app.add_aggregate(Patient)
    async with app:
        await asyncio.gather(*(app.execute(Patient, add(1)) for _ in range(10)))
        done = await app.execute(Patient, add(0))
        assert done.state == Stock(10, 10)


async def test_conflicts_are_given_up_in_the_end() -> None:
    app = Orkestra("shop", store="memory:")

    class Rude(StockItem):
        @staticmethod
        def decide(state: Stock, command: AddStock) -> list[StockAdded]:
            rest = app.store.append("stock-a", [StockAdded(quantity=1)])
            # Not as part of the command that is decided.
            with pytest.raises(StopIteration):
                contextvars.Context().run(rest.send, None)
            return [StockAdded(quantity=command.quantity)]

    app.add_aggregate(Rude)
    with pytest.raises(RevisionConflictError):
        await app.execute(Rude, add(1))


async def test_d05_with_a_snapshot_only_the_tail_is_read(store: str) -> None:
    folded: list[int] = []

    class Counting(StockItem):
        snapshot_every: ClassVar[int | None] = 10

        @staticmethod
        def evolve(state: Stock, event: StockAdded) -> Stock:
            folded.append(event.quantity)
            return StockItem.evolve(state, event)

    app = Orkestra("shop", store=store)
    app.add_aggregate(Counting)
    async with app:
        for n in range(1, 13):
            await app.execute(Counting, add(n))
        folded.clear()
        done = await app.execute(Counting, add(0))
        assert done.state == Stock(sum(range(1, 13)), 12)
        assert folded == [11, 12]


async def test_d04_a_snapshot_of_another_schema_is_rebuilt(store: str) -> None:
    class Doubled(StockItem):
        snapshot_every: ClassVar[int | None] = 2
        schema_version: ClassVar[int] = 2

        @staticmethod
        def evolve(state: Stock, event: StockAdded) -> Stock:
            return Stock(state.total + 2 * event.quantity, state.events + 1)

    class Single(StockItem):
        snapshot_every: ClassVar[int | None] = 2

    app = Orkestra("shop", store=store)
    app.add_aggregate(Single)
    async with app:
        for _ in range(4):
            await app.execute(Single, add(1))
        other = TestApp("shop")
        other._services = app._services
        other.add_aggregate(Doubled)
        done = await other.execute(Doubled, add(0))
        assert done.state.total == 8


async def test_d06_a_snapshot_that_does_not_fit_is_ignored(store: str) -> None:
    class Saving(StockItem):
        snapshot_every: ClassVar[int | None] = 2

    app = Orkestra("shop", store=store)
    app.add_aggregate(Saving)
    async with app:
        for _ in range(4):
            await app.execute(Saving, add(1))
        await app._services_or_refuse().save_snapshot(
            "stock-a", 3, 1, b'{"total":"many"}', app._clock
        )
        assert (await app.execute(Saving, add(0))).state == Stock(4, 4)


async def test_a_cache_is_checked_by_the_append(store: str) -> None:
    folded: list[int] = []

    class Cached(StockItem):
        cache: ClassVar[int] = 2

        @staticmethod
        def evolve(state: Stock, event: StockAdded) -> Stock:
            folded.append(event.quantity)
            return StockItem.evolve(state, event)

    app = Orkestra("shop", store=store)
    app.add_aggregate(Cached)
    async with app:
        for n in (1, 2, 3):
            await app.execute(Cached, add(n))
        assert folded == [1, 2, 3]
        # Somebody else appends: the append conflicts, and the tail is read.
        await app.store.append("stock-a", [StockAdded(quantity=4)])
        done = await app.execute(Cached, add(5))
        assert done.state == Stock(15, 5)
        assert folded == [1, 2, 3, 4, 5]
        for sku in "bcd":
            await app.execute(Cached, add(1, sku))
        assert len(app._aggregates[Cached]._cache) == 2


async def test_the_state_may_be_a_model_and_decide_an_event_or_none() -> None:
    class Added(Event):
        n: int

    class Add(Command[Any]):
        n: int

    class State(BaseModel):
        total: int = 0

    class Counter(Aggregate[State]):
        commands = (Add,)
        events = (Added,)

        def initial(self) -> State:
            return State()

        def stream_id(self, command: Add) -> str:
            return "counter"

        def decide(self, state: State, command: Add) -> Added | Reject | None:
            if command.n < 0:
                return Reject("negative")
            return Added(n=command.n) if command.n else None

        def evolve(self, state: State, event: Added) -> State:
            return State(total=state.total + event.n)

    app = Orkestra("shop", store="memory:")
    app.add_aggregate(Counter)
    assert (await app.execute(Counter, Add(n=2))).state == State(total=2)
    assert (await app.execute(Counter, Add(n=0))).events == []
    with pytest.raises(RejectedError, match="negative"):
        await app.execute(Counter, Add(n=-1))


def test_executing_works_without_a_loop(store: str) -> None:
    app = shop(store)
    assert app.execute(StockItem, add(3)).wait().revision == 0
    assert app.dispatch(add(2)).wait() == {"stream": "stock-a", "revision": 1}
    assert app._loop_thread is None
    app.close().wait()


async def test_bad_input_aggregates_that_are_not_complete() -> None:
    app = shop()

    class NoCommands(Aggregate[int]):
        def initial(self) -> int:
            return 0

    class WrongCommand(StockItem):
        commands = (StockAdded,)  # type: ignore[assignment]

    class Every(StockItem):
        snapshot_every: ClassVar[int | None] = 0

    class Other(StockItem):
        pass

    for wrong in (NoCommands, WrongCommand, Every, StockItem):
        with pytest.raises(InvalidAggregateError):
            app.add_aggregate(cast("type[Aggregate[Any]]", wrong))
    with pytest.raises(DuplicateHandlerError):
        app.add_aggregate(Other)
    with pytest.raises(UnexpectedCommandError):
        await app.execute(StockItem, PlaceOrder(product_id="a", quantity=1))
    with pytest.raises(InvalidAggregateError):
        await app.execute(Every, add(1))


async def test_bad_input_decisions_that_are_none(store: str) -> None:
    class Wrong(StockItem):
        @staticmethod
        def decide(state: Stock, command: AddStock) -> Any:
            return [[1], "events", 7, [add(1)]][command.quantity]

    app = Orkestra("shop", store=store)
    app.add_aggregate(Wrong)
    async with app:
        for n in range(4):
            with pytest.raises(InvalidDecisionError):
                await app.execute(Wrong, add(n))


async def test_a_stream_with_an_unknown_event_is_not_folded() -> None:
    app = shop()
    await app.store.append("stock-a", [OrderPlaced(order_id="o-1")])
    with pytest.raises(UnknownEventError) as unknown:
        await app.execute(StockItem, add(1))
    assert unknown.value.details == {
        "aggregate": "StockItem",
        "stream": "stock-a",
        "revision": 0,
        "type_name": "Shop.OrderPlaced",
    }


async def test_an_event_that_could_not_be_read_again_is_not_stored(store: str) -> None:
    class Vague(StockItem):
        events = ()  # type: ignore[assignment]

        @staticmethod
        def evolve(state: Stock, event: Event) -> Stock:
            return state

    app = Orkestra("shop", store=store)
    app.add_aggregate(Vague)
    async with app:
        with pytest.raises(InvalidDecisionError) as refused:
            await app.execute(Vague, add(1))
        assert "StockAdded, which the app does not know" in str(refused.value)
        assert not await app.store.stream_exists("stock-a")
    known = Orkestra("shop", store=store).add_types(StockAdded)
    known.add_aggregate(Vague)
    async with known:
        for revision in range(2):
            assert (await known.execute(Vague, add(1))).revision == revision


async def test_what_is_no_aggregate_is_named() -> None:
    app = shop()
    wrong: Any
    for wrong in (None, StockAdded, StockItem()):
        with pytest.raises(InvalidAggregateError, match="no class derived from"):
            app.add_aggregate(wrong)
        with pytest.raises(InvalidAggregateError, match="no class derived from"):
            await app.execute(wrong, add(1))


def test_given_when_then() -> None:
    added = StockAdded(quantity=3)
    given(StockItem, added).when(add(2)).then(StockAdded(quantity=2)).then_state(
        Stock(5, 2)
    )
    given(StockItem).when(add(-1)).then_rejected("not enough")
    given(StockItem, state=Stock(9)).when(add(0)).then()
    with pytest.raises(AssertionError):
        given(StockItem).when(add(1)).then()
    with pytest.raises(AssertionError):
        given(StockItem).when(add(-1)).then()
    with pytest.raises(AssertionError):
        given(StockItem).when(add(1)).then_rejected()
    with pytest.raises(AssertionError):
        given(StockItem).when(add(1)).then_state(Stock(7))
