"""The broker's side of the RabbitMQ rows: queues made, filled, watched, deleted."""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import amqp
from _shop import payload
from kombu.utils.url import parse_url
from pamqp import body as content
from pamqp import commands, frame, header

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The private broker that run.py started.
URL = os.environ.get("BENCH_AMQP", "amqp://guest:guest@localhost:5672/%2F")
COUNT = 20_000
# What a side slower than about 5,000 messages a second is measured over.
FEWER = 5_000
WINDOW = 100
BODY = json.dumps(payload(1), separators=(",", ":")).encode()
TIMEOUT_SECONDS = 60.0


@contextmanager
def durable_queue(queue_type: str) -> Iterator[str]:
    """Declares a durable queue of this process, and deletes it at the end.

    Args:
        queue_type: `quorum` or `classic`.
    """
    name = f"bench.{os.getpid()}"
    with _channel() as channel:
        declared = {"x-queue-type": queue_type}
        channel.queue_declare(name, durable=True, auto_delete=False, arguments=declared)
    try:
        yield name
    finally:
        delete(name)


def delete(*names: str) -> None:
    """Deletes queues, whether they exist or not."""
    for name in names:
        with _channel() as channel:
            channel.queue_delete(name)


def fill(
    queue: str,
    count: int = COUNT,
    body: bytes = BODY,
    properties: Mapping[str, object] | None = None,
) -> None:
    """Puts copies of one persistent message into `queue` and waits until it has them.

    Frames are written ready-made, so that filling takes little of a run's time.
    """
    facts = {"delivery_mode": 2, "content_type": "application/json"}
    facts |= dict(properties or {})
    with _channel() as channel:
        number = channel.channel_id
        one = b"".join(
            frame.marshal(part, number)
            for part in (
                commands.Basic.Publish(exchange="", routing_key=queue),
                header.ContentHeader(
                    body_size=len(body), properties=commands.Basic.Properties(**facts)
                ),
                content.ContentBody(body),
            )
        )
        for _ in range(count // 100):
            channel.connection.transport.write(one * 100)
        wait_for_depth(queue, count)


def wait_for_depth(queue: str, count: int) -> None:
    """Waits until `queue` holds `count` messages that nobody has been given."""
    until = time.monotonic() + TIMEOUT_SECONDS
    with _channel() as channel:
        while True:
            _, ready, _ = channel.queue_declare(queue, passive=True)
            if ready >= count:
                return
            if time.monotonic() > until:
                short = f"{queue} has {ready} of {count} messages"
                raise TimeoutError(short)
            time.sleep(0.02)


@contextmanager
def _channel() -> Iterator[amqp.Channel]:
    parts = parse_url(URL)
    with amqp.Connection(
        host=f"{parts['hostname']}:{parts['port'] or 5672}",
        userid=parts["userid"],
        password=parts["password"],
        virtual_host=parts["virtual_host"] or "/",
    ) as connection:
        yield connection.channel()
