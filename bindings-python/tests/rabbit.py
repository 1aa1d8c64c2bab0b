"""The broker of the tests: a virtual host for each, in the node that a run shares."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pika
import pytest

from orkestra import Orkestra

AMQP = os.environ.get("ORKESTRA_TEST_AMQP")
NODE = os.environ.get("ORKESTRA_TEST_RABBITMQ")
SCRIPT = Path(__file__).parents[2] / "scripts" / "rabbitmq.sh"

DEADLETTERS = "orkestra.deadletter.queue"


def need_broker() -> None:
    """Skips the test where there is no broker; fails it where one is required."""
    if AMQP and NODE:
        return
    reason = "ORKESTRA_TEST_AMQP and ORKESTRA_TEST_RABBITMQ name no broker"
    if "rabbitmq" in os.environ.get("ORKESTRA_TEST_REQUIRE", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


def rabbitmq(command: str, *arguments: str) -> str:
    """What ``rabbitmq.sh`` prints."""
    done = subprocess.run(
        [str(SCRIPT), command, str(NODE), *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout


class Host:
    """A virtual host."""

    def __init__(self) -> None:
        need_broker()
        self.name = f"python-{uuid.uuid4().hex[:12]}"
        rabbitmq("vhost", self.name)
        self.url = str(AMQP).rsplit("/", 1)[0] + f"/{self.name}"
        self._connection: Any = None
        self._channel: Any = None

    def delete(self) -> None:
        if self._connection is not None and self._connection.is_open:
            self._connection.close()
        rabbitmq("eval", f'rabbit_vhost:delete(<<"{self.name}">>, <<"guest">>).')

    def app(self, name: str = "shop", query: str = "", **settings: Any) -> Orkestra:
        """An app on this host, in memory but for the bus."""
        settings.setdefault("store", "memory:")
        settings.setdefault("app_prefix", "Shop")
        return Orkestra(name, bus=self.url + query, **settings)

    @property
    def channel(self) -> Any:
        """A plain client's."""
        if self._connection is None or not self._connection.is_open:
            place = urlsplit(self.url)
            host = place.hostname or "localhost"
            user = pika.PlainCredentials(place.username or "", place.password or "")
            self._connection = pika.BlockingConnection(
                pika.ConnectionParameters(
                    host, place.port or 5672, self.name, credentials=user, heartbeat=0
                )
            )
        if self._channel is None or not self._channel.is_open:
            self._channel = self._connection.channel()
            self._channel.confirm_delivery()
        return self._channel

    def publish(
        self, exchange: str, topic: str, body: bytes, **properties: Any
    ) -> None:
        """Publishes as a plain client does."""
        properties.setdefault("delivery_mode", 2)
        self.channel.basic_publish(
            exchange, topic, body, pika.BasicProperties(**properties), mandatory=True
        )

    def get(self, queue: str) -> tuple[Any, bytes] | None:
        """Takes a message from a queue."""
        method, properties, body = self.channel.basic_get(queue, auto_ack=True)
        return None if method is None else (properties, body)

    def depth(self, queue: str) -> int:
        """How many messages are ready in a queue."""
        declared = self.channel.queue_declare(queue, passive=True)
        return int(declared.method.message_count)

    def close_connections(self) -> None:
        """The broker closes every connection of this host."""
        rabbitmq(
            "eval",
            '[rabbit_networking:close_connection(element(6, C), "by a test") || '
            f'C <- rabbit_connection_tracking:list(<<"{self.name}">>)].',
        )
