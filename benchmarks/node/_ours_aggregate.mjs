// The order aggregate written with Orkestra, the twin of python/_ours_aggregate.py.

import { aggregate, command, event } from "orkestra";
import { z } from "zod";
import { makeApp } from "./_ours.mjs";
import { payload } from "./_shop.mjs";

const fields = z.object({
  order_id: z.string(),
  product_id: z.string(),
  quantity: z.number().int(),
  notes: z.string(),
});

const ChangeOrder = command("Bench.ChangeOrder", fields);
const OrderChanged = event("Bench.OrderChanged", fields);

/** An order whose total grows by one event per command. */
export const Order = aggregate({
  name: "Order",
  commands: [ChangeOrder],
  events: [OrderChanged],
  initial: () => ({ total: 0 }),
  streamId: (cmd) => `order-${cmd.order_id}`,
  decide: (_state, cmd) => [OrderChanged({ ...cmd })],
  evolve: (state, evt) => ({ total: state.total + evt.quantity }),
});

/** Returns the command that adds one event to order `order`. */
export function change(order, number) {
  return ChangeOrder({ ...payload(number), order_id: String(order) });
}

/** Starts an app on `store` with `count` orders of `events` events each. */
export async function makeOrders(store, count, events) {
  const app = makeApp({ store });
  app.addAggregate(Order);
  await app.start();
  for (let n = 0; n < count; n++) {
    const batch = Array.from({ length: events }, (_, i) =>
      OrderChanged({ ...payload(i), order_id: String(n) }),
    );
    await app.store.append(`order-${n}`, batch);
  }
  return app;
}
