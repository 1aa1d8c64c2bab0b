import {
  event,
  InvalidHandlerError,
  InvalidPayloadError,
  NoDeadLetterError,
  Reject,
} from "orkestra";
import { TestApp } from "orkestra/testing";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { CancelOrder, OrderPlaced, PlaceOrder, place, placed, shop } from "./shop.js";
import { DURABLE } from "./stores.js";

/** An app whose handler of events fails while `broken`. */
async function broken() {
  const app = new TestApp("shop");
  const state = { broken: true, seen: [] as string[] };
  app.eventHandler(
    OrderPlaced,
    async ({ order_id }) => {
      state.seen.push(order_id);
      if (state.broken) throw new Error("no stock", { cause: new TypeError("the cause") });
    },
    { name: "reserve", maxRetries: 0 },
  );
  app.eventHandler(OrderPlaced, () => undefined, { name: "other" });
  await app.start();
  const publish = async (id: string) => {
    const event = placed(id);
    await app.publish(event);
    return event;
  };
  return { app, state, publish };
}

describe("L", () => {
  test("L01 a record has the error chain, attempts and times", async () => {
    const { app, publish } = await broken();
    await publish("7");

    const [letter] = app.letters;

    expect(letter).toMatchObject({
      handler: "shop.reserve",
      kind: "event",
      type: "Shop.Orders.OrderPlaced",
      topic: "orders.order_placed",
      reason: "retries_exhausted",
      attempts: 1,
      status: "dead",
      requeueable: true,
      history: [],
    });
    expect(letter?.errors.map(({ type, message }) => [type, message])).toEqual([
      ["Error", "no stock"],
      ["TypeError", "the cause"],
    ]);
    expect(letter?.errors[0]?.trace).toContain("dead_letters.test");
    expect(letter?.firstFailedAt).toEqual(new Date(app.clock.now()));
    expect(JSON.parse(letter?.body ?? "").data).toEqual({ order_id: "7", quantity: 1 });
  });

  test("L02 the list filters by handler, topic, time and text, with paging and a total", async () => {
    const { app, publish } = await broken();
    for (const id of ["alpha", "beta", "gamma"]) {
      await publish(id);
      app.clock.advance(1000);
    }
    const start = app.clock.now() - 3000;
    const total = async (filter: Parameters<typeof app.deadLetters.list>[0]) =>
      (await app.deadLetters.list(filter)).total;

    expect(await total({})).toBe(3);
    expect(await total({ handler: "shop.reserve" })).toBe(3);
    expect(await total({ handler: "shop.other" })).toBe(0);
    expect(await total({ topic: "orders.*" })).toBe(3);
    expect(await total({ topic: "billing.#" })).toBe(0);
    expect(await total({ text: "BETA" })).toBe(1);
    expect(await total({ since: new Date(start + 1000) })).toBe(2);
    expect(await total({ until: new Date(start + 1000) })).toBe(1);
    const page = await app.deadLetters.list({ limit: 1, offset: 1 });
    expect(page.total).toBe(3);
    expect(page.items.map(({ body }) => JSON.parse(body).data.order_id)).toEqual(["beta"]);
  });

  test("L03 requeue keeps the id and reaches only that handler", async () => {
    const { app, state, publish } = await broken();
    await publish("7");
    const [letter] = app.letters;
    state.broken = false;

    expect(await app.deadLetters.requeue(letter?.id ?? "")).toBe(true);

    expect(state.seen).toEqual(["7", "7"]);
    expect((await app.deadLetters.list()).total).toBe(0);
  });

  test("L04 requeue by filter", async () => {
    const { app, state, publish } = await broken();
    await publish("alpha");
    await publish("beta");
    state.broken = false;

    expect(await app.deadLetters.requeueAll({ text: "beta" })).toBe(1);

    expect(state.seen).toEqual(["alpha", "beta", "beta"]);
    expect((await app.deadLetters.list()).total).toBe(1);
  });

  test("L04 all are requeued, however many and whatever cannot be", async () => {
    const Odd = event("Shop.Odd", z.object({ order_id: z.string(), odd: z.any() }));
    const app = shop();
    let isBroken = true;
    const seen = new Set<string>();
    const reserve = ({ order_id }: { order_id: string }) => {
      if (isBroken) throw new Error("no stock");
      seen.add(order_id);
    };
    app.eventHandler([OrderPlaced, Odd], reserve, { name: "reserve", maxRetries: 0 });
    await app.start();
    for (let n = 0; n < 130; n++) await app.publish(placed(String(n)));
    // It cannot be handed over again, as it could not be recorded.
    await app.publish(Odd({ order_id: "odd", odd: () => 1 }));
    isBroken = false;

    expect(await app.deadLetters.requeueAll({ limit: 3 })).toBe(2);
    expect(await app.deadLetters.requeueAll()).toBe(128);

    expect(seen.size).toBe(130);
    const { items } = await app.deadLetters.list();
    expect(items.map(({ requeueable }) => requeueable)).toEqual([false]);
  });

  test("L05 discard", async () => {
    const { app, publish } = await broken();
    await publish("7");
    const id = app.letters[0]?.id ?? "";

    expect(await app.deadLetters.discard(id)).toBe(true);
    expect(await app.deadLetters.discard(id)).toBe(false);
    await expect(app.deadLetters.show(id)).rejects.toThrow(NoDeadLetterError);
  });

  test("L06 a requeued message that fails again is one entry with history", async () => {
    const { app, publish } = await broken();
    await publish("7");
    const id = app.letters[0]?.id ?? "";

    expect(await app.deadLetters.requeue(id)).toBe(false);

    const { items } = await app.deadLetters.list();
    expect(items).toHaveLength(1);
    expect(items[0]).toMatchObject({ id, attempts: 2, status: "dead" });
    expect(items[0]?.history).toHaveLength(1);
    expect(items[0]?.history[0]?.firstFailedAt).toBeInstanceOf(Date);
  });

  test("L07 an edited payload is validated and requeued", async () => {
    const { app, state, publish } = await broken();
    await publish("7");
    const id = app.letters[0]?.id ?? "";
    state.broken = false;

    await expect(app.deadLetters.edit(id, { order_id: 8 })).rejects.toThrow(InvalidPayloadError);
    expect(await app.deadLetters.edit(id, { order_id: "8", quantity: 2 })).toBe(true);

    expect(state.seen).toEqual(["7", "8"]);
  });

  test.each(DURABLE)(
    "L08 dead letters survive a restart, and are requeued by the next process, on $name",
    async ({ url }) => {
      const store = await url();
      const handler = { fails: true };
      const open = () =>
        shop({ store }).commandHandler(PlaceOrder, async ({ order_id }) => {
          if (handler.fails) throw new Error("no");
          return { order_id };
        });
      const first = await open().start();
      await expect(first.dispatch(place())).rejects.toThrow("no");
      await first.close();
      handler.fails = false;

      const second = await open().start();
      const { items } = await second.deadLetters.list();

      expect(items).toHaveLength(1);
      expect(items[0]?.kind).toBe("command");
      expect(await second.deadLetters.requeue(items[0]?.id ?? "")).toBe(true);
      expect((await second.deadLetters.list()).total).toBe(0);
    },
  );

  test("a refusal of a requeued message is its end", async () => {
    const app = new TestApp("shop");
    let call = 0;
    app.commandHandler(CancelOrder, () => {
      if (call++ === 0) throw new Error("no");
      throw new Reject("gone");
    });
    await app.start();
    await app.dispatch(CancelOrder({ order_id: "7" })).catch(() => undefined);

    expect(await app.deadLetters.requeue(app.letters[0]?.id ?? "")).toBe(true);
  });

  test("a listener that fails is reported and keeps nobody else from hearing", async () => {
    const warnings: string[] = [];
    const app = new TestApp("shop", { logger: { warn: (_, message) => warnings.push(message) } });
    const heard: string[] = [];
    app.commandHandler(PlaceOrder, () => {
      throw new Error("no");
    });
    app.onDeadLetter(() => Promise.reject(new Error("deaf")));
    app.onDeadLetter(({ handler }) => heard.push(handler));
    await app.start();

    await expect(app.dispatch(place())).rejects.toThrow("no");

    expect(heard).toEqual(["shop.orders.place_order"]);
    expect(warnings).toEqual(["shop.orders.place_order: a listener of dead letters failed"]);
  });

  test.each(DURABLE)("a letter whose handler is gone stays, on $name", async ({ url }) => {
    const store = await url();
    const first = shop({ store }).commandHandler(PlaceOrder, () => {
      throw new Error("no");
    });
    await first.start();
    await first.dispatch(place()).catch(() => undefined);
    await first.close();
    const second = await shop({ store }).start();
    const { items } = await second.deadLetters.list();

    await expect(second.deadLetters.requeue(items[0]?.id ?? "")).rejects.toThrow(
      InvalidHandlerError,
    );

    expect((await second.deadLetters.list({ status: "dead" })).total).toBe(1);
  });
});
