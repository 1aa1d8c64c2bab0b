"""Projections: views that are built from the log."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from orkestra._failures import invalid_handler
from orkestra.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orkestra.checkpoint import Checkpoint
    from orkestra.handlers import Poison, Start
    from orkestra.messages import Event

__all__ = ["Progress", "Projection", "ProjectionState"]

FunctionT = TypeVar("FunctionT", bound="Callable[[Checkpoint], Any]")


@dataclass(frozen=True)
class ProjectionState:
    """How far a projection is.

    Attributes:
        name: Its name.
        position: How far its live view is, ``None`` before the first event. While it
            catches up this is a quarter of a second behind.
        head: The position of the log's last event.
        lag: Positions between the two: no more events than this are missing.
        running: Whether this process reads the log for it, or waits to take it over.
        replaying: Whether what it handled last was history.
        rebuilding: Whether a rebuild of it has not come to its end, here or in another
            process, running or not.
        stopped: Why it has stopped, if it has.
        error: What it failed with last and tries again after, if it does.
    """

    name: str
    position: int | None
    head: int | None
    lag: int
    running: bool
    replaying: bool
    rebuilding: bool
    stopped: str | None
    error: str | None = None


@dataclass(frozen=True)
class Progress:
    """How far a rebuild is.

    Attributes:
        position: How far it has handled the log.
        head: The position of the log's last event.
        handled: Events handled so far.
        caught_up: Whether it came to the end of the log.
    """

    position: int | None
    head: int | None
    handled: int
    caught_up: bool


class Projection:
    """A projection as it was declared: the function, and how it reads the log.

        @app.projection("board", events=[FlightLanded])
        async def board(events: list[RecordedEvent], checkpoint: Checkpoint): ...

        @board.prepare
        async def create_tables(checkpoint: Checkpoint) -> None: ...

        @board.switch
        async def rename_tables(checkpoint: Checkpoint) -> None: ...

    Calling it calls the function, for tests of one's own.
    """

    name: str

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        events: Sequence[type[Event]],
        topics: Sequence[str],
        stream_prefix: str | None,
        start: Start,
        batch_size: int,
        policy: RetryPolicy,
        poison: Poison,
        inline: bool,
    ) -> None:
        self.name = name
        self._function = function
        self._events = tuple(events)
        self._topics = tuple(topics)
        self._stream_prefix = stream_prefix
        self._start = start
        self._batch_size = batch_size
        self._policy = policy
        self._poison = poison
        self._inline = inline
        self._prepare: Callable[[Checkpoint], Any] | None = None
        self._switch: Callable[[Checkpoint], Any] | None = None

    def prepare(self, function: FunctionT) -> FunctionT:
        """Declares the function that makes the view's tables.

        It is called before the first batch, whenever this process takes the live view
        over, and so creates only what is missing. Of a rebuild it is called once, with
        ``checkpoint.suffix`` ``_rebuild``; the tables of that name must be empty after.
        """
        self._prepare = function
        return function

    def switch(self, function: FunctionT) -> FunctionT:
        """Declares the function that puts a rebuilt view in the live one's place.

        In one transaction it renames the tables and awaits
        ``checkpoint.switch(connection)``. The live view waits meanwhile.
        """
        self._switch = function
        return function

    def __call__(self, events: Any, checkpoint: Any) -> Any:
        """What the function itself returns."""
        return self._function(events, checkpoint)

    def __repr__(self) -> str:
        return f"Projection({self.name!r})"


class ProjectionRegistrar:
    """Declares projections."""

    def _register_projection(self, projection: Projection) -> None:
        raise NotImplementedError

    def projection(
        self,
        name: str,
        *,
        events: Sequence[type[Event]] | type[Event] | None = None,
        topics: Sequence[str] | str | None = None,
        stream_prefix: str | None = None,
        start: Start = "origin",
        batch_size: int = 500,
        max_retries: int | None = None,
        retry: RetryPolicy | None = None,
        poison: Poison = "park",
        inline: bool = False,
    ) -> Callable[[Callable[..., Any]], Projection]:
        """Declares a projection: what builds a view from the log.

            @app.projection("board", events=[FlightDeparted, FlightLanded])
            async def board(events: list[RecordedEvent], checkpoint: Checkpoint):
                async with pool.connection() as connection, connection.transaction():
                    for recorded in events:
                        await connection.execute(...)
                    await checkpoint.save(connection)

        The function gets events in the order of the log, and saves the checkpoint in
        the transaction of its view, so that each event is in the view exactly once. One
        that saves none gets each event at least once. It always gets a list; of all
        processes one at a time runs it. A function that is not ``async`` runs in a
        worker thread.

        Args:
            name: Its name in the app: part of its checkpoint, so keep it.
            events: The event classes.
            topics: AMQP patterns of topics, beside `events`; ``"#"`` is everything.
            stream_prefix: Only streams whose names begin so.
            start: Where in the log it begins at its first start: ``"origin"``,
                ``"now"`` or after a position.
            batch_size: At most this many events at a time.
            max_retries: Retries of a batch, and then of each of its events by itself.
                Default 3. A database that is away is waited for and uses up none.
            retry: When to try again; `max_retries` beside it comes first.
            poison: What becomes of an event that it cannot handle, after the retries:
                ``"park"``, a dead letter, and on; ``"skip"``, a line in the log, and
                on; ``"stop"``, the projection stops before it and begins there again
                at the next start.
            inline: Whether a function that is not async runs in the event loop's own
                thread.

        Raises:
            DuplicateHandlerNameError: A handler or another projection has the name.
            InvalidHandlerError: The function or an option cannot be used.
        """

        def register(function: Callable[..., Any]) -> Projection:
            projection = declared(
                name,
                function,
                events=events,
                topics=topics,
                stream_prefix=stream_prefix,
                start=start,
                batch_size=batch_size,
                max_retries=max_retries,
                retry=retry,
                poison=poison,
                inline=inline,
            )
            self._register_projection(projection)
            return projection

        return register


def declared(
    name: str,
    function: Callable[..., Any],
    *,
    events: Sequence[type[Event]] | type[Event] | None,
    topics: Sequence[str] | str | None,
    stream_prefix: str | None,
    start: Start,
    batch_size: int,
    max_retries: int | None,
    retry: RetryPolicy | None,
    poison: Poison,
    inline: bool,
) -> Projection:
    """The projection, its options checked.

    Raises:
        InvalidHandlerError: The function or an option cannot be used.
    """
    if not isinstance(name, str) or not name:
        raise invalid_handler(repr(name), "expected a name")
    if not callable(function):
        raise invalid_handler(name, f"expected a function, found {function!r}")
    if (
        isinstance(batch_size, bool)
        or not isinstance(batch_size, int)
        or not 1 <= batch_size <= 10_000
    ):
        reason = f"batch_size: expected 1 to 10000, found {batch_size!r}"
        raise invalid_handler(name, reason)
    if poison not in ("park", "skip", "stop"):
        reason = f"poison: expected park, skip or stop, found {poison!r}"
        raise invalid_handler(name, reason)
    _check_parameters(name, function)
    return Projection(
        name,
        function,
        events=(events,) if isinstance(events, type) else tuple(events or ()),
        topics=(topics,) if isinstance(topics, str) else tuple(topics or ()),
        stream_prefix=stream_prefix,
        start=start,
        batch_size=batch_size,
        policy=(retry or RetryPolicy()).with_max_retries(max_retries),
        poison=poison,
        inline=inline,
    )


def _check_parameters(name: str, function: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind([], None)
    except TypeError as error:
        reason = f"expected parameters for the events and the checkpoint: {error}"
        raise invalid_handler(name, reason) from None
