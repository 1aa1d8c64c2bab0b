"""What a handler has handled, in its own transaction."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from orkestra import _drivers, _orkestra
from orkestra._drivers import Statement
from orkestra._state import call
from orkestra._store_files import refuse_store_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from orkestra._drivers import Answer, Dialect, Steps
    from orkestra._orkestra import Plan

__all__ = ["Inbox", "with_inbox"]


class Inbox:
    """The inbox of a handler, for the message at hand.

        @app.event_handler(OrderPlaced, inbox=True)
        async def ship(event: OrderPlaced, inbox: Inbox) -> None:
            async with pool.connection() as connection, connection.transaction():
                if await inbox.claim(connection):
                    await connection.execute("INSERT INTO shipments …")

    Attributes:
        handler: The handler's full name.
    """

    handler: str

    def __init__(self, plan: Plan, handler: str, message: _orkestra.Call[Any]) -> None:
        self._plan = plan
        self._message = message
        self.handler = handler

    def claim(self, connection: Any) -> Answer[bool]:
        """Records in the open transaction that the message is handled.

        What the handler writes and the record commit together: the message has its
        effect once, however often it comes.

        Args:
            connection: A connection in a transaction, of those that ``Checkpoint.save``
                takes: to the PostgreSQL database of the state store, or to a SQLite
                file of one's own, which keeps the records itself then, in the table
                ``orkestra_inbox``.

        Returns:
            Whether this is new: to be awaited. With a synchronous connection it is
            there when the call returns: ``if inbox.claim(connection)``. ``False`` means
            that it was handled before, and nothing is to be done.

        Raises:
            InvalidConnectionError: This is PostgreSQL, and the state is not kept there;
                or it is no connection that can be used.
            NoTransactionError: It would commit each statement by itself.
            StoreFileError: It is open on the file of the app's own store.
        """
        message = self._message

        def told(new: bool) -> bool:  # noqa: FBT001 - what was found
            _orkestra.claimed(message)
            return new

        def work(dialect: Dialect) -> Steps[bool]:
            return self._record(connection, dialect)

        return _drivers.answer("claim", _drivers.run(connection, work), told)

    def _record(self, connection: Any, dialect: Dialect) -> Steps[bool]:
        parameters = (self.handler, self._message.id)
        if dialect == "sqlite":
            yield from refuse_store_file(self._plan.sqlite_files)
            create, claim = _orkestra.claim_sql()
            yield Statement(create)
            return bool((yield Statement(claim, parameters)))
        types = "text uuid"
        new: bool = yield from call(
            self._plan, connection, dialect, "inbox_claim", types, parameters
        )
        return new

    def __repr__(self) -> str:
        return f"Inbox({self.handler!r})"


def with_inbox(
    function: Callable[..., Any], parameter: str, plan: Plan, handler: str
) -> Callable[..., Any]:
    """The function, which gets its inbox as the parameter of that name."""

    def inbox() -> Inbox:
        return Inbox(plan, handler, _orkestra.HANDLING.get())

    if inspect.iscoroutinefunction(function):

        async def awaited(*arguments: Any) -> Any:
            return await function(*arguments, **{parameter: inbox()})

        return awaited

    def called(*arguments: Any) -> Any:
        return function(*arguments, **{parameter: inbox()})

    return called
