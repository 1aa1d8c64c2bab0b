"""Events per second read from a whole SQLite log, typed: `read_log.py SIDE`."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

from _shop import payload
from _timing import emit, work_file

EVENTS = 100_000
STREAMS = 1_000
SECTION = 1_000
REPEATS = 3


def eventsourcing() -> float:
    """The notification log in sections, mapped to domain events."""
    from _eventsourcing import Order, open_app

    app = open_app()
    for number in range(STREAMS):
        order = Order(**payload(number))
        for later in range(1, EVENTS // STREAMS):
            order.change(**payload(later))
        app.save(order)

    def read() -> int:
        count = 0
        start = 1
        while True:
            section = app.notification_log.select(start, SECTION)
            for notification in section:
                event = app.mapper.to_domain_event(notification)
                count += event.quantity > 0
            if len(section) < SECTION:
                return count
            start = section[-1].id + 1

    rates = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        assert read() == EVENTS
        rates.append(EVENTS / (time.perf_counter() - begin))
    app.close()
    return statistics.median(rates)


async def orkestra() -> float:
    """`app.store.read_all()` as an async iterator of typed events."""
    from _ours import OrderPlaced

    from orkestra import Orkestra

    app = Orkestra("bench", bus="memory:", store=f"sqlite:{work_file('ours.db')}")
    app.add_types(OrderPlaced)

    async def read() -> int:
        count = 0
        async for recorded in app.store.read_all():
            count += recorded.event.quantity > 0
        return count

    async with app:
        for number in range(STREAMS):
            events = [OrderPlaced(**payload(n)) for n in range(EVENTS // STREAMS)]
            await app.store.append(f"order-{number}", events)
        rates = []
        for _ in range(REPEATS):
            begin = time.perf_counter()
            assert await read() == EVENTS
            rates.append(EVENTS / (time.perf_counter() - begin))
        return statistics.median(rates)


if __name__ == "__main__":
    side = sys.argv[1]
    emit(
        eventsourcing() if side == "eventsourcing" else asyncio.run(orkestra()),
        "events/s",
    )
