"""Brings the events of the log into views."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

from orkestra import _orkestra
from orkestra._bus import logger
from orkestra._failures import also_known_as, records, text
from orkestra._functions import is_async
from orkestra.checkpoint import Checkpoint
from orkestra.errors import (
    CheckpointMismatchError,
    ClosedError,
    OrkestraError,
    StaleLeaseError,
    StoreClosedError,
    SubscriptionStoppedError,
)
from orkestra.retry import Reject, RetryAfter, type_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from orkestra._orkestra import Page, RecordedEvent
    from orkestra.app import Orkestra
    from orkestra.projections import Projection

__all__ = ["Listed", "Projector", "View"]


class Listed(NamedTuple):
    """A projection of an app."""

    projection: Projection
    full_name: str
    topics: list[str]
    """The patterns of what it wants."""


class View:
    """One of a projection's two views: the live one, or one that is rebuilt."""

    def __init__(self, app: Orkestra, listed: Listed, *, rebuild: bool | None) -> None:
        self._app = app
        self._projection = projection = listed.projection
        self._name = listed.full_name
        self.reader = _orkestra.Projection(
            app._services_or_refuse(),
            name=listed.full_name,
            rebuild=rebuild,
            topics=listed.topics,
            stream_prefix=projection._stream_prefix,
            start=projection._start,
            batch_size=projection._batch_size,
        )
        self.running = True
        self.has_saved = False
        # What it tries again after.
        self.error: str | None = None
        # Whether a cancellation loses nothing.
        self.idle = False

    async def prepare(self) -> None:
        """Makes the tables, if that is to be done."""
        if not self.reader.is_unprepared:
            return
        if self._projection._prepare is not None:
            function = self._projection._prepare
            await self.call(function, self._checkpoint(function, replaying=True))
        self.reader.prepared()

    async def handle(self, page: Page, *, replaying: bool) -> None:
        """Brings a batch into the view, as far as it goes.

        Raises:
            SubscriptionStoppedError: An event cannot be handled, and the projection
                wants to stop there.
        """
        await self.prepare()
        projection = self._projection
        events = page.records()
        work = _orkestra.Work(page, projection._policy._native, projection._poison)
        while self.running:
            step, *facts = work.step()
            if step == "handle":
                first, end, position = facts
                at_hand = events[first:end]
                view = self._checkpoint(
                    projection._function,
                    replaying=replaying,
                    view=self.reader.checkpoint(position),
                )
                if not await self._attempt(work, at_hand, view):
                    return
            elif step == "wait":
                await self._pause(facts[0])
                work.waited()
            elif step == "give_up":
                index, poison, reason, position = facts
                await self._give_up(work, page, index, poison, reason)
                if not await self._tell(self.reader.handled(position)):
                    return
                work.given_up()
                self.error = None
            else:
                return

    async def _attempt(
        self,
        work: _orkestra.Work,
        events: list[RecordedEvent],
        checkpoint: Checkpoint,
    ) -> bool:
        """Calls the function once; whether the batch goes on."""
        reader = self.reader
        try:
            await self.call(self._projection._function, events, checkpoint)
            if not checkpoint._refused:
                checkpoint._require_awaited()
        except Exception as error:
            if not checkpoint._refused:
                reader.failed()
                self._failed(work, error)
                return True
        if checkpoint._refused:
            # The view stands elsewhere: the reader goes there.
            await reader.found(checkpoint._found)
            return False
        self.has_saved = self.has_saved or checkpoint._done
        tell = reader.saved if checkpoint._done else reader.handled
        if not await self._tell(tell(checkpoint.position)):
            return False
        work.succeeded()
        self.error = None
        return True

    def _failed(self, work: _orkestra.Work, error: Exception) -> None:
        app, name = self._app, self._name
        if isinstance(error, Reject):
            logger.debug("%s refused: %s", name, text(error))
            work.rejected()
        elif isinstance(error, RetryAfter):
            work.retry_after(error.delay, records(error), app._clock)
        else:
            self.error = text(error)
            attempt = work.attempt
            logger.warning("%s failed, attempt %d: %s", name, attempt, text(error))
            if isinstance(error, OrkestraError) and error.transient:
                work.away(records(error), app._clock, app._ids)
                return
            types = type_names(type(error)) + also_known_as(error)
            work.failed(types, records(error), app._clock, app._ids)

    async def _give_up(
        self,
        work: _orkestra.Work,
        page: Page,
        index: int,
        poison: str,
        reason: str,
    ) -> None:
        app = self._app
        recorded = page.record(index)
        name = self._name
        if poison == "park":
            letter = work.dead_letter(
                page,
                index,
                reason=reason,
                handler=name,
                topic=app._topic_or_name(recorded.type),
                clock=app._clock,
                ids=app._ids,
            )
            await app._record(letter)
            logger.error("%s parked the event at %d", name, recorded.position)
        elif poison == "skip":
            logger.warning("%s skips the event at %d", name, recorded.position)
        else:
            position, reason = recorded.position, self.error or reason
            message = f"subscription {name} stopped at position {position}: {reason}"
            details = {"name": name, "position": position, "reason": reason}
            raise SubscriptionStoppedError(message, details)

    async def _tell(self, call: Any) -> bool:
        """Whether the view is still this reader's."""
        try:
            await call
        except (StaleLeaseError, CheckpointMismatchError) as error:
            logger.warning("%s", error)
            return False
        return True

    async def _pause(self, seconds: float) -> None:
        self.idle = True
        try:
            await self._app._clock.sleep(seconds)
        finally:
            self.idle = False

    def _checkpoint(
        self, function: Callable[..., Any], *, replaying: bool, **more: Any
    ) -> Checkpoint:
        return Checkpoint(
            self._projection.name,
            self.reader.suffix,
            replaying=replaying,
            is_async=is_async(function),
            store_files=self._app._plan.sqlite_files,
            **more,
        )

    def switching(self, switch: _orkestra.ViewSwitch) -> Checkpoint:
        """What the projection's switch function gets."""
        function = self._projection._switch
        assert function is not None
        return self._checkpoint(function, replaying=True, switch=switch)

    async def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Calls a function of the user's, on a thread if it may block."""
        if is_async(function) or self._projection._inline:
            result = function(*arguments)
        else:
            result = await self._app._worker_threads().run(function, *arguments)
        if inspect.isawaitable(result):
            await result


class Projector:
    """Keeps the live view of a projection."""

    def __init__(self, app: Orkestra, listed: Listed) -> None:
        self.name = listed.full_name
        self.replaying = False
        self.stopped: SubscriptionStoppedError | None = None
        # Opened when it has stopped.
        self.ended = _orkestra.Gate()
        self._app = app
        self._view = View(app, listed, rebuild=None)
        self._task: asyncio.Task[None] | None = None

    @property
    def error(self) -> str | None:
        """What it tries again after."""
        return self._view.error

    @property
    def running(self) -> bool:
        """Whether it reads, or waits to."""
        return self._task is not None and not self._task.done()

    async def start(self) -> None:
        """Finds the place and goes on reading behind."""
        await self._view.reader.open()
        self._task = asyncio.create_task(self._follow())

    async def stop(self, timeout: float) -> None:
        """Stops after the batch in hand, or when `timeout` seconds are over."""
        self._view.running = False
        task = self._task
        if task is not None:
            if self._view.idle:
                task.cancel()
            await asyncio.wait([task], timeout=timeout)
            task.cancel()
            await asyncio.wait([task], timeout=1.0)
        try:
            await self._view.reader.release()
        except (OrkestraError, RuntimeError) as error:
            # The lease ends by itself then.
            logger.debug("%s: the lease was not given back: %s", self.name, error)

    async def _follow(self) -> None:
        view = self._view
        while view.running:
            try:
                view.idle = True
                try:
                    page, replaying = await view.reader.next()
                finally:
                    view.idle = False
                self.replaying = replaying
                await view.handle(page, replaying=replaying)
            except SubscriptionStoppedError as stopped:
                logger.error("%s", stopped)
                self.stopped = stopped
                self.ended.open()
                return
            except (ClosedError, StoreClosedError):
                return
            except Exception as error:
                if not view.running:
                    return
                view.error = text(error)
                logger.exception("%s cannot go on and tries again", self.name)
                await view._pause(0.5)
                view.reader.rewind()
