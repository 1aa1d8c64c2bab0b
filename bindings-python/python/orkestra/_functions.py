"""Functions of the user's."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["is_async"]


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine; also an object may have such a call."""
    call = getattr(type(function), "__call__", None)  # noqa: B004 - its own
    return inspect.iscoroutinefunction(function) or (
        call is not None and inspect.iscoroutinefunction(call)
    )
