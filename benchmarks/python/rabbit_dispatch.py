"""Tasks sent, handled and answered per second: `rabbit_dispatch.py SIDE IN-FLIGHT`.

Quorum queue. With 1 in flight the figure is one over the round trip.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from itertools import repeat
from time import perf_counter
from typing import TYPE_CHECKING

from _rabbit import URL, WINDOW, delete, durable_queue
from _shop import payload
from _timing import emit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

KIND = "quorum"
WARM_UP = 50
# Enough for a second or two, by how many are in flight.
CALLS = {1: 1_000, 100: 5_000}
FIELDS = dict(payload(1))


def celery(queue: str, flights: int) -> float:
    """The `rpc` result backend; a worker in a process of its own."""
    from _celery import make_app
    from celery import group

    app = make_app(queue, KIND, result_backend="rpc://")
    script = ["-W", "ignore", __file__, "celery-worker", queue]
    worker = subprocess.Popen([sys.executable, *script], stdout=sys.stderr)
    try:
        task = app.signature("place_order", kwargs=FIELDS)
        task.apply_async().get(timeout=30)
        calls = CALLS[flights] // 2
        start = perf_counter()
        if flights == 1:
            for _ in range(calls):
                task.apply_async().get(timeout=30)
        else:
            for _ in range(calls // flights):
                group([task] * flights).apply_async().get(timeout=30)
        return calls / (perf_counter() - start)
    finally:
        worker.kill()
        worker.wait()


def celery_worker(queue: str) -> None:
    """Runs the worker of `celery` until it is killed."""
    from _celery import make_app, run_worker

    app = make_app(queue, KIND, result_backend="rpc://")

    @app.task(name="place_order")
    def place_order(order_id: str, **_fields: object) -> str:
        return order_id

    run_worker(app)


async def taskiq(queue: str, flights: int) -> float:
    """A broker that listens in this process; results stay in its memory.

    taskiq-aio-pika brings no result backend for RabbitMQ, so the results take
    a way that is shorter than any between processes.
    """
    from taskiq.api import run_receiver_task
    from taskiq.brokers.inmemory_broker import InmemoryResultBackend
    from taskiq_aio_pika import AioPikaBroker, Exchange, Queue, QueueType

    dead = Queue(name=f"{queue}.dead", type=QueueType.QUORUM)
    broker = AioPikaBroker(
        URL,
        InmemoryResultBackend(max_stored_results=-1),
        qos=WINDOW,
        exchange=Exchange(name=f"{queue}.exchange"),
        task_queues=[Queue(name=f"{queue}.taskiq", type=QueueType.QUORUM)],
        dead_letter_queue=dead,
    )

    @broker.task(task_name="place_order")
    async def place_order(**fields: object) -> object:
        return fields["order_id"]

    broker.is_worker_process = True
    await broker.startup()
    listening = asyncio.create_task(run_receiver_task(broker))

    async def one() -> None:
        task = await place_order.kiq(**FIELDS)
        await task.wait_result(check_interval=0.0005)

    try:
        return await calls_per_second(one, flights)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await broker.shutdown()
        delete(f"{queue}.taskiq", dead.name)


async def orkestra(flights: int) -> float:
    """`app.dispatch` to a handler of the same app, over the broker."""
    from _ours_rabbit import PriceOrder, app_for, declare

    async with declare(KIND):
        app = app_for(KIND)

        @app.command_handler(PriceOrder)
        async def price_order(command: PriceOrder) -> str:
            return command.order_id

        async with app:
            command = PriceOrder(**FIELDS)

            async def one() -> None:
                await app.dispatch(command)

            return await calls_per_second(one, flights)


async def calls_per_second(one: Callable[[], Awaitable[None]], flights: int) -> float:
    """Makes the calls from as many tasks as are to be in flight."""
    calls = CALLS[flights]
    shared = repeat(None, calls)

    async def work() -> None:
        for _ in shared:
            await one()

    for _ in range(WARM_UP):
        await one()
    start = perf_counter()
    await asyncio.gather(*(work() for _ in range(flights)))
    return calls / (perf_counter() - start)


def main() -> None:
    """Runs the side that the arguments name."""
    side, argument = sys.argv[1:]
    if side == "celery-worker":
        celery_worker(argument)
        return
    flights = int(argument)
    if side == "orkestra":
        rate = asyncio.run(orkestra(flights))
    else:
        with durable_queue(KIND) as queue:
            if side == "celery":
                rate = celery(queue, flights)
            else:
                rate = asyncio.run(taskiq(queue, flights))
    emit(rate, "calls/s")


if __name__ == "__main__":
    main()
