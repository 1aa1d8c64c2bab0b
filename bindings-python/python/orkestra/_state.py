"""The state store's own functions, called in the user's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orkestra import _drivers
from orkestra._drivers import Statement
from orkestra._drivers.link import Pending, full_name
from orkestra.errors import InvalidConnectionError

if TYPE_CHECKING:
    from orkestra._drivers import Dialect, Steps
    from orkestra._orkestra import Plan

__all__ = ["call"]


def call(
    plan: Plan, connection: Any, function: str, types: str, parameters: tuple[Any, ...]
) -> Pending[Any]:
    """Calls a function of the state store's schema on the user's connection.

    Args:
        plan: The app's settings.
        connection: The user's connection, in a transaction.
        function: The function's name.
        types: The types of its parameters, separated by spaces.
        parameters: Its parameters.

    Returns:
        Something to await: what the function returns. It is done at once with a
        synchronous connection.

    Raises:
        InvalidConnectionError: The state is not kept in PostgreSQL, or the connection
            is to something else.
        NoTransactionError: It would commit each statement by itself.
    """
    schema = plan.state_schema
    link = _drivers.link(connection)
    if schema is None or link.dialect == "sqlite":
        raise _elsewhere(connection, schema)
    quoted = schema.replace('"', '""')
    casts = ", ".join(
        f"CAST(${number} AS {name})" for number, name in enumerate(types.split(), 1)
    )
    sql = f'SELECT "{quoted}".{function}({casts})'

    def work(dialect: Dialect) -> Steps[Any]:
        if dialect != "postgres":
            raise _elsewhere(connection, schema)
        rows = yield Statement(sql, parameters)
        return rows[0][0]

    return Pending(link.run(work))


def _elsewhere(connection: Any, schema: str | None) -> InvalidConnectionError:
    expected = "a connection to the PostgreSQL database that keeps the app's state"
    found = full_name(type(connection))
    if schema is None:
        found += ", and the state is kept elsewhere"
    message = f"expected {expected}, found {found}"
    return InvalidConnectionError(message, {"expected": expected, "found": found})
