"""Durable appends per second, one event each: `append.py SIDE WRITERS [STORE]`.

Each writer has streams of its own and waits for one append before the next.
Making the event is timed too: by the aggregate's command there, by its class
here. `eventsourcing-put` is given events that are made already.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import TYPE_CHECKING

from _shop import payload
from _stores import ours
from _timing import emit

if TYPE_CHECKING:
    from collections.abc import Callable

STREAMS = 20
WARM_UP = 50
# By one writer and by many: enough for one to two seconds of either side.
APPENDS = {
    ("sqlite", "eventsourcing"): (8_000, 8_000),
    ("sqlite", "orkestra"): (32_000, 32_000),
    ("postgres", "eventsourcing"): (3_200, 3_200),
    ("postgres", "orkestra"): (16_000, 64_000),
}


def each_makes(store: str, side: str, writers: int) -> int:
    """Returns how many appends one of the writers makes, the first ones included."""
    one, many = APPENDS[store, side]
    return (one if writers == 1 else many) // writers + WARM_UP


def eventsourcing(writers: int, store: str) -> float:
    """A command of an aggregate, then `Application.save`, in threads."""
    from _eventsourcing import Order, open_app

    app = open_app(store, max(5, writers))
    each = each_makes(store, "eventsourcing", writers)
    orders = [[Order(**payload(n)) for n in range(STREAMS)] for _ in range(writers)]
    for mine in orders:
        app.save(*mine)

    def append(writer: int, number: int) -> None:
        order = orders[writer][number % STREAMS]
        order.change(**payload(number))
        app.save(order)

    try:
        return in_threads(writers, each, append)
    finally:
        app.close()


def eventsourcing_put(writers: int, store: str) -> float:
    """`EventStore.put` of an event made before, in threads."""
    from _eventsourcing import Order, open_app

    app = open_app(store, max(5, writers))
    each = each_makes(store, "eventsourcing", writers)

    def events_of_one_writer() -> list[object]:
        orders = [Order(**payload(n)) for n in range(STREAMS)]
        app.save(*orders)
        for number in range(each):
            orders[number % STREAMS].change(**payload(number))
        pending = [list(order.collect_events()) for order in orders]
        return [pending[n % STREAMS][n // STREAMS] for n in range(each)]

    work = [events_of_one_writer() for _ in range(writers)]

    def append(writer: int, number: int) -> None:
        app.events.put([work[writer][number]])

    try:
        return in_threads(writers, each, append)
    finally:
        app.close()


async def orkestra(writers: int, store: str) -> float:
    """`app.store.append` of one event, by concurrent tasks on one loop."""
    from _ours import OrderPlaced

    from orkestra import Orkestra

    app = Orkestra("bench", bus="memory:", store=ours(store))
    app.add_types(OrderPlaced)
    each = each_makes(store, "orkestra", writers)

    async def run(writer: int, numbers: range) -> None:
        streams = [f"order-{writer}-{n}" for n in range(STREAMS)]
        for number in numbers:
            event = OrderPlaced(**payload(number))
            await app.store.append(streams[number % STREAMS], [event])

    async with app:
        await asyncio.gather(*(run(w, range(WARM_UP)) for w in range(writers)))
        start = time.perf_counter()
        rest = range(WARM_UP, each)
        await asyncio.gather(*(run(w, rest) for w in range(writers)))
        return len(rest) * writers / (time.perf_counter() - start)


def orkestra_threads(writers: int, store: str) -> float:
    """`app.store.append(…).wait()` of one event, in threads."""
    from _ours import OrderPlaced

    from orkestra import Orkestra

    app = Orkestra("bench", bus="memory:", store=ours(store))
    app.add_types(OrderPlaced)
    each = each_makes(store, "orkestra", writers)
    streams = [[f"order-{w}-{n}" for n in range(STREAMS)] for w in range(writers)]

    def append(writer: int, number: int) -> None:
        event = OrderPlaced(**payload(number))
        app.store.append(streams[writer][number % STREAMS], [event]).wait()

    try:
        return in_threads(writers, each, append)
    finally:
        app.close().wait()


def in_threads(writers: int, each: int, append: Callable[[int, int], object]) -> float:
    """Returns appends per second of `writers` threads that make `each` appends."""
    warm = threading.Barrier(writers + 1)

    def work(writer: int) -> None:
        for number in range(WARM_UP):
            append(writer, number)
        warm.wait()
        for number in range(WARM_UP, each):
            append(writer, number)

    threads = [threading.Thread(target=work, args=(w,)) for w in range(writers)]
    for thread in threads:
        thread.start()
    warm.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return (each - WARM_UP) * writers / (time.perf_counter() - start)


SIDES: dict[str, Callable[[int, str], float]] = {
    "eventsourcing": eventsourcing,
    "eventsourcing-put": eventsourcing_put,
    "orkestra": lambda writers, store: asyncio.run(orkestra(writers, store)),
    "orkestra-threads": orkestra_threads,
}


def main(side: str, writers: str, store: str = "sqlite") -> None:
    """Runs one side on one store and prints its figure."""
    emit(SIDES[side](int(writers), store), "events/s")


if __name__ == "__main__":
    main(*sys.argv[1:])
