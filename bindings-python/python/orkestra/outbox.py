"""Messages that leave once what they belong to is committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orkestra import _drivers, _orkestra
from orkestra._state import call, check

if TYPE_CHECKING:
    from datetime import datetime

    from orkestra._drivers import Answer, Dialect, Steps
    from orkestra._orkestra import Call, Metadata
    from orkestra.app import Orkestra
    from orkestra.messages import Message

__all__ = ["Outbox", "OutboxBacklog"]


@dataclass(frozen=True)
class OutboxBacklog:
    """How much is in an outbox.

    Attributes:
        messages: Messages in it.
        oldest: When the oldest of them was put in, ``None`` when it is empty.
    """

    messages: int
    oldest: datetime | None


class Outbox:
    """Commands and events that are sent once what they belong to is committed.

        async with pool.connection() as connection, connection.transaction():
            await connection.execute("INSERT INTO orders …")
            await app.outbox.add(OrderPlaced(order_id="o-1"), connection)

    A message leaves at least once: over the broker, or without one to its handlers in
    the process that holds the lease of the outbox.
    """

    def __init__(self, app: Orkestra) -> None:
        self._app = app

    def add(
        self,
        message: Message,
        connection: Any = None,
        *,
        id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        actor_id: str | None = None,
        actor_type: str | None = None,
        source: str | None = None,
        metadata: Metadata | None = None,
        max_retries: int | None = None,
    ) -> Answer[str]:
        """Puts a command or an event in; gives its id.

        To be awaited, or with a synchronous connection done when the call returns.

        Args:
            message: The message.
            connection: A connection to the PostgreSQL database of the state store, in
                a transaction: the message is in the outbox when that commits. Those
                that ``Checkpoint.save`` takes. Default: a transaction of its own.
            id: Its id, a UUID. Default: a new one. A message whose id is in the outbox
                already is kept once.
            correlation_id: As for ``publish``, and so are the others.
            causation_id: What caused it.
            actor_id: Who did it.
            actor_type: What kind of actor that is.
            source: Where it comes from.
            metadata: All of these at once.
            max_retries: Retries of a command, whatever its handler says.

        Raises:
            InvalidConnectionError: `connection` is none to the PostgreSQL database that
                keeps the state.
            NoTransactionError: It would commit each statement by itself.
            InvalidPayloadError: The message has no JSON.
        """
        given = {
            "id": id,
            "correlation_id": correlation_id,
            "causation_id": causation_id,
            "actor_id": actor_id,
            "actor_type": actor_type,
            "source": source,
            "metadata": metadata,
            "max_retries": max_retries,
        }
        options = {key: value for key, value in given.items() if value is not None}
        app = self._app
        services = app._services_or_refuse()
        outgoing = services.outgoing(app, message, options)
        if connection is None:

            async def add() -> str:
                await services.enqueue(outgoing)
                return outgoing.id

            return _orkestra.wrap_coroutine(app, "add", add(), False)
        types = "text uuid text text bytea timestamptz integer text text text"

        def work(dialect: Dialect) -> Steps[Any]:
            values = outgoing.parameters()
            return call(app._plan, connection, dialect, "enqueue", types, values)

        # Before a transaction is begun on it.
        check(app._plan, connection, _drivers.link(connection).dialect)
        done = _drivers.run(connection, work)
        return _drivers.answer("add", done, lambda _new: outgoing.id)

    def pending(self) -> Call[OutboxBacklog]:
        """How much has not left yet."""

        async def pending() -> OutboxBacklog:
            services = self._app._services_or_refuse()
            return OutboxBacklog(*await services.outbox_backlog())

        return _orkestra.wrap_coroutine(self._app, "pending", pending(), False)

    def __repr__(self) -> str:
        return f"Outbox({self._app.name!r})"
