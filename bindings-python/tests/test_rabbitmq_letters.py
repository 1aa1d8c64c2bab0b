"""BEHAVIOURS.md L, over RabbitMQ."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from orkestra import HandlerError, Orkestra, id_of
from orkestra.errors import (
    InvalidPayloadError,
    NoDeadLetterError,
    TopologyMissingError,
)
from rabbit import DEADLETTERS
from shop import OrderPlaced, PlaceOrder
from waiting import eventually

if TYPE_CHECKING:
    from rabbit import Host

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Broken:
    """A service whose handlers fail as long as it is broken."""

    def __init__(self, host: Host, store: str, name: str = "shop") -> None:
        self.broken = True
        self.orders: list[str] = []
        self.noted: list[str] = []
        self.buried: asyncio.Queue[Any] = asyncio.Queue()
        self.app = host.app(name, store=store)
        self.app.on_dead_letter(self.buried.put_nowait)

        @self.app.command_handler(PlaceOrder, max_retries=0)
        async def place_order(command: PlaceOrder) -> str:
            self.orders.append(id_of(command))
            self.check(command.product_id)
            return command.product_id

        @self.app.event_handler(OrderPlaced, max_retries=0)
        async def note(event: OrderPlaced) -> None:
            self.noted.append(id_of(event))
            self.check(event.order_id)

        @self.app.event_handler(OrderPlaced, max_retries=0)
        async def other(event: OrderPlaced) -> None:
            self.noted.append("other")

    def check(self, what: str) -> None:
        if self.broken:
            message = f"no {what}"
            raise ValueError(message) from KeyError("cause")


async def has_letters(app: Orkestra, total: int) -> bool:
    return (await app.dead_letters.list()).total == total


async def test_l01_a_letter_says_what_happened(host: Host, sqlite: str) -> None:
    service = Broken(host, sqlite)
    async with service.app as app:
        with pytest.raises(HandlerError):
            await app.dispatch(
                PlaceOrder(product_id="p", quantity=1), correlation_id="c-1"
            )
        letter = await service.buried.get()
    assert letter.handler == "shop.place_order"
    assert (letter.type, letter.topic) == ("Shop.PlaceOrder", "place_order")
    assert letter.message_id == service.orders[0]
    assert [error["type"] for error in letter.errors] == ["ValueError", "KeyError"]
    assert "in check" in letter.errors[0]["trace"]
    assert (letter.attempts, letter.reason) == (1, "retries_exhausted")
    assert letter.first_failed_at <= letter.last_failed_at
    assert letter.correlation_id == "c-1"
    # Recorded in the state store, not left at the broker.
    assert host.depth(DEADLETTERS) == 0


async def test_l01_a_letter_has_its_trace(host: Host, sqlite: str) -> None:
    service = Broken(host, sqlite)
    async with service.app as app:
        body = (
            b'{"__type__":"event_envelope","event_type":"Shop.OrderPlaced",'
            b'"event_id":"019506b8-9d2a-7c3e-8f00-0123456789ab",'
            b'"data":{"order_id":"o"}}'
        )
        host.publish(
            "orkestra.events", "order_placed", body, headers={"traceparent": TRACE}
        )
        letter = await service.buried.get()
        assert letter.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
        (listed,) = (await app.dead_letters.list()).items
        assert (listed.id, listed.body) == (letter.id, body)


async def test_l02_letters_are_listed_by_filter(host: Host, sqlite: str) -> None:
    service = Broken(host, sqlite)
    async with service.app as app:
        for number in range(3):
            await app.send(PlaceOrder(product_id=f"p{number}", quantity=1))
        await app.publish(OrderPlaced(order_id="o"))
        for _ in range(4):
            await service.buried.get()
        page = await app.dead_letters.list(handler="shop.place_order", limit=2)
        assert (len(page.items), page.total) == (2, 3)
        assert (await app.dead_letters.list(topic="order_placed")).total == 1
        assert (await app.dead_letters.list(text="no p1")).total == 1


async def test_l03_requeue_keeps_the_id_and_reaches_that_handler_alone(
    host: Host, sqlite: str
) -> None:
    service = Broken(host, sqlite)
    async with service.app as app:
        await app.publish(OrderPlaced(order_id="o"))
        letter = await service.buried.get()
        await eventually(lambda: "other" in service.noted)
        service.broken = False
        # It is on its way, and nobody waits.
        assert not await app.dead_letters.requeue(letter.id)
        await eventually(lambda: len(service.noted) == 3)
        ids = [id for id in service.noted if id != "other"]
        assert ids == [letter.message_id] * 2
        await eventually(lambda: has_letters(app, 0))


async def test_l03_requeue_by_a_process_that_is_not_the_handlers(
    host: Host, sqlite: str
) -> None:
    service = Broken(host, sqlite)
    async with service.app as app:
        await app.send(PlaceOrder(product_id="p", quantity=1))
        letter = await service.buried.get()
        service.broken = False
        operator = host.app("operator", store=sqlite)
        await operator.dead_letters.requeue(letter.id)
        await operator.close()
        await eventually(lambda: len(service.orders) == 2)
        assert service.orders[0] == service.orders[1]


async def test_l03_a_handler_without_a_queue_is_named(host: Host, sqlite: str) -> None:
    service = Broken(host, sqlite)
    async with service.app as app:
        await app.send(PlaceOrder(product_id="p", quantity=1))
        letter = await service.buried.get()
    host.channel.queue_delete("orkestra.cmd.place_order")
    operator = host.app("operator", store=sqlite)
    with pytest.raises(TopologyMissingError) as missing:
        await operator.dead_letters.requeue(letter.id)
    assert "orkestra.cmd.place_order" in missing.value.resource
    assert (await operator.dead_letters.show(letter.id)).status == "dead"
    assert await operator.dead_letters.requeue_all() == 0
    with pytest.raises(NoDeadLetterError):
        await operator.dead_letters.requeue("019506b8-9d2a-7c3e-8f00-0123456789ab")
    await operator.close()


async def test_l04_requeue_by_filter(host: Host, sqlite: str) -> None:
    service = Broken(host, sqlite)
    async with service.app as app:
        for number in range(5):
            await app.send(PlaceOrder(product_id=f"p{number}", quantity=1))
        await app.publish(OrderPlaced(order_id="o"))
        for _ in range(6):
            await service.buried.get()
        service.broken = False
        assert await app.dead_letters.requeue_all(topic="place_order") == 5
        await eventually(lambda: len(service.orders) == 10)
        await eventually(lambda: has_letters(app, 1))


async def test_l05_discard(host: Host, sqlite: str) -> None:
    service = Broken(host, sqlite)
    async with service.app as app:
        await app.send(PlaceOrder(product_id="p", quantity=1))
        letter = await service.buried.get()
        assert await app.dead_letters.discard(letter.id)
        assert not await app.dead_letters.discard(letter.id)


async def test_l06_a_requeued_message_that_fails_again_is_one_entry(
    host: Host, sqlite: str
) -> None:
    service = Broken(host, sqlite)
    async with service.app as app:
        await app.send(PlaceOrder(product_id="p", quantity=1))
        first = await service.buried.get()
        await app.dead_letters.requeue(first.id)
        second = await service.buried.get()
        assert (second.id, second.status) == (first.id, "dead")
        assert len(second.history) == 1
        assert (await app.dead_letters.list()).total == 1


async def test_l07_an_edited_payload_is_checked_and_requeued(
    host: Host, sqlite: str
) -> None:
    service = Broken(host, sqlite)
    async with service.app as app:
        await app.send(PlaceOrder(product_id="p", quantity=1))
        letter = await service.buried.get()
        service.broken = False
        with pytest.raises(InvalidPayloadError):
            await app.dead_letters.edit(letter.id, {"product_id": 7})
        assert (await app.dead_letters.show(letter.id)).status == "dead"
        seen: list[Any] = []

        @app.around_handle
        async def look(envelope: Any, call: Any) -> Any:
            seen.append(envelope.command)
            return await call()

        edited = {"product_id": "q", "quantity": 2}
        await app.dead_letters.edit(letter.id, edited)
        await eventually(lambda: seen)
    assert seen == [PlaceOrder(product_id="q", quantity=2)]


async def test_l08_letters_survive_a_restart(host: Host, sqlite: str) -> None:
    service = Broken(host, sqlite)
    async with service.app as app:
        await app.send(PlaceOrder(product_id="p", quantity=1))
        letter = await service.buried.get()
    again = Broken(host, sqlite)
    again.broken = False
    async with again.app as app:
        assert (await app.dead_letters.list()).items[0].id == letter.id
        await app.dead_letters.requeue(letter.id)
        await eventually(lambda: again.orders == [letter.message_id])


async def test_letters_at_the_broker_can_be_moved_to_the_store(
    host: Host, sqlite: str
) -> None:
    service = Broken(host, "memory:")
    async with service.app as app:
        await app.send(PlaceOrder(product_id="p", quantity=1))
        await app.publish(OrderPlaced(order_id="o"))
        for _ in range(2):
            await service.buried.get()
        await eventually(lambda: host.depth(DEADLETTERS) == 2)
        letters = await app.dead_letters.broker()
        assert {letter.handler for letter in letters} == {
            "shop.place_order",
            "shop.note",
        }
        again = await app.dead_letters.broker(limit=1)
        assert [letter.id for letter in again] == [letters[0].id]
        # Not ours: somebody else's letter stays where it is.
        host.publish("orkestra.deadletter", "orkestra.evt.billing.x", b"theirs")
        assert len(await app.dead_letters.broker()) == 2
    again_service = Broken(host, sqlite)
    again_service.broken = False
    async with again_service.app as app:
        assert await app.dead_letters.drain(limit=1) == 1
        assert await app.dead_letters.drain() == 1
        assert await app.dead_letters.drain() == 0
        await eventually(lambda: host.depth(DEADLETTERS) == 1)
        moved = {item.id for item in (await app.dead_letters.list()).items}
        assert moved == {letter.id for letter in letters}
        assert await app.dead_letters.requeue_all() == 2
        await eventually(lambda: again_service.orders and again_service.noted)
        await eventually(lambda: has_letters(app, 0))


async def test_without_a_broker_nothing_lies_there(sqlite: str) -> None:
    async with Orkestra("shop", store=sqlite) as app:
        assert await app.dead_letters.broker() == []
        assert await app.dead_letters.drain() == 0
