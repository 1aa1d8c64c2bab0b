"""Readers of the log: one owner at a time, and what they do with poison."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

import pytest

from orkestra import Batch, Event, Orkestra
from orkestra.errors import InvalidHandlerError, SubscriptionStoppedError
from waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path


class OrderPlaced(Event, type_name="Shop.Orders.OrderPlaced"):
    """An order was placed."""

    order: int


def counting(store: str, seen: list[int]) -> Orkestra:
    """An app whose handler `count` notes the orders."""
    app = Orkestra("shop", store=store)

    @app.event_handler(OrderPlaced)
    async def count(event: OrderPlaced) -> None:
        seen.append(event.order)

    return app


def test_e06_of_two_apps_on_one_file_one_handles_and_the_other_takes_over(
    tmp_path: Path,
) -> None:
    store = f"sqlite:{tmp_path / 'shop.db'}"
    one: list[int] = []
    two: list[int] = []

    async def scenario() -> None:
        first, second = counting(store, one), counting(store, two)
        await first.start()
        await first.store.append("order-0", [OrderPlaced(order=0)])
        await eventually(lambda: one == [0])
        await second.start()

        for order in range(1, 20):
            await second.store.append("order-1", [OrderPlaced(order=order)])
        await eventually(lambda: one == list(range(20)))
        await first.close()
        await second.store.append("order-2", [OrderPlaced(order=20)])

        await eventually(lambda: two == [20])
        await second.close()
        assert one == list(range(20))

    asyncio.run(scenario())


@pytest.mark.parametrize("poison", ["skip", "stop"])
def test_e09_a_poison_event_is_skipped_or_stops_the_reader(
    tmp_path: Path, poison: Literal["skip", "stop"]
) -> None:
    async def scenario() -> None:
        app = Orkestra("shop", store=f"sqlite:{tmp_path / 'shop.db'}")

        @app.event_handler(OrderPlaced, max_retries=0, poison=poison)
        async def picky(event: OrderPlaced) -> None:
            message = f"not order {event.order}"
            raise ValueError(message)

        async with app:
            await app.store.append("order-7", [OrderPlaced(order=7)])
            head = await app.store.head()
            assert head is not None
            if poison == "skip":
                await app.caught_up("picky", head)
            else:
                with pytest.raises(SubscriptionStoppedError, match="not order 7"):
                    await app.caught_up("picky", head)
                assert (await app.health()).readers[0]["stopped"]
            assert (await app.dead_letters.list()).total == 0

    asyncio.run(scenario())


def test_a_poison_policy_that_is_none_is_refused() -> None:
    app = Orkestra("shop", store="memory:")

    with pytest.raises(InvalidHandlerError, match="poison"):
        app.event_handler(OrderPlaced, name="x", poison="eat")(print)  # type: ignore[arg-type]


def test_batches_leave_acknowledging_to_the_caller(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Orkestra("shop", store=f"sqlite:{tmp_path / 'shop.db'}") as app:
            app.add_types(OrderPlaced)
            orders = [OrderPlaced(order=order) for order in range(5)]
            await app.store.append("order-7", orders)

            async def first_batch() -> Batch:
                reports = app.subscribe("reports", batch_size=2)
                async for batch in reports.batches():
                    await reports.close()
                    return batch
                raise AssertionError

            first, again = await first_batch(), await first_batch()
            assert [recorded.event for recorded in first.events] == orders[:2]
            assert again.position == first.position

            reports = app.subscribe("reports", batch_size=2)
            await reports.ack(first.position)
            await reports.close()
            third = await first_batch()
            assert [recorded.event for recorded in third.events] == orders[2:4]

    asyncio.run(scenario())
