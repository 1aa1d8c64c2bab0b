"""Orders of a small shop: a command with a result, a refusal, an aggregate, a dead
letter, and what the store holds.

The same program is in examples/node and examples/rust; all three print
examples/quickstart.txt.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from orkestra import (
    Aggregate,
    AggregateAnswer,
    Command,
    Event,
    Metadata,
    Orkestra,
    Reject,
    RejectedError,
    RetryPolicy,
)

if TYPE_CHECKING:
    from orkestra import DeadLetter

# An id of our own: the same command again is the same command, whoever delivers it.
COMMAND_ID = "0199aa00-0000-7000-8000-000000000001"


# Without `type_name` they would be named after this file: `Main.PlaceOrder`.
class PlaceOrder(Command[str], type_name="Shop.Orders.Commands.PlaceOrder"):
    """Asks for an order; its handler answers the order's id."""

    product_id: str
    quantity: int


class OrderPlaced(Event, type_name="Shop.Orders.Events.OrderPlaced"):
    order_id: str
    product_id: str
    quantity: int


class OrderPacked(Event, type_name="Shop.Orders.Events.OrderPacked"):
    order_id: str


class ReceiveStock(
    Command[AggregateAnswer], type_name="Shop.Stock.Commands.ReceiveStock"
):
    product_id: str
    quantity: int


class ReserveStock(
    Command[AggregateAnswer], type_name="Shop.Stock.Commands.ReserveStock"
):
    product_id: str
    order_id: str
    quantity: int


class StockReceived(Event, type_name="Shop.Stock.Events.StockReceived"):
    quantity: int


class StockReserved(Event, type_name="Shop.Stock.Events.StockReserved"):
    order_id: str
    quantity: int


class Stock(Aggregate[int]):
    """The stock of one product: its state is the pieces that nobody has reserved."""

    commands = (ReceiveStock, ReserveStock)

    def initial(self) -> int:
        return 0

    def stream_id(self, command: ReceiveStock | ReserveStock) -> str:
        return f"stock-{command.product_id}"

    def decide(self, state: int, command: ReceiveStock | ReserveStock) -> list[Event]:
        if isinstance(command, ReceiveStock):
            return [StockReceived(quantity=command.quantity)]
        if command.quantity > state:
            raise Reject(f"{state} in stock, {command.quantity} wanted")
        return [StockReserved(order_id=command.order_id, quantity=command.quantity)]

    def evolve(self, state: int, event: StockReceived | StockReserved) -> int:
        if isinstance(event, StockReceived):
            return state + event.quantity
        return state - event.quantity


app = Orkestra("shop", store="memory:")
app.add_aggregate(Stock)


@app.command_handler(PlaceOrder)
async def place_order(command: PlaceOrder) -> str:
    if command.quantity < 1:
        raise Reject("at least one must be ordered")
    order_id = "o-1"
    await app.publish(
        OrderPlaced(
            order_id=order_id,
            product_id=command.product_id,
            quantity=command.quantity,
        )
    )
    return order_id


@app.event_handler(OrderPlaced)
async def send_confirmation(event: OrderPlaced, metadata: Metadata) -> None:
    caused = "yes" if metadata.causation_id == COMMAND_ID else "no"
    print(
        f"send_confirmation: order {event.order_id},"
        f" {event.quantity} x {event.product_id}"
    )
    print(
        f"  actor {metadata.actor_type} {metadata.actor_id},"
        f" source {metadata.source}, caused by the command: {caused}"
    )


attempts = 0


@app.event_handler(OrderPacked, retry=RetryPolicy(max_retries=2, initial=0.001))
async def print_label(event: OrderPacked) -> None:
    global attempts
    attempts += 1
    print(f"print_label: attempt {attempts}")
    raise RuntimeError("the printer is offline")


@app.on_dead_letter
def show_dead_letter(letter: DeadLetter) -> None:
    error = letter.errors[0]["message"]
    print(
        f"dead letter: {letter.handler} gave up {letter.topic}"
        f" after {letter.attempts} attempts"
    )
    print(f"  {letter.reason}: {error}")


async def main() -> None:
    async with app:
        print("-- a command, its event and its result")
        order_id = await app.dispatch(
            PlaceOrder(product_id="sku_42", quantity=3),
            id=COMMAND_ID,
            actor_type="user",
            actor_id="user_123",
            source="web",
        )
        print(f"result: order {order_id}")

        print("\n-- a refusal")
        try:
            await app.dispatch(PlaceOrder(product_id="sku_42", quantity=0))
        except RejectedError as refusal:
            print(f"rejected: {refusal.reason}")

        print("\n-- an aggregate")
        answer = await app.dispatch(ReceiveStock(product_id="sku_42", quantity=10))
        stream, revision = answer["stream"], answer["revision"]
        print(f"received 10: {stream} is at revision {revision}")
        outcome = await app.execute(
            Stock, ReserveStock(product_id="sku_42", order_id="o-1", quantity=7)
        )
        print(f"reserved 7 for o-1: {outcome.stream} is at revision {outcome.revision}")
        try:
            await app.dispatch(
                ReserveStock(product_id="sku_42", order_id="o-2", quantity=5)
            )
        except RejectedError as refusal:
            print(f"rejected: {refusal.reason}")

        print("\n-- a dead letter")
        envelope = await app.publish(OrderPacked(order_id=order_id))
        await envelope.settled()

        print("\n-- the store")
        async for recorded in app.store.read_stream("stock-sku_42"):
            event = recorded.event
            line = f"{recorded.stream} {recorded.revision} {recorded.type}, "
            if isinstance(event, StockReserved):
                print(f"{line}{event.quantity} pieces, for {event.order_id}")
            elif isinstance(event, StockReceived):
                print(f"{line}{event.quantity} pieces")


if __name__ == "__main__":
    asyncio.run(main())
