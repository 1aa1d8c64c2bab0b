"""ns per event sent to 5 async handlers: `publish.py SIDE`.

An event object is one fact, so each is published once; the events of a batch
are made before its timed part, on every side.
"""

from __future__ import annotations

import asyncio
import sys
from time import perf_counter_ns

from _shop import PlainOrder, payload
from _timing import emit, median_ns_async
from blinker import Signal

CALLS = 1_000
HANDLERS = 5


async def plain_list() -> float:
    """Five coroutine functions awaited in a loop."""

    async def handle(event: PlainOrder) -> None: ...

    handlers = {PlainOrder: [handle] * HANDLERS}

    async def publish(event: PlainOrder) -> None:
        for handler in handlers[type(event)]:
            await handler(event)

    async def batch() -> int:
        events = [PlainOrder(**payload(n)) for n in range(CALLS)]
        start = perf_counter_ns()
        for event in events:
            await publish(event)
        return perf_counter_ns() - start

    return await median_ns_async(batch, CALLS)


async def blinker() -> float:
    """Five async receivers of one signal."""
    placed = Signal()
    receivers = []
    for _ in range(HANDLERS):

        async def receive(sender: object, event: PlainOrder) -> None: ...

        placed.connect(receive)
        receivers.append(receive)

    async def batch() -> int:
        events = [PlainOrder(**payload(n)) for n in range(CALLS)]
        start = perf_counter_ns()
        for event in events:
            await placed.send_async(None, event=event)
        return perf_counter_ns() - start

    return await median_ns_async(batch, CALLS)


async def orkestra() -> float:
    """Five async event handlers of one app."""
    from _ours import OrderPlaced

    from orkestra import Orkestra

    app = Orkestra("bench", bus="memory:", store="memory:")
    for number in range(HANDLERS):

        @app.event_handler(OrderPlaced, name=f"handler_{number}")
        async def handle(event: OrderPlaced) -> None: ...

    async with app:

        async def batch() -> int:
            events = [OrderPlaced(**payload(n)) for n in range(CALLS)]
            start = perf_counter_ns()
            for event in events:
                await app.publish(event)
            return perf_counter_ns() - start

        return await median_ns_async(batch, CALLS)


SIDES = {"list": plain_list, "blinker": blinker, "orkestra": orkestra}

if __name__ == "__main__":
    emit(asyncio.run(SIDES[sys.argv[1]]()), "ns/event")
