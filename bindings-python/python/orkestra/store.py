"""The event store of an app."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from orkestra import _orkestra

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from typing_extensions import Self

    from orkestra._orkestra import Call, Log, Page, RecordedEvent, Services
    from orkestra.app import Orkestra
    from orkestra.messages import Event

__all__ = ["Appended", "Expected", "Reading", "Store"]

Expected = Literal["any", "no_stream", "stream_exists"] | int
"""What an append asks of its stream: a word, or its last revision."""

T = TypeVar("T")

_PAGE = 1000


@dataclass(frozen=True)
class Appended:
    """What an append did.

    Attributes:
        revision: The revision of the batch's last event; of the stream, ``None`` if it
            has none, when the batch was empty.
        position: The position of the batch's last event, ``None`` for an empty batch.
        repeated: Whether the same batch had been stored before.
    """

    revision: int | None
    position: int | None
    repeated: bool


class Reading(AsyncIterator["RecordedEvent"]):
    """Recorded events, read page by page: ``async for``, or ``for`` without a loop.

    At most two pages are in memory: the next one of the whole store is asked for
    while the one in hand is used.
    """

    def __init__(
        self,
        next_page: Callable[[Page | None, int, int], Coroutine[Any, Any, Page | None]],
        limit: int | None,
        size: int,
    ) -> None:
        _check_number("limit", limit)
        self._next_page = next_page
        self._left = limit
        self._size = size
        self._page: Page | None = None
        self._records: Iterator[RecordedEvent] = iter(())
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RecordedEvent:
        for recorded in self._records:
            return recorded
        while not self._over:
            await self._turn()
            for recorded in self._records:
                return recorded
        raise StopAsyncIteration

    async def _turn(self) -> None:
        left, size = self._left, self._size
        want = size if left is None else min(left, size)
        # Many want a first page only; who reads a second one goes on.
        if self._page is None:
            then = 0
        else:
            then = size if left is None else min(left - want, size)
        page = await self._next_page(self._page, want, then) if want else None
        if page is None:
            self._over = True
            return
        self._page = page
        self._records = iter(page)
        if self._left is not None:
            self._left -= len(page)
        self._over = page.end or self._left == 0

    def __iter__(self) -> Iterator[RecordedEvent]:
        """The events for synchronous code; blocks for each page."""
        while True:
            yield from self._records
            if self._over:
                return
            _orkestra.wrap_coroutine(None, "read", self._turn(), False).wait()


class Store:
    """Streams of events: append to them, read one, read all.

    await app.store.append("order-7", [OrderPlaced(order_id="7")], expected="no_stream")
    async for recorded in app.store.read_stream("order-7"):
        print(recorded.revision, recorded.event)
    """

    def __init__(self, app: Orkestra) -> None:
        self._app = app

    def _call(self, name: str, work: Coroutine[Any, Any, T]) -> Call[T]:
        return _orkestra.wrap_coroutine(self._app, name, work, False)

    def _services(self) -> Services:
        return self._app._services_or_refuse()

    def append(
        self, stream: str, events: Iterable[Event], expected: Expected = "any"
    ) -> Call[Appended]:
        """Appends events to a stream atomically, in their order.

        An event object is one fact: appending the same objects again stores nothing
        and gives the first result. Objects that have no id yet are given one.

        Args:
            stream: 1 to 1,000 characters, no control characters, no white space at
                either end, no ``$`` in front.
            events: At most 10,000; none is a no-op.
            expected: ``"any"``, ``"no_stream"``, ``"stream_exists"``, or the stream's
                last revision.

        Raises:
            RevisionConflictError: The stream is not as expected.
            DuplicateEventError: One of the ids is stored elsewhere.
            InvalidStreamNameError: The name is empty, reserved or too long.
            NotJsonError: A payload has a value that JSON cannot hold.
            TooLargeError: A payload is over the app's limit.
        """
        return self._call("append", self._append(stream, events, expected))

    async def _append(
        self, stream: str, events: Iterable[Event], expected: Expected
    ) -> Appended:
        fields = await self._services().append(self._app, stream, events, expected)
        return Appended(*fields)

    def append_many(
        self, appends: Iterable[tuple[str, Sequence[Event], Expected]]
    ) -> Call[list[Appended]]:
        """Appends to several streams in one transaction: all or nothing.

        Args:
            appends: For each stream its name, the events, and what is expected.

        Raises:
            RevisionConflictError: One of the streams is not as expected.
        """
        return self._call("append_many", self._append_many(list(appends)))

    async def _append_many(
        self, appends: list[tuple[str, Sequence[Event], Expected]]
    ) -> list[Appended]:
        results = await self._services().append_many(self._app, appends)
        return [Appended(*fields) for fields in results]

    def read_stream(
        self,
        stream: str,
        *,
        from_revision: int | None = None,
        limit: int | None = None,
        backwards: bool = False,
    ) -> Reading:
        """Reads a stream; an unknown one is empty.

        Args:
            stream: The stream's name.
            from_revision: The first revision to read, inclusive. Default: the first
                one forwards, the last one backwards.
            limit: At most this many events. Default: all.
            backwards: Newest first.
        """
        _check_number("from_revision", from_revision)

        async def next_page(page: Page | None, size: int, _then: int) -> Page | None:
            start = from_revision
            if page is not None:
                last = page.revision_at(-1)
                if last is None or (backwards and last == 0):
                    return None
                start = last - 1 if backwards else last + 1
            return await self._services().read_stream(stream, start, size, backwards)

        return Reading(next_page, limit, _PAGE)

    def read_all(
        self,
        *,
        after: int | None = None,
        limit: int | None = None,
        topics: Sequence[str] | None = None,
        stream_prefix: str | None = None,
    ) -> Reading:
        """Reads the whole store in increasing position.

        A reader that remembers the last position never misses an event.

        Args:
            after: Events after this position, exclusive. Default: from the first.
            limit: At most this many events. Default: all.
            topics: Only events whose topic matches one of these patterns.
            stream_prefix: Only streams whose names begin so.
        """
        _check_number("after", after)
        if isinstance(topics, str):
            topics = [topics]

        log: Log | None = None

        async def next_page(page: Page | None, size: int, then: int) -> Page | None:
            nonlocal log
            services = self._services()
            if log is None:
                patterns = None if topics is None else list(topics)
                log = services.log(patterns, stream_prefix)
            start = after if page is None or page.last is None else page.last
            return await log.read(start, size, then)

        return Reading(next_page, limit, _PAGE)

    def head(self) -> Call[int | None]:
        """The position of the last event, ``None`` for an empty store."""

        async def head() -> int | None:
            return await self._services().head()

        return self._call("head", head())

    def stream_exists(self, stream: str) -> Call[bool]:
        """Whether a stream has events that can be read."""

        async def exists() -> bool:
            return len(await self._services().read_stream(stream, None, 1, True)) > 0

        return self._call("stream_exists", exists())

    def delete_stream(
        self, stream: str, *, expected: Expected = "any", hard: bool = False
    ) -> Call[bool]:
        """Deletes a stream; returns whether there was something to delete.

        Soft: it reads empty, its revisions continue, ``read_all`` keeps its events.
        Hard: its events are gone and revisions begin again at 0; the act is recorded.

        Raises:
            RevisionConflictError: The stream is not as expected.
        """

        async def delete() -> bool:
            return await self._services().delete_stream(stream, expected, hard)

        return self._call("delete_stream", delete())


def _check_number(name: str, value: int | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        found = type(value).__qualname__
        message = f"{name}: expected a whole number, found {found}"
        raise TypeError(message)
    if not 0 <= value < 2**64:
        message = f"{name}: expected 0 or more, found {value}"
        raise ValueError(message)
