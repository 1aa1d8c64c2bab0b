"""Aggregates: `aggregate.py SIDE load|command|command-16|command-wait [STORE]`.

`load` is the ms to load one of 1,000 events. `command` is the number per
second of: load one of 10 events, decide, append 1 durably; each command goes to
another aggregate, so that none grows beyond 10 + a few events.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from typing import TYPE_CHECKING

from _shop import payload
from _stores import ours
from _timing import emit

if TYPE_CHECKING:
    from uuid import UUID

LONG = 1_000
SHORT = 10
# So many that none grows by more than a few events, however fast the side is.
AGGREGATES = {"sqlite": 5_000, "postgres": 2_000}
LOADS_SECONDS = 1.5
COMMANDS_SECONDS = 2.0


class EventsourcingShop:
    """The jobs with `eventsourcing`: repository get, command, save."""

    def __init__(self, store: str) -> None:
        from _eventsourcing import Order, open_app

        self.app = open_app(store)
        self.aggregates = AGGREGATES[store]
        self._order = Order

    def make(self, events: int) -> UUID:
        """Stores an order of `events` events and returns its id."""
        order = self._order(**payload(0))
        for number in range(1, events):
            order.change(**payload(number))
        self.app.save(order)
        return order.id

    def load(self) -> float:
        """Returns the median ms to load an aggregate of 1,000 events."""
        long = self.make(LONG)
        total = self.app.repository.get(long).total
        assert total == LONG * 3, total
        taken = []
        until = time.perf_counter() + LOADS_SECONDS
        while time.perf_counter() < until:
            start = time.perf_counter()
            self.app.repository.get(long)
            taken.append(time.perf_counter() - start)
        return statistics.median(taken) * 1_000

    def command(self) -> float:
        """Returns commands per second, one after another."""
        ids = [self.make(SHORT) for _ in range(self.aggregates)]
        done = 0
        start = time.perf_counter()
        while time.perf_counter() < start + COMMANDS_SECONDS:
            order = self.app.repository.get(ids[done % self.aggregates])
            order.change(**payload(done))
            self.app.save(order)
            done += 1
        return done / (time.perf_counter() - start)


async def orkestra(job: str, store: str) -> float:
    """The jobs with Orkestra: `app.execute`."""
    from _ours_aggregate import Order, change, make

    from orkestra import Orkestra

    app = Orkestra("bench", bus="memory:", store=ours(store))
    app.add_aggregate(Order)
    aggregates = AGGREGATES[store]
    async with app:
        if job == "load":
            await make(app, "long", LONG)
            return await orkestra_load(app)
        for number in range(aggregates):
            await make(app, str(number), SHORT)
        workers = 16 if job == "command-16" else 1
        start = time.perf_counter()

        async def work(worker: int) -> int:
            done = 0
            while time.perf_counter() < start + COMMANDS_SECONDS:
                number = done * workers + worker
                await app.execute(Order, change(str(number % aggregates), number))
                done += 1
            return done

        counts = await asyncio.gather(*(work(w) for w in range(workers)))
        return sum(counts) / (time.perf_counter() - start)


def orkestra_wait(store: str) -> float:
    """Returns commands per second with `.wait()`, as synchronous code calls it."""
    from _ours_aggregate import Order, change, make

    from orkestra import Orkestra

    app = Orkestra("bench", bus="memory:", store=ours(store))
    app.add_aggregate(Order)
    aggregates = AGGREGATES[store]

    async def fill() -> None:
        for number in range(aggregates):
            await make(app, str(number), SHORT)

    asyncio.run(fill())
    done = 0
    start = time.perf_counter()
    while time.perf_counter() < start + COMMANDS_SECONDS:
        app.execute(Order, change(str(done % aggregates), done)).wait()
        done += 1
    seconds = time.perf_counter() - start
    app.close().wait()
    return done / seconds


async def orkestra_load(app: object) -> float:
    """Returns the median ms to load and fold an aggregate of 1,000 events."""
    from _ours_aggregate import look

    taken = []
    until = time.perf_counter() + LOADS_SECONDS
    total = await look(app, "long")
    assert total == LONG * 3, total
    while time.perf_counter() < until:
        start = time.perf_counter()
        await look(app, "long")
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1_000


def main(side: str, job: str, store: str = "sqlite") -> None:
    """Runs one job of one side on one store and prints its figure."""
    if side == "orkestra" and job == "command-wait":
        value = orkestra_wait(store)
    elif side == "orkestra":
        value = asyncio.run(orkestra(job, store))
    else:
        shop = EventsourcingShop(store)
        value = shop.load() if job == "load" else shop.command()
        shop.app.close()
    emit(value, "ms" if job == "load" else "commands/s")


if __name__ == "__main__":
    main(*sys.argv[1:])
