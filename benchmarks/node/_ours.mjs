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

/** Makes an app on memory, or on the SQLite file `file` of this process's folder. */
export function makeApp(options = {}) {
  const { file, ...rest } = options;
  const store = file === undefined ? "memory:" : `sqlite:${file}`;
  return new Orkestra("Bench", { bus: "memory:", store, ...rest });
}
