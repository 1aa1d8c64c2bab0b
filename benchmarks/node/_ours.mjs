// The shop written with Orkestra, for the sides that measure it.

import { command, event, Orkestra } from "orkestra";
import { z } from "zod";

const fields = {
  order_id: z.string(),
  product_id: z.string(),
  quantity: z.number().int(),
  notes: z.string(),
};

export const PlaceOrder = command("Bench.PlaceOrder", z.object(fields));
export const OrderPlaced = event("Bench.OrderPlaced", z.object(fields));

/** Makes an app on memory, unless `options` has another store. */
export function makeApp(options = {}) {
  return new Orkestra("Bench", { bus: "memory:", store: "memory:", ...options });
}
