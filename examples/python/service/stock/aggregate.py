"""The stock of a shop: what a command to it decides."""

from __future__ import annotations

from dataclasses import dataclass

from orkestra import Aggregate, Command, Event, Reject


class ReceiveStock(Command[None], type_name="Shop.Stock.Commands.ReceiveStock"):
    sku: str
    quantity: int


class ShipStock(Command[None], type_name="Shop.Stock.Commands.ShipStock"):
    sku: str
    quantity: int


class StockReceived(Event, type_name="Shop.Stock.Events.StockReceived"):
    sku: str
    quantity: int


class StockShipped(Event, type_name="Shop.Stock.Events.StockShipped"):
    sku: str
    quantity: int


STOCK_EVENTS = (StockReceived, StockShipped)


@dataclass(frozen=True)
class Level:
    quantity: int = 0


class Stock(Aggregate[Level]):
    """What lies on one shelf; nothing is shipped that is not there."""

    commands = (ReceiveStock, ShipStock)
    events = STOCK_EVENTS

    @staticmethod
    def initial() -> Level:
        return Level()

    @staticmethod
    def stream_id(command: ReceiveStock | ShipStock) -> str:
        return f"stock-{command.sku}"

    @staticmethod
    def decide(
        state: Level, command: ReceiveStock | ShipStock
    ) -> StockReceived | StockShipped:
        if isinstance(command, ReceiveStock):
            return StockReceived(sku=command.sku, quantity=command.quantity)
        if state.quantity < command.quantity:
            raise Reject("not enough in stock", {"left": state.quantity})
        return StockShipped(sku=command.sku, quantity=command.quantity)

    @staticmethod
    def evolve(state: Level, event: StockReceived | StockShipped) -> Level:
        if isinstance(event, StockReceived):
            return Level(state.quantity + event.quantity)
        return Level(state.quantity - event.quantity)
