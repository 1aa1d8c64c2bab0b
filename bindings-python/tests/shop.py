"""The example domain: orders of a small shop, and the stock they take from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orkestra import Aggregate, Command, Event, Orkestra, Reject


class PlaceOrder(Command[Any]):
    product_id: str
    quantity: int
    notes: str = ""


class CancelOrder(Command[Any]):
    order_id: str


class OrderPlaced(Event):
    order_id: str
    quantity: int = 1


class OrderCancelled(Event):
    order_id: str


class AddStock(Command[Any]):
    sku: str
    quantity: int


class StockAdded(Event):
    quantity: int


@dataclass(frozen=True)
class Stock:
    total: int = 0
    events: int = 0


class StockItem(Aggregate[Stock]):
    commands = (AddStock,)
    events = (StockAdded,)

    @staticmethod
    def initial() -> Stock:
        return Stock()

    @staticmethod
    def stream_id(command: AddStock) -> str:
        return f"stock-{command.sku}"

    @staticmethod
    def decide(state: Stock, command: AddStock) -> list[StockAdded]:
        if state.total + command.quantity < 0:
            reason = "not enough"
            raise Reject(reason, {"left": state.total})
        if command.quantity == 0:
            return []
        return [StockAdded(quantity=command.quantity)]

    @staticmethod
    def evolve(state: Stock, event: StockAdded) -> Stock:
        return Stock(state.total + event.quantity, state.events + 1)


def append_one(store: str) -> None:
    """What a worker process of ours does."""
    app = Orkestra("shop", store=store)
    app.store.append("s", [OrderPlaced(order_id="o")]).wait()
    app.close().wait()
