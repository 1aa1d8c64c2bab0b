"""The app: declares handlers, sends messages, stores events."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from orkestra import _orkestra
from orkestra._bus import Entry, logger
from orkestra._consuming import Tasks, Threads, consume, consume_outbox
from orkestra._deliveries import Deliveries
from orkestra._failures import invalid_handler, rejected
from orkestra._orkestra import Clock, Gate, Ids, Route
from orkestra._projecting import Listed, Projector
from orkestra._rebuilding import Rebuild
from orkestra._running import run
from orkestra._settings import setting
from orkestra._times import checked_seconds
from orkestra.aggregate import Aggregate, AggregateAnswer, AggregateHost, Executed
from orkestra.dead_letters import DeadLetter, DeadLetters
from orkestra.errors import (
    AlreadyStartedError,
    ClosedError,
    ForkedError,
    NotCaughtUpError,
    UnknownProjectionError,
)
from orkestra.handlers import Handlers, Registrar, Registration
from orkestra.health import Health, health_of
from orkestra.inbox import with_inbox
from orkestra.messages import Command, Message, id_of
from orkestra.outbox import Outbox
from orkestra.projections import Projection, ProjectionState
from orkestra.retention import Retention
from orkestra.retry import Reject, RetryPolicy
from orkestra.store import Store
from orkestra.subscriptions import LogFollower, Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from datetime import timedelta
    from types import TracebackType

    from typing_extensions import Self

    from orkestra._bus import Middleware
    from orkestra._orkestra import Call, Metadata, Services
    from orkestra.handlers import Start

__all__ = ["Orkestra"]

StateT = TypeVar("StateT")
T = TypeVar("T")
ListenerT = TypeVar("ListenerT", bound="Callable[[DeadLetter], Any]")
MiddlewareT = TypeVar("MiddlewareT", bound="Middleware")


class Orkestra(Deliveries, Registrar):
    """An app: declares handlers, dispatches commands, publishes and stores events.

        app = Orkestra("my_app", bus="memory:", store="sqlite:orders.db")

        @app.command_handler(PlaceOrder)
        async def place_order(command: PlaceOrder) -> dict[str, str]: ...

        async with app:
            result = await app.dispatch(PlaceOrder(product_id="sku_42", quantity=3))

    Every call returns something to ``await``, which synchronous code may ``wait()``
    for: ``app.dispatch(command).wait()``.

    Nothing is opened before it is needed. ``start`` (or ``async with``) opens the
    store and begins to hand messages from the broker, or else the events of the log, to
    their handlers; sending needs no ``start``. In the child of a
    fork an app that was used in the parent raises ``ForkedError``; one that was not
    used yet works.

    Args:
        name: The app's name: names its handlers, and its prefix.
        bus: ``memory:``, or ``amqp://user:password@host:port/vhost`` for RabbitMQ
            (``amqps`` for TLS): messages then go through the broker, also to the app's
            own handlers, and ``dispatch`` waits 60 seconds at most unless it says
            otherwise. Default: ``ORKESTRA_BUS``, then ``memory:``.
        store: ``sqlite:<path>``, ``postgres://user:password@host:port/database`` or
            ``memory:``; ``kurrentdb://…`` with another `state`. Default:
            ``ORKESTRA_STORE``, then ``sqlite:orkestra.db``.
        state: Where checkpoints, leases, dead letters, outbox and inbox are kept.
            Default: ``ORKESTRA_STATE``, then in the store.
        app_prefix: The leading segments of type names that topics leave out. Default:
            the name, camelised; empty for none.
        max_payload_bytes: The longest payload. Default 1 MiB.
        threads: Worker threads for synchronous handlers that are awaited, and for each
            synchronous handler of messages from a broker. Default: as
            ``ThreadPoolExecutor``.
        close_timeout: Seconds that ``close`` waits for what is under way.
        clock: Another clock: for tests.
        ids: Another source of ids: for tests.

    Raises:
        InvalidUrlError: A URL cannot be used; it names the setting.
        InvalidTypeNameError: The name cannot name an app.
    """

    store: Store
    """The event store."""
    dead_letters: DeadLetters
    """Messages given up on."""
    outbox: Outbox
    """Messages that leave once what they belong to is committed."""
    retention: Retention
    """Lets go of what is old."""

    def __init__(
        self,
        name: str,
        *,
        bus: str | None = None,
        store: str | None = None,
        state: str | None = None,
        app_prefix: str | None = None,
        max_payload_bytes: int | None = None,
        threads: int | None = None,
        close_timeout: float | timedelta = 10.0,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self._clock = clock or Clock.system()
        self._ids = ids or Ids.system()
        self._registry = _orkestra.Registry(name, app_prefix)
        self._plan = _orkestra.Plan(
            bus=setting("bus", bus),
            store=setting("store", store),
            state=setting("state", state),
            max_payload_bytes=max_payload_bytes,
            clock=clock,
            ids=self._ids,
        )
        _orkestra.set_time_source(self, self._clock, self._ids)
        if self._plan.has_broker:
            _orkestra.set_broker(self)
        self._close_timeout = checked_seconds("close_timeout", close_timeout)
        self._services: Services | None = None
        self._opening = threading.Lock()
        self._status: Literal["new", "running", "closed"] = "new"
        self._pid = os.getpid()
        self._aggregates: dict[type[Aggregate[Any]], AggregateHost] = {}
        self._listeners: list[Callable[[DeadLetter], Any]] = []
        self._followers: list[LogFollower] = []
        self._projections: dict[str, Listed] = {}
        self._projectors: list[Projector] = []
        self._crews: list[Tasks | Threads] = []
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self._home: asyncio.AbstractEventLoop | None = None
        self._set_up_bus(threads)
        self.store = Store(self)
        self.dead_letters = DeadLetters(self)
        self.outbox = Outbox(self)
        self.retention = Retention(self)

    # Declaring.

    def _register(self, registration: Registration) -> None:
        self._add_route(registration)

    def _register_projection(self, projection: Projection) -> None:
        name = projection.name
        self._must_be_new(f"projection {name}")
        types = [self._registry.add_type(kind) for kind in projection._events]
        topics = list(projection._topics)
        full_name, wanted = self._registry.add_projection(name, types, topics)
        self._projections[name] = Listed(projection, full_name, wanted)

    def _must_be_new(self, what: str) -> None:
        if self._status != "new":
            message = f"the app {self.name} has been started: register {what} before"
            raise AlreadyStartedError(message, {"app": self.name, "what": what})

    def _add_route(self, registration: Registration, *, anywhere: bool = False) -> None:
        self._must_be_new(registration.label)
        if registration.kind == "event" and not (
            registration.classes or registration.topics
        ):
            reason = "it names no event type and no topic"
            raise invalid_handler(registration.label, reason)
        index = self._registry.add_handler(
            command=registration.kind == "command",
            name=registration.name,
            types=[self._registry.add_type(kind) for kind in registration.classes],
            patterns=list(registration.topics),
            policy=registration.policy._native,
            concurrency=registration.concurrency,
            timeout=registration.timeout,
            prefetch=registration.prefetch,
            inbox=registration.inbox,
        )
        info = self._registry.handler(index)
        function = registration.function
        if registration.inbox_parameter is not None:
            function = with_inbox(
                function, registration.inbox_parameter, self._plan, info["full_name"]
            )
        route = Route(
            handler=function,
            name=info["full_name"],
            info=Entry(index, info["name"], registration, deque()),
            wake=self._wake_waiter,
            is_async=registration.is_async,
            anywhere=anywhere,
            inline=registration.inline,
            wants_metadata=registration.wants_metadata,
            plain=registration.timeout is None,
            limit=info["concurrency"],
        )
        self._routes[index] = route
        if registration.kind == "command":
            for kind in registration.classes:
                _orkestra.set_command_route(self, kind, route)
        else:
            # What was resolved before does not know the new one.
            _orkestra.set_event_routes(self, None, None)

    def include(self, handlers: Handlers) -> Self:
        """Takes over a group of handlers."""
        for registration in handlers:
            self._register(registration)
        for projection in handlers._projections:
            self._register_projection(projection)
        return self

    def add_types(self, *classes: type[Message]) -> Self:
        """Makes message classes known, so that they are read as themselves.

        What handlers and aggregates name is known already.

        Raises:
            DuplicateTypeError: Another class has the type name or an alias.
        """
        for kind in classes:
            self._registry.add_type(kind)
        return self

    def add_aggregate(
        self,
        aggregate: type[Aggregate[StateT]],
        *,
        max_retries: int | None = None,
        retry: RetryPolicy | None = None,
        concurrency: int | None = None,
    ) -> type[Aggregate[StateT]]:
        """Adds an aggregate: its commands can be dispatched, its events are known.

        Dispatching one of its commands answers ``{"stream": …, "revision": …}``.

        Raises:
            InvalidAggregateError: It is not complete, or was added before.
            DuplicateHandlerError: One of its commands has a handler already.
        """
        host = AggregateHost(self, aggregate)
        if aggregate in self._aggregates:
            raise host.invalid("it was added before")
        self.add_types(*host.events)

        async def answer(command: Command[Any]) -> AggregateAnswer:
            done = await host.execute(command, id_of(command))
            return {"stream": done.stream, "revision": done.revision}

        for kind in host.commands:
            self._add_route(
                Registration(
                    kind="command",
                    function=answer,
                    classes=(kind,),
                    topics=(),
                    name=None,
                    policy=(retry or RetryPolicy()).with_max_retries(max_retries),
                    timeout=None,
                    concurrency=concurrency,
                    prefetch=None,
                    inline=False,
                    start="now",
                    poison="park",
                    is_async=True,
                    wants_metadata=False,
                    label=f"{host.name} for {kind.__qualname__}",
                ),
                anywhere=True,
            )
        self._aggregates[aggregate] = host
        return aggregate

    def around_send(self, middleware: MiddlewareT) -> MiddlewareT:
        """Puts ``async (envelope, next) -> result`` around each sending.

        The first one added is the outermost. Usable as a decorator.
        """
        self._around_send.append(middleware)
        self._say_state()
        return middleware

    def around_handle(self, middleware: MiddlewareT) -> MiddlewareT:
        """Puts ``async (envelope, next) -> result`` around each attempt to handle."""
        self._around_handle.append(middleware)
        self._say_state()
        return middleware

    def on_dead_letter(self, listener: ListenerT) -> ListenerT:
        """Calls `listener` with every dead letter, after it is recorded."""
        self._listeners.append(listener)
        return listener

    def topic_for(self, kind: type[Message] | str) -> str:
        """The topic of a message class or a type name."""
        name = kind if isinstance(kind, str) else kind.__orkestra_type__.type_name
        return self._registry.topic_for(name)

    # Life.

    def start(self) -> Call[Self]:
        """Opens the store and begins to hand messages to their handlers.

        With a broker it declares and consumes the handlers' queues, and publishes to it
        what is appended to the store; else the handlers of events read the log.

        Raises:
            StoreError: The store cannot be opened.
            BusError: The broker is away, refuses us, or has other queues than ours.
            ForkedError: This is the child of a fork, and the parent used the app.
        """
        return _orkestra.wrap_coroutine(self, "start", self._start(), True)

    async def _start(self) -> Self:
        self._services_or_refuse()
        if self._status == "running":
            return self
        self._status = "running"
        self._home = asyncio.get_running_loop()
        try:
            if self._plan.has_broker:
                await self._start_consuming()
            else:
                await self._start_following()
                self._start_outbox()
            for listed in self._projections.values():
                projector = Projector(self, listed)
                self._projectors.append(projector)
                await projector.start()
        except BaseException:
            await self._stop_taking()
            if self._status == "running":
                # Not if it was closed meanwhile.
                self._status = "new"
            raise
        return self

    async def _start_following(self) -> None:
        for route in self._routes.values():
            if not route.info.is_command:
                follower = LogFollower(self, route)
                await follower.start()
                self._followers.append(follower)

    def _start_outbox(self) -> None:
        services, gave_up = self._services_or_refuse(), self._gave_up()
        for route in self._routes.values():
            self._crews.append(consume_outbox(self, route, gave_up))
        services.start_outbox(gave_up)

    def _gave_up(self) -> Callable[[DeadLetter], None]:
        """What the core is to call with what it gives up by itself."""
        this = weakref.ref(self)

        def gave_up(letter: DeadLetter) -> None:
            app = this()
            if app is not None:
                app._relay_gave_up(letter)

        return gave_up

    async def _start_consuming(self) -> None:
        for route in self._routes.values():
            self._crews.append(await consume(self, route, self._thread_limit))
        await self._services_or_refuse().start_relay(self._gave_up())
        logger.info("%s consumes %d queues", self.name, len(self._crews))

    def _relay_gave_up(self, letter: DeadLetter) -> None:
        """Called on a thread of the core: nobody takes this message."""
        logger.error("a message cannot leave the store: %r", letter)
        home = self._home
        if home is not None and not home.is_closed():
            asyncio.run_coroutine_threadsafe(self._tell(letter), home)

    def close(self) -> Call[None]:
        """Finishes what is under way, then closes the store. Safe to call again.

        What still waits for a retry in this process becomes a dead letter. What came
        from a broker and is not finished within `close_timeout` goes back to its queue.
        """
        return _orkestra.wrap_coroutine(
            self, "close", self._close(), self._home is not None
        )

    async def _close(self) -> None:
        if self._status == "closed":
            return
        if not _orkestra.mark_used(self, False):
            # The parent's threads and files are not ours to close.
            self._status = "closed"
            self._say_state()
            return
        self._closing = True
        self._cut_short.open()
        home = self._home
        if home is not None and home is not asyncio.get_running_loop():
            if not home.is_closed() and home.is_running():
                future = asyncio.run_coroutine_threadsafe(self._stop_taking(), home)
                await asyncio.wrap_future(future)
        elif home is not None:
            await self._stop_taking()
        await self._drain()
        for subscription in list(self._subscriptions):
            await subscription._leave()
        self._status = "closed"
        self._say_state()
        if self._workers is not None:
            self._workers.close(wait=False)
        if self._services is not None:
            await self._services.close()
        if self._loop_thread is not None:
            self._loop_thread.stop()

    async def _stop_taking(self) -> None:
        """Takes nothing more, and finishes what is in hand."""
        followers, self._followers = self._followers, []
        projectors, self._projectors = self._projectors, []
        crews, self._crews = self._crews, []
        if crews and self._services is not None:
            await self._services.pause()
        takers = (*followers, *projectors, *crews)
        stops = [taker.stop(self._close_timeout) for taker in takers]
        await asyncio.gather(*stops)

    async def _drain(self) -> None:
        behind = [asyncio.wrap_future(f) for f in self._behind] if _has_loop() else []
        if behind:
            await asyncio.wait(behind, timeout=self._close_timeout)
        elif self._behind:
            concurrent.futures.wait(list(self._behind), timeout=self._close_timeout)

    def _say_state(self) -> None:
        _orkestra.set_app_state(
            self,
            plain=not (self._around_send or self._around_handle),
            sends_plainly=not self._around_send,
            closed=self._status == "closed",
        )

    async def __aenter__(self) -> Self:
        """Starts."""
        return await self._start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes."""
        await self._close()

    def __enter__(self) -> Self:
        """Starts, for synchronous code."""
        return self.start().wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes, for synchronous code."""
        self.close().wait()

    def run(self, main: Callable[[], Coroutine[Any, Any, T]] | None = None) -> T | None:
        """Runs the app until `main` is done; without it until SIGTERM or SIGINT.

        The signal drains: nothing more is taken, what is in hand finishes, as long as
        `close_timeout` allows; `main` is cancelled. A second signal ends the process at
        once, with 128 plus its number. Starts a loop of its own, so it is for a
        program's top level.
        """
        return asyncio.run(run(self, main))

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more calls."""
        return self._status == "closed"

    def _services_or_refuse(self) -> Services:
        if self._status == "closed":
            raise ClosedError(f"the app {self.name} is closed", {"app": self.name})
        if not _orkestra.mark_used(self, False):
            message = (
                f"the app {self.name} was started in process {self._pid} and cannot be "
                "used in its child"
            )
            raise ForkedError(message, {"app": self.name, "parent": self._pid})
        services = self._services
        if services is None:
            with self._opening:
                if self._services is None:
                    self._services = self._plan.open(self._registry)
                    self._pid = os.getpid()
                    if self._plan.has_broker:
                        _orkestra.set_broker(self, self._services)
                    _orkestra.mark_used(self, True)
                services = self._services
        return services

    async def _refuse(self, call: Call[Any]) -> Any:
        self._services_or_refuse()

    # Sending. `dispatch`, `send` and `publish` are native, see `AppCore`.

    def execute(
        self,
        aggregate: type[Aggregate[StateT]],
        command: Command[Any],
        *,
        id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        actor_id: str | None = None,
        actor_type: str | None = None,
        source: str | None = None,
        metadata: Metadata | None = None,
    ) -> Call[Executed[StateT]]:
        """Executes a command on an aggregate.

        Loads (snapshot and tail), folds, decides, appends at the loaded revision, and
        decides again when somebody else was faster. A command that was executed before
        (the same id) is answered with what is recorded.

        Raises:
            RejectedError: The aggregate refused it.
            RevisionConflictError: Others were faster too often.
            UnexpectedCommandError: The aggregate does not take it.
        """
        options = {
            "id": id,
            "correlation_id": correlation_id,
            "causation_id": causation_id,
            "metadata": metadata,
            "actor_id": actor_id,
            "actor_type": actor_type,
            "source": source,
        }
        given = {key: value for key, value in options.items() if value is not None}
        handling = _orkestra.new_command(self, command, given)
        return _orkestra.wrap_coroutine(
            self, "execute", self._execute(aggregate, handling), False
        )

    async def _execute(
        self, aggregate: type[Aggregate[StateT]], handling: Call[Any]
    ) -> Executed[StateT]:
        host = self._aggregates.get(aggregate)
        if host is None:
            host = AggregateHost(self, aggregate)
            raise host.invalid("it was not added to the app")
        command = handling.message
        host.check(command)
        handling.stamp()
        handling.enter()
        try:
            return await host.execute(command, handling.id)
        except Reject as reject:
            raise rejected(reject) from reject
        finally:
            handling.leave()

    # Reading.

    def subscribe(
        self,
        name: str | None = None,
        *,
        topics: Sequence[str] | None = None,
        stream_prefix: str | None = None,
        start: Start = "origin",
        batch_size: int = 500,
    ) -> Subscription:
        """A named reader of the log.

        Args:
            name: Its place is kept under it. Without one it is kept in memory only.
            topics: Only events whose topic matches one of these patterns.
            stream_prefix: Only streams whose names begin so.
            start: Where to start when there is no place yet: ``"origin"``, ``"now"``
                or after a position.
            batch_size: At most this many events at a time.
        """
        return Subscription(
            self,
            name,
            topics=topics,
            stream_prefix=stream_prefix,
            start=start,
            batch_size=batch_size,
        )

    def rebuild(self, name: str, *, resume: bool = False) -> Rebuild:
        """Builds a projection's view anew, beside the live one, and switches to it.

            async for progress in app.rebuild("board"):
                print(progress.position, "of", progress.head)

        The projection's function gets the log from the origin, with
        ``checkpoint.suffix`` ``_rebuild``. When it has caught up, the live view waits
        for what came in meanwhile and for the switch, wherever it runs. Awaiting the
        result runs it to its end without telling of progress.

        Args:
            name: The projection.
            resume: Whether it goes on where a rebuild that did not come to its end
                stopped. The projection's function must not have changed since.

        Raises:
            UnknownProjectionError: There is no projection of that name.
            NoSwitchError: It has no switch function.
            RebuildRunningError: It is being rebuilt already, here or elsewhere.
            SubscriptionStoppedError: It cannot handle an event and wants to stop.
        """
        listed = self._projections.get(name)
        if listed is None:
            message = f"there is no projection {name}"
            raise UnknownProjectionError(message, {"name": name})
        return Rebuild(self, listed, resume=resume)

    def projections(self) -> Call[list[ProjectionState]]:
        """How far each projection is, in whichever process it runs."""
        return _orkestra.wrap_coroutine(
            self, "projections", self._projection_states(), False
        )

    async def _projection_states(self) -> list[ProjectionState]:
        services = self._services_or_refuse()
        projectors = {p.name: p for p in self._projectors}
        states = []
        for name, listed in self._projections.items():
            found = await services.projection_state(listed.full_name)
            position, head, lag, rebuild = found
            here = projectors.get(listed.full_name)
            stopped = None if here is None else here.stopped
            state = ProjectionState(
                name=name,
                position=position,
                head=head,
                lag=lag,
                running=here is not None and here.running,
                replaying=here is not None and here.replaying,
                rebuilding=rebuild is not None,
                stopped=None if stopped is None else str(stopped),
                error=None if here is None else here.error,
            )
            states.append(state)
        return states

    def caught_up(
        self, name: str, position: int, *, timeout: float | timedelta = 30.0
    ) -> Call[None]:
        """Waits until a projection, an event handler or a subscription is that far.

        What it waits for is that everything up to `position` is handled; of a
        projection, that its transaction is committed: then what a command appended
        (``Executed.position``) can be read in the view.

        With a broker, event handlers have no place in the log: this is for
        subscriptions then, and for ``"orkestra.relay"``, which publishes the log.

        Raises:
            NotCaughtUpError: It does not get there in `timeout` seconds.
            SubscriptionStoppedError: It has stopped at an event it cannot handle.
        """
        return _orkestra.wrap_coroutine(
            self,
            "caught_up",
            self._caught_up(name, position, checked_seconds("timeout", timeout)),
            False,
        )

    async def _caught_up(self, name: str, position: int, seconds: float) -> None:
        full = next(
            (r.name for r in self._routes.values() if r.info.short_name == name), name
        )
        if (listed := self._projections.get(name)) is not None:
            full = listed.full_name
        readers: list[LogFollower | Projector] = []
        readers += self._followers
        readers += self._projectors
        reader = next((reader for reader in readers if reader.name == full), None)
        if reader is not None and reader.stopped is not None:
            raise reader.stopped
        services = self._services_or_refuse()
        ended = Gate() if reader is None else reader.ended
        if await services.wait_for_checkpoint(
            full, position, self._clock, seconds, ended
        ):
            return
        if reader is not None and reader.stopped is not None:
            raise reader.stopped
        message = (
            f"subscription {full} did not reach position {position} within {seconds:g} "
            "s"
        )
        details = {"name": full, "position": position, "seconds": seconds}
        raise NotCaughtUpError(message, details)

    def health(self) -> Call[Health]:
        """How the app is. Never fails."""
        return _orkestra.wrap_coroutine(self, "health", health_of(self), False)

    def __repr__(self) -> str:
        return f"<Orkestra {self.name!r} {self._status}>"


def _has_loop() -> bool:
    return asyncio._get_running_loop() is not None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_orkestra.forked)
