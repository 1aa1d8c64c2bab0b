"""Errors as data, for dead letters and logs."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from orkestra.errors import InvalidHandlerError, RejectedError

if TYPE_CHECKING:
    from orkestra.retry import Reject

_LONGEST_TRACE = 16_000


def records(error: BaseException) -> list[tuple[str, str, str]]:
    """The error and its causes, latest first: type, message, trace."""
    found: list[tuple[str, str, str]] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(found) < 16:
        seen.add(id(current))
        kind = type(current)
        trace = "".join(traceback.format_tb(current.__traceback__))
        found.append(
            (
                f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."),
                text(current),
                trace[-_LONGEST_TRACE:],
            )
        )
        if current.__cause__ is not None or current.__suppress_context__:
            current = current.__cause__
        else:
            current = current.__context__
    return found


def also_known_as(error: BaseException) -> list[str]:
    """What databases call the error and its causes: SQLSTATEs, names of SQLite."""
    names: list[str] = []
    current: BaseException | None = error
    while current is not None and len(names) < 16:
        for attribute in ("sqlstate", "sqlite_errorname"):
            name = getattr(current, attribute, None)
            if isinstance(name, str) and name not in names:
                names.append(name)
        if text(current) == "database is locked":
            # Its name is known from Python 3.11 on.
            names.append("SQLITE_BUSY")
        current = current.__cause__ or current.__context__
    return names


def text(error: BaseException) -> str:
    """The error as text, whatever its ``__str__`` does."""
    try:
        return str(error)
    except Exception as broken:
        return f"<its text cannot be made: {type(broken).__qualname__}>"


def rejected(reject: Reject) -> RejectedError:
    """What the caller gets for a refusal."""
    details = {"reason": reject.reason, "data": reject.data}
    return RejectedError(f"rejected: {reject.reason}", details)


def invalid_handler(handler: str, reason: str) -> InvalidHandlerError:
    """The error for a declaration that cannot be used."""
    details = {"handler": handler, "reason": reason}
    return InvalidHandlerError(f"handler {handler}: {reason}", details)
