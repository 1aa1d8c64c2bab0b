"""Bounded looks at what nothing tells of: the only place of the tests that sleeps."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from orkestra import Orkestra


async def eventually(found: Callable[[], object], seconds: float = 20) -> None:
    """Looks until it is so."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        answer = found()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return
        assert loop.time() < end, f"not within {seconds} s"
        await asyncio.sleep(0.002)


def until(found: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Looks until it is so, in synchronous code."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)


async def gone(app: Orkestra) -> None:
    """Waits until the outbox is empty."""

    async def is_empty() -> bool:
        return (await app.outbox.pending()).messages == 0

    await eventually(is_empty)
