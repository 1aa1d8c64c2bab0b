"""Raising what a coroutine's ``throw`` was given, as the interpreter does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import TracebackType


def throw(
    kind: BaseException | type[BaseException],
    value: object = None,
    traceback: TracebackType | None = None,
) -> NoReturn:
    """Raises the exception of ``coroutine.throw(kind, value, traceback)``."""
    if isinstance(kind, BaseException):
        error = kind
    elif isinstance(value, BaseException):
        error = value
    elif value is None:
        error = kind()
    else:
        error = kind(value)
    if traceback is not None:
        error = error.with_traceback(traceback)
    raise error
