"""The view of `projection.py` written with Orkestra and psycopg."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg
from _board import COUNT, CREATE, PER_STREAM, UPSERT, columns
from _ours import OrderPlaced
from _shop import payload
from _stores import postgres_url

from orkestra import Orkestra

if TYPE_CHECKING:
    from orkestra import Checkpoint, RecordedEvent


async def fill(events: int) -> int:
    """Appends orders of 100 events and returns the last position."""
    app = Orkestra("bench", bus="memory:", store=postgres_url())
    app.add_types(OrderPlaced)
    async with app:
        for number in range(events // PER_STREAM):
            batch = [OrderPlaced(**payload(n)) for n in range(PER_STREAM)]
            await app.store.append(f"order-{number}", batch)
        head = await app.store.head()
        assert head is not None
        return head


async def project(events: int, batch: int) -> float:
    """Events per second, from the end of the first batch to the last one's."""
    head = await fill(events)
    app = Orkestra("bench", bus="memory:", store=postgres_url())
    start = 0.0
    async with await psycopg.AsyncConnection.connect(postgres_url()) as view:
        await view.execute(CREATE)
        await view.commit()

        @app.projection("board", events=[OrderPlaced], batch_size=batch)
        async def board(recorded: list[RecordedEvent], checkpoint: Checkpoint) -> None:
            nonlocal start
            rows: dict[str, list[int]] = {}
            for one in recorded:
                row = rows.setdefault(one.stream, [0, 0])
                row[0] += 1
                row[1] += one.event.quantity
            async with view.transaction():
                await view.execute(UPSERT, columns(rows), prepare=True)
                await checkpoint.save(view)
            start = start or time.perf_counter()

        async with app:
            await app.caught_up("board", head)
            seconds = time.perf_counter() - start
        cursor = await view.execute(COUNT)
        assert await cursor.fetchone() == (events,)
    return (events - batch) / seconds
