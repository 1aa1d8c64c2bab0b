"""What all drivers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from orkestra import _orkestra
from orkestra.errors import NoTransactionError

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = [
    "Answer",
    "AsyncLink",
    "Dialect",
    "Done",
    "Link",
    "Row",
    "Statement",
    "Steps",
    "SyncLink",
    "Work",
    "answer",
    "full_name",
    "no_transaction",
]

T = TypeVar("T")
U = TypeVar("U")
T_co = TypeVar("T_co", covariant=True)

Dialect = Literal["postgres", "sqlite"]
"""Whose SQL a connection speaks."""

Row = tuple[Any, ...]


class Statement(NamedTuple):
    """A statement of ours, and its parameters in order."""

    sql: str
    """With ``$1`` for PostgreSQL and ``?1`` for SQLite."""
    parameters: tuple[Any, ...] = ()


Steps = Generator[Statement, list[Row], T]
"""Gives statements, takes their rows, returns a result."""

Work = Callable[[Dialect], Steps[T]]
"""The steps in a dialect."""


class Answer(Protocol[T_co]):
    """What a call on the user's connection gives.

    To be awaited with an asynchronous connection. With a synchronous one it is there:
    ``.wait()`` gives it, and where it is a truth value, it is as true as that.
    """

    def __await__(self) -> Generator[Any, Any, T_co]: ...

    def wait(self, timeout: float | timedelta | None = None, /) -> T_co:
        """The result, in synchronous code."""
        ...


class Done(Awaitable[T_co], Generic[T_co]):
    """A result that is there."""

    __slots__ = ("value",)

    def __init__(self, value: T_co) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, T_co]:
        return self.value
        yield

    def wait(self, _timeout: float | timedelta | None = None, /) -> T_co:
        """The result."""
        return self.value

    def __bool__(self) -> bool:
        # Whoever writes `if inbox.claim(connection)` means what it says.
        return bool(self.value)

    def __repr__(self) -> str:
        return f"Done({self.value!r})"


def answer(name: str, result: Awaitable[T], convert: Callable[[T], U]) -> Answer[U]:
    """The converted result: there already, or of the call `name` that waits for it."""
    if isinstance(result, Done):
        return Done(convert(result.value))

    async def wait() -> U:
        return convert(await result)

    return _orkestra.wrap_coroutine(None, name, wait(), False)


class Link(ABC):
    """A connection of some driver."""

    dialect: Dialect | None = None
    """Whose SQL it speaks, ``None`` where that is known only while it is used."""

    @abstractmethod
    def __init__(self, connection: Any) -> None:
        """The link to a connection."""

    @abstractmethod
    def run(self, work: Work[T]) -> Awaitable[T]:
        """Runs `work` in the connection's open transaction.

        Raises:
            NoTransactionError: It has none and would commit each statement by itself.
        """


class SyncLink(Link):
    """A connection that blocks."""

    # Known here, and set by nobody else.
    dialect: Dialect  # pyright: ignore[reportIncompatibleVariableOverride]

    def run(self, work: Work[T]) -> Done[T]:
        self._require_transaction()
        return Done(self._step(work(self.dialect)))

    def _step(self, steps: Steps[T]) -> T:
        try:
            statement = next(steps)
            while True:
                try:
                    rows = self._rows(statement)
                except BaseException as error:
                    statement = steps.throw(error)
                else:
                    statement = steps.send(rows)
        except StopIteration as done:
            result: T = done.value
            return result

    @abstractmethod
    def _require_transaction(self) -> None:
        """Finds the open transaction, or begins one that the user's commit ends."""

    @abstractmethod
    def _rows(self, statement: Statement) -> list[Row]:
        """Executes a statement."""


class AsyncLink(Link):
    """A connection that is awaited."""

    # Known here, and set by nobody else.
    dialect: Dialect  # pyright: ignore[reportIncompatibleVariableOverride]

    async def run(self, work: Work[T]) -> T:
        await self._require_transaction()
        steps = work(self.dialect)
        try:
            statement = next(steps)
            while True:
                try:
                    rows = await self._rows(statement)
                except BaseException as error:
                    statement = steps.throw(error)
                else:
                    statement = steps.send(rows)
        except StopIteration as done:
            result: T = done.value
            return result

    @abstractmethod
    async def _require_transaction(self) -> None:
        """As for a connection that blocks."""

    @abstractmethod
    async def _rows(self, statement: Statement) -> list[Row]:
        """Executes a statement."""


def full_name(kind: type[Any]) -> str:
    """A class as people find it in its package."""
    return f"{kind.__module__}.{kind.__qualname__}"


def no_transaction(connection: object) -> NoTransactionError:
    """The error for a connection on which nothing would be atomic."""
    name = full_name(type(connection))
    message = (
        f"{name}: expected an open transaction, found a connection that commits each "
        "statement by itself"
    )
    return NoTransactionError(message, {"connection": name})
