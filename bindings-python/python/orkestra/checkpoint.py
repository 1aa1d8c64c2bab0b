"""The checkpoint of a view, saved in the view's own transaction."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from orkestra import _drivers, _orkestra
from orkestra._drivers import Statement
from orkestra._store_files import refuse_store_file
from orkestra.errors import InvalidConnectionError, InvalidHandlerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from orkestra._drivers import Dialect, Row, Steps

__all__ = ["Checkpoint"]

Suffix = Literal["", "_rebuild"]
"""What the names of a view's tables have at their end."""

_Found = tuple[int | None, int]


@lru_cache
def _texts(dialect: Dialect) -> dict[str, Any]:
    return _orkestra.view_sql(dialect)


class Checkpoint:
    """Where a view stands: a projection saves it in the transaction of its view.

        async with pool.connection() as connection, connection.transaction():
            await connection.execute(f"INSERT INTO board{checkpoint.suffix} …")
            await checkpoint.save(connection)

    Attributes:
        projection: The projection's name.
        position: Where the view stands after the events at hand.
        suffix: What its tables have at the end of their names: nothing for the live
            view, ``_rebuild`` for one that is built beside it.
        replaying: Whether all of the events are history: from before the projection's
            very first start, or in a rebuild. What must happen once, such as sending a
            mail, is left out then.
    """

    projection: str
    position: int | None
    suffix: Suffix
    replaying: bool

    def __init__(
        self,
        projection: str,
        suffix: Suffix,
        *,
        replaying: bool,
        is_async: bool,
        store_files: Sequence[str],
        view: _orkestra.ViewCheckpoint | None = None,
        switch: _orkestra.ViewSwitch | None = None,
    ) -> None:
        self.projection = projection
        self.suffix = suffix
        self.replaying = replaying
        self.position = None if view is None else view.parameters()[2]
        self._is_async = is_async
        self._store_files = store_files
        self._view = view
        self._switch = switch
        self._begun = False
        self._done = False
        self._refused = False
        self._found: _Found | None = None

    def save(self, connection: Any) -> Awaitable[None]:
        """Saves where the view stands in the open transaction of `connection`.

        With an asynchronous connection this has to be awaited. With a synchronous one
        it is done when the call returns, which may be awaited all the same.

        Args:
            connection: A connection, cursor or transaction of psycopg, asyncpg or
                sqlite3 (also aiosqlite), or a connection or session of SQLAlchemy.

        Raises:
            CheckpointMismatchError: The view stands elsewhere. Let it roll back: the
                projection goes on where the view is.
            StaleLeaseError: Another process has taken the projection over.
            InvalidConnectionError: This is no connection that can be used.
            NoTransactionError: It would commit each statement by itself.
            StoreFileError: It is open on the file of the app's own store.
        """
        if self._view is None:
            raise self._misused("save", "there is nothing to save")
        return self._run(connection, self._save)

    def switch(self, connection: Any) -> Awaitable[None]:
        """Gives the rebuilt view the live one's name, in the transaction that renames.

        For the projection's switch function; otherwise as ``save``.

        Raises:
            CheckpointMismatchError: The rebuilt view stands elsewhere.
            StaleLeaseError: The live view is another process's by now.
        """
        if self._switch is None:
            raise self._misused("switch", "there is nothing to switch")
        return self._run(connection, self._move)

    def _run(
        self, connection: Any, work: Callable[[Dialect], Steps[None]]
    ) -> Awaitable[None]:
        if not self._is_async and _drivers.is_async(connection):
            expected = "a synchronous connection, as the function is not async"
            found = f"{type(connection).__module__}.{type(connection).__qualname__}"
            message = f"expected {expected}, found {found}"
            raise InvalidConnectionError(
                message, {"expected": expected, "found": found}
            )
        self._begun = True
        return _drivers.run(connection, work)

    def _save(self, dialect: Dialect) -> Steps[None]:
        view = self._view
        assert view is not None
        texts = _texts(dialect)
        if view.unsure:
            yield from self._make_table(dialect)
        parameters = view.parameters()
        save = texts["save_anew" if view.anew else "save"]
        if not (yield Statement(save, parameters)):
            self._refused = True
            self._found = yield from _load(dialect, parameters[0])
            raise view.refusal(self._found)
        self._done = True

    def _move(self, dialect: Dialect) -> Steps[None]:
        switch = self._switch
        assert switch is not None
        texts = _texts(dialect)
        yield from self._make_table(dialect)
        name, rebuild, expected, token = switch.parameters()
        yield Statement(texts["switch_clear"], (name, token))
        moved = yield Statement(texts["switch_move"], (name, rebuild, expected, token))
        if not moved:
            live = yield from _load(dialect, name)
            rebuilt = yield from _load(dialect, rebuild)
            error = switch.refusal(live, rebuilt)
            if error is not None:
                raise error
        self._done = True

    def _make_table(self, dialect: Dialect) -> Steps[None]:
        if dialect == "sqlite":
            yield from refuse_store_file(self._store_files)
        texts = _texts(dialect)
        rows = yield Statement(texts["exists"])
        if not rows[0][0]:
            for text in texts["create"]:
                yield Statement(text)

    def _require_awaited(self) -> None:
        """Refuses a function that has begun what it did not await."""
        if self._begun and not (self._done or self._refused):
            raise self._misused("save", "it was called and not awaited")

    def _require_switched(self, *, moves: bool) -> None:
        """Refuses a switch function that left the checkpoint where it was."""
        if (moves or self._begun) and not self._done:
            reason = "it was not called and awaited, so the new view has no checkpoint"
            raise self._misused("switch", reason)

    def _misused(self, what: str, reason: str) -> InvalidHandlerError:
        details = {"handler": self.projection, "reason": f"checkpoint.{what}: {reason}"}
        message = f"handler {self.projection}: {details['reason']}"
        return InvalidHandlerError(message, details)

    def __repr__(self) -> str:
        return (
            f"Checkpoint(projection={self.projection!r}, position={self.position}, "
            f"suffix={self.suffix!r}, replaying={self.replaying})"
        )


def _load(
    dialect: Dialect, name: str
) -> Generator[Statement, list[Row], _Found | None]:
    rows = yield Statement(_texts(dialect)["load"], (name,))
    return (rows[0][0], rows[0][1]) if rows else None
