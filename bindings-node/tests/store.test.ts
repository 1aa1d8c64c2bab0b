import {
  DuplicateEventError,
  event,
  InvalidArgumentError,
  InvalidStreamNameError,
  idOf,
  metadataOf,
  NotCaughtUpError,
  type RawEvent,
  RevisionConflictError,
  SubscriptionStoppedError,
  typeOf,
} from "orkestra";
import { TestApp } from "orkestra/testing";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import {
  gate,
  ItemAdded,
  OrderCancelled,
  OrderPlaced,
  PlaceOrder,
  place,
  placed,
  shop,
} from "./shop.js";
import { DURABLE, STORES } from "./stores.js";

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

// The suites of the core show the stores themselves; here is what lies between them and JavaScript.
describe.each(STORES)("app.store on $name", ({ name, url }) => {
  test("A03 a conflict carries what was expected and found", async () => {
    const app = await shop({ store: await url() }).start();
    await app.store.append("order-7", [placed(), placed()]);

    const error = await app.store
      .append("order-7", [placed()], { expected: "no_stream" })
      .catch((caught: unknown) => caught);

    expect(error).toBeInstanceOf(RevisionConflictError);
    expect((error as RevisionConflictError).details).toEqual({
      stream: "order-7",
      expected: "no_stream",
      actual: 1,
    });
    await app.store.append("order-7", [placed()], { expected: 1 });
  });

  test("A10 the same batch again gives the first result", async () => {
    const app = await shop({ store: await url() }).start();
    const batch = [placed(), placed()];

    const first = await app.store.append("order-7", batch, { expected: "no_stream" });
    const again = await app.store.append("order-7", batch, { expected: "no_stream" });

    expect(first).toEqual({ revision: 1, position: 2, repeated: false });
    expect(again).toEqual({ ...first, repeated: true });
    await expect(app.store.append("order-8", batch)).rejects.toThrow(DuplicateEventError);
  });

  test("A14 what was appended is read back as it was", async () => {
    const app = await shop({ store: await url() })
      .addTypes(OrderPlaced)
      .start();
    const event = placed();
    await app.publish(event, { actorId: "user_1", source: "web" });
    await app.store.append("order-7", [event]);

    const [recorded] = await all(app.store.readStream("order-7"));

    expect(recorded?.event).toEqual(event);
    expect(OrderPlaced.is(recorded?.event)).toBe(true);
    expect(recorded?.id).toBe(idOf(event));
    expect(recorded?.metadata.toJSON()).toEqual(metadataOf(event).toJSON());
    expect(recorded).toMatchObject({ stream: "order-7", revision: 0, position: 1, version: 1 });
    expect(recorded?.occurredAt).toEqual(metadataOf(event).issuedAt);
  });

  test("A17 large payloads and odd text are unchanged", async () => {
    const app = await shop({ store: await url() })
      .addTypes(ItemAdded)
      .start();
    // What a text of PostgreSQL cannot hold.
    const odd = name === "postgres" ? "" : "\u0000 \ud800";
    const texts = ["x".repeat(1024 * 1024 - 100), `😀${odd} " \\`, "9007199254740993", ""];

    for (const [n, sku] of texts.entries())
      await app.store.append(`cart-${n}`, [ItemAdded({ sku })]);

    const read = await all(app.store.readAll());
    // A lone surrogate is no text: JSON.stringify escapes it and it comes back.
    expect(read.map(({ event }) => (event as unknown as { sku: string }).sku)).toEqual(texts);
  });

  test.each([[[]], [["sometimes" as never]]])(
    "appends of one turn are done in their order, each with its own end, also with %j",
    async (unfit) => {
      const app = await shop({ store: await url() }).start();

      const ends = await Promise.allSettled([
        app.store.append("order-7", [placed()]),
        app.store.append("order-7", [placed()], { expected: 0 }),
        ...unfit.map((expected) => app.store.append("order-8", [placed()], { expected })),
        app.store.append("order-7", [placed()], { expected: "no_stream" }),
        app.store.append("order-8", [placed()], { expected: "no_stream" }),
      ]);

      const told = ends.map((end) =>
        end.status === "fulfilled" ? end.value.revision : (end.reason as Error).name,
      );
      expect(told).toEqual([
        0,
        1,
        ...unfit.map(() => "InvalidArgumentError"),
        "RevisionConflictError",
        0,
      ]);
    },
  );

  test("what comes behind an append in one turn comes after it", async () => {
    const app = await shop({ store: await url() }).start();

    const appended = app.store.append("order-7", [placed()]);
    const deleted = app.store.deleteStream("order-7");
    const late = app.store.append("order-8", [placed()]);
    const closed = app.close();

    expect(await deleted).toBe(true);
    expect((await appended).revision).toBe(0);
    expect((await late).revision).toBe(0);
    await closed;
  });

  test("appendMany is all or nothing", async () => {
    const app = await shop({ store: await url() }).start();

    const done = await app.store.appendMany([
      { stream: "a", events: [placed()], expected: "no_stream" },
      { stream: "b", events: [placed(), placed()] },
    ]);
    await expect(
      app.store.appendMany([
        { stream: "c", events: [placed()] },
        { stream: "a", events: [placed()], expected: "no_stream" },
      ]),
    ).rejects.toThrow(RevisionConflictError);

    expect(done.map(({ revision }) => revision)).toEqual([0, 1]);
    expect(await app.store.streamExists("c")).toBe(false);
    expect(await app.store.streamExists("a")).toBe(true);
  });

  test("B02 B03 B04 streams are read from anywhere, either way, page by page", async () => {
    const app = await shop({ store: await url() }).start();
    await app.store.append(
      "order-7",
      Array.from({ length: 10 }, (_, n) => placed(String(n))),
    );
    const revisions = async (options: Parameters<typeof app.store.readStream>[1]) =>
      (await all(app.store.readStream("order-7", options))).map(({ revision }) => revision);

    expect(await revisions({ fromRevision: 8 })).toEqual([8, 9]);
    expect(await revisions({ backwards: true, limit: 1 })).toEqual([9]);
    expect(await revisions({ pageSize: 3 })).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(await revisions({ pageSize: 3, backwards: true })).toEqual([
      9, 8, 7, 6, 5, 4, 3, 2, 1, 0,
    ]);
    expect(await revisions({ pageSize: 4, limit: 6 })).toEqual([0, 1, 2, 3, 4, 5]);
    expect(await all(app.store.readStream("unknown"))).toEqual([]);
  });

  test("B05 B06 B07 the log is read after a position, by topics and prefixes", async () => {
    const app = await shop({ store: await url() })
      .addTypes(OrderPlaced, OrderCancelled, ItemAdded)
      .start();
    expect(await app.store.head()).toBe(null);
    await app.store.append("order-7", [placed(), OrderCancelled({ order_id: "7" })]);
    await app.store.append("cart-1", [ItemAdded({ sku: "a" })]);
    const types = async (options: Parameters<typeof app.store.readAll>[0]) =>
      (await all(app.store.readAll(options))).map(({ type }) => type.split(".").at(-1));

    expect(await types({})).toEqual(["OrderPlaced", "OrderCancelled", "ItemAdded"]);
    expect(await types({ after: 1 })).toEqual(["OrderCancelled", "ItemAdded"]);
    expect(await types({ pageSize: 1, limit: 2 })).toEqual(["OrderPlaced", "OrderCancelled"]);
    expect(await types({ topics: ["orders.#"] })).toEqual(["OrderPlaced", "OrderCancelled"]);
    expect(await types({ topics: ["*.order_placed", "carts.*"], pageSize: 1 })).toEqual([
      "OrderPlaced",
      "ItemAdded",
    ]);
    expect(await types({ streamPrefix: "cart-" })).toEqual(["ItemAdded"]);
    expect(await app.store.head()).toBe(3);
  });

  test("A19 A20 streams are deleted softly or for good", async () => {
    const app = await shop({ store: await url() }).start();
    for (const stream of ["soft", "hard"])
      await app.store.append(stream, [placed(), placed(), placed()]);

    expect(await app.store.deleteStream("soft", { expected: 2 })).toBe(true);
    expect(await app.store.deleteStream("hard", { hard: true })).toBe(true);
    expect(await app.store.deleteStream("unknown")).toBe(false);

    expect(await all(app.store.readStream("soft"))).toEqual([]);
    expect((await app.store.append("soft", [placed()])).revision).toBe(3);
    expect((await app.store.append("hard", [placed()])).revision).toBe(0);
  });

  test("an event that the app does not know is read as a raw one", async () => {
    const app = await shop({ store: await url() }).start();
    await app.store.append("order-7", [placed()]);

    const [recorded] = await all(app.store.readAll());

    const event = recorded?.event as RawEvent;
    expect([event.type, event.data]).toEqual([
      "Shop.Orders.OrderPlaced",
      { order_id: "7", quantity: 1 },
    ]);
    expect(typeOf(event)).toBe("Shop.Orders.OrderPlaced");
  });

  test("what is appended in a handler is caused by the message it handles", async () => {
    const app = shop({ store: await url(), context: "explicit" });
    app.commandHandler(PlaceOrder, async ({ order_id }, _, context) => {
      await context.append(`order-${order_id}`, [placed(order_id)]);
      return { order_id };
    });
    await app.start();
    const command = place();
    await app.dispatch(command, { actorId: "user_1" });

    const [recorded] = await all(app.store.readAll());

    expect(recorded?.metadata).toMatchObject({ causationId: idOf(command), actorId: "user_1" });
  });
});

describe.each(DURABLE)("logged events reach their handlers, on $name", ({ url }) => {
  test("after the commit, in order, and after a restart from where they were", async () => {
    const store = await url();
    const seen: string[] = [];
    const open = () =>
      shop({ store })
        .eventHandler(OrderPlaced, ({ order_id }) => void seen.push(order_id), { name: "count" })
        .start();
    const first = await open();
    const { position } = await first.store.append("order", ["1", "2", "3"].map(placed));
    await first.caughtUp("count", position ?? 0);
    await first.close();

    const second = await open();
    const more = await second.store.append("order", [placed("4")]);
    await second.caughtUp("count", more.position ?? 0);

    expect(seen).toEqual(["1", "2", "3", "4"]);
    expect((await second.health()).readers).toEqual([
      { name: "shop.count", position: 4, running: true, stopped: null },
    ]);
  });

  test("E04 what was handled before the app closed is not handled again", async () => {
    const store = await url();
    const seen: string[] = [];
    const { opened, open } = gate();
    const closing = gate();
    const first = shop({ store });
    first.eventHandler(
      OrderPlaced,
      async ({ order_id }) => {
        seen.push(order_id);
        if (order_id === "2") {
          open();
          await closing.opened;
        }
      },
      { name: "h" },
    );
    await first.start();
    await first.store.append("order", ["1", "2", "3", "4"].map(placed));
    await opened;
    const closed = first.close();
    closing.open();
    await closed;
    const before = seen.length;

    const second = shop({ store });
    second.eventHandler(OrderPlaced, ({ order_id }) => void seen.push(order_id), { name: "h" });
    await second.start();
    await second.caughtUp("h", 4);

    expect(before).toBeLessThan(4);
    expect(seen).toEqual(["1", "2", "3", "4"]);
  });

  test("E06 of several processes one reads at a time, the next goes on when it closes", async () => {
    const store = await url();
    const seen: string[] = [];
    const open = (name: string) =>
      shop({ store })
        .eventHandler(OrderPlaced, () => void seen.push(name), { name: "h" })
        .start();
    const first = await open("first");
    await first.store.append("order", [placed("1")]);
    await first.caughtUp("h", 1);
    const second = await open("second");
    await first.store.append("order", [placed("2")]);
    await second.caughtUp("h", 2);

    await first.close();
    await second.store.append("order", [placed("3")]);
    await second.caughtUp("h", 3);

    expect(seen).toEqual(["first", "first", "second"]);
  });

  test("an event that waits for a retry when the app closes comes again, and is no dead letter", async () => {
    const store = await url();
    const attempts: number[] = [];
    const open = (fails: boolean) =>
      new TestApp("shop", { store, state: store }).eventHandler(
        OrderPlaced,
        (_, __, { attempt }) => {
          attempts.push(attempt);
          if (fails) throw new Error("not now");
        },
        { name: "h" },
      );
    const first = open(true);
    await first.start();
    await first.store.append("order", [placed()]);
    await first.clock.nextWake();
    await first.close();

    const second = open(false);
    await second.start();
    await second.caughtUp("h", 1);

    expect(attempts).toEqual([1, 1]);
    expect((await second.deadLetters.list()).total).toBe(0);
    await second.close();
  });

  test("E09 a poison event is parked, passed over, or stops the reader", async () => {
    for (const poison of ["park", "skip", "stop"] as const) {
      const warnings: string[] = [];
      const app = shop({ logger: { warn: (_, message) => warnings.push(message) } });
      const seen: string[] = [];
      const { opened, open } = gate();
      app.eventHandler(
        OrderPlaced,
        ({ order_id }) => {
          seen.push(order_id);
          if (order_id === "2") {
            open();
            throw new Error("poison");
          }
        },
        { name: "h", maxRetries: 0, poison },
      );
      await app.start();
      await app.store.append("order", ["1", "2", "3"].map(placed));

      const caughtUp = app.caughtUp("h", 3);
      if (poison === "stop") {
        await opened;
        await expect(caughtUp).rejects.toThrow(SubscriptionStoppedError);
        expect((await app.health()).readers[0]?.stopped).toMatch(/at position 2: poison/);
      } else await caughtUp;

      expect(seen).toEqual(poison === "stop" ? ["1", "2"] : ["1", "2", "3"]);
      expect((await app.deadLetters.list()).total).toBe(poison === "park" ? 1 : 0);
      expect((await app.health()).ok).toBe(poison !== "stop");
    }
  });

  test("G05 waiting for a handler that does not get there is an error", async () => {
    const app = new TestApp("shop").eventHandler(OrderPlaced, () => undefined, { name: "h" });
    await app.start();

    const waiting = app.caughtUp("h", 7, { timeoutMs: 100 }).catch((error: unknown) => error);
    await app.clock.nextWake();
    app.clock.advance(100);

    expect(await waiting).toBeInstanceOf(NotCaughtUpError);
    await app.close();
  });

  test("one that does not decode is a dead letter at once, and the rest goes on", async () => {
    const Odd = event("Shop.Orders.OrderPlaced", z.object({ order_id: z.number() }));
    const seen: number[] = [];
    const app = shop().eventHandler(Odd, ({ order_id }) => void seen.push(order_id), { name: "h" });
    await app.start();
    await app.store.append("order", [placed("seven")]);
    const { position } = await app.store.append("order", [Odd({ order_id: 8 })]);
    await app.caughtUp("h", position ?? 0);

    const { items } = await app.deadLetters.list();

    expect(seen).toEqual([8]);
    expect(items[0]).toMatchObject({ reason: "undecodable", handler: "shop.h" });
  });
});

describe("subscriptions", () => {
  test("E02 E03 E05 history first, then live; only what matches; on from where they were", async () => {
    const app = await shop().addTypes(OrderPlaced, ItemAdded).start();
    await app.store.append("order", [placed("1"), ItemAdded({ sku: "a" })]);
    const seen: number[] = [];
    const reading = (async () => {
      for await (const { position } of app.subscribe({ name: "audit", topics: ["orders.#"] })) {
        seen.push(position);
        if (seen.length === 2) break;
      }
    })();
    await app.store.append("order", [placed("2"), placed("3")]);
    await reading;

    const rest = app.subscribe({ name: "audit", topics: ["orders.#"] }).batches();

    expect(seen).toEqual([1, 3]);
    const { value } = await rest.next();
    expect(value?.events.map(({ position }: { position: number }) => position)).toEqual([3, 4]);
    await rest.return(undefined);
  });

  test("E01 from now on, until the signal is aborted", async () => {
    const app = await shop().addTypes(OrderPlaced).start();
    await app.store.append("order", [placed("1")]);
    const stop = new AbortController();
    const live = await app.subscribe({ start: "now", signal: stop.signal }).open();
    const seen: number[] = [];
    const reading = (async () => {
      for await (const { position } of live) {
        seen.push(position);
        stop.abort();
      }
    })();

    await app.store.append("order", [placed("2")]);
    await reading;

    expect(seen).toEqual([2]);
  });

  test("end when the app closes", async () => {
    const app = await shop().start();
    const reading = app.subscribe().batches().next();

    await app.close();

    expect((await reading).done).toBe(true);
  });
});

describe("bad input: streams and numbers", () => {
  test("A18 empty and reserved stream names", async () => {
    const app = await shop().start();
    for (const stream of ["", "$all", " a", "a\n", "x".repeat(1001)]) {
      await expect(app.store.append(stream, [placed()])).rejects.toThrow(InvalidStreamNameError);
      await expect(all(app.store.readStream(stream))).rejects.toThrow(InvalidStreamNameError);
    }
    await app.store.append("x y".repeat(300), [placed()]);
  });

  test("numbers that are none of ours", async () => {
    const app = await shop().start();
    const call = (options: object) => all(app.store.readStream("order", options));
    for (const number of [-1, 1.5, Number.NaN, 2 ** 53]) {
      await expect(call({ fromRevision: number })).rejects.toThrow(InvalidArgumentError);
      await expect(call({ limit: number })).rejects.toThrow(InvalidArgumentError);
      const expected = { expected: number };
      await expect(app.store.append("order", [placed()], expected)).rejects.toThrow(
        InvalidArgumentError,
      );
    }
    const odd = { expected: "some" as "any" };
    await expect(app.store.append("order", [placed()], odd)).rejects.toThrow(InvalidArgumentError);
  });
});
