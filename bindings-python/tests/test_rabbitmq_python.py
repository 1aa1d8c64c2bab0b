"""What is Python's own over RabbitMQ: threads, loops, middleware, types."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from orkestra import (
    BusClosedError,
    ClosedError,
    Command,
    Event,
    HandlerError,
    Metadata,
    NoHandlerError,
    Orkestra,
    RawEvent,
    Reject,
    RetryPolicy,
    id_of,
    metadata_of,
)
from orkestra.errors import (
    ForkedError,
    InvalidHandlerError,
    InvalidPayloadError,
    RejectedError,
    WrongKindError,
)
from shop import AddStock, OrderPlaced, PlaceOrder, StockAdded, StockItem
from waiting import eventually, until

if TYPE_CHECKING:
    from pathlib import Path

    from rabbit import Host

ORDER = PlaceOrder(product_id="sku_42", quantity=3)
AT_ONCE = RetryPolicy(initial=0.001, max_delay=0.001, jitter=0)


class Count(Command[int]):
    name: str


def test_synchronous_code_needs_no_loop(host: Host) -> None:
    seen: list[str] = []
    app = host.app()

    @app.command_handler(PlaceOrder)
    def place_order(command: PlaceOrder) -> str:
        return threading.current_thread().name

    @app.event_handler(OrderPlaced)
    def note(event: OrderPlaced) -> None:
        seen.append(event.order_id)

    with app:
        assert app.dispatch(ORDER).wait() == "shop.place_order-0"
        assert app.send(ORDER, id="019506b8-9d2a-7c3e-8f00-0123456789ab").wait()
        assert app.publish(OrderPlaced(order_id="o")).wait().status == "published"
        until(lambda: seen == ["o"], "the event is handled")
        assert app.health().wait().ok


def test_sending_needs_no_start(host: Host) -> None:
    with host.app() as consumer:
        pass
    del consumer
    sender = host.app("sender")
    with pytest.raises(NoHandlerError):
        sender.send(ORDER).wait()
    assert sender.publish(OrderPlaced(order_id="o")).wait().status == "published"
    sender.close().wait()
    with pytest.raises(ClosedError):
        sender.send(ORDER).wait()


async def test_synchronous_handlers_run_beside_each_other(host: Host) -> None:
    app, meeting = host.app(), threading.Barrier(3, timeout=20)

    @app.command_handler(PlaceOrder, concurrency=3)
    def place_order(command: PlaceOrder) -> int:
        meeting.wait()
        return threading.get_ident()

    async with app:
        orders = (
            app.dispatch(PlaceOrder(product_id="p", quantity=n)) for n in range(3)
        )
        threads = set(await asyncio.gather(*orders))
    assert len(threads) == 3
    assert threading.get_ident() not in threads


async def test_a_synchronous_handler_may_wait_for_another(host: Host) -> None:
    app = host.app()

    @app.command_handler(Count)
    async def count(command: Count) -> int:
        return len(command.name)

    @app.command_handler(PlaceOrder)
    def place_order(command: PlaceOrder) -> int:
        return app.dispatch(Count(name=command.product_id)).wait() + 1

    async with app:
        assert await app.dispatch(ORDER) == 7


async def test_a_synchronous_handler_that_exits_fails_and_the_next_is_called(
    host: Host,
) -> None:
    seen: list[str] = []
    app = host.app()

    @app.event_handler(OrderPlaced, max_retries=0)
    def note(event: OrderPlaced) -> None:
        seen.append(event.order_id)
        if event.order_id == "exits":
            # As an argument parser does.
            raise SystemExit(2)

    async with app:
        await app.publish(OrderPlaced(order_id="exits"))
        await app.publish(OrderPlaced(order_id="next"))
        await eventually(lambda: seen == ["exits", "next"])


async def test_a_synchronous_handlers_failures_are_retried(host: Host) -> None:
    app, letters = host.app(), asyncio.Queue[Any]()
    calls: list[int] = []
    app.on_dead_letter(letters.put_nowait)

    @app.command_handler(PlaceOrder, max_retries=1, retry=AT_ONCE)
    def place_order(command: PlaceOrder) -> None:
        calls.append(1)
        if command.quantity == 1:
            raise Reject("no")
        raise ValueError("never")

    async with app:
        with pytest.raises(RejectedError):
            await app.dispatch(PlaceOrder(product_id="p", quantity=1))
        with pytest.raises(HandlerError):
            await app.dispatch(ORDER)
        letter = await letters.get()
    assert len(calls) == 3
    assert letter.attempts == 2


@pytest.mark.parametrize("inline", [True, False])
async def test_a_limit_of_time_is_a_failure(host: Host, inline: bool) -> None:
    app, go_on = host.app(), threading.Event()
    cancelled: list[bool] = []

    @app.command_handler(PlaceOrder, timeout=0.05)
    async def place_order(command: PlaceOrder) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    @app.command_handler(Count, timeout=0.05)
    def count(command: Count) -> int:
        go_on.wait(20)
        return 1

    async with app:
        with pytest.raises(HandlerError) as late:
            await app.dispatch(ORDER if inline else Count(name="n"))
        go_on.set()
    assert "ran longer than 0.05 s" in str(late.value)
    assert cancelled == [True] * inline


async def test_what_is_sent_while_handling_is_caused_by_it(host: Host) -> None:
    app, seen = host.app(), asyncio.Queue[Metadata]()

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder, metadata: Metadata) -> str:
        await app.publish(OrderPlaced(order_id="o"))
        assert metadata == metadata_of(command)
        return id_of(command)

    @app.event_handler(OrderPlaced)
    async def note(event: OrderPlaced, metadata: Metadata) -> None:
        seen.put_nowait(metadata)

    async with app:
        id_ = await app.dispatch(ORDER, actor_id="user_7", correlation_id="chain")
        metadata = await seen.get()
    assert metadata.causation_id == id_
    assert (metadata.correlation_id, metadata.actor_id) == ("chain", "user_7")


async def test_a_trace_goes_on_to_what_is_sent_while_handling(host: Host) -> None:
    app = host.app()

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> None:
        await app.publish(OrderPlaced(order_id="o"))

    host.channel.queue_declare("probe")
    async with app:
        host.channel.queue_bind("probe", "orkestra.events", "#")
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        host.publish(
            "orkestra.commands",
            "place_order",
            b'{"__type__":"command_envelope","command_type":"Shop.PlaceOrder",'
            b'"command_id":"019506b8-9d2a-7c3e-8f00-0123456789ab",'
            b'"params":{"product_id":"p","quantity":1}}',
            headers={"traceparent": trace},
        )
        await eventually(lambda: host.depth("probe") == 1)
    found = host.get("probe")
    assert found is not None
    assert found[0].headers["traceparent"] == trace


async def test_middleware_stands_around_sending_and_handling(host: Host) -> None:
    app, log = host.app(), []

    @app.around_send
    async def sending(envelope: Any, call: Any) -> Any:
        log.append(("send", envelope.status))
        result = await call()
        log.append(("sent", envelope.status))
        return result

    @app.around_handle
    async def handling(envelope: Any, call: Any) -> Any:
        log.append(("handle", type(envelope).__name__))
        return await call()

    done = asyncio.Event()

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> int:
        if command.quantity == 0:
            raise Reject("none")
        return command.quantity

    @app.event_handler(OrderPlaced)
    def note(event: OrderPlaced) -> None:
        done.set()

    async with app:
        assert await app.dispatch(ORDER) == 3
        sent, handled = log[:1] + log[2:], log[1]
        assert sent == [("send", "pending"), ("sent", "succeeded")]
        assert handled == ("handle", "CommandEnvelope")
        log.clear()
        with pytest.raises(RejectedError):
            await app.dispatch(PlaceOrder(product_id="p", quantity=0))
        log.clear()
        assert await app.send(ORDER, id="019506b8-9d2a-7c3e-8f00-0123456789ab") == (
            "019506b8-9d2a-7c3e-8f00-0123456789ab"
        )
        assert ("sent", "dispatched") in log
        await eventually(lambda: len(log) == 3)
        log.clear()
        assert (await app.publish(OrderPlaced(order_id="o"))).status == "published"
        # Set on another thread.
        await eventually(done.is_set)
        with pytest.raises(WrongKindError):
            await app.dispatch(OrderPlaced(order_id="o"))  # type: ignore[arg-type]
    assert ("handle", "EventEnvelope") in log


async def test_middleware_that_comes_late_stands_around_threads_too(host: Host) -> None:
    app, log = host.app(), []

    @app.command_handler(PlaceOrder)
    def place_order(command: PlaceOrder) -> str:
        log.append("handle")
        return id_of(command)

    async with app:
        await app.dispatch(ORDER)

        @app.around_handle
        async def around(envelope: Any, call: Any) -> Any:
            log.append("around")
            assert await call() == envelope.id
            return "mine"

        assert await app.dispatch(ORDER) == "mine"
    assert log == ["handle", "around", "handle"]


def test_a_loop_of_another_make(host: Host) -> None:
    import uvloop

    app = host.app()

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> int:
        return command.quantity

    async def program() -> Any:
        async with app:
            return await asyncio.gather(*(app.dispatch(ORDER) for _ in range(50)))

    assert uvloop.run(program()) == [3] * 50


@pytest.mark.skipif("not hasattr(os, 'fork')", reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_the_child_of_a_fork(host: Host) -> None:
    with host.app() as consumer:
        used, unused = host.app("used"), host.app("unused")
        used.publish(OrderPlaced(order_id="o")).wait()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with pytest.raises(ForkedError):
                    used.publish(OrderPlaced(order_id="o")).wait()
                unused.publish(OrderPlaced(order_id="o")).wait()
                unused.close().wait()
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert consumer.health().wait().ok
        used.close().wait()


async def test_what_is_no_message_is_refused(host: Host) -> None:
    async with host.app() as app:
        for thing in (object(), 7, OrderPlaced(order_id="o")):
            with pytest.raises(WrongKindError):
                await app.dispatch(thing)  # type: ignore[arg-type]
        with pytest.raises(WrongKindError):
            await app.publish(ORDER)  # type: ignore[arg-type]


async def test_a_result_without_json_is_said(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    app = host.app()

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> Any:
        return object()

    @app.command_handler(Count)
    async def count(command: Count) -> Any:
        return "many"

    async with app:
        with pytest.raises(HandlerError) as failed:
            await app.dispatch(ORDER)
        with pytest.raises(InvalidPayloadError) as unfit:
            await app.dispatch(Count(name="n"))
        # Nobody waits for it: it is handled.
        await app.send(ORDER)
    assert failed.value.error_type == "PydanticSerializationError"
    assert "Count" in unfit.value.type_name
    assert "its result has no JSON" in caplog.text


async def test_an_unknown_event_is_raw(host: Host) -> None:
    class Unknown(Event, type_name="Billing.Invoices.Paid"):
        amount: int

    app, seen = host.app(), asyncio.Queue[Any]()

    @app.event_handler(topic="billing.#")
    async def note(event: RawEvent, metadata: Metadata) -> None:
        seen.put_nowait((event, id_of(event), metadata.correlation_id))

    async with app:
        envelope = await app.publish(Unknown(amount=3))
        event, id_, correlation_id = await seen.get()
    assert event == RawEvent("Billing.Invoices.Paid", 1, {"amount": 3})
    assert id_ == envelope.id == correlation_id


async def test_old_names_and_versions_are_read(host: Host) -> None:
    class Placed(Event, version=2, type_name="Shop.Placed", aliases=["Shop.OldPlaced"]):
        order_id: str
        currency: str

    @Placed.upcaster(from_version=1)
    def add_currency(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "currency": "EUR"}

    class OldPlaced(Event, type_name="Shop.OldPlaced"):
        order_id: str

    app, seen = host.app(), asyncio.Queue[Any]()

    @app.event_handler(Placed)
    async def note(event: Placed) -> None:
        seen.put_nowait(event)

    async with app, host.app("old") as old:
        await old.publish(OldPlaced(order_id="o"))
        assert await seen.get() == Placed(order_id="o", currency="EUR")


async def test_facts_of_the_log_reach_handlers_over_the_broker(host: Host) -> None:
    shop, seen = host.app(), asyncio.Queue[Any]()
    shop.add_aggregate(StockItem)
    mail = host.app("mail")

    @mail.event_handler(StockAdded)
    async def note(event: StockAdded, metadata: Metadata) -> None:
        seen.put_nowait((event, metadata.causation_id))

    async with mail, shop:
        answer = await shop.dispatch(AddStock(sku="a", quantity=2), id=str(_ID))
        assert answer == {"stream": "stock-a", "revision": 0}
        assert await seen.get() == (StockAdded(quantity=2), _ID)
        # The handler may be faster than the confirm.
        await shop.caught_up("orkestra.relay", 1)
        health = await shop.health()
        assert health.readers == []
        assert health.relay == {"position": 1, "error": None}


_ID = "019506b8-9d2a-7c3e-8f00-0123456789ab"


async def test_health_tells_of_the_bus(host: Host) -> None:
    app = host.app()

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> None: ...

    assert not (await app.health()).ok
    async with app:
        health = await app.health()
        assert health.ok
        bus = health.bus
        assert bus is not None
        assert (bus["connected"], bus["blocked"], bus["error"]) == (True, None, None)
        assert bus["consumers"] == [
            {
                "handler": "shop.place_order",
                "queue": "orkestra.cmd.place_order",
                "consuming": True,
                "error": None,
            }
        ]
    async with Orkestra("shop", store="memory:") as local:
        assert (await local.health()).bus is None


async def test_a_cancelled_dispatch_is_forgotten(host: Host) -> None:
    app, begun, go_on = host.app(), asyncio.Event(), asyncio.Event()

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> int:
        if command.quantity == 3:
            begun.set()
            await go_on.wait()
        return command.quantity

    async with app:
        asking = asyncio.ensure_future(app.dispatch(ORDER))
        await begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        go_on.set()
        assert await app.dispatch(PlaceOrder(product_id="p", quantity=4)) == 4


@pytest.mark.skipif("sys.version_info < (3, 11)", reason="tasks do not say it yet")
async def test_a_handlers_own_cancellation_is_a_failure(host: Host) -> None:
    app = host.app()

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> int:
        if command.quantity == 3:
            raise asyncio.CancelledError
        return command.quantity

    async with app:
        with pytest.raises(HandlerError):
            await app.dispatch(ORDER)
        assert await app.dispatch(PlaceOrder(product_id="p", quantity=4)) == 4


def test_a_program_that_just_ends_gives_everything_back(host: Host) -> None:
    app, begun = host.app(), threading.Event()

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def program() -> None:
        await app.start()
        await app.send(ORDER)
        await eventually(begun.is_set)

    # `run` cancels what is left over and comes back.
    asyncio.run(program())
    app.close().wait()
    until(lambda: host.depth("orkestra.cmd.place_order") == 1, "it is back")


async def test_closing_after_every_task_was_cancelled(host: Host) -> None:
    app = host.app()

    @app.command_handler(PlaceOrder, concurrency=3)
    async def place_order(command: PlaceOrder) -> None:
        await asyncio.sleep(0)

    await app.start()
    await asyncio.gather(*(app.dispatch(ORDER) for _ in range(9)))
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await app.close()


async def test_the_loop_has_its_turn_while_much_arrives(host: Host) -> None:
    app, seen = host.app(), 0

    @app.command_handler(PlaceOrder, prefetch=1000)
    async def place_order(command: PlaceOrder) -> None:
        nonlocal seen
        seen += 1
        if seen < 500:
            await app.send(ORDER)

    async with app:
        await asyncio.gather(*(app.send(ORDER) for _ in range(500)))
        longest, at = 0.0, time.perf_counter()
        while seen < 900:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, at = max(longest, now - at), now
    # Not for as long as messages come, but for some of them.
    assert longest < 1


@pytest.mark.parametrize("prefetch", [0, -1, True, 65_536])
def test_a_prefetch_out_of_range_is_refused(prefetch: int) -> None:
    app = Orkestra("shop", store="memory:")
    with pytest.raises(InvalidHandlerError):
        app.command_handler(PlaceOrder, prefetch=prefetch)(lambda command: None)


async def test_messages_are_not_kept_alive(host: Host) -> None:
    class Note(Event):
        n: int

    app, done = host.app(), asyncio.Event()

    @app.event_handler(Note)
    async def note(event: Note) -> None:
        if event.n == 99:
            done.set()

    async with app:
        for n in range(100):
            await app.publish(Note(n=n))
        await done.wait()
        alive = [o for o in gc.get_objects() if isinstance(o, Note)]
    # Without a collection: nothing goes round in circles.
    assert len(alive) < 10, alive


async def test_closing_twice_and_sending_after_it(host: Host) -> None:
    app = host.app()
    async with app:
        pass
    await app.close()
    with pytest.raises((ClosedError, BusClosedError)):
        await app.publish(OrderPlaced(order_id="o"))


async def test_an_aggregates_refusal_crosses(host: Host, tmp_path: Path) -> None:
    app = host.app(store=f"sqlite:{tmp_path}/s.db")
    app.add_aggregate(StockItem)
    async with app:
        with pytest.raises(RejectedError) as refused:
            await app.dispatch(AddStock(sku="a", quantity=-1))
    assert refused.value.data == {"left": 0}
