/**
 * The shop: a Node service that shares a broker with a warehouse in Python.
 *
 * Run it first; it ends with Ctrl-C. The broker is ORKESTRA_BUS.
 */
import { command, event, Orkestra, Reject, RejectedError } from "orkestra";
import { z } from "zod";

const BROKER = "amqp://guest:guest@localhost:5672/%2F";

// Ours.
const PlaceOrder = command(
  "Shop.Orders.PlaceOrder",
  z.object({ order_id: z.string(), sku: z.string(), quantity: z.int() }),
  { result: z.object({ order_id: z.string() }) },
);
const OrderPlaced = event("Shop.Orders.OrderPlaced", z.object({ order_id: z.string() }));

// The warehouse's. Services agree on names and payloads, not on code.
const ReserveStock = command(
  "Warehouse.Stock.ReserveStock",
  z.object({ sku: z.string(), quantity: z.int() }),
  { result: z.object({ reserved: z.int() }) },
);
const StockReserved = event(
  "Warehouse.Stock.StockReserved",
  z.object({ sku: z.string(), quantity: z.int() }),
);

// With no prefix to leave out, topics are whole names: `shop.orders.place_order`.
const app = new Orkestra("shop", {
  bus: process.env.ORKESTRA_BUS ?? BROKER,
  store: "memory:",
  appPrefix: "",
});

app.commandHandler(PlaceOrder, async ({ order_id, sku, quantity }) => {
  try {
    await app.dispatch(ReserveStock({ sku, quantity }));
  } catch (error) {
    if (!(error instanceof RejectedError)) throw error;
    // A refusal there is one here: nothing to try again.
    const { reason, data } = error.details;
    console.log(`shop: refused order ${order_id}: ${reason}`);
    throw new Reject(reason, data);
  }
  console.log(`shop: took order ${order_id}`);
  await app.publish(OrderPlaced({ order_id }));
  return { order_id };
});

app.eventHandler(
  StockReserved,
  ({ sku, quantity }) => console.log(`shop: stock reserved: ${quantity} of ${sku}`),
  { name: "note_reservation" },
);

await app.start();
console.log("shop: open");
await app.run();
