/**
 * Orders of a small shop: a command with a result, a refusal, an aggregate, a dead letter, and what the store holds.
 *
 * The same program is in examples/python and examples/rust; all three print examples/quickstart.txt.
 */
import { aggregate, command, event, Orkestra, Reject, RejectedError, type } from "orkestra";
import { z } from "zod";

// An id of our own: the same command again is the same command, whoever delivers it.
const COMMAND_ID = "0199aa00-0000-7000-8000-000000000001";

/** The result of an aggregate's command. @type {import("orkestra").Schema<import("orkestra").AggregateAnswer, import("orkestra").AggregateAnswer>} */
const answer = type();

/** Asks for an order; its handler answers the order's id. */
const PlaceOrder = command(
  "Shop.Orders.Commands.PlaceOrder",
  z.object({ product_id: z.string(), quantity: z.int() }),
  { result: z.string() },
);
const OrderPlaced = event(
  "Shop.Orders.Events.OrderPlaced",
  z.object({ order_id: z.string(), product_id: z.string(), quantity: z.int() }),
);
const OrderPacked = event("Shop.Orders.Events.OrderPacked", z.object({ order_id: z.string() }));
const ReceiveStock = command(
  "Shop.Stock.Commands.ReceiveStock",
  z.object({ product_id: z.string(), quantity: z.int() }),
  { result: answer },
);
const ReserveStock = command(
  "Shop.Stock.Commands.ReserveStock",
  z.object({ product_id: z.string(), order_id: z.string(), quantity: z.int() }),
  { result: answer },
);
const StockReceived = event("Shop.Stock.Events.StockReceived", z.object({ quantity: z.int() }));
const StockReserved = event(
  "Shop.Stock.Events.StockReserved",
  z.object({ order_id: z.string(), quantity: z.int() }),
);

/** The stock of one product: its state is the pieces that nobody has reserved. */
const Stock = aggregate({
  name: "stock",
  commands: [ReceiveStock, ReserveStock],
  events: [StockReceived, StockReserved],
  initial: () => 0,
  streamId: ({ product_id }) => `stock-${product_id}`,
  decide(free, wanted) {
    const { quantity } = wanted;
    if (!ReserveStock.is(wanted)) return StockReceived({ quantity });
    if (quantity > free) throw new Reject(`${free} in stock, ${quantity} wanted`);
    return StockReserved({ order_id: wanted.order_id, quantity });
  },
  evolve: (free, happened) =>
    StockReserved.is(happened) ? free - happened.quantity : free + happened.quantity,
});

const app = new Orkestra("shop", { store: "memory:" });
app.addAggregate(Stock);

app.commandHandler(PlaceOrder, async ({ product_id, quantity }) => {
  if (quantity < 1) throw new Reject("at least one must be ordered");
  const order_id = "o-1";
  await app.publish(OrderPlaced({ order_id, product_id, quantity }));
  return order_id;
});

app.eventHandler(
  OrderPlaced,
  async ({ order_id, product_id, quantity }, metadata) => {
    const { actorType, actorId, source, causationId } = metadata;
    const caused = causationId === COMMAND_ID ? "yes" : "no";
    console.log(`send_confirmation: order ${order_id}, ${quantity} x ${product_id}`);
    console.log(
      `  actor ${actorType} ${actorId}, source ${source}, caused by the command: ${caused}`,
    );
  },
  { name: "send_confirmation" },
);

let attempts = 0;
app.eventHandler(
  OrderPacked,
  async () => {
    attempts += 1;
    console.log(`print_label: attempt ${attempts}`);
    throw new Error("the printer is offline");
  },
  { name: "print_label", retry: { maxRetries: 2, initialMs: 1 } },
);

app.onDeadLetter(({ handler, topic, attempts, reason, errors }) => {
  console.log(`dead letter: ${handler} gave up ${topic} after ${attempts} attempts`);
  console.log(`  ${reason}: ${errors[0]?.message}`);
});

/** @param {Promise<unknown>} refused */
async function showRefusal(refused) {
  try {
    await refused;
    console.log("taken");
  } catch (error) {
    if (!(error instanceof RejectedError)) throw error;
    console.log(`rejected: ${error.details.reason}`);
  }
}

await app.start();

console.log("-- a command, its event and its result");
const orderId = await app.dispatch(PlaceOrder({ product_id: "sku_42", quantity: 3 }), {
  id: COMMAND_ID,
  actorType: "user",
  actorId: "user_123",
  source: "web",
});
console.log(`result: order ${orderId}`);

console.log("\n-- a refusal");
await showRefusal(app.dispatch(PlaceOrder({ product_id: "sku_42", quantity: 0 })));

console.log("\n-- an aggregate");
const received = await app.dispatch(ReceiveStock({ product_id: "sku_42", quantity: 10 }));
console.log(`received 10: ${received.stream} is at revision ${received.revision}`);
const reserved = await app.execute(
  Stock,
  ReserveStock({ product_id: "sku_42", order_id: orderId, quantity: 7 }),
);
console.log(`reserved 7 for ${orderId}: ${reserved.stream} is at revision ${reserved.revision}`);
await showRefusal(
  app.dispatch(ReserveStock({ product_id: "sku_42", order_id: "o-2", quantity: 5 })),
);

console.log("\n-- a dead letter");
const envelope = await app.publish(OrderPacked({ order_id: orderId }));
await envelope.settled();

console.log("\n-- the store");
for await (const recorded of app.store.readStream("stock-sku_42")) {
  const { stream, revision, type, event } = recorded;
  const line = `${stream} ${revision} ${type}, `;
  if (StockReserved.is(event))
    console.log(`${line}${event.quantity} pieces, for ${event.order_id}`);
  else if (StockReceived.is(event)) console.log(`${line}${event.quantity} pieces`);
}

await app.close();
