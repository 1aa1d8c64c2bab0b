"""Handlers and how they are registered."""

from __future__ import annotations

import inspect
import types
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from orkestra._failures import invalid_handler
from orkestra._functions import is_async
from orkestra._orkestra import Metadata
from orkestra._times import to_seconds
from orkestra.errors import WrongKindError
from orkestra.inbox import Inbox
from orkestra.messages import Command, Event, RawEvent
from orkestra.projections import Projection, ProjectionRegistrar
from orkestra.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import timedelta

__all__ = ["Handlers", "Registrar", "Registration"]

FunctionT = TypeVar("FunctionT", bound="Callable[..., Any]")

Start = Literal["origin", "now"] | int
"""A place in the log: its beginning, its end, or after a position."""

Poison = Literal["park", "skip", "stop"]
"""What becomes of an event of the log that its handler cannot handle."""


@dataclass(frozen=True)
class Registration:
    """One handler as it was declared."""

    kind: Literal["command", "event"]
    function: Callable[..., Any]
    classes: tuple[type[Any], ...]
    topics: tuple[str, ...]
    name: str | None
    policy: RetryPolicy
    timeout: float | None
    concurrency: int | None
    prefetch: int | None
    inline: bool
    start: Start
    poison: Poison
    is_async: bool
    wants_metadata: bool
    label: str
    inbox: bool = False
    inbox_parameter: str | None = None


class Registrar(ProjectionRegistrar):
    """Declares handlers: what an app and a group of handlers have in common."""

    def _register(self, registration: Registration) -> None:
        raise NotImplementedError

    def command_handler(
        self,
        command: type[Command[Any]],
        *,
        name: str | None = None,
        max_retries: int | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
        concurrency: int | None = None,
        prefetch: int | None = None,
        inline: bool = False,
        inbox: bool = False,
    ) -> Callable[[FunctionT], FunctionT]:
        """Declares the one handler of a command.

            @app.command_handler(PlaceOrder, max_retries=2)
            async def place_order(command: PlaceOrder, metadata: Metadata) -> str: ...

        The function takes the command and, if it has a second parameter or one that is
        annotated as ``Metadata``, the metadata. What it returns is the result. A
        function that is not ``async`` runs in a worker thread when its caller awaits.

        Args:
            command: The command's class.
            name: The handler's name in the app. Default: the command's topic.
            max_retries: Retries after the first attempt. Default 0.
            retry: When to try again; `max_retries` beside it comes first.
            timeout: Seconds that an attempt may take; not kept for a synchronous
                function under ``wait()``. Default: no limit.
            concurrency: Calls at the same time. Default 16.
            prefetch: Messages of its queue that this process has in hand at most, with
                a broker; never under `concurrency`. Default: what the bus's URL says.
            inline: Whether a function that is not async runs in the event loop's own
                thread: for those that never block.
            inbox: Whether a message that comes again, over a broker or from an outbox,
                is answered with what is recorded instead of being handled twice. A
                function with a parameter annotated as ``Inbox`` may record that in a
                transaction of its own.

        Raises:
            DuplicateHandlerError: The command has a handler already.
            InvalidHandlerError: The function or an option cannot be used.
            WrongKindError: `command` is no command's class.
        """
        _check_class(command, Command, "a command")

        def register(function: FunctionT) -> FunctionT:
            self._register(
                _registration(
                    "command",
                    function,
                    (command,),
                    (),
                    name=name,
                    max_retries=max_retries,
                    retry=retry,
                    timeout=timeout,
                    concurrency=concurrency,
                    prefetch=prefetch,
                    inline=inline,
                    inbox=inbox,
                    start="now",
                    poison="park",
                )
            )
            return function

        return register

    def event_handler(
        self,
        *events: type[Event],
        topic: str | Sequence[str] = (),
        name: str | None = None,
        max_retries: int | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
        concurrency: int | None = None,
        prefetch: int | None = None,
        inline: bool = False,
        inbox: bool = False,
        start: Start = "now",
        poison: Poison = "park",
    ) -> Callable[[FunctionT], FunctionT]:
        """Declares a handler of one event class or several, or of topic patterns.

            @app.event_handler(OrderPlaced, OrderCancelled)
            async def update(event: OrderPlaced | OrderCancelled) -> None: ...

            @app.event_handler(topic="orders.events.#")
            async def audit(event: Event | RawEvent, metadata: Metadata) -> None: ...

        It gets what is published, and from the log, after the commit, what is appended
        to the store. With a broker all of it comes through the handler's queue there:
        `start` has no meaning then, and `poison` is ``"park"``.

        Args:
            events: The event classes.
            topic: AMQP patterns: ``*`` is one word, ``#`` any number of words.
            name: The handler's name in the app: part of checkpoints and dead letters,
                so keep it when the function is renamed. Default: the function's name.
            max_retries: Retries after the first attempt. Default 3.
            retry: When to try again; `max_retries` beside it comes first.
            timeout: As for command handlers.
            concurrency: Calls at the same time. Default 1, which keeps the order.
            prefetch: As for command handlers.
            inline: As for command handlers.
            inbox: As for command handlers; of the log, too.
            start: Where in the log it begins at its first start: ``"now"``,
                ``"origin"`` or after a position. Later it goes on where it was.
            poison: What becomes of an event of the log that it cannot handle, after the
                retries: ``"park"``, a dead letter, and on; ``"skip"``, a line in the
                log, and on; ``"stop"``, the reader stops before it and begins there
                again at the next start.

        Raises:
            DuplicateHandlerNameError: Another handler has the name.
            InvalidHandlerError: The function or an option cannot be used.
            WrongKindError: One of `events` is no event's class.
        """
        for event in events:
            _check_class(event, Event, "an event")
        topics = (topic,) if isinstance(topic, str) else tuple(topic)

        def register(function: FunctionT) -> FunctionT:
            label = name or getattr(function, "__name__", None)
            if label is None or label == "<lambda>":
                raise invalid_handler(repr(function), "it has no name")
            self._register(
                _registration(
                    "event",
                    function,
                    events,
                    topics,
                    name=label,
                    max_retries=max_retries,
                    retry=retry,
                    timeout=timeout,
                    concurrency=concurrency,
                    prefetch=prefetch,
                    inline=inline,
                    inbox=inbox,
                    start=start,
                    poison=poison,
                )
            )
            return function

        return register


class Handlers(Registrar):
    """A group of handlers, so that a module can declare them without the app.

    orders = Handlers()

    @orders.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> str: ...

    app.include(orders)
    """

    def __init__(self) -> None:
        self._registrations: list[Registration] = []
        self._projections: list[Projection] = []

    def _register_projection(self, projection: Projection) -> None:
        self._projections.append(projection)

    def _register(self, registration: Registration) -> None:
        self._registrations.append(registration)

    def __iter__(self) -> Iterator[Registration]:
        """The declarations, in order."""
        return iter(self._registrations)

    def __repr__(self) -> str:
        labels = [registration.label for registration in self]
        labels += [projection.name for projection in self._projections]
        names = ", ".join(labels)
        return f"Handlers({names})"


def _check_class(found: object, base: type[Any], expected: str) -> None:
    if isinstance(found, type) and issubclass(found, base) and found is not base:
        return
    name = found.__qualname__ if isinstance(found, type) else repr(found)
    message = f"expected {expected}, found {name}"
    raise WrongKindError(message, {"expected": expected, "found": name})


def _registration(
    kind: Literal["command", "event"],
    function: Callable[..., Any],
    classes: tuple[type[Any], ...],
    topics: tuple[str, ...],
    *,
    name: str | None,
    max_retries: int | None,
    retry: RetryPolicy | None,
    timeout: float | timedelta | None,
    concurrency: int | None,
    prefetch: int | None,
    inline: bool,
    inbox: bool,
    start: Start,
    poison: Poison,
) -> Registration:
    label = name or str(getattr(function, "__qualname__", repr(function)))
    if not callable(function):
        raise invalid_handler(label, f"expected a function, found {function!r}")
    for option, number in (("concurrency", concurrency), ("prefetch", prefetch)):
        if number is not None and (isinstance(number, bool) or not 1 <= number < 2**32):
            reason = f"{option}: expected at least 1, found {number}"
            raise invalid_handler(label, reason)
    if prefetch is not None and prefetch > 65_535:
        reason = f"prefetch: expected at most 65535, found {prefetch}"
        raise invalid_handler(label, reason)
    seconds = None if timeout is None else to_seconds(timeout)
    if seconds is not None and not 0 < seconds < float("inf"):
        raise invalid_handler(label, f"timeout: expected more than 0, found {seconds}")
    if max_retries is not None and (
        isinstance(max_retries, bool)
        or not isinstance(max_retries, int)
        or max_retries < 0
    ):
        raise invalid_handler(
            label, f"max_retries: expected 0 or more, found {max_retries!r}"
        )
    if poison not in ("park", "skip", "stop"):
        raise invalid_handler(
            label, f"poison: expected park, skip or stop, found {poison!r}"
        )
    inbox_parameter = _inbox_parameter(function)
    if inbox_parameter is not None and not inbox:
        reason = f"parameter {inbox_parameter}: expected inbox=True beside it"
        raise invalid_handler(label, reason)
    function, wants_metadata = _signature(label, function, classes, inbox_parameter)
    return Registration(
        kind=kind,
        function=function,
        classes=classes,
        topics=topics,
        name=name,
        policy=(retry or RetryPolicy()).with_max_retries(max_retries),
        timeout=seconds,
        concurrency=concurrency,
        prefetch=prefetch,
        inline=inline,
        start=start,
        poison=poison,
        is_async=is_async(function),
        wants_metadata=wants_metadata,
        label=label,
        inbox=inbox,
        inbox_parameter=inbox_parameter,
    )


def _inbox_parameter(function: Callable[..., Any]) -> str | None:
    """The parameter that is annotated as an inbox, if there is one."""
    names = (Inbox, "Inbox", "orkestra.Inbox")
    return next((n for n, kind in _hints(function).items() if kind in names), None)


def _signature(
    label: str,
    function: Callable[..., Any],
    classes: tuple[type[Any], ...],
    inbox: str | None,
) -> tuple[Callable[..., Any], bool]:
    """Whether the function wants metadata; the function, its arguments in our order."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return function, False
    parameters = [p for p in signature.parameters.values() if p.name != inbox]
    hints = _hints(function)
    positional = [
        p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    variable = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
        raise invalid_handler(label, "it has a required keyword-only parameter")
    required = [p for p in positional if p.default is p.empty]
    if len(required) > 2:
        reason = f"expected one or two parameters, found {len(required)}"
        raise invalid_handler(label, reason)
    if not positional and not variable:
        raise invalid_handler(label, "expected a parameter for the message")
    if not positional:
        return function, False

    def is_metadata(parameter: inspect.Parameter) -> bool:
        return _is_metadata(hints.get(parameter.name, parameter.annotation))

    if is_metadata(positional[0]) and inbox is not None:
        raise invalid_handler(label, "expected the message as its first parameter")
    if is_metadata(positional[0]):
        if len(positional) < 2:
            raise invalid_handler(label, "expected a parameter for the message")
        _check_payload(label, hints.get(positional[1].name), classes)
        return _swapped(function), True
    _check_payload(label, hints.get(positional[0].name), classes)
    if len(positional) < 2:
        return function, False
    second = positional[1]
    if is_metadata(second) or len(required) == 2:
        annotation = hints.get(second.name, second.annotation)
        if _is_other_class(annotation) and not is_metadata(second):
            reason = f"parameter {second.name}: expected Metadata, found {annotation}"
            raise invalid_handler(label, reason)
        return function, True
    return function, False


def _swapped(function: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        async def swapped(message: Any, metadata: Metadata) -> Any:
            return await function(metadata, message)

        return swapped

    def swapped_sync(message: Any, metadata: Metadata) -> Any:
        return function(metadata, message)

    return swapped_sync


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target = inspect.unwrap(function)
    target = getattr(target, "func", target)
    if not inspect.isroutine(target):
        target = getattr(target, "__call__", target)  # noqa: B004 - as above
    try:
        return typing.get_type_hints(target)
    except Exception:
        return {}


def _is_other_class(annotation: Any) -> bool:
    return isinstance(annotation, type) and annotation not in (
        Any,
        object,
        inspect.Parameter.empty,
    )


def _is_metadata(annotation: Any) -> bool:
    return annotation is Metadata or annotation in ("Metadata", "orkestra.Metadata")


def _check_payload(label: str, annotation: Any, classes: tuple[type[Any], ...]) -> None:
    """Refuses a parameter that is annotated as another message class."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    allowed = typing.get_args(annotation) if union else (annotation,)
    # `Command[int]` stands for its class; `Any` is a class, from Python 3.11 on.
    origins = (typing.get_origin(kind) or kind for kind in allowed)
    kinds = [kind for kind in origins if isinstance(kind, type) and kind is not Any]
    if not classes or not kinds or len(kinds) != len(allowed):
        return
    for wanted in classes:
        if not any(issubclass(wanted, kind) for kind in kinds if kind is not RawEvent):
            names = " | ".join(kind.__qualname__ for kind in kinds)
            reason = f"its parameter is {names}, which {wanted.__qualname__} is not"
            raise invalid_handler(label, reason)
