// The app of the RabbitMQ rows, and its queues.

import { command, Orkestra } from "orkestra";
import { z } from "zod";

import { remove, URL, WINDOW } from "./_rabbit.mjs";
import { payload } from "./_shop.mjs";

const fields = {
  order_id: z.string(),
  product_id: z.string(),
  quantity: z.number().int(),
  notes: z.string(),
};

export const PlaceOrder = command("Bench.PlaceOrder", z.object(fields));
export const PriceOrder = command("Bench.PriceOrder", z.object(fields), z.string());
export const order = payload;

/** An app on the broker, with queues of the type `type`; it is not started. */
export function appFor(type) {
  const bus = `${URL}?queue_type=${type}&prefetch=${WINDOW}`;
  return new Orkestra("Bench", { bus, store: "memory:" });
}

/** Runs `use` with the commands' queues declared, by an app that has their handlers; then deletes the queues. */
export async function declared(type, use) {
  const queues = ["orkestra.cmd.place_order", "orkestra.cmd.price_order"];
  await remove(...queues);
  const app = appFor(type);
  app.commandHandler(PlaceOrder, async (_command) => {});
  app.commandHandler(PriceOrder, async (command) => command.order_id);
  await app.start();
  await app.close();
  try {
    return await use();
  } finally {
    await remove(...queues);
  }
}
