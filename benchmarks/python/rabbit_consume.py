"""Messages handled and acknowledged per second: `rabbit_consume.py SIDE TYPE`.

The queue is full, prefetch is 100. The clock runs from the first handler call to the
last one of the measured messages.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from _meter import Meter
from _rabbit import COUNT, FEWER, URL, WINDOW, durable_queue, fill
from _timing import emit

if TYPE_CHECKING:
    from collections.abc import Callable


def pika_blocking(queue: str) -> float:
    """A callback of the blocking adapter that acknowledges each message."""
    import pika

    connection = pika.BlockingConnection(pika.URLParameters(URL))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=WINDOW)
    meter = Meter(COUNT, channel.stop_consuming)

    def handle(
        channel: pika.channel.Channel,
        method: pika.spec.Basic.Deliver,
        _properties: pika.BasicProperties,
        _body: bytes,
    ) -> None:
        channel.basic_ack(method.delivery_tag)
        meter.tick()

    channel.basic_consume(queue, handle)
    channel.start_consuming()
    connection.close()
    return meter.rate


def pika_select(queue: str) -> float:
    """A callback of the asynchronous adapter that acknowledges each message."""
    import pika

    def opened(connection: pika.SelectConnection) -> None:
        connection.channel(on_open_callback=limit)

    def limit(channel: pika.channel.Channel) -> None:
        channel.basic_qos(prefetch_count=WINDOW, callback=lambda _: consume(channel))

    def consume(channel: pika.channel.Channel) -> None:
        channel.basic_consume(queue, handle)

    def handle(
        channel: pika.channel.Channel,
        method: pika.spec.Basic.Deliver,
        _properties: pika.BasicProperties,
        _body: bytes,
    ) -> None:
        channel.basic_ack(method.delivery_tag)
        meter.tick()

    connection = pika.SelectConnection(
        pika.URLParameters(URL),
        on_open_callback=opened,
        on_close_callback=lambda connection, _: connection.ioloop.stop(),
    )
    meter = Meter(COUNT, connection.close)
    connection.ioloop.start()
    return meter.rate


def kombu(queue: str) -> float:
    """A `Consumer` whose callback acknowledges each message."""
    import kombu

    with kombu.Connection(URL) as link:
        meter = Meter(COUNT)

        def handle(_body: object, message: kombu.Message) -> None:
            message.ack()
            meter.tick()

        source = kombu.Queue(queue, no_declare=True)
        with link.Consumer(
            source, callbacks=[handle], accept=["json"], prefetch_count=WINDOW
        ):
            while not meter.end:
                link.drain_events()
        return meter.rate


async def aio_pika(queue: str) -> float:
    """An async callback that acknowledges each message."""
    import aio_pika

    done = asyncio.Event()
    meter = Meter(FEWER, done.set)
    async with await aio_pika.connect(URL) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=WINDOW)
        source = await channel.get_queue(queue)

        async def handle(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            await message.ack()
            meter.tick()

        await source.consume(handle)
        await done.wait()
        return meter.rate


async def faststream(queue: str, queue_type: str) -> float:
    """A subscriber; it acknowledges when the handler returned."""
    from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

    done = asyncio.Event()
    meter = Meter(FEWER, done.set)
    broker = RabbitBroker(URL, logger=None)
    source = RabbitQueue(queue, QueueType(queue_type), durable=True)

    @broker.subscriber(source, channel=Channel(prefetch_count=WINDOW))
    async def handle(_message: dict[str, object]) -> None:
        meter.tick()

    async with broker:
        await broker.start()
        await done.wait()
        return meter.rate


def celery(queue: str, queue_type: str) -> float:
    """A worker in this process (pool `solo`), its extras off, no results kept."""
    from _celery import consume

    meter = Meter(FEWER)
    consume(queue, queue_type, meter)
    return meter.rate


async def orkestra(queue_type: str) -> float:
    """An async handler; its message is acknowledged when it returned."""
    from _ours_rabbit import PlaceOrder, app_for, declare, order, sender

    done = asyncio.Event()
    meter = Meter(COUNT, done.set)
    async with declare(queue_type):
        async with sender(queue_type) as app:
            command = order(1)
            for _ in range(COUNT // WINDOW):
                sent = [app.send(command) for _ in range(WINDOW)]
                await asyncio.gather(*sent)
        app = app_for(queue_type)

        @app.command_handler(PlaceOrder)
        async def place_order(_command: PlaceOrder) -> None:
            meter.tick()

        async with app:
            await done.wait()
    return meter.rate


PEERS: dict[str, Callable[[str, str], float]] = {
    "pika": lambda queue, _: pika_blocking(queue),
    "pika-select": lambda queue, _: pika_select(queue),
    "kombu": lambda queue, _: kombu(queue),
    "aio-pika": lambda queue, _: asyncio.run(aio_pika(queue)),
    "faststream": lambda queue, kind: asyncio.run(faststream(queue, kind)),
}

if __name__ == "__main__":
    side, queue_type = sys.argv[1:]
    if side == "orkestra":
        emit(asyncio.run(orkestra(queue_type)), "msg/s")
    elif side == "celery":
        with durable_queue(queue_type) as queue:
            emit(celery(queue, queue_type), "msg/s")
    else:
        with durable_queue(queue_type) as queue:
            fill(queue)
            emit(PEERS[side](queue, queue_type), "msg/s")
