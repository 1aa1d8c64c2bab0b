/** The trace that a message comes with goes on with all that follows from it. */
import { describe, expect, test } from "vitest";
import { hasBroker, VirtualHost } from "./broker.js";
import { connect, database, hasPostgres } from "./postgres.js";
import {
  AddItem,
  cart,
  ItemAdded,
  OrderCancelled,
  OrderPlaced,
  PlaceOrder,
  placed,
  shop,
} from "./shop.js";
import { eventually } from "./views.js";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const HEADERS = {
  traceparent: `00-${TRACE}-00f067aa0ba902b7-01`,
  tracestate: "vendor=1",
  baggage: "tenant=shop",
};

const fail = (): never => {
  throw new Error("no");
};

describe.skipIf(!hasBroker() || !hasPostgres())("a trace", () => {
  test.each(["async", "explicit"] as const)(
    "of a command goes on to what its handler sends, appends and puts in the outbox, context %s",
    async (context) => {
      const host = new VirtualHost();
      const store = await database();
      const Cart = cart();
      const app = host.app("shop", { store, context }).addAggregate(Cart);
      app.commandHandler(PlaceOrder, async (_command, _metadata, made) => {
        await made.publish(placed("published"));
        await made.append("orders", [placed("appended")]);
        await made.execute(Cart, AddItem({ cart: "1", sku: "a" }));
        // Without the context of the process there is none for the outbox.
        if (context === "async") await app.outbox.add(OrderCancelled({ order_id: "put in" }));
        return { order_id: "" };
      });
      const options = { name: "fails", maxRetries: 0 };
      app.eventHandler([OrderPlaced, ItemAdded, OrderCancelled], fail, options);
      await app.start();
      const expected = context === "async" ? 4 : 3;

      const body = JSON.stringify({
        __type__: "command_envelope",
        command_type: "Shop.Orders.PlaceOrder",
        command_id: "0190aaaa-0000-7000-8000-00000000000b",
        params: { order_id: "7", quantity: 1 },
      });
      host.publish("orkestra.commands", "orders.place_order", body, HEADERS);
      await eventually(async () => (await app.deadLetters.list()).total === expected);

      const { items } = await app.deadLetters.list();
      expect(items.map(({ traceId }) => traceId)).toEqual(Array(expected).fill(TRACE));
      const client = await connect(store);
      const { rows } = await client.query<{ metadata: object }>(
        "SELECT metadata FROM orkestra.events",
      );
      expect(rows).toHaveLength(2);
      for (const { metadata } of rows) expect(metadata).toMatchObject(HEADERS);
    },
  );
});

test.skipIf(!hasPostgres())(
  "a trace is read from the log, and without one there is none",
  async () => {
    const store = await database();
    const app = shop({ store });
    const seen: string[] = [];
    app.eventHandler(
      OrderPlaced,
      async ({ order_id }) => {
        seen.push(order_id);
        await app.store.append("followed", [OrderCancelled({ order_id })]);
      },
      { name: "follows" },
    );
    app.eventHandler(OrderCancelled, fail, { name: "fails", maxRetries: 0 });
    await app.start();
    const client = await connect(store);
    const { position } = await app.store.append("orders", [placed("without")]);
    await app.caughtUp("follows", position as number);
    await client.query("SELECT orkestra.append('orders', $1, 'any')", [
      JSON.stringify([
        {
          type: "Shop.Orders.OrderPlaced",
          data: { order_id: "with", quantity: 1 },
          metadata: HEADERS,
        },
      ]),
    ]);
    await eventually(async () => (await app.deadLetters.list()).total === 2);

    expect(seen).toEqual(["without", "with"]);
    const { items } = await app.deadLetters.list();
    const traces = items.map(({ body, traceId }) => [JSON.parse(body).data.order_id, traceId]);
    expect(traces.sort()).toEqual([
      ["with", TRACE],
      ["without", null],
    ]);
  },
);
