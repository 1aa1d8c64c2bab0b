"""The app of the RabbitMQ rows written with Orkestra, and its queues."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from _rabbit import URL, WINDOW, delete
from _shop import payload

from orkestra import Command, Orkestra

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

QUEUES = ("orkestra.cmd.place_order", "orkestra.cmd.price_order")


class PlaceOrder(Command[None], type_name="Bench.PlaceOrder"):
    """A command that nobody waits for."""

    order_id: str
    product_id: str
    quantity: int
    notes: str = ""


class PriceOrder(Command[str], type_name="Bench.PriceOrder"):
    """A command that is answered."""

    order_id: str
    product_id: str
    quantity: int
    notes: str = ""


def order(number: int) -> PlaceOrder:
    """Returns the command of order `number`."""
    return PlaceOrder(**payload(number))


def app_for(queue_type: str) -> Orkestra:
    """Returns an app on the broker, with queues of the type `queue_type`."""
    bus = f"{URL}?queue_type={queue_type}&prefetch={WINDOW}"
    return Orkestra("bench", bus=bus, store="memory:")


@asynccontextmanager
async def sender(queue_type: str) -> AsyncIterator[Orkestra]:
    """Opens an app that handles nothing."""
    async with app_for(queue_type) as app:
        yield app


@asynccontextmanager
async def declare(queue_type: str) -> AsyncIterator[None]:
    """Declares the commands' queues, by an app that has their handlers.

    They are deleted at the end.
    """
    delete(*QUEUES)
    app = app_for(queue_type)

    @app.command_handler(PlaceOrder)
    async def place_order(_command: PlaceOrder) -> None: ...

    @app.command_handler(PriceOrder)
    async def price_order(command: PriceOrder) -> str:
        return command.order_id

    async with app:
        pass
    try:
        yield
    finally:
        delete(*QUEUES)
