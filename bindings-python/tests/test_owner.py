"""Event handlers of several apps on one store file: one owner at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from orkestra import Event, Orkestra

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

    async def until(seen: list[int], wanted: list[int]) -> None:
        for _ in range(4000):
            if seen == wanted:
                return
            await asyncio.sleep(0.005)
        assert seen == wanted

    async def scenario() -> None:
        first, second = counting(store, one), counting(store, two)
        await first.start()
        await first.store.append("order-0", [OrderPlaced(order=0)])
        await until(one, [0])
        await second.start()

        for order in range(1, 20):
            await second.store.append("order-1", [OrderPlaced(order=order)])
        await until(one, list(range(20)))
        await first.close()
        await second.store.append("order-2", [OrderPlaced(order=20)])

        await until(two, [20])
        await second.close()
        assert one == list(range(20))

    asyncio.run(scenario())
