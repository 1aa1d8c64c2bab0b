"""BEHAVIOURS.md L."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orkestra import Command, DeadLetter, Metadata, Orkestra, RetryPolicy, id_of
from orkestra.errors import (
    InvalidHandlerError,
    InvalidIdError,
    InvalidPayloadError,
    NoDeadLetterError,
)
from orkestra.testing import START, TestApp
from shop import CancelOrder, OrderPlaced, PlaceOrder

ORDER = PlaceOrder(product_id="sku_42", quantity=3)
ID = "019506b8-9d2a-7c3e-8f00-0123456789ab"


class Lost(Exception):
    pass


class Shop:
    """An app whose handlers fail as long as `broken`."""

    def __init__(self, store: str = "memory:", app: Orkestra | None = None) -> None:
        self.app = app or TestApp("shop", store=store)
        self.broken = True
        self.calls: list[tuple[str, Any]] = []
        retry = RetryPolicy(max_retries=1, initial=0)

        @self.app.command_handler(PlaceOrder, retry=retry)
        async def place_order(command: PlaceOrder) -> None:
            self._call("place_order", command)

        @self.app.command_handler(CancelOrder, retry=retry)
        def cancel_order(command: CancelOrder) -> None:
            self._call("cancel_order", command)

        @self.app.event_handler(OrderPlaced, max_retries=0)
        async def note(event: OrderPlaced) -> None:
            self._call("note", event)

        @self.app.event_handler(OrderPlaced)
        async def other(event: OrderPlaced) -> None:
            self.calls.append(("other", event))

    def _call(self, name: str, message: Any) -> None:
        self.calls.append((name, message))
        if self.broken:
            try:
                raise ValueError("the cause")
            except ValueError as cause:
                raise Lost(name) from cause

    async def fail(self, command: Command[Any] = ORDER, **options: Any) -> DeadLetter:
        with pytest.raises(Lost):
            await self.app.dispatch(command, **options)
        page = await self.app.dead_letters.list(limit=1)
        return page.items[0]


async def test_l01_an_entry_has_the_errors_attempts_times_and_ids() -> None:
    shop = Shop()
    letter = await shop.fail(id=ID)
    assert letter.handler == "shop.place_order"
    assert (letter.kind, letter.message_id) == ("command", ID)
    assert (letter.type, letter.topic) == ("Shop.PlaceOrder", "place_order")
    assert (letter.reason, letter.attempts) == ("retries_exhausted", 2)
    assert [error["type"].rpartition(".")[2] for error in letter.errors] == [
        "Lost",
        "ValueError",
    ]
    assert letter.errors[0]["message"] == "place_order"
    assert "in _call" in letter.errors[0]["trace"]
    assert letter.first_failed_at == letter.last_failed_at == START
    assert letter.correlation_id == ID
    assert (letter.status, letter.history, letter.trace_id) == ("dead", [], None)
    assert letter.requeueable
    assert b'"quantity":3' in letter.body
    assert "Lost: place_order" in repr(letter)


async def test_l01_it_is_announced() -> None:
    shop = Shop()
    seen: list[str] = []

    @shop.app.on_dead_letter
    async def note(letter: DeadLetter) -> None:
        seen.append(letter.id)

    letter = await shop.fail()
    assert seen == [letter.id]


async def test_l02_entries_are_found_by_handler_topic_time_and_text() -> None:
    app = TestApp("shop")
    shop = Shop(app=app)
    await shop.fail()
    app.advance(timedelta(hours=1))
    await shop.fail(CancelOrder(order_id="needle"))
    app.advance(timedelta(hours=1))
    await app.publish(OrderPlaced(order_id="o-1"))
    found = app.dead_letters

    async def handlers(**query: Any) -> list[str]:
        return [item.handler for item in (await found.list(**query)).items]

    newest_first = ["shop.note", "shop.cancel_order", "shop.place_order"]
    assert await handlers() == newest_first
    assert await handlers(handler="shop.note") == ["shop.note"]
    assert await handlers(topic="*_order") == []
    assert await handlers(topic="cancel_order") == ["shop.cancel_order"]
    assert await handlers(text="NEEDLE") == ["shop.cancel_order"]
    assert await handlers(since=START + timedelta(hours=1)) == newest_first[:2]
    assert await handlers(until=START + timedelta(hours=1)) == newest_first[2:]
    assert await handlers(status="requeued") == []
    page = await found.list(limit=1, offset=1)
    assert (page.total, page.items[0].handler) == (3, "shop.cancel_order")


async def test_l03_requeue_keeps_the_id_and_reaches_that_handler_alone() -> None:
    shop = Shop()
    event = OrderPlaced(order_id="o-1")
    await shop.app.publish(event, source="web")
    (letter,) = (await shop.app.dead_letters.list()).items
    shop.calls.clear()
    shop.broken = False

    assert await shop.app.dead_letters.requeue(letter.id) is True

    ((name, again),) = shop.calls
    assert (name, again) == ("note", event)
    assert id_of(again) == id_of(event)
    assert (await shop.app.dead_letters.list()).total == 0


async def test_l04_requeue_by_filter() -> None:
    shop = Shop()
    for _ in range(3):
        await shop.fail()
    await shop.fail(CancelOrder(order_id="o"))
    shop.broken = False
    assert await shop.app.dead_letters.requeue_all(topic="place_order") == 3
    assert (await shop.app.dead_letters.list()).total == 1


async def test_l04_requeue_all_ends_when_everything_fails_again() -> None:
    shop = Shop()
    for _ in range(3):
        await shop.fail()
    assert await shop.app.dead_letters.requeue_all() == 0
    assert (await shop.app.dead_letters.list()).total == 3


async def test_l04_requeue_all_passes_nobody_over_when_one_fails_again() -> None:
    app = TestApp("shop")
    handled: list[str] = []
    fails = {str(n) for n in range(150)}

    @app.command_handler(CancelOrder, max_retries=0)
    async def cancel(command: CancelOrder) -> None:
        if command.order_id in fails:
            raise Lost
        handled.append(command.order_id)

    for id in sorted(fails):
        with pytest.raises(Lost):
            await app.dispatch(CancelOrder(order_id=id))
    before = START + timedelta(seconds=1)
    app.advance(10)
    # It fails again, later than what is asked for: the list gets shorter by it.
    fails.intersection_update({"7", "149"})
    assert await app.dead_letters.requeue_all(until=before) == 148
    assert len(set(handled)) == 148


async def test_l04_requeue_all_goes_on_behind_what_cannot_be_handed_over(
    sqlite: str,
) -> None:
    first = Shop(sqlite)
    await first.fail()
    await first.fail(CancelOrder(order_id="o"))
    await first.fail()
    await first.app.close()
    app = TestApp("shop", store=sqlite)

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> None: ...

    assert await app.dead_letters.requeue_all() == 2
    assert [letter.handler for letter in (await app.dead_letters.list()).items] == [
        "shop.cancel_order"
    ]
    await app.close()


async def test_l05_discard() -> None:
    shop = Shop()
    letter = await shop.fail()
    assert await shop.app.dead_letters.discard(letter.id) is True
    assert await shop.app.dead_letters.discard(letter.id) is False
    with pytest.raises(NoDeadLetterError):
        await shop.app.dead_letters.show(letter.id)
    with pytest.raises(NoDeadLetterError):
        await shop.app.dead_letters.requeue(letter.id)
    with pytest.raises(InvalidIdError):
        await shop.app.dead_letters.show("7")


async def test_l06_failing_again_is_one_entry_with_history() -> None:
    shop = Shop()
    letter = await shop.fail()
    assert await shop.app.dead_letters.requeue(letter.id) is False
    again = await shop.app.dead_letters.show(letter.id)
    assert (again.attempts, again.status) == (4, "dead")
    ((earlier),) = again.history
    assert (earlier["attempts"], earlier["reason"]) == (2, "retries_exhausted")
    assert (await shop.app.dead_letters.list()).total == 1


async def test_l07_an_edited_payload_is_checked() -> None:
    shop = Shop()
    letter = await shop.fail()
    shop.broken = False
    with pytest.raises(InvalidPayloadError) as refused:
        await shop.app.dead_letters.edit(
            letter.id, {"product_id": "a", "quantity": "x"}
        )
    assert refused.value.errors[0]["path"] == "$.quantity"
    edited = {"product_id": "b", "quantity": 9}
    assert await shop.app.dead_letters.edit(letter.id, edited) is True
    assert shop.calls[-1] == ("place_order", PlaceOrder(product_id="b", quantity=9))


async def test_l08_entries_survive_a_restart(sqlite: str) -> None:
    first = Shop(app=Orkestra("shop", store=sqlite))
    async with first.app:
        letter = await first.fail(id=ID, actor_id="user_123")
    second = Shop(app=Orkestra("shop", store=sqlite))
    second.broken = False
    seen: list[Metadata] = []

    @second.app.around_handle
    async def note(envelope: Any, following: Any) -> Any:
        seen.append(envelope.metadata)
        return await following()

    async with second.app:
        assert await second.app.dead_letters.requeue(letter.id) is True
    assert second.calls == [("place_order", ORDER)]
    assert seen[0].actor_id == "user_123"


async def test_a_dead_letter_without_a_body_cannot_be_requeued() -> None:
    class Loose(Command[None]):
        anything: Any

    app = TestApp("shop")

    @app.command_handler(Loose)
    async def fail(command: Loose) -> None:
        raise Lost

    with pytest.raises(Lost):
        await app.dispatch(Loose(anything=object()))
    (letter,) = app.buried
    assert (letter.requeueable, letter.body) == (False, b"")
    with pytest.raises(InvalidHandlerError):
        await app.dead_letters.requeue(letter.id)
