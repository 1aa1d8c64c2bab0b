"""MiB by which a slow consumer of a full queue grows: `rabbit_memory.py SIDE`.

A handler of 5 ms, prefetch 100 and 20,000 messages waiting, watched for 5 s.
"""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path
from time import monotonic

from _ours_rabbit import PlaceOrder, app_for, declare, order, sender
from _rabbit import COUNT, WINDOW
from _timing import emit

KIND = "quorum"
HANDLER_SECONDS = 0.005
SETTLE_SECONDS = 1.5
WATCH_SECONDS = 5.0


async def orkestra() -> float:
    """Fills the queue, consumes it slowly, and looks at the resident memory."""
    async with declare(KIND):
        async with sender(KIND) as app:
            command = order(1)
            for _ in range(COUNT // WINDOW):
                await asyncio.gather(*(app.send(command) for _ in range(WINDOW)))
        app = app_for(KIND)

        @app.command_handler(PlaceOrder)
        async def place_order(_command: PlaceOrder) -> None:
            await asyncio.sleep(HANDLER_SECONDS)

        async with app:
            await asyncio.sleep(SETTLE_SECONDS)
            before = most = resident()
            until = monotonic() + WATCH_SECONDS
            while monotonic() < until:
                await asyncio.sleep(0.1)
                most = max(most, resident())
            return most - before


def resident() -> float:
    """Returns this process's resident memory in MiB, its garbage collected."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    emit(asyncio.run(orkestra()), "MiB")
