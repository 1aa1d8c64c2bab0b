"""What a call is: a coroutine that synchronous code may wait for."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from orkestra import Metadata, Orkestra, Reject, RetryPolicy
from orkestra._orkestra import HANDLING
from orkestra.errors import (
    ClosedError,
    RejectedError,
    WaitInLoopError,
    WaitTimeoutError,
)
from orkestra.testing import TestApp
from shop import CancelOrder, OrderCancelled, OrderPlaced, PlaceOrder

ORDER = PlaceOrder(product_id="sku_42", quantity=3)
CANCEL = CancelOrder(order_id="o-1")


@pytest.fixture
def app() -> Orkestra:
    app = Orkestra("shop", store="memory:")

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> dict[str, str]:
        await asyncio.sleep(0)
        return {"thread": threading.current_thread().name}

    @app.command_handler(CancelOrder)
    def cancel_order(command: CancelOrder) -> Any:
        return threading.current_thread().name

    @app.event_handler(OrderPlaced)
    async def note(event: OrderPlaced) -> None:
        await asyncio.sleep(0)

    @app.event_handler(OrderCancelled)
    def note_sync(event: OrderCancelled) -> None: ...

    return app


async def test_a_call_is_a_coroutine(app: Orkestra) -> None:
    call = app.dispatch(ORDER)
    assert isinstance(call, Coroutine)
    assert inspect.isawaitable(call)
    assert asyncio.iscoroutine(call)
    assert "PlaceOrder" in repr(call)
    assert call.__name__ == "dispatch of PlaceOrder"
    assert await asyncio.create_task(call) == {"thread": "MainThread"}
    results = await asyncio.gather(app.dispatch(ORDER), app.dispatch(ORDER))
    assert len(results) == 2
    assert await asyncio.wait_for(app.dispatch(ORDER), 5)
    envelope = await app.publish(OrderPlaced(order_id="o-1"))
    assert envelope.status == "handled"


def test_bad_input_a_call_that_is_never_awaited(app: Orkestra) -> None:
    with pytest.warns(RuntimeWarning, match="dispatch of PlaceOrder was never awaited"):
        app.dispatch(ORDER)
    with pytest.warns(RuntimeWarning, match="publish of OrderPlaced was never"):
        app.publish(OrderPlaced(order_id="o-1"))
    with pytest.warns(RuntimeWarning, match="append was never awaited"):
        app.store.append("s", [])
        gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        app.dispatch(ORDER).close()


async def test_a_call_is_awaited_once(app: Orkestra) -> None:
    call = app.dispatch(ORDER)
    await call
    with pytest.raises(RuntimeError, match="cannot reuse already awaited dispatch"):
        await call
    with pytest.raises(RuntimeError, match="cannot reuse"):
        call.send(None)
    call.close()

    call = app.dispatch(ORDER)
    task = asyncio.create_task(call)
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="being awaited already"):
        await call
    await task


def test_a_call_has_the_protocol_of_coroutines(app: Orkestra) -> None:
    call = app.dispatch(ORDER)
    with pytest.raises(TypeError, match="just-started"):
        call.send(1)
    with pytest.raises(KeyError):
        call.throw(KeyError("x"))
    with pytest.raises(RuntimeError, match="cannot reuse"):
        call.send(None)
    call = app.dispatch(ORDER)
    assert call.send(None) is None  # asyncio.sleep(0) yields once
    with pytest.raises(StopIteration) as stop:
        call.send(None)
    assert stop.value.value == {"thread": "MainThread"}
    call = app.dispatch(ORDER)
    call.send(None)
    call.close()
    assert HANDLING.get(None) is None


def test_wait_runs_sync_handlers_here_and_async_ones_on_a_loop(app: Orkestra) -> None:
    assert app.dispatch(CANCEL).wait() == "MainThread"
    assert app.dispatch(ORDER).wait(timeout=10) == {"thread": "orkestra-shop"}
    assert app.publish(OrderCancelled(order_id="o")).wait().status == "handled"
    assert app.publish(OrderPlaced(order_id="o")).wait().status == "handled"
    app.close().wait()


async def test_await_runs_sync_handlers_on_a_worker(app: Orkestra) -> None:
    assert (await app.dispatch(CANCEL)).startswith("orkestra-shop_")
    app = Orkestra("inline", store="memory:")

    @app.command_handler(CancelOrder, inline=True)
    def cancel_order(command: CancelOrder) -> Any:
        return threading.current_thread().name

    assert await app.dispatch(CANCEL) == "MainThread"


async def test_context_variables_reach_the_worker(app: Orkestra) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var")
    app = Orkestra("shop", store="memory:")

    @app.command_handler(CancelOrder)
    def cancel_order(command: CancelOrder) -> Any:
        return var.get()

    var.set("mine")
    assert await app.dispatch(CANCEL) == "mine"


async def test_wait_inside_a_running_loop_is_refused(app: Orkestra) -> None:
    calls = [app.dispatch(ORDER), app.dispatch(CANCEL), app.store.head(), app.start()]
    for call in calls:
        with pytest.raises(WaitInLoopError):
            call.wait()


def test_a_wait_ends_after_its_timeout() -> None:
    app = Orkestra("shop", store="memory:")
    cancelled = threading.Event()

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(WaitTimeoutError):
        app.dispatch(ORDER).wait(0.01)
    assert cancelled.wait(5)
    with pytest.raises(WaitTimeoutError):
        app.caught_up("nobody", 1).wait(timeout=0.01)
    with pytest.raises(TypeError):
        app.dispatch(CANCEL).wait("soon")  # type: ignore[arg-type]
    app.close().wait()


def test_a_sync_handler_may_send_and_wait(app: Orkestra) -> None:
    app = Orkestra("shop", store="memory:")
    seen: list[str | None] = []

    @app.command_handler(CancelOrder)
    def cancel_order(command: CancelOrder) -> str:
        app.publish(OrderCancelled(order_id=command.order_id)).wait()
        app.store.append("order", [OrderCancelled(order_id=command.order_id)]).wait()
        return "done"

    @app.event_handler(OrderCancelled)
    def note(event: OrderCancelled, metadata: Any) -> None:
        seen.append(metadata.causation_id)

    command = CancelOrder(order_id="o-1")
    assert app.dispatch(command).wait() == "done"
    (recorded,) = app.store.read_stream("order")
    assert seen == [recorded.metadata.causation_id]
    app.close().wait()


def test_retries_work_without_a_loop() -> None:
    app = Orkestra("shop", store="memory:")
    calls: list[int] = []

    @app.command_handler(CancelOrder, retry=RetryPolicy(max_retries=2, initial=0.001))
    def cancel_order(command: CancelOrder) -> Any:
        calls.append(1)
        if len(calls) < 3:
            raise KeyError
        return len(calls)

    assert app.dispatch(CANCEL).wait() == 3
    assert app._loop_thread is None
    app.close().wait()


@pytest.mark.parametrize(
    "kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError]
)
async def test_bad_input_keyboard_interrupt_in_a_handler(
    kind: type[BaseException],
) -> None:
    app = Orkestra("shop", store="memory:")
    calls: list[int] = []

    @app.command_handler(PlaceOrder, max_retries=5)
    async def place_order(command: PlaceOrder) -> None:
        calls.append(1)
        raise kind

    with pytest.raises(kind):
        await app.dispatch(ORDER)
    assert calls == [1]
    assert HANDLING.get(None) is None
    assert (await app.dead_letters.list()).total == 0


def interrupted(until: Callable[[], bool], wait: Callable[[], object]) -> None:
    """Ctrl-C in the main thread, once it waits."""
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        while not until():
            pass
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt):
        thread.start()
        wait()
    thread.join()


def test_ctrl_c_ends_a_wait() -> None:
    app = TestApp("shop")
    started = threading.Event()

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> None:
        started.set()
        await asyncio.Event().wait()

    interrupted(started.is_set, app.dispatch(ORDER).wait)
    # Blocked in the core, not in Python.
    interrupted(lambda: app.clock.next_wake() is not None, app.caught_up("no", 1).wait)
    app.close().wait()


async def test_the_context_is_put_back_whatever_happens(app: Orkestra) -> None:
    app = Orkestra("shop", store="memory:")
    go = asyncio.Event()

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> None:
        assert HANDLING.get(None) is not None
        await go.wait()
        raise ValueError("lost")

    first = asyncio.create_task(app.dispatch(ORDER))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first

    async def in_place() -> None:
        go.set()
        with pytest.raises(ValueError, match="lost"):
            await app.dispatch(ORDER)
        assert HANDLING.get(None) is None

    await in_place()
    (route,) = app._routes.values()
    assert route.busy == 0


async def test_a_cancelled_call_drops_what_it_waits_for(app: Orkestra) -> None:
    subscription = app.subscribe(start="now")
    task = asyncio.create_task(anext(subscription))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await app.store.append("s", [OrderPlaced(order_id="o-1")])
    recorded = await anext(subscription)
    assert recorded.event == OrderPlaced(order_id="o-1")


async def test_nothing_of_a_call_stays() -> None:
    async def use(command: PlaceOrder) -> weakref.ref[Orkestra]:
        app = Orkestra("shop", store="memory:")

        @app.command_handler(PlaceOrder)
        async def place_order(command: PlaceOrder) -> Any:
            return app

        await app.dispatch(command)
        before = sys.getrefcount(command)
        for _ in range(10):
            await app.dispatch(command)
        assert sys.getrefcount(command) == before
        await app.close()
        return weakref.ref(app)

    gone = await use(PlaceOrder(product_id="a", quantity=1))
    gc.collect()
    assert gone() is None


async def test_bad_input_dispatch_after_close_and_close_twice(app: Orkestra) -> None:
    await app.start()
    await app.close()
    await app.close()
    for call in (
        app.dispatch(ORDER),
        app.send(ORDER),
        app.publish(OrderPlaced(order_id="o")),
        app.store.head(),
        app.start(),
        app.dead_letters.list(),
    ):
        with pytest.raises(ClosedError) as refused:
            await call
        assert refused.value.details == {"app": "shop"}
    health = await app.health()
    assert (health.ok, health.status) == (False, "closed")


def test_wait_after_close(app: Orkestra) -> None:
    app.close().wait()
    app.close().wait()
    for call in (app.dispatch(ORDER), app.dispatch(CANCEL), app.store.head()):
        with pytest.raises(ClosedError):
            call.wait()


def test_an_app_runs_by_itself(app: Orkestra) -> None:
    async def main() -> str:
        return str((await app.dispatch(ORDER))["thread"])

    assert app.run(main) == "MainThread"
    assert app.is_closed


def test_with_works_without_a_loop(store: str) -> None:
    seen: list[Any] = []
    app = Orkestra("shop", store=store)

    @app.event_handler(OrderPlaced)
    async def note(event: OrderPlaced) -> None:
        seen.append(event)

    event = OrderPlaced(order_id="o-1")
    with app:
        done = app.store.append("order-1", [event]).wait()
        assert done.position is not None
        app.caught_up("note", done.position).wait(10)
    assert seen == [event]


async def test_nothing_piles_up_from_call_to_call() -> None:
    app = Orkestra("shop", store="memory:")

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder, metadata: Metadata) -> None: ...

    @app.command_handler(CancelOrder)
    async def cancel_order(command: CancelOrder) -> None:
        raise Reject("no")

    @app.event_handler(OrderPlaced)
    async def note(event: OrderPlaced, metadata: Metadata) -> None: ...

    async def use(times: int) -> None:
        for _ in range(times):
            await app.dispatch(ORDER, source="web")
            await app.publish(OrderPlaced(order_id="o"))
            with contextlib.suppress(RejectedError):
                await app.dispatch(CANCEL)
            app.dispatch(ORDER).close()
            await app.store.head()

    await use(10)
    gc.collect()
    before = len(gc.get_objects())
    await use(200)
    gc.collect()
    assert len(gc.get_objects()) - before < 50
