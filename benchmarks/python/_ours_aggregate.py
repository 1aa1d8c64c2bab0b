"""The order aggregate written with Orkestra, and helpers that fill its stream."""

from __future__ import annotations

from dataclasses import dataclass

from _shop import payload

from orkestra import Aggregate, Command, Event, Orkestra


class ChangeOrder(Command[None]):
    """Adds `quantity` to an order; 0 changes nothing."""

    order_id: str
    product_id: str
    quantity: int
    notes: str = ""


class OrderChanged(Event):
    """An order's total grew by `quantity`."""

    order_id: str
    product_id: str
    quantity: int
    notes: str = ""


@dataclass(frozen=True)
class OrderState:
    """What the events of an order add up to."""

    total: int = 0


class Order(Aggregate[OrderState]):
    """An order whose total grows by one event per command."""

    commands = (ChangeOrder,)
    events = (OrderChanged,)

    @staticmethod
    def initial() -> OrderState:
        """Returns an order of nothing."""
        return OrderState()

    @staticmethod
    def stream_id(command: ChangeOrder) -> str:
        """Returns the whole stream name."""
        return f"order-{command.order_id}"

    @staticmethod
    def decide(state: OrderState, command: ChangeOrder) -> list[OrderChanged]:
        """Decides one event, or none when nothing changes."""
        if command.quantity == 0:
            return []
        return [OrderChanged(**command.model_dump())]

    @staticmethod
    def evolve(state: OrderState, event: OrderChanged) -> OrderState:
        """Adds the event's quantity."""
        return OrderState(state.total + event.quantity)


def change(order: str, number: int) -> ChangeOrder:
    """Returns the command that adds one event to `order`."""
    return ChangeOrder(**{**payload(number), "order_id": order})


async def make(app: Orkestra, order: str, events: int) -> None:
    """Appends `events` events to the stream of `order`."""
    batch = [OrderChanged(**{**payload(n), "order_id": order}) for n in range(events)]
    await app.store.append(f"order-{order}", batch)


async def look(app: Orkestra, order: str) -> int:
    """Loads and folds `order` by a command that decides nothing."""
    nothing = ChangeOrder(order_id=order, product_id="sku_42", quantity=0)
    outcome = await app.execute(Order, nothing)
    total: int = outcome.state.total
    return total
