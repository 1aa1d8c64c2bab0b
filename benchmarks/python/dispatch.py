"""ns per command sent to one handler: `dispatch.py SIDE`.

The loops are written out per side: a shared `send` callable would add its own
cost to every side and so flatter the slow ones.
"""

from __future__ import annotations

import asyncio
import sys
from time import perf_counter_ns
from typing import TYPE_CHECKING

from _shop import PlainOrder, payload
from _timing import emit, median_ns, median_ns_async
from blinker import Signal

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 2_000
FIELDS = payload(1)


async def handle(message: PlainOrder) -> None:
    """Does nothing: the handler of the hand-written bus."""


HANDLERS = {PlainOrder: handle}


async def dispatch(message: PlainOrder) -> None:
    """The hand-written bus: look the handler up by class and await it."""
    return await HANDLERS[type(message)](message)


async def dict_reused() -> float:
    """One message through the hand-written bus."""
    message = PlainOrder(**FIELDS)

    async def batch() -> int:
        start = perf_counter_ns()
        for _ in range(CALLS):
            await dispatch(message)
        return perf_counter_ns() - start

    return await median_ns_async(batch, CALLS)


async def dict_fresh() -> float:
    """A new message each time through the hand-written bus."""

    async def batch() -> int:
        start = perf_counter_ns()
        for _ in range(CALLS):
            await dispatch(PlainOrder(**FIELDS))
        return perf_counter_ns() - start

    return await median_ns_async(batch, CALLS)


async def blinker_async() -> float:
    """One message to one async receiver of a signal."""
    placed = Signal()
    message = PlainOrder(**FIELDS)

    @placed.connect
    async def receive(sender: object, message: PlainOrder) -> None: ...

    async def batch() -> int:
        start = perf_counter_ns()
        for _ in range(CALLS):
            await placed.send_async(None, message=message)
        return perf_counter_ns() - start

    return await median_ns_async(batch, CALLS)


async def blinker_fresh() -> float:
    """A new message each time to one async receiver of a signal."""
    placed = Signal()

    @placed.connect
    async def receive(sender: object, message: PlainOrder) -> None: ...

    async def batch() -> int:
        start = perf_counter_ns()
        for _ in range(CALLS):
            await placed.send_async(None, message=PlainOrder(**FIELDS))
        return perf_counter_ns() - start

    return await median_ns_async(batch, CALLS)


def blinker_sync() -> float:
    """One message to one sync receiver of a signal."""
    placed = Signal()
    message = PlainOrder(**FIELDS)

    @placed.connect
    def receive(sender: object, message: PlainOrder) -> None: ...

    def batch() -> int:
        start = perf_counter_ns()
        for _ in range(CALLS):
            placed.send(None, message=message)
        return perf_counter_ns() - start

    return median_ns(batch, CALLS)


async def orkestra_async() -> float:
    """One command to its async handler."""
    from _ours import PlaceOrder

    from orkestra import Orkestra

    app = Orkestra("bench", bus="memory:", store="memory:")

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> None: ...

    async with app:
        message = PlaceOrder(**FIELDS)

        async def batch() -> int:
            start = perf_counter_ns()
            for _ in range(CALLS):
                await app.dispatch(message)
            return perf_counter_ns() - start

        return await median_ns_async(batch, CALLS)


async def orkestra_fresh() -> float:
    """A new command each time to its async handler."""
    from _ours import PlaceOrder

    from orkestra import Orkestra

    app = Orkestra("bench", bus="memory:", store="memory:")

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> None: ...

    async with app:

        async def batch() -> int:
            start = perf_counter_ns()
            for _ in range(CALLS):
                await app.dispatch(PlaceOrder(**FIELDS))
            return perf_counter_ns() - start

        return await median_ns_async(batch, CALLS)


def orkestra_sync() -> float:
    """One command to its sync handler, waited for in sync code."""
    from _ours import PlaceOrder

    from orkestra import Orkestra

    app = Orkestra("bench", bus="memory:", store="memory:")

    @app.command_handler(PlaceOrder)
    def place_order(command: PlaceOrder) -> None: ...

    message = PlaceOrder(**FIELDS)

    def batch() -> int:
        start = perf_counter_ns()
        for _ in range(CALLS):
            app.dispatch(message).wait()
        return perf_counter_ns() - start

    try:
        return median_ns(batch, CALLS)
    finally:
        app.close().wait()


SIDES: dict[str, Callable[[], float]] = {
    "dict": lambda: asyncio.run(dict_reused()),
    "dict-fresh": lambda: asyncio.run(dict_fresh()),
    "blinker-async": lambda: asyncio.run(blinker_async()),
    "blinker-fresh": lambda: asyncio.run(blinker_fresh()),
    "blinker-sync": blinker_sync,
    "orkestra-async": lambda: asyncio.run(orkestra_async()),
    "orkestra-fresh": lambda: asyncio.run(orkestra_fresh()),
    "orkestra-sync": orkestra_sync,
}

if __name__ == "__main__":
    emit(SIDES[sys.argv[1]](), "ns/command")
