"""What crosses the broker, as others write and read it; and what goes wrong there."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from orkestra import Metadata, Orkestra, id_of
from orkestra.errors import (
    AccessRefusedError,
    BusUnavailableError,
    InvalidUrlError,
    TopologyMissingError,
)
from rabbit import AMQP, need_broker
from shop import OrderPlaced, PlaceOrder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rabbit import Host

ORDER = PlaceOrder(product_id="sku_42", quantity=3)
ID = "019506b8-9d2a-7c3e-8f00-0123456789ab"

# As Orkestra for Elixir writes them (DESIGN.md, section 4).
COMMAND: dict[str, Any] = {
    "__type__": "command_envelope",
    "command_type": "Shop.PlaceOrder",
    "command_id": ID,
    "params": {"product_id": "sku_42", "quantity": 3, "from_a_newer_version": True},
    "metadata": {
        "correlation_id": "c-1",
        "causation_id": None,
        "actor_id": "user_123",
        "actor_type": "user",
        "source": "web",
        "issued_at": "2026-03-27T12:00:00.000000Z",
    },
    "status": "dispatched",
    "attempts": 1,
    "max_retries": 2,
}
EVENT: dict[str, Any] = {
    "__type__": "event_envelope",
    "event_type": "Shop.OrderPlaced",
    "event_id": ID,
    "event_version": 1,
    "data": {"order_id": "o-1", "quantity": 3},
    "metadata": {},
    "occurred_at": "2026-03-27T12:00:00.000000Z",
}


class Taking:
    """An app that takes an order and an event, and keeps what came."""

    def __init__(self, host: Host) -> None:
        self.app = host.app()
        self.seen: asyncio.Queue[Any] = asyncio.Queue()
        self.letters: asyncio.Queue[Any] = asyncio.Queue()
        self.app.on_dead_letter(self.letters.put_nowait)

        @self.app.command_handler(PlaceOrder)
        async def place_order(command: PlaceOrder, metadata: Metadata) -> None:
            self.seen.put_nowait((command, id_of(command), metadata))

        @self.app.event_handler(OrderPlaced)
        async def note(event: OrderPlaced, metadata: Metadata) -> None:
            self.seen.put_nowait((event, id_of(event), metadata))


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


async def test_the_command_of_another_toolkit_is_handled(host: Host) -> None:
    taking = Taking(host)
    async with taking.app:
        host.publish("orkestra.commands", "place_order", _json(COMMAND))
        command, id_, metadata = await taking.seen.get()
    assert (command, id_) == (ORDER, ID)
    assert metadata.to_dict() == COMMAND["metadata"]


async def test_the_event_of_another_toolkit_is_handled(host: Host) -> None:
    taking = Taking(host)
    least = {key: EVENT[key] for key in ("__type__", "event_type", "event_id", "data")}
    async with taking.app:
        for body in (EVENT, least):
            host.publish("orkestra.events", "order_placed", _json(body))
            event, id_, metadata = await taking.seen.get()
            assert (event, id_) == (OrderPlaced(order_id="o-1", quantity=3), ID)
            assert (metadata.correlation_id, metadata.actor_type) == (ID, "system")


async def test_another_service_may_have_another_name_for_a_topic(host: Host) -> None:
    taking = Taking(host)
    async with taking.app:
        body = {**COMMAND, "command_type": "PlaceOrder"}
        host.publish("orkestra.commands", "place_order", _json(body))
        command, _, _ = await taking.seen.get()
        body = {**EVENT, "event_type": "OrderPlaced"}
        host.publish("orkestra.events", "order_placed", _json(body))
        event, _, _ = await taking.seen.get()
    assert command == ORDER
    assert event == OrderPlaced(order_id="o-1", quantity=3)


async def test_what_we_send_is_what_others_parse(host: Host) -> None:
    host.channel.queue_declare("probe")
    async with host.app() as app:
        # Declares what it needs when it is first needed.
        await app.publish(OrderPlaced(order_id="first"))
        for exchange in ("orkestra.commands", "orkestra.events"):
            host.channel.queue_bind("probe", exchange, "#")
        await app.send(ORDER, id=ID, actor_id="user_123", source="web", max_retries=2)
        await app.publish(OrderPlaced(order_id="o-1", quantity=3), id=ID)
    found = host.get("probe")
    assert found is not None
    properties, body = found
    sent = json.loads(body)
    metadata = sent.pop("metadata")
    assert set(metadata) == set(COMMAND["metadata"])
    issued_at = metadata.pop("issued_at")
    assert issued_at.endswith("Z")
    assert len(issued_at) == len("2026-03-27T12:00:00.000000Z")
    assert datetime.fromisoformat(issued_at.replace("Z", "+00:00"))
    assert metadata == {
        "correlation_id": ID,
        "causation_id": None,
        "actor_id": "user_123",
        "actor_type": "system",
        "source": "web",
    }
    expected = {key: value for key, value in COMMAND.items() if key != "metadata"}
    assert sent == {
        **expected,
        "params": {"product_id": "sku_42", "quantity": 3, "notes": ""},
    }
    assert properties.message_id == properties.correlation_id == ID
    assert (properties.type, properties.delivery_mode) == ("command", 2)
    assert properties.content_type == "application/json"
    assert properties.app_id == "shop"
    assert properties.timestamp > 1_700_000_000
    assert properties.headers["x-max-retries"] == 2
    found = host.get("probe")
    assert found is not None
    properties, body = found
    sent = json.loads(body)
    assert set(sent) == set(EVENT)
    assert (sent["event_id"], sent["event_version"]) == (ID, 1)
    assert sent["data"] == EVENT["data"]
    assert properties.type == "event"
    assert UUID(properties.message_id) == UUID(ID)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-orkestra-attempt": "many", "x-max-retries": [1]},
        {"x-orkestra-attempt": -3, "x-max-retries": -1},
        {"x-orkestra-failures": {"a": 1}, "x-orkestra-first-failed-at": 7},
        {"x-orkestra-dead-letter": "nonsense", "x-orkestra-topic": 5},
        {"traceparent": "00-nonsense", "tracestate": 9, "baggage": True},
        {"traceparent": "x" * 5000},
        {"x-death": "not a list", "x-delivery-count": "none"},
    ],
)
async def test_headers_of_nonsense_do_no_harm(host: Host, headers: Any) -> None:
    taking = Taking(host)
    async with taking.app:
        topic, body = "place_order", _json(COMMAND)
        host.publish("orkestra.commands", topic, body, headers=headers)
        command, _, _ = await asyncio.wait_for(taking.seen.get(), 10)
        assert command == ORDER
        host.publish("orkestra.events", "order_placed", _json(EVENT), headers=headers)
        await asyncio.wait_for(taking.seen.get(), 10)
    assert taking.letters.empty()


@pytest.mark.parametrize(
    ("body", "properties"),
    [
        (_json(COMMAND).decode().encode("utf-16"), {}),
        (_json(COMMAND), {"content_encoding": "gzip"}),
        (b"", {}),
        (b"\x1f\x8b\x08\x00", {"content_encoding": "gzip", "message_id": "no-uuid"}),
    ],
)
async def test_a_body_of_another_encoding(
    host: Host, body: bytes, properties: dict[str, Any]
) -> None:
    taking = Taking(host)
    async with taking.app:
        host.publish("orkestra.commands", "place_order", body, **properties)
        if body == _json(COMMAND):
            # It says so, and is none: it is read all the same.
            await asyncio.wait_for(taking.seen.get(), 10)
            return
        letter = await asyncio.wait_for(taking.letters.get(), 10)
        assert (letter.reason, letter.body) == ("undecodable", body)


async def test_a_reply_nobody_waits_for_is_passed_over(host: Host) -> None:
    taking = Taking(host)
    async with taking.app as app:
        for reply_to in ("orkestra.reply.gone", "", "x" * 200):
            host.publish(
                "orkestra.commands",
                "place_order",
                _json(COMMAND),
                reply_to=reply_to,
                correlation_id="c",
            )
            await asyncio.wait_for(taking.seen.get(), 10)
        await app.dispatch(ORDER)


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("amqp://", "host"),
        ("amqp://localhost:port", "port"),
        ("amqp://localhost:99999", "port"),
        ("amqp://localhost/a/b", "virtual host"),
        ("amqp://localhost?prefech=9", "prefech"),
        ("amqp://localhost?prefetch=many", "prefetch"),
        ("amqp://localhost?queue_type=lazy", "queue_type"),
        ("amqp://localhost?declare=maybe", "declare"),
        ("amqp://localhost?cacertfile=/nowhere/ca.pem", "cacertfile"),
        ("amqps://localhost?heartbeat=soon", "heartbeat"),
        ("ampq://localhost", "ampq"),
        ("localhost:5672", "scheme"),
    ],
)
def test_a_url_with_a_typo_names_the_part(url: str, part: str) -> None:
    with pytest.raises(InvalidUrlError) as refused:
        Orkestra("shop", bus=url, store="memory:")
    assert refused.value.setting == "bus"
    assert part in refused.value.reason


def _started(bus: str) -> Orkestra:
    app = Orkestra("shop", bus=bus, store="memory:")

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> None: ...

    return app


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (("guest:guest", "guest:secret-word"), "the login"),
        (("guest:guest", "nobody:guest"), "the login"),
        (("/%2F", "/no-such-host"), "no-such-host"),
    ],
)
async def test_what_the_broker_refuses_is_named(
    change: tuple[str, str], what: str
) -> None:
    need_broker()
    app = _started(str(AMQP).replace(*change))
    with pytest.raises(AccessRefusedError) as refused:
        await app.start()
    assert what in str(refused.value)
    assert "secret-word" not in str(refused.value)
    with pytest.raises(AccessRefusedError):
        await app.send(ORDER)
    await app.close()


@pytest.fixture
def other_service() -> Iterator[int]:
    """The port of something that is no broker."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_an_unknown_host_is_said() -> None:
    app = _started("amqp://no-such-host.invalid?connect_timeout=5")
    with pytest.raises(BusUnavailableError) as away:
        await app.start()
    assert "no-such-host.invalid" in str(away.value)
    await app.close()


async def test_a_port_of_something_else_is_said(other_service: int) -> None:
    app = _started(f"amqp://127.0.0.1:{other_service}?connect_timeout=1")
    with pytest.raises(BusUnavailableError):
        await app.start()
    await app.close()


async def test_what_may_not_be_declared_has_to_be_there(host: Host) -> None:
    app = _started(f"{host.url}?declare=passive")
    with pytest.raises(TopologyMissingError) as missing:
        await app.start()
    assert "orkestra." in missing.value.resource
    await app.close()


async def test_classic_queues_when_asked_for(host: Host) -> None:
    async with _started(f"{host.url}?queue_type=classic") as app:
        await app.dispatch(ORDER)


async def test_over_tls(host: Host) -> None:
    tls = os.environ.get("ORKESTRA_TEST_TLS")
    amqps = os.environ.get("ORKESTRA_TEST_AMQPS")
    assert tls, "ORKESTRA_TEST_TLS is not set"
    assert amqps, "ORKESTRA_TEST_AMQPS is not set"
    url = amqps.rsplit("/", 1)[0] + f"/{host.name}"
    own = f"&certfile={tls}/client.pem&keyfile={tls}/client.key"
    for more in ("", own):
        async with _started(f"{url}?cacertfile={tls}/ca.pem{more}") as app:
            await app.dispatch(ORDER)
    stranger = _started(url)
    with pytest.raises(BusUnavailableError) as refused:
        await stranger.start()
    assert "certificate" in str(refused.value).lower()
    await stranger.close()
