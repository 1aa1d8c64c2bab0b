"""BEHAVIOURS.md K, in process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orkestra import (
    Command,
    Event,
    Metadata,
    NoHandlerError,
    Orkestra,
    RawEvent,
    Reject,
    RetryAfter,
    RetryPolicy,
    id_of,
    metadata_of,
)
from orkestra.envelopes import CommandEnvelope
from orkestra.errors import (
    DispatchTimeoutError,
    DuplicateHandlerError,
    DuplicateHandlerNameError,
    HandlerTimeoutError,
    InvalidHandlerError,
    InvalidIdError,
    RejectedError,
    WrongKindError,
)
from orkestra.testing import TestApp
from shop import CancelOrder, OrderCancelled, OrderPlaced, PlaceOrder

ORDER = PlaceOrder(product_id="sku_42", quantity=3)
ID = "019506b8-9d2a-7c3e-8f00-0123456789ab"


class Lost(Exception):
    pass


def failing(app: Orkestra, times: int, **options: Any) -> list[int]:
    """A handler of PlaceOrder that fails so many times."""
    calls: list[int] = []

    @app.command_handler(PlaceOrder, **options)
    async def place_order(command: PlaceOrder) -> dict[str, str]:
        calls.append(len(calls) + 1)
        if len(calls) <= times:
            raise Lost(len(calls))
        return {"attempt": str(len(calls))}

    return calls


@pytest.fixture
def app() -> TestApp:
    return TestApp("shop", draw=0.0)


async def test_k01_a_command_gives_its_handlers_result() -> None:
    plain = Orkestra("shop", store="memory:")

    @plain.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> dict[str, str]:
        return {"product": command.product_id}

    async with plain:
        assert await plain.dispatch(ORDER) == {"product": "sku_42"}


async def test_k01_the_envelope_ends_as_succeeded(app: TestApp) -> None:
    failing(app, 0)
    await app.dispatch(ORDER)
    (envelope,) = app.commands
    assert envelope.status == "succeeded"
    assert envelope.attempts == 1
    assert envelope.result == {"attempt": "1"}
    assert envelope.dispatched_at is not None
    assert envelope.completed_at is not None


async def test_k02_a_command_without_a_handler_names_its_topic(app: TestApp) -> None:
    with pytest.raises(NoHandlerError) as refused:
        await app.dispatch(ORDER)
    assert refused.value.topic == "place_order"
    with pytest.raises(NoHandlerError):
        await app.send(ORDER)


async def test_a_parameter_may_be_wider_than_its_command(app: TestApp) -> None:
    @app.command_handler(PlaceOrder)
    async def place_order(command: Command[Any]) -> str:
        return type(command).__name__

    @app.command_handler(CancelOrder)
    async def cancel_order(command: Any) -> str:
        return type(command).__name__

    assert await app.dispatch(ORDER) == "PlaceOrder"
    assert await app.dispatch(CancelOrder(order_id="o")) == "CancelOrder"


async def test_k03_a_second_handler_for_a_command_is_refused(app: TestApp) -> None:
    failing(app, 0)
    with pytest.raises(DuplicateHandlerError) as refused:
        failing(app, 0)
    assert refused.value.handler == "shop.place_order"


async def test_k04_a_failure_without_retries_is_a_dead_letter(app: TestApp) -> None:
    calls = failing(app, 9)
    with pytest.raises(Lost) as raised:
        await app.dispatch(ORDER)
    assert raised.value.args == (1,)
    assert calls == [1]
    (letter,) = app.buried
    assert (letter.reason, letter.attempts) == ("retries_exhausted", 1)
    assert app.commands[0].status == "failed"


@pytest.mark.parametrize("plain", [True, False])
async def test_k04_two_failures_with_two_retries_succeed(plain: bool) -> None:
    clock_app = TestApp("shop", draw=0.0)
    app = Orkestra("shop", store="memory:", ids=clock_app._ids) if plain else clock_app
    calls = failing(app, 2, retry=RetryPolicy(max_retries=2, initial=0))
    assert await app.dispatch(ORDER) == {"attempt": "3"}
    assert calls == [1, 2, 3]


@pytest.mark.parametrize("plain", [True, False])
async def test_k04_always_failing_with_one_retry_is_a_dead_letter(plain: bool) -> None:
    app = Orkestra("shop", store="memory:") if plain else TestApp("shop", draw=0.0)
    calls = failing(app, 9, retry=RetryPolicy(max_retries=1, initial=0))
    with pytest.raises(Lost):
        await app.dispatch(ORDER)
    page = await app.dead_letters.list()
    assert calls == [1, 2]
    assert page.items[0].attempts == 2


async def test_k04_the_senders_retries_come_before_the_handlers(app: TestApp) -> None:
    calls = failing(app, 9, retry=RetryPolicy(max_retries=5, initial=0))
    with pytest.raises(Lost):
        await app.dispatch(ORDER, max_retries=1)
    assert calls == [1, 2]


async def test_k04_retries_wait_as_the_policy_says() -> None:
    app = TestApp("shop", draw=0.5)
    failing(app, 2, max_retries=2)
    task = asyncio.create_task(app.dispatch(ORDER))
    assert await app.advance_to_next() == pytest.approx(0.05)
    assert await app.advance_to_next() == pytest.approx(0.1)
    assert await task == {"attempt": "3"}


async def test_k04_an_error_that_is_given_up_on_is_not_retried(app: TestApp) -> None:
    calls = failing(app, 9, retry=RetryPolicy(max_retries=3, give_up_on=(Lost,)))
    with pytest.raises(Lost):
        await app.dispatch(ORDER)
    assert calls == [1]
    assert app.buried[0].reason == "not_retryable"


@pytest.mark.parametrize("plain", [True, False])
async def test_k05_a_refusal_is_no_failure(plain: bool) -> None:
    app = Orkestra("shop", store="memory:") if plain else TestApp("shop")
    calls = []

    @app.command_handler(PlaceOrder, max_retries=3)
    async def place_order(command: PlaceOrder) -> None:
        calls.append(command)
        raise Reject("sold out", {"left": 0})

    with pytest.raises(RejectedError) as refused:
        await app.dispatch(ORDER)
    assert (refused.value.reason, refused.value.data) == ("sold out", {"left": 0})
    assert isinstance(refused.value.__cause__, Reject)
    assert len(calls) == 1
    assert (await app.dead_letters.list()).total == 0


async def test_retry_after_uses_up_no_retry(app: TestApp) -> None:
    calls = []

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> int:
        calls.append(command)
        if len(calls) < 4:
            raise RetryAfter(7)
        return len(calls)

    task = asyncio.create_task(app.dispatch(ORDER))
    for _ in range(3):
        assert await app.advance_to_next() == 7
    assert await task == 4
    assert app.buried == []


def three_handlers(app: Orkestra) -> list[str]:
    calls: list[str] = []

    @app.event_handler(OrderPlaced)
    async def first(event: OrderPlaced) -> None:
        calls.append("first")

    @app.event_handler(OrderPlaced, retry=RetryPolicy(max_retries=1, initial=0))
    async def second(event: OrderPlaced) -> None:
        calls.append("second")
        raise Lost

    @app.event_handler(OrderPlaced)
    async def third(event: OrderPlaced) -> None:
        calls.append("third")

    return calls


@pytest.mark.parametrize("plain", [True, False])
async def test_k06_one_handlers_failure_is_its_own(plain: bool) -> None:
    app = Orkestra("shop", store="memory:") if plain else TestApp("shop", draw=0.0)
    calls = three_handlers(app)

    envelope = await app.publish(OrderPlaced(order_id="o-1"))
    settled = await envelope.settled()

    assert settled is envelope
    assert calls[:3] == ["first", "second", "third"]
    assert calls[3:] == ["second"]
    assert envelope.status == "partially_handled"
    assert envelope.handlers == {
        "shop.first": "succeeded",
        "shop.second": "failed",
        "shop.third": "succeeded",
    }
    (letter,) = (await app.dead_letters.list()).items
    assert (letter.handler, letter.attempts) == ("shop.second", 2)


async def test_k06_all_handled_and_all_failed(app: TestApp) -> None:
    @app.event_handler(OrderPlaced)
    async def good(event: OrderPlaced) -> None: ...

    @app.event_handler(OrderCancelled, max_retries=0)
    async def bad(event: OrderCancelled) -> None:
        raise Lost

    @app.event_handler(OrderCancelled)
    async def refusing(event: OrderCancelled) -> None:
        raise Reject("not mine")

    placed = await app.publish(OrderPlaced(order_id="o-1"))
    cancelled = await app.publish(OrderCancelled(order_id="o-1"))
    assert (placed.status, cancelled.status) == ("handled", "partially_handled")
    assert cancelled.handlers["shop.refusing"] == "skipped"


async def test_k07_patterns_and_classes_get_an_event_once(app: TestApp) -> None:
    calls: list[str] = []

    @app.event_handler(OrderPlaced)
    async def exact(event: OrderPlaced) -> None:
        calls.append("exact")

    @app.event_handler(topic="*")
    async def star(event: OrderPlaced) -> None:
        calls.append("star")

    @app.event_handler(topic=["#", "order_placed.#"])
    async def hash_(event: OrderPlaced) -> None:
        calls.append("hash")

    @app.event_handler(OrderPlaced, topic="order_placed")
    async def both(event: OrderPlaced) -> None:
        calls.append("both")

    @app.event_handler(topic="shop.*")
    async def other(event: OrderPlaced) -> None:
        calls.append("other")

    assert app.topic_for(OrderPlaced) == "order_placed"
    await app.publish(OrderPlaced(order_id="o-1"))
    assert calls == ["exact", "star", "hash", "both"]


async def test_k08_a_recorded_event_that_does_not_decode_is_a_dead_letter(
    sqlite: str,
) -> None:
    class Placed(Event, type_name="Shop.Placed"):
        order_id: str

    class Narrow(Event, type_name="Shop.Placed"):
        order_id: int

    writer = Orkestra("shop", store=sqlite)
    async with writer:
        good = Placed(order_id="7")
        bad = await writer.store.append("o", [Placed(order_id="x"), good])

    seen: list[int] = []
    reader = Orkestra("shop", store=sqlite)

    @reader.event_handler(Narrow, start="origin")
    async def note(event: Narrow) -> None:
        seen.append(event.order_id)

    async with reader:
        assert bad.position is not None
        await reader.caught_up("note", bad.position)
        (letter,) = (await reader.dead_letters.list()).items
    assert seen == [7]
    assert (letter.reason, letter.kind) == ("undecodable", "event")
    assert b'"order_id":"x"' in letter.body


async def test_k17_one_consumer_gets_events_in_order(store: str) -> None:
    app = Orkestra("shop", store=store)
    seen: list[int] = []

    @app.event_handler(OrderPlaced, start="origin")
    async def note(event: OrderPlaced) -> None:
        await asyncio.sleep(0)
        seen.append(event.quantity)

    async with app:
        for n in range(100):
            await app.store.append(
                f"order-{n % 7}", [OrderPlaced(order_id="o", quantity=n)]
            )
        await app.caught_up("note", (await app.store.head()) or 0)
    assert seen == list(range(100))


async def test_k17_concurrent_publishers_wait_in_line(app: TestApp) -> None:
    running, seen = 0, []

    @app.event_handler(OrderPlaced)
    async def note(event: OrderPlaced) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        seen.append(event.quantity)
        running -= 1

    events = [OrderPlaced(order_id="o", quantity=n) for n in range(20)]
    await asyncio.gather(*(app.publish(event) for event in events))
    assert seen == list(range(20))


async def test_slots_limit_how_many_commands_are_in_hand() -> None:
    app = Orkestra("shop", store="memory:")
    running = most = 0

    @app.command_handler(PlaceOrder, concurrency=3)
    async def place_order(command: PlaceOrder) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    await asyncio.gather(*(app.dispatch(ORDER) for _ in range(50)))
    assert most == 3


async def test_a_cancelled_waiter_gives_its_place_up() -> None:
    app = Orkestra("shop", store="memory:")
    go = asyncio.Event()

    @app.command_handler(PlaceOrder, concurrency=1)
    async def place_order(command: PlaceOrder) -> int:
        await go.wait()
        return 1

    first = asyncio.create_task(app.dispatch(ORDER))
    second = asyncio.create_task(app.dispatch(ORDER))
    third = asyncio.create_task(app.dispatch(ORDER))
    await asyncio.sleep(0)
    second.cancel()
    go.set()
    assert [await first, await third] == [1, 1]
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_a_dispatch_inside_a_handler_never_waits_for_a_slot() -> None:
    app = Orkestra("shop", store="memory:")

    @app.command_handler(PlaceOrder, concurrency=1)
    async def place_order(command: PlaceOrder) -> Any:
        if command.quantity == 0:
            return ["done"]
        inner = PlaceOrder(product_id="x", quantity=command.quantity - 1)
        return [command.quantity, *(await app.dispatch(inner))]

    assert await app.dispatch(ORDER) == [3, 2, 1, "done"]


async def test_a_publish_inside_a_handler_to_a_busy_one_does_not_wait() -> None:
    app = Orkestra("shop", store="memory:")
    seen, envelopes = [], []

    @app.event_handler(OrderPlaced)
    async def note(event: OrderPlaced) -> None:
        seen.append(event.quantity)
        if event.quantity:
            inner = OrderPlaced(order_id="o", quantity=event.quantity - 1)
            envelopes.append(await app.publish(inner))
            assert envelopes[-1].handlers == {"shop.note": "pending"}

    await app.publish(OrderPlaced(order_id="o", quantity=2))
    await envelopes[0].settled()
    await envelopes[1].settled()
    assert seen == [2, 1, 0]
    assert envelopes[0].status == "handled"


async def test_what_a_handler_sends_is_caused_by_its_message() -> None:
    app = Orkestra("shop", store="memory:")
    seen: list[Metadata] = []

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder, metadata: Metadata) -> str:
        seen.append(metadata)
        event = OrderPlaced(order_id="o-1")
        await app.publish(event)
        await app.store.append("order-1", [OrderCancelled(order_id="o-1")])
        return id_of(event)

    @app.event_handler(OrderPlaced)
    async def note(event: OrderPlaced, metadata: Metadata) -> None:
        seen.append(metadata)
        await app.dispatch(CancelOrder(order_id="o-1"))

    @app.command_handler(CancelOrder)
    async def cancel(metadata: Metadata, command: CancelOrder) -> None:
        seen.append(metadata)

    event_id = await app.dispatch(
        ORDER, id=ID, actor_id="user_123", actor_type="user", source="web"
    )

    placed, noted, cancelled = seen
    assert id_of(ORDER) == ID
    assert placed.correlation_id == ID
    assert placed.causation_id is None
    assert noted.causation_id == ID
    assert cancelled.causation_id == event_id
    for metadata in seen:
        assert metadata.correlation_id == ID
        assert (metadata.actor_id, metadata.actor_type) == ("user_123", "user")
        assert metadata.source == "web"
    (recorded,) = [r async for r in app.store.read_stream("order-1")]
    assert recorded.metadata.causation_id == ID
    assert recorded.id[:13] == ID[:13]


async def test_a_command_delivered_twice_makes_the_same_event_ids() -> None:
    app = Orkestra("shop", store="memory:")

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> list[str]:
        events = [OrderPlaced(order_id="a"), OrderPlaced(order_id="b")]
        await app.store.append("order-1", events)
        return [id_of(event) for event in events]

    first = await app.dispatch(ORDER, id=ID)
    assert await app.dispatch(ORDER, id=ID) == first
    assert len([r async for r in app.store.read_stream("order-1")]) == 2


async def test_each_dispatch_of_one_object_is_a_new_sending() -> None:
    app = Orkestra("shop", store="memory:")
    failing(app, 0)
    command = PlaceOrder(product_id="a", quantity=1)
    await app.dispatch(command)
    first = id_of(command)
    await app.dispatch(command)
    assert id_of(command) != first


async def test_an_event_keeps_its_id() -> None:
    app = Orkestra("shop", store="memory:")
    event = OrderPlaced(order_id="o-1")
    await app.publish(event)
    first = id_of(event)
    await app.publish(event)
    assert id_of(event) == first


async def test_a_message_made_from_another_is_sent_with_that_stamp_once() -> None:
    app = Orkestra("shop", store="memory:")
    failing(app, 0)
    event = OrderPlaced(order_id="o-1")
    await app.publish(event, source="web")
    command = PlaceOrder.from_event(event, product_id="a", quantity=1)
    made = id_of(command)
    assert metadata_of(command).causation_id == id_of(event)

    await app.dispatch(command)
    assert id_of(command) == made
    assert metadata_of(command).source == "web"
    await app.dispatch(command)
    assert id_of(command) != made


async def test_send_returns_before_the_handler_is_called(app: TestApp) -> None:
    calls = failing(app, 0)
    sent = await app.send(ORDER, id=ID)
    assert (sent, calls) == (ID, [])
    await app.close()
    assert calls == [1]


async def test_a_sent_command_that_fails_is_a_dead_letter(app: TestApp) -> None:
    failing(app, 9)
    await app.send(ORDER)
    await app.close()
    assert len(app.buried) == 1


async def test_middleware_stands_around_sending_and_handling(app: TestApp) -> None:
    lines: list[str] = []

    def around(name: str) -> Any:
        async def middleware(envelope: Any, following: Any) -> Any:
            lines.append(f"{name} in")
            envelope.context.setdefault("seen", []).append(name)
            try:
                return await following()
            finally:
                lines.append(f"{name} out")

        return middleware

    app.around_send(around("send"))
    app.around_handle(around("first"))
    app.around_handle(around("second"))
    failing(app, 1, retry=RetryPolicy(max_retries=1, initial=0))

    await app.dispatch(ORDER)

    once = ["first in", "second in", "second out", "first out"]
    assert lines == ["send in", *once, *once, "send out"]
    (envelope,) = app.commands
    assert isinstance(envelope, CommandEnvelope)
    assert envelope.context["seen"][:3] == ["send", "first", "second"]
    assert envelope.attempts == 2


async def test_middleware_may_answer_itself(app: TestApp) -> None:
    calls = failing(app, 0)

    @app.around_send
    async def cached(envelope: Any, following: Any) -> Any:
        return "from the cache"

    assert await app.dispatch(ORDER) == "from the cache"
    assert calls == []


async def test_k20_a_dispatch_gives_up_waiting_but_the_command_goes_on() -> None:
    app = TestApp("shop")
    done = asyncio.Event()
    go = asyncio.Event()

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> None:
        await go.wait()
        done.set()

    task = asyncio.create_task(app.dispatch(ORDER, timeout=5))
    assert await app.advance_to_next() == 5
    with pytest.raises(DispatchTimeoutError) as late:
        await task
    assert (late.value.topic, late.value.seconds) == ("place_order", 5)
    go.set()
    await done.wait()


async def test_a_handler_that_takes_too_long_is_a_failed_attempt() -> None:
    app = TestApp("shop")

    @app.command_handler(PlaceOrder, timeout=2)
    async def place_order(command: PlaceOrder) -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(app.dispatch(ORDER))
    assert await app.advance_to_next() == 2
    with pytest.raises(HandlerTimeoutError) as late:
        await task
    assert late.value.handler == "shop.place_order"
    assert len(app.buried) == 1


async def test_groups_of_handlers_are_included() -> None:
    from orkestra import Handlers

    orders = Handlers()

    @orders.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> str:
        return command.product_id

    for name in ("one", "two"):
        app = Orkestra(name, store="memory:").include(orders)
        assert await app.dispatch(ORDER) == "sku_42"


async def test_a_topic_handler_gets_events_of_unknown_types_raw(sqlite: str) -> None:
    writer = Orkestra("shop", store=sqlite)
    async with writer:
        done = await writer.store.append("o", [OrderPlaced(order_id="o-1")])
    reader = Orkestra("shop", store=sqlite)
    seen: list[Any] = []

    @reader.event_handler(topic="#", start="origin")
    async def note(event: Event | RawEvent, metadata: Metadata) -> None:
        seen.append((event, metadata))

    async with reader:
        assert done.position is not None
        await reader.caught_up("note", done.position)
    ((event, metadata),) = seen
    assert event == RawEvent("Shop.OrderPlaced", 1, {"order_id": "o-1", "quantity": 1})
    assert metadata.correlation_id == id_of(event)


def test_bad_input_a_handler_for_a_class_that_is_no_command(app: TestApp) -> None:
    for wrong in (OrderPlaced, int, Command, "PlaceOrder", ORDER):
        with pytest.raises(WrongKindError):
            app.command_handler(wrong)  # type: ignore[arg-type]
    with pytest.raises(WrongKindError):
        app.event_handler(PlaceOrder)  # type: ignore[arg-type]


async def test_bad_input_the_wrong_kind_of_message(app: TestApp) -> None:
    for wrong in (OrderPlaced(order_id="o"), 1, None, PlaceOrder):
        with pytest.raises(WrongKindError):
            await app.dispatch(wrong)  # type: ignore[arg-type]
        with pytest.raises(WrongKindError):
            await app.send(wrong)  # type: ignore[arg-type]
    for no_event in (ORDER, 1, None, OrderPlaced):
        with pytest.raises(WrongKindError):
            await app.publish(no_event)  # type: ignore[arg-type]


async def test_bad_input_ids_that_are_not_ids(app: TestApp) -> None:
    failing(app, 0)
    for wrong in ("", "7", "g" * 36, "00000000-0000-0000-0000-000000000000"):
        with pytest.raises(InvalidIdError):
            await app.dispatch(ORDER, id=wrong)
    with pytest.raises(TypeError, match="unexpected keyword argument 'nobody'"):
        app.dispatch(ORDER, nobody=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        app.dispatch()  # type: ignore[call-arg]


def test_bad_input_handlers_that_cannot_be_called_so(app: TestApp) -> None:
    async def three(a: Any, b: Any, c: Any) -> None: ...
    async def none() -> None: ...
    async def keyword(command: PlaceOrder, *, needed: int) -> None: ...
    async def other(command: CancelOrder) -> None: ...
    async def second(command: PlaceOrder, metadata: int) -> None: ...

    for wrong in (three, none, keyword, other, second, "text", None):
        with pytest.raises(InvalidHandlerError):
            app.command_handler(PlaceOrder)(wrong)  # type: ignore[type-var]
    for options in ({"concurrency": 0}, {"timeout": 0}, {"max_retries": -1}):
        with pytest.raises(InvalidHandlerError):
            app.command_handler(PlaceOrder, **options)(lambda c: None)  # type: ignore[arg-type]
    with pytest.raises(InvalidHandlerError):
        app.event_handler()(none)
    with pytest.raises(InvalidHandlerError):
        app.event_handler(OrderPlaced)(lambda event: None)


def test_bad_input_two_handlers_of_one_name(app: TestApp) -> None:
    app.event_handler(OrderPlaced, name="note")(lambda event: None)
    with pytest.raises(DuplicateHandlerNameError):
        app.event_handler(OrderPlaced, name="note")(lambda event: None)


async def test_bad_input_a_handler_that_returns_what_is_no_json(app: TestApp) -> None:
    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> Any:
        return object

    # In one process the result is handed over as it is.
    assert await app.dispatch(ORDER) is object


async def test_bad_input_a_handler_that_raises_what_cannot_be_shown(
    app: TestApp,
) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> None:
        raise Mute

    with pytest.raises(Mute):
        await app.dispatch(ORDER)
    assert "cannot be made" in app.buried[0].errors[0]["message"]
