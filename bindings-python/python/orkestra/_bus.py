"""The slow path of in-process messages: whatever the native fast path hands over.

The native ``Call`` drives these coroutines. When to try again and when to give up is
the core's ``Delivery``; this module calls handlers, waits, and records.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orkestra import _orkestra
from orkestra._failures import records, rejected, text
from orkestra._loops import LoopThread, Workers
from orkestra._orkestra import Gate, Route
from orkestra._publishing import Settling
from orkestra.envelopes import CommandEnvelope
from orkestra.errors import (
    DispatchTimeoutError,
    HandlerTimeoutError,
    OrkestraError,
    RejectedError,
    WaitTimeoutError,
    WrongKindError,
)
from orkestra.messages import Command, Event
from orkestra.retry import Reject, RetryAfter, type_names

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Awaitable, Callable, Coroutine

    from orkestra._orkestra import Call, Clock, EventEnvelope, Ids, Registry, Services
    from orkestra.handlers import Registration

    Envelope = CommandEnvelope | EventEnvelope
    Next = Callable[[], Awaitable[Any]]
    Middleware = Callable[[Envelope, Next], Awaitable[Any]]

logger = logging.getLogger("orkestra")


@dataclass(frozen=True)
class Entry:
    """What a route knows of its registration."""

    index: int
    short_name: str
    registration: Registration
    waiters: deque[Gate]

    @property
    def is_command(self) -> bool:
        """Whether it handles a command."""
        return self.registration.kind == "command"


class Bus(_orkestra.AppCore):
    """Calls handlers when the fast path cannot."""

    name: str
    _clock: Clock
    _ids: Ids
    _registry: Registry

    def _set_up_bus(self, threads: int | None) -> None:
        self._threads = threads
        # As ThreadPoolExecutor has it.
        self._thread_limit = threads or min(32, (os.cpu_count() or 1) + 4)
        self._routes: dict[int, Route] = {}
        self._around_send: list[Middleware] = []
        self._around_handle: list[Middleware] = []
        self._behind: set[concurrent.futures.Future[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._cut_short = Gate()
        self._loop_thread: LoopThread | None = None
        self._workers: Workers | None = None

    # What the app adds.

    def _services_or_refuse(self) -> Services:
        raise NotImplementedError

    async def _refuse(self, call: Call[Any]) -> Any:
        raise NotImplementedError

    async def _bury(
        self,
        delivery: _orkestra.Delivery,
        reason: str,
        route: Route,
        message: Any,
        max_retries: int | None,
        error: BaseException,
    ) -> None:
        raise NotImplementedError

    # Threads.

    def _loop(self) -> LoopThread:
        if self._loop_thread is None:
            _orkestra.mark_used(self, True)
            self._loop_thread = LoopThread(f"orkestra-{self.name}")
        return self._loop_thread

    def _worker_threads(self) -> Workers:
        if self._workers is None:
            self._workers = Workers(f"orkestra-{self.name}", self._threads)
        return self._workers

    def _wait_on_loop(self, call: Call[Any], timeout: Any) -> Any:
        """What ``Call.wait`` does where a loop is needed."""
        if not _orkestra.mark_used(self, False):
            # The child of a fork: the call itself says so.
            return _drive(call)
        seconds = None if timeout is None else _orkestra.seconds(timeout, "timeout")
        future = self._loop().submit(call)
        try:
            return future.result(seconds)
        except concurrent.futures.TimeoutError:
            if future.done():
                raise
            future.cancel()
            message = f"no result within {seconds:g} s"
            raise WaitTimeoutError(message, {"seconds": seconds}) from None
        except BaseException:
            future.cancel()
            raise

    async def _until(self, future: concurrent.futures.Future[Any]) -> None:
        """Waits for what runs on any thread; its failure is not ours."""
        if _running():
            with contextlib.suppress(Exception):
                await asyncio.wrap_future(future)
        else:
            concurrent.futures.wait([future])

    def _go_on_behind(
        self, work: Coroutine[Any, Any, None]
    ) -> concurrent.futures.Future[None]:
        """Runs `work` after the caller has gone on."""
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._behind.add(done)

        async def run() -> None:
            try:
                await work
            except Exception:
                logger.exception("work behind a message failed")
            finally:
                self._behind.discard(done)
                done.set_result(None)

        if _running():
            task = asyncio.create_task(run())
            # The loop keeps weak references only.
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._loop().submit(run())
        return done

    # Slots.

    async def _take_slot(self, route: Route) -> None:
        """Waits in line for one of the handler's slots."""
        if route.acquire():
            return
        waiters = route.info.waiters
        gate = Gate()
        waiters.append(gate)
        route.set_waiting(len(waiters))
        try:
            await gate.wait()
        except BaseException:
            if gate.is_open:
                route.release()
            else:
                waiters.remove(gate)
                route.set_waiting(len(waiters))
            raise

    def _wake_waiter(self, route: Route) -> None:
        """Called by the route when a slot is given back and somebody waits."""
        waiters = route.info.waiters
        while waiters and route.acquire_waiting():
            gate = waiters.popleft()
            route.set_waiting(len(waiters))
            gate.open()

    # Commands.

    def _command_route(self, command: object) -> Route:
        if not isinstance(command, Command):
            kind = type(command)
            details = {"expected": "a command", "found": kind.__qualname__}
            message = f"expected a command, found {kind.__qualname__}"
            raise WrongKindError(message, details)
        index = self._registry.command_handler(command.__orkestra_type__.type_name)
        return self._routes[index]

    async def _slow_dispatch(self, call: Call[Any]) -> Any:
        route = self._command_route(call.message)
        call.stamp()
        if call.timeout is None:
            return await self._send_through(call, route)
        handling = _orkestra.new_handling(self, call.message, False)
        work = self._send_through(handling, route, call.max_retries, call.nested)
        if not _running():
            return await work
        task = asyncio.ensure_future(work)
        if await self._within(task, call.timeout):
            return task.result()
        # Nobody waits any more, but the command is handled all the same.
        self._forget(task)
        topic = self._registry.topic_for(type(call.message).__orkestra_type__.type_name)
        message = f"no answer for {topic} within {call.timeout:g} s"
        raise DispatchTimeoutError(message, {"topic": topic, "seconds": call.timeout})

    async def _send_around(self, call: Call[Any]) -> Any:
        """Sends over the broker, inside the middleware."""
        message = call.message
        if not isinstance(message, (Command, Event)):
            return await call.to_broker()
        call.stamp()
        if isinstance(message, Event):
            published = _orkestra.EventEnvelope(message, (), call.at, elsewhere=True)
            await compose(self._around_send, published, call.to_broker)()
            return published
        envelope = CommandEnvelope(message, call.max_retries)

        async def deliver() -> Any:
            envelope.dispatched_at = self._clock.now()
            envelope.status, envelope.attempts = "dispatched", 1
            try:
                answer = await call.to_broker()
            except OrkestraError as error:
                rejection = isinstance(error, RejectedError)
                envelope.status = "rejected" if rejection else "failed"
                envelope.error = error
                envelope.completed_at = self._clock.now()
                raise
            if not call.wants_result:
                return None
            envelope.completed_at = self._clock.now()
            envelope.status, envelope.result = "succeeded", answer
            return answer

        result = await compose(self._around_send, envelope, deliver)()
        return result if call.wants_result else call.id

    async def _slow_send(self, call: Call[Any]) -> str:
        message = call.message
        route = self._command_route(message)
        call.stamp()
        handling = _orkestra.new_handling(self, message, False)
        work = self._handle_sent(handling, route, call.max_retries)
        self._go_on_behind(work)
        return call.id

    async def _handle_sent(
        self, handling: Call[Any], route: Route, max_retries: int | None
    ) -> None:
        try:
            await self._send_through(handling, route, max_retries, nested=False)
        except Exception as error:
            logger.debug("a command that was sent failed: %s", text(error))

    async def _send_through(
        self,
        call: Call[Any],
        route: Route,
        max_retries: int | None = None,
        nested: bool | None = None,  # noqa: FBT001 - internal
    ) -> Any:
        """Sends a stamped command through the middleware to its handler."""
        message = call.message
        if max_retries is None:
            max_retries = call.max_retries
        envelope = CommandEnvelope(message, max_retries)
        inside = call.nested if nested is None else nested

        async def deliver() -> Any:
            envelope.dispatched_at = self._clock.now()
            entry = route.info
            delivery = _orkestra.Delivery(
                entry.registration.policy._native,
                command=True,
                max_retries=max_retries,
            )
            try:
                envelope.result = await self._deliver(
                    call, route, message, delivery, envelope, max_retries, inside=inside
                )
            finally:
                envelope.completed_at = self._clock.now()
            envelope.status = "succeeded"
            envelope.error = None
            return envelope.result

        return await compose(self._around_send, envelope, deliver)()

    async def _dispatch_failed(self, call: Call[Any], error: Exception) -> Any:
        """Goes on after the fast path's first attempt."""
        if isinstance(error, Reject):
            raise rejected(error) from error
        route = call.routes
        delivery = _orkestra.Delivery(
            route.info.registration.policy._native,
            command=True,
            max_retries=call.max_retries,
        )
        delivery.begin()
        envelope = CommandEnvelope(call.message, call.max_retries)
        call.leave()
        call.release()
        return await self._deliver(
            call,
            route,
            call.message,
            delivery,
            envelope,
            call.max_retries,
            inside=call.nested,
            error=error,
        )

    # One message, one handler.

    async def _deliver(
        self,
        handling: Call[Any],
        route: Route,
        message: Any,
        delivery: _orkestra.Delivery,
        envelope: Envelope,
        max_retries: int | None = None,
        *,
        inside: bool = False,
        error: Exception | None = None,
        bury: bool = True,
        on_attempt: Callable[[], None] | None = None,
        on_retry: Callable[[], None] | None = None,
    ) -> Any:
        """Calls the handler until it succeeds, refuses, or is given up."""
        try:
            while True:
                if error is None:
                    delivery.begin()
                    if on_attempt is not None:
                        on_attempt()
                    try:
                        return await self._attempt(
                            handling,
                            route,
                            message,
                            envelope,
                            delivery.attempts,
                            inside=inside,
                        )
                    except Exception as raised:
                        error = raised
                if isinstance(error, Reject):
                    raise rejected(error) from error
                wait, reason = self._next(delivery, error)
                if reason is None and self._closing:
                    reason = "retries_exhausted"
                if reason is not None:
                    if bury:
                        await self._bury(
                            delivery, reason, route, message, max_retries, error
                        )
                    raise error
                logger.warning(
                    "%s failed, attempt %d, again in %.3f s: %s",
                    route.name,
                    delivery.attempts,
                    wait,
                    text(error),
                )
                if on_retry is not None:
                    on_retry()
                assert wait is not None
                if not await self._pause(wait):
                    reason = "retries_exhausted"
                    if bury:
                        await self._bury(
                            delivery, reason, route, message, max_retries, error
                        )
                    raise error
                error = None
        finally:
            # A frame that holds its exception is a cycle.
            del error

    def _next(
        self, delivery: _orkestra.Delivery, error: BaseException
    ) -> tuple[float | None, str | None]:
        chain = records(error)
        if isinstance(error, RetryAfter):
            return delivery.retry_after(error.delay, chain, self._clock)
        return delivery.failed(type_names(type(error)), chain, self._clock, self._ids)

    async def _pause(self, seconds: float) -> bool:
        """Waits before a retry; ``False`` when the app closes first."""
        await _orkestra.either(self._clock, seconds, self._cut_short)
        return not self._closing

    async def _attempt(
        self,
        handling: Call[Any],
        route: Route,
        message: Any,
        envelope: Envelope,
        attempt: int,
        *,
        inside: bool,
    ) -> Any:
        """Calls the handler once, in a slot and inside the middleware."""
        if not inside:
            await self._take_slot(route)
        if isinstance(envelope, CommandEnvelope):
            envelope.status = "dispatched"
            envelope.attempts = attempt
        handling.reset_events()
        handling.enter()
        try:
            work = compose(
                self._around_handle,
                envelope,
                lambda: self._invoke(handling, route, message),
            )
            return await work()
        except Exception as error:
            if isinstance(envelope, CommandEnvelope):
                envelope.status = "rejected" if isinstance(error, Reject) else "failed"
                envelope.error = error
            raise
        finally:
            handling.leave()
            if not inside:
                route.release()

    async def _invoke(self, handling: Call[Any], route: Route, message: Any) -> Any:
        arguments = (message, handling.metadata) if route.wants_metadata else (message,)
        registration = route.info.registration
        running = _running()
        if registration.is_async or route.inline or not running:
            result = route.handler(*arguments)
            if not inspect.isawaitable(result):
                return result
        else:
            result = self._worker_threads().run(route.handler, *arguments)
        if registration.timeout is None or not running:
            result = await result
            # A synchronous function may turn out to return something to await.
            return await result if inspect.isawaitable(result) else result
        task = asyncio.ensure_future(result)
        if await self._within(task, registration.timeout):
            return task.result()
        task.cancel()
        if registration.is_async:
            await asyncio.wait([task])
        self._forget(task)
        details = {"handler": route.name, "seconds": registration.timeout}
        message = f"handler {route.name} ran longer than {registration.timeout:g} s"
        raise HandlerTimeoutError(message, details)

    async def _within(self, task: asyncio.Future[Any], seconds: float) -> bool:
        """Whether `task` ends in time. A cancellation of ours cancels it too."""
        limit = asyncio.ensure_future(_sleep(self._clock, seconds))
        try:
            await asyncio.wait([task, limit], return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            task.cancel()
            raise
        finally:
            limit.cancel()
        return task.done()

    def _forget(self, task: asyncio.Future[Any]) -> None:
        """Lets `task` end by itself; its failure is nobody's any more."""
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._behind.add(done)

        def over(task: asyncio.Future[Any]) -> None:
            self._behind.discard(done)
            done.set_result(None)
            if not task.cancelled():
                task.exception()

        task.add_done_callback(over)

    # Events.

    def _resolve_event(self, kind: type[Any]) -> tuple[Route, ...]:
        """The routes of an event class, kept for the fast path."""
        if not issubclass(kind, Event):
            details = {"expected": "an event", "found": kind.__qualname__}
            message = f"expected an event, found {kind.__qualname__}"
            raise WrongKindError(message, details)
        indexes = self._registry.event_handlers(kind.__orkestra_type__.type_name)
        routes = tuple(self._routes[index] for index in indexes)
        _orkestra.set_event_routes(self, kind, routes)
        return routes

    async def _slow_publish(self, call: Call[Any]) -> EventEnvelope:
        event = call.message
        routes = self._resolve_event(type(event))
        call.stamp()
        envelope = _orkestra.EventEnvelope(event, routes, call.at)

        async def publish() -> EventEnvelope:
            return await self._publish_from(call, routes, envelope, 0, None)

        await compose(self._around_send, envelope, publish)()
        return envelope

    async def _publish_rest(self, call: Call[Any]) -> EventEnvelope:
        """Goes on with the handlers from the present one on."""
        return await self._publish_after(call, None)

    async def _publish_failed(self, call: Call[Any], error: Exception) -> EventEnvelope:
        """Goes on after the present handler failed."""
        return await self._publish_after(call, error)

    async def _publish_after(
        self, call: Call[Any], error: Exception | None
    ) -> EventEnvelope:
        envelope = _orkestra.EventEnvelope(call.message, call.routes, call.at)
        for index in range(call.index):
            envelope.record(index, "succeeded")
        call.leave()
        call.release()
        return await self._publish_from(call, call.routes, envelope, call.index, error)

    async def _publish_from(
        self,
        call: Call[Any],
        routes: tuple[Route, ...],
        envelope: EventEnvelope,
        first: int,
        error: Exception | None,
    ) -> EventEnvelope:
        settling = Settling(self)
        for index in range(first, len(routes)):
            failed = error if index == first else None
            await self._to_handler(
                call, routes[index], index, envelope, settling, failed
            )
        if settling.behind:
            envelope.settle_with(settling)
        return envelope

    async def _to_handler(
        self,
        call: Call[Any],
        route: Route,
        index: int,
        envelope: EventEnvelope,
        settling: Settling,
        error: Exception | None,
    ) -> None:
        """One handler of an event: waits for its first attempt."""
        event = call.message
        delivery = _orkestra.Delivery(
            route.info.registration.policy._native,
            command=False,
            max_retries=None,
        )
        if error is not None:
            delivery.begin()
        elif call.nested and not route.acquire():
            # From inside a handler, to one that is busy: waiting could be for oneself.
            work = self._retry_behind(route, event, delivery, envelope, index, None)
            settling.behind.append(self._go_on_behind(work))
            return
        else:
            if call.nested:
                route.release()
            delivery.begin()
            envelope.record(index, "processing")
            handling = _orkestra.new_handling(self, event, True)
            try:
                await self._attempt(handling, route, event, envelope, 1, inside=False)
            except Reject:
                envelope.record(index, "skipped")
                return
            except Exception as raised:
                error = raised
            else:
                envelope.record(index, "succeeded")
                return
        if isinstance(error, Reject):
            envelope.record(index, "skipped")
            return
        envelope.record(index, "pending")
        wait, reason = self._next(delivery, error)
        if reason is not None:
            envelope.record(index, "failed")
            await self._bury(delivery, reason, route, event, None, error)
            return
        work = self._retry_behind(
            route, event, delivery, envelope, index, (wait, error)
        )
        settling.behind.append(self._go_on_behind(work))

    async def _retry_behind(
        self,
        route: Route,
        event: Any,
        delivery: _orkestra.Delivery,
        envelope: EventEnvelope,
        index: int,
        waiting: tuple[float | None, Exception] | None,
    ) -> None:
        """Goes on with one handler after the publisher has gone on."""
        handling = _orkestra.new_handling(self, event, True)
        if waiting is not None:
            wait, error = waiting
            assert wait is not None
            if not await self._pause(wait):
                envelope.record(index, "failed")
                reason = "retries_exhausted"
                await self._bury(delivery, reason, route, event, None, error)
                return
            del waiting, error
        try:
            await self._deliver(
                handling,
                route,
                event,
                delivery,
                envelope,
                on_attempt=lambda: envelope.record(index, "processing"),
                on_retry=lambda: envelope.record(index, "pending"),
            )
        except OrkestraError as error:
            skipped = error.code == "ORK_BUS_REJECTED"
            envelope.record(index, "skipped" if skipped else "failed")
        except Exception:
            envelope.record(index, "failed")
        else:
            envelope.record(index, "succeeded")


def compose(
    middleware: list[Middleware], envelope: Envelope, core: Next
) -> Callable[[], Awaitable[Any]]:
    """`core` inside of the middleware, the first registered outermost."""
    composed: Next = core
    for around in reversed(middleware):
        composed = _inside(around, envelope, composed)
    return composed


def _inside(around: Middleware, envelope: Envelope, following: Next) -> Next:
    return lambda: around(envelope, following)


def _running() -> bool:
    return asyncio._get_running_loop() is not None


async def _sleep(clock: Clock, seconds: float) -> None:
    await clock.sleep(seconds)


def _drive(call: Call[Any]) -> Any:
    try:
        call.send(None)
    except StopIteration as stop:
        return stop.value
    message = "a call waited for an event loop"
    raise RuntimeError(message)
