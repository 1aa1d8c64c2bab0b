"""Errors as data, for dead letters and logs."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import traceback
from typing import TYPE_CHECKING

from orkestra.errors import InvalidHandlerError, RejectedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orkestra.retry import Reject

_LONGEST_TRACE = 16_000
_ERRNO = re.compile(r"\[Errno (\d+)\]")


def records(error: BaseException) -> list[tuple[str, str, str]]:
    """The error and its causes, latest first: type, message, trace."""
    found: list[tuple[str, str, str]] = []
    for one in _chain(error):
        kind = type(one)
        trace = "".join(traceback.format_tb(one.__traceback__))
        name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
        found.append((name, text(one), trace[-_LONGEST_TRACE:]))
    return found


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came of, each once."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < 16:
        seen.add(id(current))
        yield current
        if current.__cause__ is not None or current.__suppress_context__:
            current = current.__cause__
        else:
            current = current.__context__


def also_known_as(error: BaseException) -> list[str]:
    """What databases and the system call the error and its causes.

    SQLSTATEs, names of SQLite, names of ``errno``.
    """
    names: dict[str, None] = {}
    for one in _chain(error):
        names.update(dict.fromkeys(_names(one)))
    return list(names)


def _names(error: BaseException) -> Iterator[str]:
    message = text(error)
    for attribute in ("sqlstate", "sqlite_errorname"):
        if isinstance(name := getattr(error, attribute, None), str):
            yield name
    if message == "database is locked":
        # Its name is known from Python 3.11 on.
        yield "SQLITE_BUSY"
    if type(error).__name__ == "InterfaceError" and "connection is closed" in message:
        # What asyncpg says of a connection that it has lost before.
        yield "08003"
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        yield "ETIMEDOUT"
    if isinstance(error, socket.gaierror):
        # As for a host that nobody finds; its numbers are no errno.
        yield "ENOTFOUND"
    elif isinstance(error, OSError):
        if error.errno is not None:
            yield errno.errorcode.get(error.errno, "")
        elif isinstance(error, ConnectionError):
            yield "ECONNRESET"
        else:
            # asyncio, of a host with several addresses: all messages in one.
            for number in _ERRNO.findall(message):
                yield errno.errorcode.get(int(number), "")


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
