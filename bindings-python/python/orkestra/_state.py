"""The state store's own functions, called in the user's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orkestra._drivers import Statement
from orkestra._drivers.link import full_name
from orkestra._failures import also_known_as
from orkestra.errors import InvalidConnectionError

if TYPE_CHECKING:
    from orkestra._drivers import Dialect, Steps
    from orkestra._orkestra import Plan

__all__ = ["call", "check"]

_NOT_OURS = frozenset({"3F000", "42883", "42P01"})
"""SQLSTATEs of a schema, a function and a table that are not there."""


def check(plan: Plan, connection: Any, dialect: Dialect | None) -> str:
    """The schema of the state store, of which this has to be a connection.

    Raises:
        InvalidConnectionError: The state is not kept in PostgreSQL, or the connection
            is to something else.
    """
    schema = plan.state_schema
    if schema is not None and dialect != "sqlite":
        return schema
    beside = ", and the state is kept elsewhere" if schema is None else ""
    raise _elsewhere(connection, beside)


def _elsewhere(connection: Any, beside: str) -> InvalidConnectionError:
    expected = "a connection to the PostgreSQL database that keeps the app's state"
    found = full_name(type(connection)) + beside
    message = f"expected {expected}, found {found}"
    return InvalidConnectionError(message, {"expected": expected, "found": found})


def call(
    plan: Plan,
    connection: Any,
    dialect: Dialect,
    function: str,
    types: str,
    parameters: tuple[Any, ...],
) -> Steps[Any]:
    """Calls a function of the state store's schema; gives what it returns.

    Args:
        plan: The app's settings.
        connection: The user's connection, to be named if it cannot be used.
        dialect: What it speaks.
        function: The function's name.
        types: The types of its parameters, separated by spaces.
        parameters: Its parameters.

    Raises:
        InvalidConnectionError: As for ``check``.
    """
    schema = check(plan, connection, dialect)
    quoted = schema.replace('"', '""')
    casts = ", ".join(
        f"CAST(${number} AS {name})" for number, name in enumerate(types.split(), 1)
    )
    sql = f'SELECT "{quoted}".{function}({casts})'
    try:
        rows = yield Statement(sql, parameters)
    except Exception as error:
        if _NOT_OURS.isdisjoint(also_known_as(error)):
            raise
        beside = f" to a database without the schema {schema} of this release"
        raise _elsewhere(connection, beside) from error
    return rows[0][0]
