"""Aggregates: state folded from one stream, and commands decided on it."""

from __future__ import annotations

import inspect
import typing
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from orkestra import _orkestra
from orkestra.errors import (
    DuplicateEventError,
    InvalidAggregateError,
    InvalidDecisionError,
    OrkestraError,
    RevisionConflictError,
    UnexpectedCommandError,
    UnknownEventError,
)
from orkestra.messages import Command, Event
from orkestra.retry import Reject

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orkestra._bus import Bus

__all__ = ["Aggregate", "AggregateAnswer", "Executed"]

StateT = TypeVar("StateT")


class Aggregate(Generic[StateT]):
    """A thing that decides. Its functions are pure: no I/O, no clock, no randomness.

        class Order(Aggregate[OrderState]):
            commands = (PlaceOrder, CancelOrder)
            events = (OrderPlaced, OrderCancelled)

            @staticmethod
            def initial() -> OrderState:
                return OrderState()

            @staticmethod
            def stream_id(command: PlaceOrder | CancelOrder) -> str:
                return f"order-{command.order_id}"

            @staticmethod
            def decide(state: OrderState, command: PlaceOrder | CancelOrder) -> ...:
                if state.placed:
                    raise Reject("placed already")
                return [OrderPlaced(order_id=command.order_id)]

            @staticmethod
            def evolve(state: OrderState, event: OrderPlaced) -> OrderState:
                return replace(state, placed=True)

    The four functions may be static, class or instance methods; the class is made once
    without arguments. ``decide`` returns an event, events, none or a ``Reject``, or
    raises one.

    Attributes:
        commands: The commands it takes.
        events: The events of its stream. Default: from the annotation of ``evolve``.
        snapshot_every: Take a snapshot after this many events. Default: never.
        schema_version: The version of the state's shape: raise it when the shape
            changes, so that old snapshots are rebuilt.
        cache: Keep the states of this many streams folded; the append checks their
            revision. Default: none.
        conflict_retries: How often to decide again when somebody else was faster.
    """

    commands: ClassVar[Sequence[type[Command[Any]]]] = ()
    events: ClassVar[Sequence[type[Event]]] = ()
    snapshot_every: ClassVar[int | None] = None
    schema_version: ClassVar[int] = 1
    cache: ClassVar[int] = 0
    conflict_retries: ClassVar[int] = 3

    # Declared without parameters' types, so that each may be narrowed.
    initial: Any
    stream_id: Any
    decide: Any
    evolve: Any


@dataclass(frozen=True)
class Executed(Generic[StateT]):
    """What executing a command did.

    Attributes:
        stream: The stream.
        events: The events that the command made, now or when it was executed before.
        state: The state after them.
        revision: The stream's last revision that belongs to the answer; ``None`` if it
            has no events.
        position: The position of the command's last event, ``None`` if it made none:
            what ``caught_up`` waits for.
        repeated: Whether the command had been executed before.
    """

    stream: str
    events: list[Any]
    state: StateT
    revision: int | None
    position: int | None
    repeated: bool


class AggregateAnswer(typing.TypedDict):
    """What a dispatched command of an aggregate answers."""

    stream: str
    revision: int | None


class AggregateHost:
    """Performs what the core's ``Execution`` asks for, for one aggregate of an app."""

    def __init__(self, app: Bus, kind: type[Aggregate[Any]]) -> None:
        self._app = app
        self.kind = kind
        self.name = getattr(kind, "__qualname__", repr(kind))
        if not (isinstance(kind, type) and issubclass(kind, Aggregate)):
            raise self.invalid("it is no class derived from Aggregate")
        self.commands = tuple(kind.commands)
        self.events = tuple(kind.events) or _evolved(kind)
        self._check()
        self._known = set(self.events)
        made = kind()
        self._initial = made.initial
        self._stream_id = made.stream_id
        self._decide = made.decide
        self._evolve = made.evolve
        self._cache: OrderedDict[str, tuple[int | None, Any]] = OrderedDict()
        self._state_type: TypeAdapter[Any] = TypeAdapter(_state_type(kind))

    def _check(self) -> None:
        for method in ("initial", "stream_id", "decide", "evolve"):
            if not callable(getattr(self.kind, method, None)):
                raise self.invalid(f"it has no {method}")
        if not self.commands:
            raise self.invalid("it names no commands")
        for kind, base in [(c, Command) for c in self.commands] + [
            (e, Event) for e in self.events
        ]:
            if not (isinstance(kind, type) and issubclass(kind, base)):
                raise self.invalid(f"{kind!r} is no {base.__name__.lower()} class")
        every = self.kind.snapshot_every
        if every is not None and every < 1:
            raise self.invalid(f"snapshot_every: expected at least 1, found {every}")

    def invalid(self, reason: str) -> InvalidAggregateError:
        """The error for a definition that is not complete."""
        details = {"aggregate": self.name, "reason": reason}
        return InvalidAggregateError(f"aggregate {self.name}: {reason}", details)

    def check(self, command: object) -> None:
        """Refuses a command that the aggregate does not take."""
        if isinstance(command, self.commands):
            return
        found = type(command).__qualname__
        message = f"aggregate {self.name} does not take {found}"
        details = {"aggregate": self.name, "type_name": found}
        raise UnexpectedCommandError(message, details)

    async def execute(self, command: Command[Any], command_id: str) -> Executed[Any]:
        """Executes a command that has been stamped; a refusal is raised as it is."""
        services = self._app._services_or_refuse()
        stream = self._stream_id(command)
        if not isinstance(stream, str):
            raise self.invalid(f"stream_id returned {stream!r}")
        cached = self._cache.get(stream)
        state = cached[1] if cached is not None else None
        execution = _orkestra.Execution(
            command_id,
            snapshot_every=self.kind.snapshot_every,
            schema_version=self.kind.schema_version,
            conflict_retries=self.kind.conflict_retries,
            cached=cached is not None,
            cached_revision=None if cached is None else cached[0],
        )
        decided: list[Event] = []
        refusal: BaseException | None = None
        try:
            while True:
                action, *details = execution.action()
                if action == "start":
                    state = self._initial()
                    execution.started()
                elif action == "load":
                    first, size = details
                    page = await services.read_stream(stream, first, size)
                    state = self._fold(page, state)
                    execution.folded(page)
                elif action == "decide":
                    try:
                        decided = self._decided(self._decide(state, command))
                        self._check_known(decided)
                    except Exception as error:
                        refusal = error
                        execution.refused()
                    else:
                        _orkestra.stamp_decided(self._app, command, decided)
                        execution.decided(len(decided))
                elif action == "append":
                    try:
                        fields = await services.append(
                            self._app, stream, decided, details[0]
                        )
                    except RevisionConflictError as error:
                        self._cache.pop(stream, None)
                        if not execution.conflicted(stream, error.actual):
                            raise
                    except DuplicateEventError as error:
                        refusal = error
                        execution.duplicate(stream, error.event_id)
                    else:
                        execution.appended(*fields)
                        if not fields[2]:
                            # Of a repetition the state is read anew.
                            state = self._evolved(state, decided)
                            self._keep(stream, fields[0], state)
                elif action == "load_snapshot":
                    found, damage = await services.load_snapshot(stream)
                    if damage is not None:
                        self._warn("a snapshot is damaged: %s", damage)
                    state = self._use_snapshot(execution, found, state)
                elif action == "save_snapshot":
                    await self._save_snapshot(services, stream, details[0], state)
                    execution.saved()
                elif action == "find_recorded":
                    execution.found(await services.find_in_stream(stream, details[0]))
                elif action == "read_recorded":
                    # The state of then: everything up to the command's own events.
                    state, decided, last = await self._as_recorded(
                        services, stream, command_id, details[0]
                    )
                    execution.read_recorded(len(decided), last)
                elif action == "refuse":
                    assert refusal is not None
                    raise refusal
                else:
                    return Executed(stream, decided, state, *details)
        finally:
            # A frame that holds its exception is a cycle.
            del refusal

    def _fold(self, page: _orkestra.Page, state: Any) -> Any:
        try:
            return page.fold(self._evolve, state)
        except UnknownEventError as error:
            details = {**error.details, "aggregate": self.name}
            message = (
                f"aggregate {self.name}: event {error.revision} of {error.stream} "
                f"has the unknown type {error.type_name}"
            )
            raise UnknownEventError(message, details) from None

    def _evolved(self, state: Any, events: Iterable[Event]) -> Any:
        for event in events:
            state = self._evolve(state, event)
        return state

    def _decided(self, decision: Any) -> list[Event]:
        if decision is None:
            return []
        if isinstance(decision, Event):
            return [decision]
        if isinstance(decision, Reject):
            raise decision
        try:
            events = None if isinstance(decision, str) else list(decision)
        except TypeError:
            events = None
        if events is None or not all(isinstance(event, Event) for event in events):
            found = repr(decision)[:200]
            message = f"aggregate {self.name}: decide returned {found}"
            details = {"aggregate": self.name, "found": found}
            raise InvalidDecisionError(message, details)
        return events

    def _check_known(self, events: list[Event]) -> None:
        """Refuses an event with which the stream could not be folded again."""
        for event in events:
            kind = type(event)
            if kind in self._known:
                continue
            name = kind.__orkestra_type__.type_name
            if self._app._registry.type_named(name) is None:
                found = (
                    f"{name}, which the app does not know: name it in events, in the "
                    "annotation of evolve, or with add_types"
                )
                message = f"aggregate {self.name}: decide returned {found}"
                details = {"aggregate": self.name, "found": found}
                raise InvalidDecisionError(message, details)
            self._known.add(kind)

    async def _as_recorded(
        self,
        services: _orkestra.Services,
        stream: str,
        command_id: str,
        first: int,
    ) -> tuple[Any, list[Event], tuple[int, int] | None]:
        state = self._initial()
        revision = 0
        while revision < first:
            size = min(1000, first - revision)
            page = await services.read_stream(stream, revision, size)
            state = self._fold(page, state)
            if page.end or len(page) == 0:
                break
            revision += len(page)
        page = await services.read_stream(stream, first, 1000)
        count = page.recorded_prefix(command_id)
        events = page.typed(count)
        last = page.place_at(count - 1) if count else None
        return self._evolved(state, events), events, last

    def _keep(self, stream: str, revision: int | None, state: Any) -> None:
        if self.kind.cache <= 0:
            return
        self._cache[stream] = (revision, state)
        self._cache.move_to_end(stream)
        while len(self._cache) > self.kind.cache:
            self._cache.popitem(last=False)

    def _use_snapshot(
        self,
        execution: _orkestra.Execution,
        found: tuple[int, int, bytes] | None,
        state: Any,
    ) -> Any:
        if found is None:
            execution.snapshot()
            return state
        revision, schema, json = found
        if schema == self.kind.schema_version:
            try:
                state = self._state_type.validate_json(json)
            except ValidationError as error:
                self._warn("a snapshot does not fit the state: %s", error)
                execution.snapshot()
                return state
        execution.snapshot(revision, schema)
        return state

    async def _save_snapshot(
        self, services: _orkestra.Services, stream: str, revision: int, state: Any
    ) -> None:
        try:
            json = self._state_type.dump_json(state)
            await services.save_snapshot(
                stream,
                revision,
                self.kind.schema_version,
                json,
                self._app._clock,
            )
        except (OrkestraError, ValueError, TypeError) as error:
            # The command is done: a snapshot only saves time.
            self._warn("a snapshot cannot be saved: %s", error)

    def _warn(self, text: str, *facts: object) -> None:
        from orkestra._bus import logger

        logger.warning("aggregate %s: " + text, self.name, *facts)


def _state_type(kind: type[Aggregate[Any]]) -> Any:
    for base in getattr(kind, "__orig_bases__", ()):
        if typing.get_origin(base) is Aggregate:
            return typing.get_args(base)[0]
    return Any


def _evolved(kind: type[Aggregate[Any]]) -> tuple[type[Event], ...]:
    """The event classes that the annotation of ``evolve`` names."""
    function = inspect.getattr_static(kind, "evolve", None)
    function = getattr(function, "__func__", function)
    try:
        hints = typing.get_type_hints(function)
    except Exception:
        return ()
    hints.pop("return", None)
    found: list[type[Event]] = []
    for annotation in hints.values():
        for part in typing.get_args(annotation) or (annotation,):
            if isinstance(part, type) and issubclass(part, Event) and part is not Event:
                found.append(part)
    return tuple(found)
