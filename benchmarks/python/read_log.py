"""Events per second read from a whole log, typed: `read_log.py SIDE [STORE]`."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

from _shop import payload
from _stores import ours
from _timing import emit

EVENTS = {"sqlite": 100_000, "postgres": 50_000}
PER_STREAM = 100
SECTION = 1_000
REPEATS = 3


def eventsourcing(store: str) -> float:
    """The notification log in sections, mapped to domain events."""
    from _eventsourcing import Order, open_app

    app = open_app(store)
    events = EVENTS[store]
    for number in range(events // PER_STREAM):
        order = Order(**payload(number))
        for later in range(1, PER_STREAM):
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
        assert read() == events
        rates.append(events / (time.perf_counter() - begin))
    app.close()
    return statistics.median(rates)


async def orkestra(store: str) -> float:
    """`app.store.read_all()` as an async iterator of typed events."""
    from _ours import OrderPlaced

    from orkestra import Orkestra

    app = Orkestra("bench", bus="memory:", store=ours(store))
    app.add_types(OrderPlaced)
    events = EVENTS[store]

    async def read() -> int:
        count = 0
        async for recorded in app.store.read_all():
            count += recorded.event.quantity > 0
        return count

    async with app:
        for number in range(events // PER_STREAM):
            batch = [OrderPlaced(**payload(n)) for n in range(PER_STREAM)]
            await app.store.append(f"order-{number}", batch)
        rates = []
        for _ in range(REPEATS):
            begin = time.perf_counter()
            assert await read() == events
            rates.append(events / (time.perf_counter() - begin))
        return statistics.median(rates)


def main(side: str, store: str = "sqlite") -> None:
    """Runs one side on one store and prints its figure."""
    peer = side == "eventsourcing"
    emit(eventsourcing(store) if peer else asyncio.run(orkestra(store)), "events/s")


if __name__ == "__main__":
    main(*sys.argv[1:])
