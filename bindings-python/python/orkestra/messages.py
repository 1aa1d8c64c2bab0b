"""Messages: commands and events as frozen pydantic models.

    class PlaceOrder(Command[dict[str, str]]):
        product_id: str
        quantity: int

    class OrderPlaced(Event, version=2, aliases=["Old.OrderPlaced"]):
        order_id: str

A message is its payload: fields called ``id``, ``type`` or ``metadata`` belong to the
user. Its own id and metadata stand beside it (``id_of``, ``metadata_of``), from when it
is sent or made with ``from_command`` or ``from_event``. They take no part in equality,
and copies and pickles of a message are without them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import GenericAlias
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    get_args,
    get_origin,
)

from pydantic import BaseModel, ConfigDict
from typing_extensions import Self, TypeVar

from orkestra import _orkestra
from orkestra._names import type_name_for
from orkestra._orkestra import id_of, metadata_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "Command",
    "Event",
    "Message",
    "MessageType",
    "RawEvent",
    "id_of",
    "metadata_of",
]

ResultT = TypeVar("ResultT", default=Any)
"""The type of a command's result."""

Upcaster = "Callable[[dict[str, Any]], dict[str, Any]]"


@dataclass(frozen=True)
class MessageType:
    """What Orkestra knows of a message class."""

    kind: Literal["command", "event"]
    type_name: str
    version: int
    aliases: tuple[str, ...]
    origin: str


class Message(BaseModel):
    """What commands and events have in common."""

    __slots__ = ("__orkestra_stamp__",)

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        # What pydantic would write as null is refused instead.
        ser_json_inf_nan="constants",
    )

    __orkestra_kind__: ClassVar[Literal["command", "event"]]
    __orkestra_type__: ClassVar[MessageType]

    def __init_subclass__(
        cls,
        *,
        type_name: str | None = None,
        aliases: Sequence[str] = (),
        version: int = 1,
        **config: Any,
    ) -> None:
        """Names the class.

        Args:
            type_name: The type name; by default made of the module's and the class's.
            aliases: Names that are read as this type, never written.
            version: The schema version of the payload, from 1.
            config: Settings of pydantic.
        """
        super().__init_subclass__(**config)
        if "__orkestra_kind__" in cls.__dict__:
            return
        if isinstance(aliases, str):
            message = f"{cls.__qualname__}: aliases: expected names, found one str"
            raise TypeError(message)
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            message = f"{cls.__qualname__}: version: expected a whole number from 1"
            raise ValueError(message)
        cls.__orkestra_type__ = MessageType(
            kind=cls.__orkestra_kind__,
            type_name=type_name or type_name_for(cls.__module__, cls.__name__),
            version=version,
            aliases=tuple(aliases),
            origin=f"{cls.__module__}.{cls.__qualname__}",
        )

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Takes our class keywords, which pydantic passes on."""

    @classmethod
    def from_command(cls, command: Command[Any], /, **payload: Any) -> Self:
        """A message caused by ``command``, which was sent: stamped at once.

        Inside a handler this happens by itself; this is for what is made elsewhere.

        Raises:
            NotStampedError: The command was never sent.
        """
        return cls._caused_by(command, payload)

    @classmethod
    def from_event(cls, event: Event, /, **payload: Any) -> Self:
        """A message caused by ``event``, which was published or read.

        Raises:
            NotStampedError: The event was never published or recorded.
        """
        return cls._caused_by(event, payload)

    @classmethod
    def _caused_by(cls, cause: Message, payload: dict[str, Any]) -> Self:
        made = cls(**payload)
        _orkestra.stamp_caused_by(made, cause)
        return made


if TYPE_CHECKING:

    class Command(Message, Generic[ResultT]):
        """An order, for exactly one handler, whose result is a ``ResultT``."""

        __orkestra_result__: ClassVar[Any]

else:

    class Command(Message):
        """An order, for exactly one handler.

        ``Command[R]`` says that its result is an ``R``; plain ``Command`` means any.
        """

        __orkestra_kind__ = "command"

        __orkestra_result__ = Any

        def __init_subclass__(cls, **keywords: Any) -> None:
            """As for every message; keeps the type of the result, for a broker."""
            super().__init_subclass__(**keywords)
            for base in cls.__dict__.get("__orig_bases__", ()):
                if get_origin(base) is Command:
                    (cls.__orkestra_result__,) = get_args(base)

        def __class_getitem__(cls, item: Any) -> Any:
            # Not pydantic's way: the result is no part of the payload.
            if cls is Command:
                return GenericAlias(cls, (item,))
            return super().__class_getitem__(item)


class Event(Message):
    """A fact, for any number of handlers."""

    __orkestra_kind__: ClassVar[Literal["command", "event"]] = "event"
    __orkestra_upcasters__: ClassVar[dict[int, Any]]

    def __init_subclass__(cls, **keywords: Any) -> None:
        """As for every message."""
        super().__init_subclass__(**keywords)
        cls.__orkestra_upcasters__ = {}

    @classmethod
    def upcaster(
        cls, *, from_version: int
    ) -> Callable[
        [Callable[[dict[str, Any]], dict[str, Any]]],
        Callable[[dict[str, Any]], dict[str, Any]],
    ]:
        """Registers the step from one schema version to the next.

            @OrderPlaced.upcaster(from_version=1)
            def add_currency(data: dict[str, Any]) -> dict[str, Any]:
                return {**data, "currency": "EUR"}

        The function gets the payload as JSON gives it and returns that of
        ``from_version + 1``. It is used wherever recorded events are read. Register
        upcasters before the class is made known to an app.
        """
        if not 1 <= from_version < cls.__orkestra_type__.version:
            message = (
                f"{cls.__qualname__}: from_version: expected 1 to "
                f"{cls.__orkestra_type__.version - 1}, found {from_version}"
            )
            raise ValueError(message)

        def register(
            function: Callable[[dict[str, Any]], dict[str, Any]],
        ) -> Callable[[dict[str, Any]], dict[str, Any]]:
            cls.__orkestra_upcasters__[from_version] = function
            return function

        return register


class RawEvent:
    """An event of a type that the app does not know: its name and its JSON.

    Attributes:
        type: The type name.
        version: Schema version of the payload.
        data: The payload.
    """

    __slots__ = ("__orkestra_stamp__", "data", "type", "version")

    def __init__(self, type: str, version: int, data: dict[str, Any]) -> None:
        self.type = type
        self.version = version
        self.data = data

    @classmethod
    def from_json(cls, type: str, version: int, payload: bytes) -> RawEvent:
        """A raw event from its payload as bytes."""
        return cls(type, version, json.loads(payload))

    def json(self) -> bytes:
        """The payload as bytes."""
        return json.dumps(self.data, allow_nan=False).encode()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RawEvent):
            return NotImplemented
        mine = (self.type, self.version, self.data)
        return mine == (other.type, other.version, other.data)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"RawEvent(type={self.type!r}, version={self.version}, data={self.data!r})"
        )


def _find_slot() -> None:
    class Probe(Event, type_name="Orkestra.Probe"):
        pass

    probe, marker = Probe(), object()
    slot = Message.__dict__["__orkestra_stamp__"]
    slot.__set__(probe, marker)
    _orkestra.find_slot(Message, probe, marker)
    slot.__delete__(probe)


_find_slot()
