"""The shop written with Orkestra, for the sides that measure it."""

from __future__ import annotations

from orkestra import Command, Event


class PlaceOrder(Command[None]):
    """A command with the payload of `_shop`."""

    order_id: str
    product_id: str
    quantity: int
    notes: str = ""


class OrderPlaced(Event):
    """An event with the payload of `_shop`."""

    order_id: str
    product_id: str
    quantity: int
    notes: str = ""
