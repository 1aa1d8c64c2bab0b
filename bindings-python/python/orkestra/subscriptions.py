"""Named readers of the log."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, NamedTuple

from orkestra import _orkestra
from orkestra.errors import (
    CheckpointMismatchError,
    OrkestraError,
    StaleLeaseError,
    SubscriptionStoppedError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from orkestra._orkestra import Call, Page, RecordedEvent
    from orkestra.app import Orkestra
    from orkestra.handlers import Start

__all__ = ["Batch", "Subscription"]


class Batch(NamedTuple):
    """Events that a subscription read."""

    events: list[RecordedEvent]
    """The events, in increasing position; at least one."""
    position: int | None
    """How far was read: acknowledge this when all of it is handled."""


class Subscription(AsyncIterator["RecordedEvent"]):
    """A reader of the log: recorded events, live once it has caught up.

        async for recorded in app.subscribe("audit", topics=["orders.#"]):
            await audit(recorded.event)

    Iterating acknowledges an event when the next one is asked for. ``batches`` leaves
    acknowledging to the caller.
    """

    def __init__(
        self,
        app: Orkestra,
        name: str | None,
        *,
        topics: Sequence[str] | None,
        stream_prefix: str | None,
        start: Start,
        batch_size: int,
    ) -> None:
        if isinstance(topics, str):
            topics = [topics]
        if isinstance(batch_size, bool) or not isinstance(batch_size, int):
            found = type(batch_size).__qualname__
            message = f"batch_size: expected a whole number, found {found}"
            raise TypeError(message)
        if not 1 <= batch_size <= 10_000:
            message = f"batch_size: expected 1 to 10000, found {batch_size}"
            raise ValueError(message)
        self.name = name
        self._app = app
        self._reader = _orkestra.Reader(
            app._services_or_refuse(),
            name=name,
            topics=None if topics is None else list(topics),
            stream_prefix=stream_prefix,
            start=start,
            batch_size=batch_size,
        )
        if name is not None:
            app._subscriptions.add(self)
        self._records: deque[RecordedEvent] = deque()
        self._given: int | None = None
        self._read_to: int | None = None

    def open(self) -> Call[Self]:
        """Finds the place to start at: first, when "now" has to mean this moment."""

        async def open_() -> Self:
            await self._reader.open()
            return self

        return _orkestra.wrap_coroutine(self._app, "open", open_(), False)

    def ack(self, position: int | None) -> Call[None]:
        """Everything up to `position` is handled."""

        async def ack() -> None:
            await self._reader.ack(position)

        return _orkestra.wrap_coroutine(self._app, "ack", ack(), False)

    def close(self) -> Call[None]:
        """Lets another process read under this name at once.

        Reading on takes the name again.
        """

        async def close() -> None:
            await self._reader.release()

        return _orkestra.wrap_coroutine(self._app, "close", close(), False)

    async def _leave(self) -> None:
        """The same as the app closes, whoever waits for events here."""
        from orkestra._bus import logger

        try:
            await self._reader.leave()
        except OrkestraError as error:
            # The lease ends by itself then.
            logger.debug("%s: the lease was not given back: %s", self.name, error)

    async def batches(self) -> AsyncIterator[Batch]:
        """The batches from here on; each waits for events."""
        while True:
            page = await self._reader.next()
            yield Batch(page.records(), page.last)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RecordedEvent:
        while True:
            if self._records:
                # Taken after it: a task may be cancelled in between, or it fails.
                await self._ack_given()
                recorded = self._records.popleft()
                self._given = recorded.position
                return recorded
            if self._given is not None:
                self._given = self._read_to
                await self._ack_given()
            page = await self._reader.next()
            self._read_to = page.last
            self._records = deque(page.records())

    async def _ack_given(self) -> None:
        if self._given is None:
            return
        try:
            await self._reader.ack(self._given)
        except (CheckpointMismatchError, StaleLeaseError):
            # It was another reader's meanwhile: on from where that one stands.
            self._records.clear()
            self._given = None
            raise
        self._given = None

    def pending(self) -> Call[list[RecordedEvent]]:
        """What is there now and was not given yet, at most one batch.

        Acknowledge it with ``ack``.
        """

        async def pending() -> list[RecordedEvent]:
            page = await self._reader.try_next()
            return [] if page is None else page.records()

        return _orkestra.wrap_coroutine(self._app, "pending", pending(), False)


class LogFollower:
    """Brings the events of the log to one handler."""

    def __init__(self, app: Orkestra, route: _orkestra.Route) -> None:
        self._app = app
        self._route = route
        self.name = route.name
        self.position: int | None = None
        self.running = False
        self.stopped: SubscriptionStoppedError | None = None
        # Opened when it has stopped.
        self.ended = _orkestra.Gate()
        self._lanes = app._registry.handler(route.info.index)["concurrency"]
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Finds the place and goes on reading behind."""
        self._reader = _orkestra.Reader(
            self._app._services_or_refuse(),
            name=self.name,
            handler=self._route.info.index,
            start=self._route.info.registration.start,
            batch_size=500,
        )
        await self._reader.open()
        self.running = True
        self._task = asyncio.create_task(self._follow())

    async def stop(self, timeout: float) -> None:
        """Stops after the event in hand, or when `timeout` seconds are over."""
        self.running = False
        task = self._task
        if task is None:
            return
        if self._waiting:
            task.cancel()
        await asyncio.wait([task], timeout=timeout)
        task.cancel()
        await asyncio.wait([task])
        from orkestra._bus import logger

        try:
            await self._reader.release()
        except OrkestraError as error:
            # It ends by itself then.
            logger.debug("%s: the lease was not given back: %s", self.name, error)

    _waiting = False

    async def _follow(self) -> None:
        from orkestra._bus import logger

        try:
            while self.running:
                try:
                    self._waiting = True
                    try:
                        page = await self._reader.next()
                    finally:
                        self._waiting = False
                    await self._handle(page)
                except SubscriptionStoppedError as stopped:
                    logger.error("%s", stopped)
                    self.stopped = stopped
                    self.ended.open()
                    return
                except Exception:
                    if not self.running or self._app.is_closed:
                        return
                    logger.exception("%s: the log could not be read", self.name)
                    await self._app._clock.sleep(0.5)
        finally:
            self.running = False

    async def _handle(self, page: Page) -> None:
        records = page.records()
        if self._lanes > 1:
            lanes: list[list[RecordedEvent]] = [[] for _ in range(self._lanes)]
            for recorded in records:
                lanes[_orkestra.lane_of(recorded.stream, self._lanes)].append(recorded)
            work = (self._lane(lane) for lane in lanes if lane)
            try:
                # All of them to their end: what is read again must not overtake it.
                ends = await asyncio.gather(*work, return_exceptions=True)
            except BaseException:
                await self._reader.rewind(records[0].position - 1)
                raise
            for error in ends:
                if error is not None:
                    await self._reader.rewind(records[0].position - 1)
                    raise error
            await self._ack(page.last)
            return
        done: int | None = None
        try:
            for recorded in records:
                await self._app._deliver_recorded(self._route, recorded)
                done = recorded.position
                if not self.running:
                    break
        except BaseException:
            # What was not handled is read again, whatever becomes of the checkpoint.
            rest = records[0].position - 1 if done is None else done
            await self._reader.rewind(rest)
            await self._ack(done)
            raise
        await self._ack(page.last if done == records[-1].position else done)

    async def _lane(self, records: list[RecordedEvent]) -> None:
        for recorded in records:
            await self._app._deliver_recorded(self._route, recorded)

    async def _ack(self, position: int | None) -> None:
        if position is not None:
            await self._reader.ack(position)
            self.position = position

    @property
    def state(self) -> dict[str, Any]:
        """Where it stands."""
        return {
            "name": self.name,
            "position": self.position,
            "running": self.running,
            "stopped": None if self.stopped is None else str(self.stopped),
        }
