"""Persistent messages sent and confirmed per second: `rabbit_send.py SIDE TYPE`.

Peers send ready-made bytes, the least that they can do.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import repeat
from time import perf_counter
from typing import TYPE_CHECKING

from _rabbit import BODY, COUNT, FEWER, URL, WINDOW, durable_queue
from _timing import emit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def pika_blocking(queue: str) -> float:
    """`basic_publish` on a confirming channel returns when the broker said yes."""
    import pika

    connection = pika.BlockingConnection(pika.URLParameters(URL))
    channel = connection.channel()
    channel.confirm_delivery()
    persistent = pika.BasicProperties(delivery_mode=2)
    start = perf_counter()
    for _ in range(FEWER):
        channel.basic_publish("", queue, BODY, persistent)
    rate = FEWER / (perf_counter() - start)
    connection.close()
    return rate


def pika_select(queue: str) -> float:
    """The asynchronous adapter: the next message goes when a confirm comes."""
    import pika

    persistent = pika.BasicProperties(delivery_mode=2)
    sent = confirmed = 0
    start = end = 0.0

    def opened(connection: pika.SelectConnection) -> None:
        connection.channel(on_open_callback=ready)

    def ready(channel: pika.channel.Channel) -> None:
        nonlocal start

        def send(count: int) -> None:
            nonlocal sent
            for _ in range(min(count, COUNT - sent)):
                sent += 1
                channel.basic_publish("", queue, BODY, persistent)

        def confirm(method: pika.frame.Method) -> None:
            nonlocal confirmed, end
            tag = method.method.delivery_tag
            count = tag - confirmed if method.method.multiple else 1
            confirmed += count
            if confirmed == COUNT:
                end = perf_counter()
                channel.connection.close()
            else:
                send(count)

        def selected(_: pika.frame.Method) -> None:
            nonlocal start
            start = perf_counter()
            send(WINDOW)

        channel.confirm_delivery(confirm, selected)

    connection = pika.SelectConnection(
        pika.URLParameters(URL),
        on_open_callback=opened,
        on_close_callback=lambda connection, _: connection.ioloop.stop(),
    )
    connection.ioloop.start()
    return COUNT / (end - start)


def kombu(queue: str) -> float:
    """`publish` with `confirm_publish` returns when the broker said yes."""
    import kombu

    with kombu.Connection(URL, transport_options={"confirm_publish": True}) as link:
        producer = link.Producer()
        start = perf_counter()
        for _ in range(FEWER):
            producer.publish(
                BODY,
                routing_key=queue,
                delivery_mode=2,
                content_type="application/json",
                content_encoding="utf-8",
            )
        return FEWER / (perf_counter() - start)


async def aio_pika(queue: str) -> float:
    """Tasks that each await the confirm of one message before the next."""
    import aio_pika

    async with await aio_pika.connect(URL) as connection:
        channel = await connection.channel(publisher_confirms=True)
        exchange = channel.default_exchange

        async def one() -> None:
            message = aio_pika.Message(
                BODY, delivery_mode=aio_pika.DeliveryMode.PERSISTENT
            )
            await exchange.publish(message, queue)

        return await tasks(one, FEWER)


async def faststream(queue: str) -> float:
    """Tasks that each await `broker.publish`, which awaits the confirm."""
    from faststream.rabbit import RabbitBroker

    async with RabbitBroker(URL, logger=None) as broker:

        async def one() -> None:
            await broker.publish(BODY, queue, persist=True)

        return await tasks(one, FEWER)


async def orkestra(queue_type: str) -> float:
    """Tasks that each await `app.send`, which returns once confirmed."""
    from _ours_rabbit import declare, order, sender

    async with declare(queue_type), sender(queue_type) as app:
        command = order(1)

        async def one() -> None:
            await app.send(command)

        return await tasks(one, COUNT)


async def tasks(one: Callable[[], Awaitable[None]], count: int) -> float:
    """Runs `one` `count` times from `WINDOW` tasks; returns how many per second."""
    shared = repeat(None, count)

    async def work() -> None:
        for _ in shared:
            await one()

    await asyncio.gather(*(one() for _ in range(WINDOW)))
    start = perf_counter()
    await asyncio.gather(*(work() for _ in range(WINDOW)))
    return count / (perf_counter() - start)


PEERS: dict[str, Callable[[str], float]] = {
    "pika": pika_blocking,
    "pika-select": pika_select,
    "kombu": kombu,
    "aio-pika": lambda queue: asyncio.run(aio_pika(queue)),
    "faststream": lambda queue: asyncio.run(faststream(queue)),
}

if __name__ == "__main__":
    side, queue_type = sys.argv[1:]
    if side == "orkestra":
        emit(asyncio.run(orkestra(queue_type)), "msg/s")
    else:
        with durable_queue(queue_type) as queue:
            emit(PEERS[side](queue), "msg/s")
