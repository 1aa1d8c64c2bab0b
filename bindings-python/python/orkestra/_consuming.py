"""What arrives over a broker, to the handlers.

A native ``Consumer`` gives one message after the other without a trip through the event
loop, as long as there is something; who waits is woken once for all that came. Retries
are not waited for here: the broker keeps the message meanwhile.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from orkestra import _orkestra
from orkestra._bus import logger
from orkestra._failures import text
from orkestra.envelopes import CommandEnvelope
from orkestra.retry import Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from orkestra._orkestra import Call, Consumer, Route, Trouble
    from orkestra.app import Orkestra

T = TypeVar("T")

_LAST_WORD = 1.0
"""Seconds that a handler has to end after it was cancelled."""
_IN_A_ROW = 64
"""Messages that a worker handles before others have their turn on the loop."""


async def consume(app: Orkestra, route: Route, threads: int) -> Tasks | Threads:
    """Begins to consume the queue of one handler."""
    registration = route.info.registration
    consumer = await app._services_or_refuse().consume(app, route.info.index)
    # A limit of time and middleware are kept by the loop.
    plain = registration.timeout is None and not app._around_handle
    kind = Threads if plain and not (route.is_async or route.inline) else Tasks
    return kind(app, route, consumer, threads)


def consume_outbox(
    app: Orkestra, route: Route, gave_up: Callable[[Any], None]
) -> Tasks:
    """Begins to take what the outbox has for one handler, where there is no broker."""
    services = app._services_or_refuse()
    consumer = services.consume_outbox(app, route.info.index, gave_up)
    return Tasks(app, route, consumer, app._thread_limit, shared=True)


class Crew:
    """The workers of one handler: take, call, settle."""

    def __init__(
        self,
        app: Orkestra,
        route: Route,
        consumer: Consumer,
        threads: int,
        *,
        shared: bool = False,
    ) -> None:
        self._app = app
        self._route = route
        self._consumer = consumer
        self._size: int = app._registry.handler(route.info.index)["concurrency"]
        self._threads = threads
        # Whether others call the handler too, so that its slots are to be kept to.
        self._shared = shared
        self._loop = asyncio.get_running_loop()

    async def _bury(self, trouble: Trouble) -> None:
        """Records what cannot be handled."""
        letter = await trouble.bury()
        name = self._route.name
        logger.error("%s: a message cannot be handled: %s", name, trouble.text)
        await self._app._tell(letter)

    def _unanswered(self, error: Exception) -> None:
        """The handler succeeded with what cannot be told."""
        logger.error("%s: its result has no JSON: %s", self._route.name, text(error))

    async def _failed(self, call: Call[Any], error: BaseException) -> None:
        """Settles what the handler did not succeed with."""
        call.leave()
        consumer, name = self._consumer, self._route.name
        if isinstance(error, Reject):
            consumer.rejected(call, error.reason, error.data)
            return
        delivery = consumer.delivery(call)
        wait, reason = self._app._next(delivery, error)
        if reason is None:
            assert wait is not None
            again = "%s failed, attempt %d, again in %.3f s: %s"
            logger.warning(again, name, delivery.attempts, wait, text(error))
            consumer.retry(call, delivery, wait)
            return
        letter = await consumer.give_up(call, delivery, reason)
        gave_up = "%s gave up after %d attempts: %s"
        logger.error(gave_up, name, delivery.attempts, text(error))
        await self._app._tell(letter)

    async def _through(self, call: Call[Any]) -> Any:
        """Calls the handler inside the middleware, in its time, on its thread."""
        envelope: Any
        route, message = self._route, call.message
        if route.info.is_command:
            envelope = CommandEnvelope(message, self._consumer.max_retries(call))
            envelope.dispatched_at = self._app._clock.now()
        else:
            envelope = _orkestra.EventEnvelope(message, (route,), call.at)
        attempt = self._consumer.attempt(call)
        return await self._app._attempt(
            call, route, message, envelope, attempt, inside=not self._shared
        )


class Tasks(Crew):
    """Workers on the event loop: long-lived tasks, as many as are ever busy at once.

    At most one of them, the scout, waits for messages. Whoever takes one and sees that
    there is no scout wakes another worker to be it.
    """

    def __init__(
        self,
        app: Orkestra,
        route: Route,
        consumer: Consumer,
        threads: int,
        *,
        shared: bool = False,
    ) -> None:
        super().__init__(app, route, consumer, threads, shared=shared)
        self._scouting = False
        self._idle: deque[asyncio.Future[None]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._cutting_short = False
        self._send_scout()

    def _send_scout(self) -> None:
        """Has somebody look out for messages, if a worker is left for it."""
        if self._call_idle():
            self._scouting = True
        elif len(self._tasks) < self._size and not self._consumer.is_stopped:
            self._scouting = True
            task = self._loop.create_task(self._work(), name=self._route.name)
            self._tasks.add(task)
            task.add_done_callback(self._gone)

    def _call_idle(self) -> bool:
        """Calls a worker that waits for being needed, if there is one."""
        while self._idle:
            called = self._idle.popleft()
            # Unless somebody cancelled it.
            if not called.done():
                called.set_result(None)
                return True
        return False

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            logger.error("%s: a worker ended", self._route.name, exc_info=error)
            if isinstance(error, Exception):
                # Its message is back in the queue; somebody has to take it.
                self._send_scout()

    async def _work(self) -> None:
        consumer, route = self._consumer, self._route
        take, done = consumer.take, consumer.done
        handler, wants_metadata = route.handler, route.wants_metadata
        is_async, around = route.is_async, self._app._around_handle
        limited = not (is_async or route.inline) or (
            route.info.registration.timeout is not None or self._shared
        )
        in_a_row = 0
        self._scouting = False
        while True:
            call = take()
            if call is None:
                trouble = consumer.trouble()
                if trouble is not None:
                    await self._bury(trouble)
                    continue
                in_a_row = 0
                if not await self._wait():
                    return
                continue
            if not self._scouting:
                self._send_scout()
            try:
                if limited or around:
                    result = await self._through(call)
                else:
                    message = call.message
                    if wants_metadata:
                        result = handler(message, call.metadata)
                    else:
                        result = handler(message)
                    if is_async or inspect.isawaitable(result):
                        result = await result
            except Exception as error:
                await self._failed(call, error)
            except asyncio.CancelledError as cancelled:
                if self._cutting_short or _is_cancelled():
                    consumer.give_back(call)
                    raise
                # The handler's own: what it waited for was cancelled.
                await self._failed(call, cancelled)
            except BaseException:
                consumer.give_back(call)
                raise
            else:
                try:
                    done(call, result)
                except Exception as error:
                    self._unanswered(error)
            in_a_row += 1
            if in_a_row >= _IN_A_ROW:
                in_a_row = 0
                await asyncio.sleep(0)

    async def _wait(self) -> bool:
        """Waits for messages, or for being needed; ``False`` when nothing comes."""
        if self._consumer.is_stopped:
            return False
        if self._scouting:
            called = self._loop.create_future()
            self._idle.append(called)
            await called
            self._scouting = False
            return not self._consumer.is_stopped
        self._scouting = True
        more = await self._consumer.ready()
        self._scouting = False
        if not more:
            self._consumer.stop()
            while self._call_idle():
                pass
        return more

    async def stop(self, timeout: float) -> None:
        """Finishes what is in hand, or gives it back when `timeout` is over."""
        self._consumer.stop()
        while self._call_idle():
            pass
        tasks = set(self._tasks)
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=timeout)
        if late:
            self._cutting_short = True
            for task in late:
                task.cancel()
            # One that does not let itself be cancelled is left behind.
            await asyncio.wait(late, timeout=_LAST_WORD)


class Threads(Crew):
    """Worker threads, as many as are ever busy at once: for synchronous handlers.

    Each keeps the interpreter's state of its thread from message to message. At most
    one of them waits for messages, the others for its place.
    """

    def __init__(
        self, app: Orkestra, route: Route, consumer: Consumer, threads: int
    ) -> None:
        super().__init__(app, route, consumer, threads)
        self._size = min(self._size, threads)
        self._changing = threading.Lock()
        self._place = threading.Lock()
        self._free = 0
        self._ended: list[concurrent.futures.Future[None]] = []
        self._start_one()

    def _start_one(self) -> None:
        """Starts another thread if all are busy and one is left."""
        with self._changing:
            number = len(self._ended)
            if number >= self._size or self._free:
                return
            self._free += 1
            ended: concurrent.futures.Future[None] = concurrent.futures.Future()
            self._ended.append(ended)
        threading.Thread(
            target=self._run,
            args=(ended,),
            name=f"{self._route.name}-{number}",
            daemon=True,
        ).start()

    def _run(self, ended: concurrent.futures.Future[None]) -> None:
        try:
            self._work()
        except BaseException:
            logger.exception("%s: a worker ended", self._route.name)
        finally:
            ended.set_result(None)

    def _set_free(self, change: int) -> None:
        with self._changing:
            self._free += change

    def _work(self) -> None:
        consumer, route = self._consumer, self._route
        take, done = consumer.take, consumer.done
        handler, wants_metadata = route.handler, route.wants_metadata
        around = self._app._around_handle
        free = True
        while True:
            call = take()
            if call is None:
                trouble = consumer.trouble()
                if trouble is not None:
                    self._on_loop(self._bury(trouble))
                    continue
                if not free:
                    free = True
                    self._set_free(1)
                with self._place:
                    more = consumer.wait()
                if not more:
                    return
                continue
            if free:
                free = False
                self._set_free(-1)
            if not self._free and len(self._ended) < self._size:
                self._start_one()
            try:
                if around:
                    # Added after the start: middleware belongs to the loop.
                    call.leave()
                    result = self._on_loop(self._through(call))
                elif wants_metadata:
                    result = handler(call.message, call.metadata)
                else:
                    result = handler(call.message)
                if inspect.isawaitable(result):
                    result = self._on_loop(_await(result))
            except BaseException as error:
                # Also SystemExit, and a panic of native code: no other thread comes.
                # It is left here, where it was entered.
                call.leave()
                self._on_loop(self._failed(call, error))
            else:
                try:
                    done(call, result)
                except Exception as error:
                    self._unanswered(error)

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def stop(self, timeout: float) -> None:
        """Finishes what is in hand; what takes longer goes back with the connection."""
        self._consumer.stop()
        ended = [asyncio.wrap_future(future) for future in self._ended]
        if ended:
            await asyncio.wait(ended, timeout=timeout)


async def _await(result: Any) -> Any:
    return await result


def _is_cancelled() -> bool:
    """Whether somebody cancels this task, and not what it waited for."""
    task = asyncio.current_task()
    # Before Python 3.11 a task does not say.
    return task is None or sys.version_info < (3, 11) or task.cancelling() > 0
