"""The warehouse: a Python service that shares a broker with a shop in Node.

Run the shop first, then this. The broker is ORKESTRA_BUS.
"""

from __future__ import annotations

import asyncio
import os

from typing_extensions import TypedDict

from orkestra import Command, Event, Orkestra, Reject, RejectedError

BROKER = "amqp://guest:guest@localhost:5672/%2F"


class Reserved(TypedDict):
    reserved: int


class Ordered(TypedDict):
    order_id: str


# Ours.
class ReserveStock(Command[Reserved], type_name="Warehouse.Stock.ReserveStock"):
    sku: str
    quantity: int


class StockReserved(Event, type_name="Warehouse.Stock.StockReserved"):
    sku: str
    quantity: int


# The shop's. Services agree on names and payloads, not on classes.
class PlaceOrder(Command[Ordered], type_name="Shop.Orders.PlaceOrder"):
    order_id: str
    sku: str
    quantity: int


class OrderPlaced(Event, type_name="Shop.Orders.OrderPlaced"):
    order_id: str


# With no prefix to leave out, topics are whole names: `warehouse.stock.reserve_stock`.
app = Orkestra(
    "warehouse",
    bus=os.environ.get("ORKESTRA_BUS", BROKER),
    store="memory:",
    app_prefix="",
)
stock = {"sku_42": 10}
placed: asyncio.Queue[str] = asyncio.Queue()


@app.command_handler(ReserveStock)
async def reserve_stock(command: ReserveStock) -> Reserved:
    left = stock.get(command.sku, 0)
    if command.quantity > left:
        raise Reject(f"only {left} of {command.sku} left", {"left": left})
    stock[command.sku] = left - command.quantity
    print(f"warehouse: reserved {command.quantity} of {command.sku}", flush=True)
    await app.publish(StockReserved(sku=command.sku, quantity=command.quantity))
    return {"reserved": command.quantity}


@app.event_handler(OrderPlaced)
async def note_order(event: OrderPlaced) -> None:
    placed.put_nowait(event.order_id)


async def main() -> None:
    # The shop reserves the stock here before it answers.
    order = PlaceOrder(order_id="o-1", sku="sku_42", quantity=3)
    answer = await app.dispatch(order, actor_id="warehouse")
    print(f"warehouse: the shop took order {answer['order_id']}")
    print(f"warehouse: order {await placed.get()} is placed")
    try:
        await app.dispatch(PlaceOrder(order_id="o-2", sku="sku_42", quantity=50))
    except RejectedError as refused:
        print(f"warehouse: order o-2 is refused: {refused.reason}")


if __name__ == "__main__":
    app.run(main)
