"""BEHAVIOURS.md K, over RabbitMQ."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from orkestra import (
    Command,
    HandlerError,
    Metadata,
    NoHandlerError,
    Orkestra,
    RawEvent,
    Reject,
    RetryAfter,
    RetryPolicy,
)
from orkestra.errors import (
    BusUnavailableError,
    DispatchTimeoutError,
    DuplicateHandlerError,
    RejectedError,
    TooLargeError,
    TopologyMismatchError,
)
from rabbit import DEADLETTERS, rabbitmq
from shop import OrderCancelled, OrderPlaced, PlaceOrder
from waiting import eventually

if TYPE_CHECKING:
    from rabbit import Host

ORDER = PlaceOrder(product_id="sku_42", quantity=3)
AT_ONCE = RetryPolicy(initial=0.001, max_delay=0.001, jitter=0)


class Lost(Exception):
    pass


class Receipt(BaseModel):
    order_id: str
    lines: list[int]


class Quote(Command[Receipt]):
    sku: str


def failing(app: Orkestra, times: int, **options: Any) -> list[int]:
    """A handler of PlaceOrder that fails so many times."""
    calls: list[int] = []

    @app.command_handler(PlaceOrder, **options)
    async def place_order(command: PlaceOrder) -> dict[str, str]:
        calls.append(len(calls) + 1)
        if len(calls) <= times:
            raise Lost(f"the {len(calls)}.")
        return {"attempt": str(len(calls))}

    return calls


async def test_k01_a_command_gives_its_handlers_result(host: Host) -> None:
    app = host.app()

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder, metadata: Metadata) -> dict[str, Any]:
        return {"product": command.product_id, "actor": metadata.actor_id}

    async with app:
        result = await app.dispatch(ORDER, actor_id="user_7")
    assert result == {"product": "sku_42", "actor": "user_7"}


async def test_k01_a_result_is_of_the_type_that_the_command_names(host: Host) -> None:
    app = host.app()

    @app.command_handler(Quote)
    async def quote(command: Quote) -> Receipt:
        return Receipt(order_id=command.sku, lines=[1, 2])

    async with app:
        assert await app.dispatch(Quote(sku="a")) == Receipt(order_id="a", lines=[1, 2])


async def test_k02_a_command_without_a_handler_names_its_topic(host: Host) -> None:
    async with host.app() as app:
        with pytest.raises(NoHandlerError) as refused:
            await app.dispatch(ORDER)
        assert refused.value.topic == "place_order"
        with pytest.raises(NoHandlerError):
            await app.send(ORDER)
        # An event that nobody wants is fine.
        envelope = await app.publish(OrderPlaced(order_id="o"))
        assert envelope.status == "published"


async def test_k03_a_second_handler_for_a_command_is_refused(host: Host) -> None:
    app = host.app()
    failing(app, 0)
    with pytest.raises(DuplicateHandlerError):
        failing(app, 0)


async def test_k04_a_failure_without_retries_is_a_dead_letter(host: Host) -> None:
    app = host.app()
    calls, told = failing(app, 9), asyncio.Event()
    app.on_dead_letter(lambda _: told.set())
    async with app:
        with pytest.raises(HandlerError) as raised:
            await app.dispatch(ORDER)
        await told.wait()
        await eventually(lambda: host.depth(DEADLETTERS) == 1)
        (letter,) = await app.dead_letters.broker()
    assert calls == [1]
    failed = raised.value
    assert failed.handler == "shop.place_order"
    assert failed.error_type.endswith("Lost")
    assert failed.details["message"] == "the 1."
    assert "in place_order" in failed.trace
    assert (letter.reason, letter.errors[0]["message"]) == (
        "retries_exhausted",
        "the 1.",
    )


async def test_k04_two_failures_with_two_retries_succeed(host: Host) -> None:
    app = host.app()
    calls = failing(app, 2, max_retries=2, retry=AT_ONCE)
    async with app:
        assert await app.dispatch(ORDER) == {"attempt": "3"}
    assert calls == [1, 2, 3]


async def test_k04_the_senders_retries_come_first(host: Host) -> None:
    app = host.app()
    calls = failing(app, 9, max_retries=0, retry=AT_ONCE)
    async with app:
        with pytest.raises(HandlerError):
            await app.dispatch(ORDER, max_retries=1)
    assert calls == [1, 2]


async def test_k05_a_refusal_is_neither_retried_nor_dead(host: Host) -> None:
    app = host.app()
    calls: list[int] = []

    @app.command_handler(PlaceOrder, max_retries=5)
    async def place_order(command: PlaceOrder) -> None:
        calls.append(1)
        raise Reject("sold out", {"left": 0})

    async with app:
        with pytest.raises(RejectedError) as refused:
            await app.dispatch(ORDER)
        assert await app.dead_letters.broker() == []
    assert (refused.value.reason, refused.value.data) == ("sold out", {"left": 0})
    assert calls == [1]


async def test_k06_k15_one_handlers_failure_is_its_own(host: Host) -> None:
    app, seen, done = host.app(), [], asyncio.Event()

    @app.event_handler(OrderPlaced)
    async def first(event: OrderPlaced) -> None:
        seen.append("first")

    @app.event_handler(OrderPlaced, retry=AT_ONCE)
    async def second(event: OrderPlaced) -> None:
        seen.append("second")
        if seen.count("second") < 3:
            raise Lost
        done.set()

    @app.event_handler(OrderPlaced)
    async def third(event: OrderPlaced) -> None:
        seen.append("third")

    async with app:
        envelope = await app.publish(OrderPlaced(order_id="o"))
        assert (await envelope.settled()).status == "published"
        assert envelope.handlers == {}
        await done.wait()
        await eventually(lambda: len(seen) == 5)
    assert [seen.count(name) for name in ("first", "second", "third")] == [1, 3, 1]


async def test_k07_each_handler_gets_an_event_once(host: Host) -> None:
    app, seen = host.app(), []

    def handler(name: str, *classes: Any, topic: Any = ()) -> None:
        @app.event_handler(*classes, topic=topic, name=name)
        async def note(event: OrderPlaced | RawEvent) -> None:
            seen.append((name, type(event).__name__))

    handler("exact", OrderPlaced)
    handler("star", topic="*")
    handler("hash", topic="#")
    handler("both", OrderPlaced, topic=["*", "order_placed"])
    handler("other", topic="*.placed")
    async with app:
        await app.publish(OrderPlaced(order_id="o"))
        await eventually(lambda: len(seen) >= 4)
    assert sorted(seen) == [
        (name, "OrderPlaced") for name in ("both", "exact", "hash", "star")
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe not ours",
        b"[]",
        b'{"__type__":"command_envelope"}',
        b'{"__type__":"event_envelope","event_type":"Shop.OrderPlaced",'
        b'"event_id":"019506b8-9d2a-7c3e-8f00-0123456789ab","data":{}}',
        b'{"__type__":"command_envelope","command_type":"Shop.PlaceOrder",'
        b'"command_id":"019506b8-9d2a-7c3e-8f00-0123456789ab",'
        b'"params":{"product_id":1,"quantity":"many"}}',
    ],
)
async def test_k08_what_does_not_decode_is_dead_at_once(
    host: Host, body: bytes
) -> None:
    app, letters = host.app(), asyncio.Queue[Any]()
    failing(app, 0)
    app.on_dead_letter(letters.put_nowait)
    async with app:
        await asyncio.to_thread(host.publish, "orkestra.commands", "place_order", body)
        letter = await letters.get()
        assert (letter.reason, letter.body) == ("undecodable", body)
        assert letter.handler == "shop.place_order"
        assert await app.dispatch(ORDER) == {"attempt": "1"}
        await eventually(lambda: host.depth(DEADLETTERS) == 1)
        (lies_there,) = await app.dead_letters.broker()
        assert lies_there.body == body


async def test_k11_all_connections_closed_by_the_broker(host: Host) -> None:
    app, seen = host.app(), set()

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> int:
        seen.add(command.quantity)
        return command.quantity

    async def order(number: int) -> None:
        await app.send(PlaceOrder(product_id="p", quantity=number))

    async with app:
        await order(0)
        await eventually(lambda: seen)
        for round_ in range(2):
            closing = asyncio.to_thread(host.close_connections)
            numbers = range(1 + round_ * 200, 201 + round_ * 200)
            await asyncio.gather(closing, *(order(number) for number in numbers))
        await eventually(lambda: len(seen) == 401)
        assert await app.dispatch(PlaceOrder(product_id="p", quantity=999)) == 999
        health = await app.health()
        assert health.ok, health


async def test_k12_a_broker_that_is_away_is_said_at_the_start() -> None:
    app = Orkestra("shop", bus="amqp://localhost:1", store="memory:")
    failing(app, 0)
    with pytest.raises(BusUnavailableError) as away:
        await app.start()
    assert away.value.transient
    with pytest.raises(BusUnavailableError):
        await app.dispatch(ORDER, timeout=5)
    await app.close()


async def test_k13_many_messages_with_failures_are_each_handled(host: Host) -> None:
    app = host.app()
    attempts: dict[int, int] = {}

    @app.command_handler(
        PlaceOrder, concurrency=16, prefetch=100, max_retries=3, retry=AT_ONCE
    )
    async def place_order(command: PlaceOrder) -> None:
        number = command.quantity
        attempts[number] = attempts.get(number, 0) + 1
        if number % 10 == 0 and attempts[number] == 1:
            raise Lost

    async with app:
        orders = [PlaceOrder(product_id="p", quantity=n) for n in range(1000)]
        await asyncio.gather(*(app.send(order) for order in orders))
        await eventually(lambda: sum(attempts.values()) == 1100)
    assert all(attempts[n] == (2 if n % 10 == 0 else 1) for n in range(1000))


async def test_k14_services_both_get_an_event_instances_share(host: Host) -> None:
    seen: list[tuple[str, str]] = []

    def service(name: str, instance: str) -> Orkestra:
        app = host.app(name)

        @app.event_handler(OrderPlaced)
        async def note(event: OrderPlaced) -> None:
            seen.append((name, instance))

        return app

    a, b = service("billing", "a"), service("billing", "b")
    async with a as app, b, service("mailing", "c"):
        for number in range(40):
            await app.publish(OrderPlaced(order_id=str(number)))
        await eventually(lambda: len(seen) == 80)
    assert seen.count(("mailing", "c")) == 40
    shares = [seen.count(("billing", i)) for i in ("a", "b")]
    assert sum(shares) == 40
    assert all(shares)


async def test_k16_a_stop_finishes_what_is_in_hand(host: Host) -> None:
    app, begun, go_on = host.app(), asyncio.Event(), asyncio.Event()
    finished: list[int] = []

    @app.command_handler(PlaceOrder, concurrency=2, prefetch=10)
    async def place_order(command: PlaceOrder) -> None:
        begun.set()
        await go_on.wait()
        finished.append(command.quantity)

    await app.start()
    for number in range(20):
        await app.send(PlaceOrder(product_id="p", quantity=number))
    await begun.wait()
    closing = asyncio.ensure_future(app.close())
    queue = "orkestra.cmd.place_order"
    await eventually(lambda: host.depth(queue) == 18)
    go_on.set()
    await closing
    assert sorted(finished) == [0, 1]
    assert host.depth(queue) == 18


async def test_k16_what_takes_too_long_goes_back(host: Host) -> None:
    app, begun = host.app(close_timeout=0.05), asyncio.Event()

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with app:
        await app.send(ORDER)
        await begun.wait()
    queue = "orkestra.cmd.place_order"
    await eventually(lambda: host.depth(queue) == 1)


async def test_a_handler_that_will_not_be_cancelled_does_not_hold_up_closing(
    host: Host,
) -> None:
    app, begun = host.app(close_timeout=0.05), asyncio.Event()
    go_on, ended = asyncio.Event(), asyncio.Event()

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> None:
        begun.set()
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go_on.wait()
        ended.set()

    async with app:
        await app.send(ORDER)
        await begun.wait()
    assert not ended.is_set()
    go_on.set()
    await ended.wait()


async def test_k17_one_consumer_keeps_the_order(host: Host) -> None:
    app, seen = host.app(), []

    @app.event_handler(OrderPlaced)
    async def note(event: OrderPlaced) -> None:
        seen.append(int(event.order_id))

    async with app:
        for number in range(300):
            await app.publish(OrderPlaced(order_id=str(number)))
        await eventually(lambda: len(seen) == 300)
    assert seen == list(range(300))


async def test_k18_what_is_over_our_limit_is_refused(host: Host) -> None:
    app = host.app(max_payload_bytes=100)
    failing(app, 0)
    async with app:
        with pytest.raises(TooLargeError):
            await app.send(PlaceOrder(product_id="p" * 200, quantity=1))


async def test_k19_a_queue_with_other_arguments_is_named(host: Host) -> None:
    host.channel.queue_declare("orkestra.cmd.place_order", durable=True)
    app = host.app()
    failing(app, 0)
    with pytest.raises(TopologyMismatchError) as refused:
        await app.start()
    assert "orkestra.cmd.place_order" in refused.value.resource
    assert refused.value.difference
    await app.close()


async def test_k20_a_dispatch_ends_when_its_time_is_over(host: Host) -> None:
    app, go_on = host.app(), asyncio.Event()

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> int:
        if command.quantity == 3:
            await go_on.wait()
        return command.quantity

    async with app:
        with pytest.raises(DispatchTimeoutError) as late:
            await app.dispatch(ORDER, timeout=0.2)
        assert late.value.topic == "place_order"
        # The late answer is nobody's.
        go_on.set()
        assert await app.dispatch(PlaceOrder(product_id="p", quantity=4)) == 4


async def test_k22_a_topic_that_is_not_wanted_any_more_is_passed_over(
    host: Host,
) -> None:
    seen: list[str] = []

    def service(*classes: Any) -> Orkestra:
        app = host.app()

        @app.event_handler(*classes, name="note")
        async def note(event: OrderPlaced | OrderCancelled) -> None:
            seen.append(type(event).__name__)

        return app

    async with service(OrderPlaced, OrderCancelled) as app:
        await app.publish(OrderCancelled(order_id="o"))
        await eventually(lambda: seen == ["OrderCancelled"])
    async with service(OrderPlaced) as app:
        await app.publish(OrderCancelled(order_id="o"))
        await app.publish(OrderPlaced(order_id="o"))
        await eventually(lambda: len(seen) == 2)
    assert seen == ["OrderCancelled", "OrderPlaced"]
    assert host.depth("orkestra.evt.shop.note") == 0
    assert host.depth(DEADLETTERS) == 0


async def test_k23_a_short_wait_is_not_behind_a_long_one(host: Host) -> None:
    app, seen = host.app(), []

    @app.command_handler(PlaceOrder, concurrency=1)
    async def place_order(command: PlaceOrder) -> None:
        if command.quantity not in seen:
            seen.append(command.quantity)
            raise RetryAfter(10 if command.quantity == 1 else 0.1)
        seen.append(command.quantity)

    async with app:
        await app.send(PlaceOrder(product_id="p", quantity=1))
        await app.send(PlaceOrder(product_id="p", quantity=2))
        await eventually(lambda: seen.count(2) == 2)
    assert seen == [1, 2, 2]


async def test_queues_have_the_names_that_others_know(host: Host) -> None:
    app = host.app("MyApp")
    failing(app, 0)

    @app.event_handler(OrderPlaced)
    async def note(event: OrderPlaced) -> None: ...

    async with app:
        queues = rabbitmq("ctl", "list_queues", "name", "-p", host.name).split()
    assert "orkestra.cmd.place_order" in queues
    assert "orkestra.evt.my_app.note" in queues
    assert DEADLETTERS in queues
