from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from contextvars import ContextVar
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Generic, Literal, TypeAlias, final, overload

from typing_extensions import Self, TypeVar, disjoint_base

from orkestra.messages import Command, Event

__version__: str
HANDLING: ContextVar[Call[Any]]

_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)

@final
class Call(Coroutine[Any, Any, _R_co]):
    """Something to await, or to ``wait()`` for."""

    def __await__(self) -> Generator[Any, Any, _R_co]: ...
    # No `__iter__` and `__next__` here: with them it looks like a generator, too, and
    # type checkers do not know which of the two `asyncio.create_task` is to take.
    def send(self, value: Any, /) -> Any: ...
    @overload
    def throw(
        self,
        typ: type[BaseException],
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> Any: ...
    @overload
    def throw(
        self, typ: BaseException, val: None = None, tb: TracebackType | None = None, /
    ) -> Any: ...
    def close(self) -> None: ...
    def wait(self, timeout: float | timedelta | None = None) -> _R_co:
        """The result, for code without an event loop.

        A synchronous handler runs in the caller's thread, an asynchronous one on the
        app's own loop.

        Args:
            timeout: Seconds, or a ``timedelta``; not kept while a synchronous handler
                runs. Default: no limit.

        Raises:
            WaitInLoopError: An event loop runs in this thread: await instead.
            WaitTimeoutError: The time is over.
        """
    # The package's own.
    __name__: str
    __qualname__: str
    @property
    def app(self) -> Any: ...
    @property
    def at(self) -> int: ...
    @property
    def blocking(self) -> bool: ...
    @property
    def cr_await(self) -> Any: ...
    @property
    def cr_running(self) -> bool: ...
    @property
    def id(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def max_retries(self) -> int | None: ...
    @property
    def message(self) -> Any: ...
    @property
    def metadata(self) -> Metadata: ...
    @property
    def nested(self) -> bool: ...
    @property
    def routes(self) -> Any: ...
    @property
    def timeout(self) -> float | None: ...
    @property
    def wants_result(self) -> bool: ...
    def enter(self) -> None: ...
    def leave(self) -> None: ...
    def next_event_id(self) -> str | None: ...
    def release(self) -> None: ...
    def reset_events(self) -> None: ...
    def stamp(self) -> None: ...
    def to_broker(self) -> Op[Any]: ...
    @classmethod
    def __class_getitem__(cls, item: Any, /) -> Any: ...

@disjoint_base
class AppCore:
    """The native part of an app."""

    def dispatch(
        self,
        command: Command[_R],
        /,
        *,
        id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        actor_id: str | None = None,
        actor_type: str | None = None,
        source: str | None = None,
        metadata: Metadata | None = None,
        max_retries: int | None = None,
        timeout: float | timedelta | None = None,
    ) -> Call[_R]:
        """Sends a command to its handler and waits for the result, retries included.

        Args:
            command: The command. Each dispatch of one object is a new sending.
            id: The command's id, a UUID. Default: a new one.
            correlation_id: The chain it belongs to. Default: that of the message being
                handled, else its own id.
            causation_id: What caused it. Default: the message being handled.
            actor_id: Who acts.
            actor_type: ``user``, ``system`` (default), ``expert``, ``scheduler``, or
                another lower-case word.
            source: Where it comes from, for example ``web``.
            metadata: All of these at once.
            max_retries: Retries, whatever the handler says.
            timeout: Seconds to wait; the command may be handled all the same. Default:
                no limit; with a broker 60.

        Raises:
            Exception: What the handler raised, when its retries are used up.
            HandlerError: The same with a broker: the exception's type, message and
                trace as data.
            NoHandlerError: Nobody handles it.
            BusUnavailableError: The broker is away, or did not confirm in time.
            RejectedError: The handler refused it.
            DispatchTimeoutError: The time is over.
        """

    def send(
        self,
        command: Command[Any],
        /,
        *,
        id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        actor_id: str | None = None,
        actor_type: str | None = None,
        source: str | None = None,
        metadata: Metadata | None = None,
        max_retries: int | None = None,
    ) -> Call[str]:
        """Accepts a command and gives its id; it is handled behind.

        Its failure is a dead letter. In process it is lost when the process ends first.
        With a broker it returns when the broker has the command safely.

        Raises:
            NoHandlerError: Nobody handles it: with a broker, there is no queue for it.
            BusUnavailableError: The broker is away, or did not confirm in time; it may
                have the command all the same.
        """

    def publish(
        self,
        event: Event,
        /,
        *,
        id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        actor_id: str | None = None,
        actor_type: str | None = None,
        source: str | None = None,
        metadata: Metadata | None = None,
    ) -> Call[EventEnvelope]:
        """Hands an event to its handlers now, not stored.

        Waits for the first attempt of each handler, one after another; retries go on
        behind (``await envelope.settled()``). Never raises because a handler failed.
        With a broker it returns when the broker has the event safely: the envelope is
        ``published``, knows no handlers, and is settled at once.

        Raises:
            BusUnavailableError: As for ``send``.
        """

@final
class Metadata:
    """Who sent a message, when, and what it belongs to. Immutable."""

    def __new__(
        cls,
        *,
        correlation_id: str,
        causation_id: str | None = None,
        actor_id: str | None = None,
        actor_type: str = "system",
        source: str | None = None,
        issued_at: datetime,
    ) -> Self: ...
    @property
    def correlation_id(self) -> str:
        """Links a whole chain of messages."""
    @property
    def causation_id(self) -> str | None:
        """The message that caused this one, ``None`` for the first of a chain."""
    @property
    def actor_id(self) -> str | None:
        """Who acts."""
    @property
    def actor_type(self) -> str:
        """``user``, ``system``, ``expert``, ``scheduler`` or another word."""
    @property
    def source(self) -> str | None:
        """Where it came from."""
    @property
    def issued_at(self) -> datetime:
        """When it was sent, UTC."""
    def derive(self, causation_id: str, issued_at: datetime | None = None) -> Metadata:
        """Metadata for a message caused by `causation_id`."""
    def to_dict(self) -> dict[str, str | None]:
        """The fields as they stand in JSON."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, memo: Any, /) -> Self: ...

@final
class EventEnvelope:
    """What became of a published event."""

    def __new__(
        cls,
        event: Any,
        handlers: tuple[Route, ...],
        published_at: int,
        *,
        elsewhere: bool = False,
    ) -> Self: ...
    @property
    def event(self) -> Any:
        """The event."""
    @property
    def id(self) -> str:
        """The event's id."""
    @property
    def metadata(self) -> Metadata:
        """The event's metadata."""
    @property
    def published_at(self) -> datetime:
        """When it was published, UTC."""
    @property
    def status(
        self,
    ) -> Literal["published", "handled", "partially_handled", "failed"]:
        """Where the event stands with all its handlers together."""
    @property
    def handlers(
        self,
    ) -> dict[str, Literal["pending", "processing", "succeeded", "failed", "skipped"]]:
        """Each handler's state by its full name, ``<app>.<handler>``."""
    @property
    def context(self) -> dict[str, Any]:
        """For middleware: what one leaves here the next one finds."""
    def settled(self) -> Call[EventEnvelope]:
        """Waits until no handler is tried again any more; gives this envelope."""
    @property
    def _settling(self) -> Any: ...
    def record(self, index: int, state: str) -> None: ...
    def settle_with(self, settling: Any) -> None: ...

@final
class RecordedEvent:
    """An event as it was recorded: with its stream, revision and position."""

    @property
    def event(self) -> Any:
        """The event as an object of its class; ``RawEvent`` for an unknown type.

        Raises:
            InvalidPayloadError: What is recorded does not fit the class.
            NoUpcasterError: No upcaster leads to the version of the class.
        """
    @property
    def id(self) -> str:
        """The id."""
    @property
    def type(self) -> str:
        """The type name."""
    @property
    def version(self) -> int:
        """Schema version of the payload as it was recorded."""
    @property
    def stream(self) -> str:
        """The stream."""
    @property
    def revision(self) -> int:
        """0-based place in the stream."""
    @property
    def position(self) -> int:
        """Place in the whole store: compare it, never add to it."""
    @property
    def data(self) -> bytes:
        """The payload as recorded: JSON, UTF-8."""
    @property
    def metadata(self) -> Metadata:
        """Who and why."""
    @property
    def occurred_at(self) -> datetime:
        """When it happened, UTC."""

@final
class DeadLetter:
    """A message given up on, for one handler."""

    @property
    def id(self) -> str:
        """The entry's id: stays the same when the message fails again."""
    @property
    def handler(self) -> str:
        """The full name of the handler, ``<app>.<handler>``."""
    @property
    def kind(self) -> Literal["command", "event"]:
        """Command or event."""
    @property
    def message_id(self) -> str:
        """The message's id."""
    @property
    def type(self) -> str:
        """The message's type name."""
    @property
    def topic(self) -> str:
        """The message's topic."""
    @property
    def body(self) -> bytes:
        """The body as on the wire."""
    @property
    def requeueable(self) -> bool:
        """Whether it can be handed to its handler again."""
    @property
    def reason(
        self,
    ) -> Literal[
        "retries_exhausted", "not_retryable", "undecodable", "crash_limit", "broker"
    ]:
        """Why it was given up."""
    @property
    def errors(self) -> list[dict[str, str]]:
        """The last error and its causes: ``type``, ``message``, ``trace``."""
    @property
    def attempts(self) -> int:
        """Attempts in all."""
    @property
    def first_failed_at(self) -> datetime:
        """When the first attempt failed, UTC."""
    @property
    def last_failed_at(self) -> datetime:
        """When the last attempt failed, UTC."""
    @property
    def correlation_id(self) -> str:
        """The message's correlation id."""
    @property
    def trace_id(self) -> str | None:
        """The trace that the message belonged to."""
    @property
    def status(self) -> Literal["dead", "requeued"]:
        """Where it stands."""
    @property
    def history(self) -> list[dict[str, Any]]:
        """The earlier times that it was given up, oldest first."""

@disjoint_base
class Clock:
    """A clock."""

    @staticmethod
    def system() -> Clock:
        """The machine's clock."""
    def now(self) -> datetime:
        """The time of day, UTC."""
    def monotonic(self) -> float:
        """Seconds since some fixed moment."""
    def sleep(self, seconds: float) -> Op[None]:
        """Ends after `seconds`."""

@final
class ManualClock(Clock):
    """A clock that stands still until it is told to move: for tests."""

    def __new__(cls, start: datetime) -> Self: ...
    def advance(self, duration: float | timedelta) -> None:
        """Moves the time on and wakes what is due."""
    def next_wake(self) -> float | None:
        """Seconds until the earliest sleep ends, ``None`` when nothing sleeps."""

@disjoint_base
class Ids:
    """A source of ids and random draws."""

    @staticmethod
    def system() -> Ids:
        """Ids from the operating system's randomness."""
    def next_id(self, clock: Clock) -> str:
        """A new id for something that happens now."""
    def draw(self) -> float:
        """A draw from [0, 1)."""

@final
class ManualIds(Ids):
    """Ids that count 1, 2, 3, … and draws that are all the same: for tests."""

    def __new__(cls, draw: float = 0.5) -> Self: ...

# The package's own from here on.

@final
class Op(Awaitable[_R_co], Generic[_R_co]):
    def __await__(self) -> Generator[Any, Any, _R_co]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, _value: Any) -> Any: ...
    def throw(self, *args: Any) -> Any: ...
    def close(self) -> None: ...

@final
class Gate:
    def __new__(cls) -> Self: ...
    @property
    def is_open(self) -> bool: ...
    def open(self) -> None: ...
    def wait(self) -> Op[None]: ...

@final
class Stamp: ...

@final
class Route:
    def __new__(
        cls,
        *,
        handler: Callable[..., Any],
        name: str,
        info: Any,
        wake: Callable[[Route], None],
        is_async: bool,
        anywhere: bool,
        inline: bool,
        wants_metadata: bool,
        plain: bool,
        limit: int,
    ) -> Self: ...
    @property
    def handler(self) -> Callable[..., Any]: ...
    @property
    def name(self) -> str: ...
    @property
    def info(self) -> Any: ...
    @property
    def is_async(self) -> bool: ...
    @property
    def inline(self) -> bool: ...
    @property
    def wants_metadata(self) -> bool: ...
    @property
    def busy(self) -> int: ...
    def acquire(self) -> bool: ...
    def acquire_waiting(self) -> bool: ...
    def release(self) -> None: ...
    def set_waiting(self, waiting: int) -> None: ...

@final
class Policy:
    def __new__(
        cls,
        *,
        max_retries: int | None,
        initial: float,
        multiplier: float,
        max_delay: float,
        jitter: float,
        retry_on: list[str],
        give_up_on: list[str],
    ) -> Self: ...
    def delay(self, retry: int, draw: float) -> float: ...
    def wants(self, error_types: list[str]) -> bool: ...

_Answer: TypeAlias = tuple[float | None, str | None]

@final
class Delivery:
    def __new__(
        cls, policy: Policy, *, command: bool, max_retries: int | None = None
    ) -> Self: ...
    @property
    def attempts(self) -> int: ...
    def begin(self) -> int: ...
    def failed(
        self,
        error_types: list[str],
        errors: list[tuple[str, str, str]],
        clock: Clock,
        ids: Ids,
    ) -> _Answer: ...
    def retry_after(
        self, seconds: float, errors: list[tuple[str, str, str]], clock: Clock
    ) -> _Answer: ...
    def dead_letter(
        self,
        *,
        reason: str,
        handler: str,
        message: Any,
        type_name: str,
        version: int,
        topic: str,
        payload: bytes | None,
        max_retries: int | None,
        clock: Clock,
        ids: Ids,
    ) -> DeadLetter: ...

@final
class Registry:
    def __new__(cls, app: str, app_prefix: str | None = None) -> Self: ...
    @property
    def app(self) -> str: ...
    @property
    def app_prefix(self) -> str: ...
    def add_projection(
        self, name: str, types: list[int], patterns: list[str]
    ) -> tuple[str, list[str]]: ...
    def add_type(self, class_: type[Any], /) -> int: ...
    def type_names(self) -> list[str]: ...
    def type_named(self, name: str) -> int | None: ...
    def topic_for(self, type_name: str) -> str: ...
    def add_handler(
        self,
        *,
        command: bool,
        name: str | None,
        types: list[int],
        patterns: list[str],
        policy: Policy,
        concurrency: int | None,
        timeout: float | None,
        prefetch: int | None = None,
        inbox: bool = False,
    ) -> int: ...
    def handler(self, index: int) -> dict[str, Any]: ...
    def command_handler(self, type_name: str) -> int: ...
    def event_handlers(self, type_name: str) -> list[int]: ...
    def decode(self, type_name: str, version: int | None, json: bytes) -> Any: ...

@final
class Plan:
    def __new__(
        cls,
        *,
        bus: str | None,
        store: str | None,
        state: str | None,
        max_payload_bytes: int | None,
        clock: Clock | None,
        ids: Ids,
    ) -> Self: ...
    @property
    def max_payload_bytes(self) -> int: ...
    @property
    def has_broker(self) -> bool: ...
    @property
    def sqlite_files(self) -> list[str]: ...
    @property
    def state_schema(self) -> str | None: ...
    @property
    def is_memory_only(self) -> bool: ...
    def open(self, registry: Registry) -> Services: ...

_Fields: TypeAlias = tuple[int | None, int | None, bool]

@final
class Outgoing:
    @property
    def id(self) -> str: ...
    def parameters(self) -> tuple[Any, ...]: ...

@final
class Retention:
    def __new__(cls, services: Services) -> Self: ...
    def purge_streams(
        self, older_than: float, streams: str, archive: str | None
    ) -> Op[tuple[int, int, int, int]]: ...
    def purge_dead_letters(self, older_than: float, handler: str | None) -> Op[int]: ...
    def purge_outbox(self, older_than: float) -> Op[int]: ...
    def purge_inbox(self, older_than: float) -> Op[int]: ...

@final
class Services:
    def outgoing(
        self, app: AppCore, message: Any, options: dict[str, Any]
    ) -> Outgoing: ...
    def enqueue(self, outgoing: Outgoing) -> Op[None]: ...
    def outbox_backlog(self) -> Op[tuple[int, datetime | None]]: ...
    def was_handled(self, handler: str, id: str) -> Op[bool]: ...
    def record_handled(self, handler: str, id: str) -> Op[bool]: ...
    def consume_outbox(
        self, app: AppCore, index: int, gave_up: Callable[[DeadLetter], None]
    ) -> Consumer: ...
    def start_outbox(self, gave_up: Callable[[DeadLetter], None]) -> None: ...
    def append(
        self, app: AppCore, stream: str, events: Iterable[Any], expected: str | int
    ) -> Op[_Fields]: ...
    def append_many(
        self, app: AppCore, appends: Sequence[tuple[str, Any, str | int]]
    ) -> Op[list[_Fields]]: ...
    def read_stream(
        self,
        stream: str,
        from_revision: int | None,
        limit: int,
        backwards: bool = False,
    ) -> Op[Page]: ...
    def log(self, topics: list[str] | None, stream_prefix: str | None) -> Log: ...
    def head(self) -> Op[int | None]: ...
    def find_in_stream(
        self, stream: str, id: str
    ) -> Op[tuple[str, int, int] | None]: ...
    def delete_stream(
        self, stream: str, expecting: str | int, hard: bool
    ) -> Op[bool]: ...
    def load_snapshot(
        self, stream: str
    ) -> Op[tuple[tuple[int, int, bytes] | None, str | None]]: ...
    def save_snapshot(
        self,
        stream: str,
        revision: int,
        schema_version: int,
        state: bytes,
        clock: Clock,
    ) -> Op[None]: ...
    def checkpoint(self, name: str) -> Op[int | None]: ...
    def projection_state(
        self, name: str
    ) -> Op[tuple[int | None, int | None, int, int | None]]: ...
    def wait_for_checkpoint(
        self, name: str, position: int, clock: Clock, seconds: float, stopped: Gate
    ) -> Op[bool]: ...
    def record_dead_letter(self, letter: DeadLetter) -> Op[DeadLetter]: ...
    def list_dead_letters(
        self,
        *,
        handler: str | None,
        topic: str | None,
        since: datetime | None,
        until: datetime | None,
        text: str | None,
        status: str | None,
        limit: int,
        offset: int,
    ) -> Op[tuple[list[DeadLetter], int]]: ...
    def get_dead_letter(self, id: str) -> Op[DeadLetter]: ...
    def requeue_dead_letter(
        self, id: str, body: bytes | None = None
    ) -> Op[DeadLetter]: ...
    def take_back_dead_letter(self, letter: DeadLetter) -> Op[DeadLetter]: ...
    def discard_dead_letter(self, id: str) -> Op[bool]: ...
    def consume(self, app: AppCore, index: int) -> Op[Consumer]: ...
    def pause(self) -> Op[None]: ...
    def bus_health(self) -> dict[str, Any] | None: ...
    def start_relay(self, gave_up: Callable[[DeadLetter], None]) -> Op[None]: ...
    def relay_health(self) -> tuple[int | None, str | None] | None: ...
    def requeue_to_broker(
        self, letter: DeadLetter, body: bytes | None = None
    ) -> Op[None]: ...
    def broker_letters(self, limit: int) -> Op[list[DeadLetter]]: ...
    def drain_letters(self, limit: int | None) -> Op[int]: ...
    def close(self) -> Op[None]: ...

@final
class Consumer:
    def take(self) -> Call[Any] | None: ...
    def trouble(self) -> Trouble | None: ...
    def ready(self) -> Op[bool]: ...
    def wait(self) -> bool: ...
    def stop(self) -> None: ...
    @property
    def is_stopped(self) -> bool: ...
    @staticmethod
    def done(call: Call[Any], result: Any) -> None: ...
    @staticmethod
    def rejected(call: Call[Any], reason: str, data: Any) -> None: ...
    def delivery(self, call: Call[Any]) -> Delivery: ...
    @staticmethod
    def attempt(call: Call[Any]) -> int: ...
    @staticmethod
    def max_retries(call: Call[Any]) -> int | None: ...
    @staticmethod
    def retry(call: Call[Any], delivery: Delivery, seconds: float) -> None: ...
    def give_up(
        self, call: Call[Any], delivery: Delivery, reason: str
    ) -> Op[DeadLetter]: ...
    @staticmethod
    def give_back(call: Call[Any]) -> None: ...

@final
class Trouble:
    @property
    def text(self) -> str: ...
    def bury(self) -> Op[DeadLetter]: ...

@final
class Log:
    def read(self, after: int | None, limit: int, then: int) -> Op[Page]: ...

@final
class Records:
    def __iter__(self) -> Self: ...
    def __next__(self) -> RecordedEvent: ...

@final
class Page:
    def records(self) -> list[RecordedEvent]: ...
    def __iter__(self) -> Iterator[RecordedEvent]: ...
    def typed(self, count: int | None = None) -> list[Any]: ...
    def fold(self, evolve: Callable[[Any, Any], Any], state: Any) -> Any: ...
    def record(self, index: int) -> RecordedEvent: ...
    def recorded_prefix(self, command_id: str) -> int: ...
    def place_at(self, index: int) -> tuple[int, int] | None: ...
    def revision_at(self, index: int) -> int | None: ...
    @property
    def last(self) -> int | None: ...
    @property
    def end(self) -> bool: ...
    def __len__(self) -> int: ...

@final
class Reader:
    def __new__(
        cls,
        services: Services,
        *,
        name: str | None,
        handler: int | None = None,
        topics: list[str] | None = None,
        stream_prefix: str | None = None,
        start: str | int,
        batch_size: int,
    ) -> Self: ...
    def open(self) -> Op[None]: ...
    def next(self) -> Op[Page]: ...
    def try_next(self) -> Op[Page | None]: ...
    def ack(self, position: int | None) -> Op[None]: ...
    def release(self) -> Op[None]: ...
    def leave(self) -> Op[None]: ...
    def rewind(self, position: int | None) -> Op[None]: ...

_Row: TypeAlias = tuple[int | None, int]

@final
class ViewCheckpoint:
    def parameters(self) -> tuple[str, int | None, int | None, int]: ...
    @property
    def anew(self) -> bool: ...
    @property
    def unsure(self) -> bool: ...
    def refusal(self, found: _Row | None) -> Exception: ...

@final
class ViewSwitch:
    def parameters(self) -> tuple[str, str, int | None, int]: ...
    def refusal(self, live: _Row | None, rebuilt: _Row | None) -> Exception | None: ...

@final
class Projection:
    def __new__(
        cls,
        services: Services,
        *,
        name: str,
        rebuild: bool | None,
        topics: list[str],
        stream_prefix: str | None,
        start: str | int,
        batch_size: int,
    ) -> Self: ...
    @property
    def suffix(self) -> Literal["", "_rebuild"]: ...
    @property
    def is_unprepared(self) -> bool: ...
    def prepared(self) -> None: ...
    def checkpoint(self, position: int | None) -> ViewCheckpoint: ...
    def failed(self) -> None: ...
    def rewind(self) -> None: ...
    def open(self) -> Op[None]: ...
    def next(self) -> Op[tuple[Page, bool]]: ...
    def try_next(self) -> Op[tuple[Page, bool] | None]: ...
    def saved(self, position: int | None) -> Op[None]: ...
    def handled(self, position: int | None) -> Op[None]: ...
    def found(self, row: _Row | None) -> Op[None]: ...
    def progress(self) -> Op[tuple[int | None, int | None, int, bool]]: ...
    def pause_live(self) -> Op[None]: ...
    def switch(self) -> Op[ViewSwitch]: ...
    def switched(self) -> Op[None]: ...
    def not_switched(self) -> Op[None]: ...
    def release(self) -> Op[None]: ...

@final
class Work:
    def __new__(cls, page: Page, policy: Policy, poison: str) -> Self: ...
    def step(self) -> tuple[Any, ...]: ...
    @property
    def attempt(self) -> int: ...
    def succeeded(self) -> None: ...
    def failed(
        self,
        error_types: list[str],
        errors: list[tuple[str, str, str]],
        clock: Clock,
        ids: Ids,
    ) -> None: ...
    def away(
        self, errors: list[tuple[str, str, str]], clock: Clock, ids: Ids
    ) -> None: ...
    def retry_after(
        self, seconds: float, errors: list[tuple[str, str, str]], clock: Clock
    ) -> None: ...
    def rejected(self) -> None: ...
    def waited(self) -> None: ...
    def given_up(self) -> None: ...
    def dead_letter(
        self,
        page: Page,
        index: int,
        *,
        reason: str,
        handler: str,
        topic: str,
        clock: Clock,
        ids: Ids,
    ) -> DeadLetter: ...

@final
class Execution:
    def __new__(
        cls,
        command_id: str,
        *,
        snapshot_every: int | None,
        schema_version: int,
        conflict_retries: int,
        cached: bool,
        cached_revision: int | None,
    ) -> Self: ...
    def action(self) -> tuple[Any, ...]: ...
    @property
    def revision(self) -> int | None: ...
    def started(self) -> None: ...
    def snapshot(
        self, revision: int | None = None, schema_version: int = 0
    ) -> bool: ...
    def folded(self, page: Page) -> None: ...
    def decided(self, events: int) -> None: ...
    def refused(self) -> None: ...
    def appended(
        self, revision: int | None, position: int | None, repeated: bool
    ) -> None: ...
    def conflicted(self, stream: str, actual: int | None) -> bool: ...
    def duplicate(self, stream: str, event_id: str) -> None: ...
    def saved(self) -> None: ...
    def found(self, event: tuple[str, int, int] | None) -> None: ...
    def read_recorded(self, count: int, last: tuple[int, int] | None) -> None: ...

def camelize(name: str) -> str: ...
def catalogue() -> list[tuple[str, str, str, bool, list[str]]]: ...
def claim_sql() -> tuple[str, str]: ...
def claimed(call: Call[Any]) -> None: ...
def decode_envelope(
    body: bytes, received_at: datetime | None = None
) -> dict[str, Any]: ...
def either(clock: Clock, seconds: float, gate: Gate) -> Op[None]: ...
def encode_command(
    *,
    type: str,
    id: str,
    payload: bytes,
    metadata: Metadata,
    status: str,
    attempts: int,
    max_retries: int | None,
) -> bytes: ...
def encode_event(
    *,
    type: str,
    id: str,
    version: int,
    payload: bytes,
    metadata: Metadata,
    occurred_at: datetime,
) -> bytes: ...
def encode_payload(message: Any, max_bytes: int) -> bytes: ...
def event_id_for(command_id: str, index: int) -> str: ...
def find_slot(base: type[Any], instance: object, marker: object) -> None: ...
def forked() -> None: ...
def format_time(micros: int) -> str: ...
def id_of(message: object) -> str:
    """The id of a message that was sent, read or made from another one.

    Raises:
        NotStampedError: It was only constructed.
    """

def is_stamped(message: object) -> bool: ...
def lane_of(stream: str, lanes: int) -> int: ...
def mark_used(app: AppCore, used: bool) -> bool: ...
def metadata_from_dict(fields: dict[str, str | None]) -> Metadata: ...
def metadata_of(message: object) -> Metadata:
    """The metadata of a message that was sent, read or made from another one.

    Raises:
        NotStampedError: It was only constructed.
    """

def new_command(app: AppCore, command: Any, options: dict[str, Any]) -> Call[Any]: ...
def new_handling(app: AppCore, message: Any, is_event: bool) -> Call[Any]: ...
def new_id() -> str: ...
def parse_time(text: str) -> int | None: ...
def put_recorded_stamp(recorded: RecordedEvent, message: Any) -> None: ...
def put_stamp(message: Any, id: str, at: datetime, metadata: Metadata) -> None: ...
def run_cli(
    args: list[str], command: list[str], worker: Callable[[str], int]
) -> int: ...
def seconds(value: float | timedelta, argument: str) -> float: ...
def set_app_state(
    app: AppCore, *, plain: bool, sends_plainly: bool, closed: bool
) -> None: ...
def set_broker(app: AppCore, services: Services | None = None) -> None: ...
def set_command_route(app: AppCore, class_: type[Any], route: Route, /) -> None: ...
def set_event_routes(
    app: AppCore,
    class_: type[Any] | None,
    routes: tuple[Route, ...] | None,
    /,
) -> None: ...
def set_time_source(app: AppCore, clock: Clock, ids: Ids) -> None: ...
def stamp_caused_by(message: Any, cause: Any) -> None: ...
def stamp_decided(app: AppCore, command: Any, events: Sequence[Any]) -> None: ...
def topic_matches(pattern: str, topic: str) -> bool: ...
def topic_of(type_name: str, app_prefix: str) -> str: ...
def underscore(segment: str) -> str: ...
def view_sql(dialect: str) -> dict[str, Any]: ...
def wrap_coroutine(
    app: AppCore | None,
    name: str,
    coroutine: Coroutine[Any, Any, _R],
    needs_loop: bool,
) -> Call[_R]: ...
