"""Messages sent, handled and acknowledged per second: `rabbit_flow.py SIDE TYPE`.

One process sends with confirms, 100 in flight, and consumes with prefetch 100. The
clock runs from the first send to the last handler call.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import repeat
from time import perf_counter
from typing import TYPE_CHECKING

from _meter import Meter
from _rabbit import BODY, COUNT, FEWER, URL, WINDOW, durable_queue
from _timing import emit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def pika_select(queue: str) -> float:
    """Two channels of the asynchronous adapter; each message acknowledged."""
    import pika

    persistent = pika.BasicProperties(delivery_mode=2)
    sent = confirmed = 0
    start = 0.0

    def opened(connection: pika.SelectConnection) -> None:
        connection.channel(on_open_callback=limit)

    def limit(channel: pika.channel.Channel) -> None:
        channel.basic_qos(
            prefetch_count=WINDOW,
            callback=lambda _: channel.basic_consume(
                queue, handle, callback=lambda _: consuming(channel)
            ),
        )

    def consuming(channel: pika.channel.Channel) -> None:
        channel.connection.channel(on_open_callback=publish)

    def publish(channel: pika.channel.Channel) -> None:
        def send(count: int) -> None:
            nonlocal sent
            for _ in range(min(count, COUNT - sent)):
                sent += 1
                channel.basic_publish("", queue, BODY, persistent)

        def confirm(method: pika.frame.Method) -> None:
            nonlocal confirmed
            tag = method.method.delivery_tag
            count = tag - confirmed if method.method.multiple else 1
            confirmed += count
            send(count)

        def selected(_: pika.frame.Method) -> None:
            nonlocal start
            start = perf_counter()
            send(WINDOW)

        channel.confirm_delivery(confirm, selected)

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
    return COUNT / (meter.end - start)


async def aio_pika(queue: str) -> float:
    """Tasks that await their confirms; an async callback that acknowledges."""
    import aio_pika

    done = asyncio.Event()
    meter = Meter(FEWER, done.set)
    async with await aio_pika.connect(URL) as connection:
        incoming = await connection.channel()
        await incoming.set_qos(prefetch_count=WINDOW)
        source = await incoming.get_queue(queue)

        async def handle(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            await message.ack()
            meter.tick()

        await source.consume(handle)
        outgoing = await connection.channel(publisher_confirms=True)
        exchange = outgoing.default_exchange

        async def one() -> None:
            message = aio_pika.Message(
                BODY, delivery_mode=aio_pika.DeliveryMode.PERSISTENT
            )
            await exchange.publish(message, queue)

        return await flow(one, meter, done)


async def faststream(queue: str, queue_type: str) -> float:
    """Tasks that await `broker.publish`, and a subscriber."""
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

        async def one() -> None:
            await broker.publish(
                BODY, queue, persist=True, content_type="application/json"
            )

        return await flow(one, meter, done)


async def orkestra(queue_type: str) -> float:
    """Tasks that await `app.send`, and a command handler of the same app."""
    from _ours_rabbit import PlaceOrder, app_for, declare, order

    done = asyncio.Event()
    meter = Meter(COUNT, done.set)
    async with declare(queue_type):
        app = app_for(queue_type)

        @app.command_handler(PlaceOrder)
        async def place_order(_command: PlaceOrder) -> None:
            meter.tick()

        async with app:
            command = order(1)

            async def one() -> None:
                await app.send(command)

            return await flow(one, meter, done)


async def flow(
    one: Callable[[], Awaitable[None]], meter: Meter, done: asyncio.Event
) -> float:
    """Sends from `WINDOW` tasks until everything was handled; returns the rate."""
    shared = repeat(None, meter.count)

    async def work() -> None:
        for _ in shared:
            await one()

    start = perf_counter()
    await asyncio.gather(*(work() for _ in range(WINDOW)))
    await done.wait()
    return meter.count / (meter.end - start)


PEERS: dict[str, Callable[[str, str], float]] = {
    "pika-select": lambda queue, _: pika_select(queue),
    "aio-pika": lambda queue, _: asyncio.run(aio_pika(queue)),
    "faststream": lambda queue, kind: asyncio.run(faststream(queue, kind)),
}

if __name__ == "__main__":
    side, queue_type = sys.argv[1:]
    if side == "orkestra":
        emit(asyncio.run(orkestra(queue_type)), "msg/s")
    else:
        with durable_queue(queue_type) as queue:
            emit(PEERS[side](queue, queue_type), "msg/s")
