import { getEventListeners } from "node:events";
import type { Orkestra } from "orkestra";
import { describe, expect, test } from "vitest";
import { OrderPlaced, placed, shop } from "./shop.js";
import { DURABLE, STORES } from "./stores.js";

/** What is read until `last`. */
async function readUntil(reader: ReturnType<Orkestra["subscribe"]>, last: string) {
  const seen: string[] = [];
  for await (const { event } of reader) {
    const { order_id } = event as unknown as { order_id: string };
    seen.push(order_id);
    if (order_id === last) break;
  }
  return seen;
}

const started = async (store: string) => shop({ store }).addTypes(OrderPlaced).start();

describe.each(STORES)("on $name", ({ url }) => {
  test.each([undefined, "reader"])(
    "who leaves the iteration and reads on misses nothing: %s",
    async (name) => {
      const app = await started(await url());
      for (const id of ["1", "2", "3", "4"]) await app.store.append("order", [placed(id)]);
      const reader = app.subscribe({ ...(name && { name }) });

      expect(await readUntil(reader, "2")).toEqual(["1", "2"]);
      expect(await readUntil(reader, "3")).toEqual(["2", "3"]);
      expect(await readUntil(reader, "4")).toEqual(["3", "4"]);
    },
  );

  test("the same from now on", async () => {
    const app = await started(await url());
    await app.store.append("order", [placed("0")]);
    const reader = await app.subscribe({ start: "now" }).open();
    await app.store.append("order", [placed("1"), placed("2")]);

    expect(await readUntil(reader, "1")).toEqual(["1"]);
    expect(await readUntil(reader, "2")).toEqual(["1", "2"]);
  });
});

describe.each(DURABLE)("on $name", ({ url }) => {
  test("a name is free as soon as the app that reads under it closes", async () => {
    const store = await url();
    const [one, other] = [await started(store), await started(store)];
    await one.store.append("order", [placed("1")]);
    const waiting = (async () => {
      for await (const _ of one.subscribe({ name: "reader" }));
    })();
    // In the hands of one that never comes back for more.
    const held = one.subscribe({ name: "held" })[Symbol.asyncIterator]();
    await held.next();
    await one.close();
    await waiting;

    const began = Date.now();
    expect(await readUntil(other.subscribe({ name: "held" }), "1")).toEqual(["1"]);
    await other.store.append("order", [placed("2")]);
    expect((await readUntil(other.subscribe({ name: "reader" }), "2")).at(-1)).toBe("2");

    // A lease that nobody gives back lasts 10 s.
    expect(Date.now() - began).toBeLessThan(8000);
  });
});

test("a signal is left alone when the reading ends", async () => {
  const app = await started("memory:");
  await app.store.append("order", [placed("1")]);
  const { signal } = new AbortController();

  for (let n = 0; n < 20; n++) await readUntil(app.subscribe({ signal }), "1");

  expect(getEventListeners(signal, "abort")).toEqual([]);
});
