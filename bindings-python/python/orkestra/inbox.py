"""What a handler has handled, in its own transaction."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from orkestra import _orkestra
from orkestra._state import call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orkestra._orkestra import Plan

__all__ = ["Inbox", "with_inbox"]


class Inbox:
    """The inbox of a handler, for the message at hand.

    @app.event_handler(OrderPlaced, inbox=True)
    async def ship(event: OrderPlaced, inbox: Inbox) -> None:
        async with pool.connection() as connection, connection.transaction():
            if await inbox.claim(connection):
                await connection.execute("INSERT INTO shipments …")
    """

    handler: str

    def __init__(self, plan: Plan, handler: str, message: _orkestra.Call[Any]) -> None:
        self._plan = plan
        self._message = message
        self.handler = handler

    def claim(self, connection: Any) -> Awaitable[bool]:
        """Records in the open transaction that the message is handled.

        What the handler writes and the record commit together: the message has its
        effect once, however often it comes.

        Args:
            connection: A connection to the PostgreSQL database of the state store, in
                a transaction. Those that ``Checkpoint.save`` takes.

        Returns:
            Something to await: whether this is new. ``False`` means that it was handled
            before, and nothing is to be done.

        Raises:
            InvalidConnectionError: This is none to the PostgreSQL database that keeps
                the state.
            NoTransactionError: It would commit each statement by itself.
        """
        message = self._message
        done = call(
            self._plan,
            connection,
            "inbox_claim",
            "text uuid",
            (self.handler, message.id),
        )

        def told(new: bool) -> bool:  # noqa: FBT001 - what was found
            _orkestra.claimed(message)
            return new

        return done.then(told)

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
