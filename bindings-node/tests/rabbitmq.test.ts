/** K and L over RabbitMQ: the cases that are about a message on its way through Node. What the adapter does alone is shown in the core. */
import { type AddressInfo, createServer } from "node:net";
import {
  AccessRefusedError,
  BusUnavailableError,
  DispatchTimeoutError,
  event,
  HandlerError,
  InvalidUrlError,
  idOf,
  metadataOf,
  NoHandlerError,
  NotJsonError,
  Orkestra,
  Reject,
  RejectedError,
  RetryAfter,
  TooLargeError,
  TopologyMismatchError,
  type,
} from "orkestra";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { z } from "zod";
import { hasBroker, VirtualHost } from "./broker.js";
import {
  CancelOrder,
  cart,
  folder,
  gate,
  ItemAdded,
  OrderCancelled,
  OrderPlaced,
  PlaceOrder,
  place,
  placed,
} from "./shop.js";

const SOON = { initialMs: 1, jitter: 0 };
const PATIENT = { timeout: 15_000, interval: 20 };

describe.skipIf(!hasBroker())("RabbitMQ", () => {
  test.each(["async", "explicit"] as const)(
    "K01 a command reaches its handler and its result comes back, context %s",
    async (context) => {
      const host = new VirtualHost();
      const app = host.app("shop", { context });
      const attempts: number[] = [];
      app.commandHandler(PlaceOrder, async (command, _metadata, { attempt }) => {
        attempts.push(attempt);
        return { order_id: command.order_id };
      });
      await app.start();

      const result = await app.dispatch(place("7"));

      expect(result).toEqual({ order_id: "7" });
      expect(attempts).toEqual([1]);
    },
  );

  test("K01 another app's handler answers, one that sends only need not start", async () => {
    const host = new VirtualHost();
    const service = host.app("orders");
    service.commandHandler(PlaceOrder, (command) => ({ order_id: command.order_id }));
    await service.start();
    const client = host.app("web");

    const results = await Promise.all(
      Array.from({ length: 300 }, (_, order) => client.dispatch(place(String(order)))),
    );

    expect(results).toEqual(results.map((_, order) => ({ order_id: String(order) })));
  });

  test("K02 a command without a handler is NoHandlerError with the topic", async () => {
    const app = new VirtualHost().app();
    await app.start();

    const error = await app.dispatch(place()).catch((caught: unknown) => caught);

    expect(error).toBeInstanceOf(NoHandlerError);
    expect((error as NoHandlerError).details.topic).toBe("orders.place_order");
    await expect(app.send(place())).rejects.toThrow(NoHandlerError);
  });

  test("K04 a handler that fails is retried as often as it said, then a dead letter", async () => {
    for (const { retries, failures, calls, dead } of [
      { retries: 0, failures: 1, calls: 1, dead: 1 },
      { retries: 2, failures: 2, calls: 3, dead: 0 },
      { retries: 1, failures: 9, calls: 2, dead: 1 },
    ]) {
      const app = new VirtualHost().app("shop", { store: `sqlite:${folder()}/shop.db` });
      const told: number[] = [];
      const numbers: number[] = [];
      app.commandHandler(
        PlaceOrder,
        async (_command, _metadata, { attempt }) => {
          numbers.push(attempt);
          if (numbers.length <= failures) throw new TypeError(`attempt ${numbers.length}`);
          return { order_id: "7" };
        },
        { maxRetries: retries, retry: SOON },
      );
      app.onDeadLetter(({ attempts }) => told.push(attempts));
      await app.start();

      const result = await app.dispatch(place()).catch((error: unknown) => error);

      expect(numbers).toEqual(Array.from({ length: calls }, (_, i) => i + 1));
      if (dead === 0) {
        expect(result).toEqual({ order_id: "7" });
        expect(told).toEqual([]);
      } else {
        expect(result).toBeInstanceOf(HandlerError);
        expect((result as HandlerError).details).toMatchObject({
          handler: "shop.orders.place_order",
          error_type: "TypeError",
          message: `attempt ${calls}`,
        });
        await vi.waitFor(() => expect(told).toEqual([calls]), PATIENT);
        const { items } = await app.deadLetters.list();
        expect(items[0]).toMatchObject({ attempts: calls, reason: "retries_exhausted" });
        expect(items[0]?.errors[0]).toMatchObject({ type: "TypeError" });
      }
    }
  });

  test("K05 a refusal is neither retried nor a dead letter", async () => {
    const app = new VirtualHost().app();
    const handler = vi.fn(() => {
      throw new Reject("out of stock", { stock: 2 });
    });
    app.commandHandler(PlaceOrder, handler, { maxRetries: 3 });
    await app.start();

    const error = await app.dispatch(place()).catch((caught: unknown) => caught);

    expect(error).toBeInstanceOf(RejectedError);
    expect((error as RejectedError).details).toEqual({
      reason: "out of stock",
      data: { stock: 2 },
    });
    expect(handler).toHaveBeenCalledTimes(1);
    expect(await app.deadLetters.broker()).toEqual([]);
  });

  test("K05 a refusal with data that is no JSON is a refusal without", async () => {
    const warned: string[] = [];
    const warn = (_: unknown, message: string): void => void warned.push(message);
    const app = new VirtualHost().app("shop", { logger: { warn } as never });
    app.commandHandler(PlaceOrder, () => {
      throw new Reject("out of stock", { stock: 2n });
    });
    await app.start();

    const error = await app.dispatch(place(), { timeoutMs: 5_000 }).catch((e: unknown) => e);

    expect(error).toBeInstanceOf(RejectedError);
    expect((error as RejectedError).details).toMatchObject({ reason: "out of stock" });
    expect(warned).toEqual(["shop.orders.place_order: the data of a refusal is no JSON"]);
  });

  test("K06 K15 one failing handler of three is retried alone", async () => {
    const app = new VirtualHost().app();
    const calls: string[] = [];
    const handle = (name: string) => async () => {
      calls.push(name);
      if (name === "second") throw new Error("no");
    };
    app.eventHandler(OrderPlaced, handle("first"), { name: "first" });
    app.eventHandler(OrderPlaced, handle("second"), { name: "second", maxRetries: 1, retry: SOON });
    app.eventHandler(OrderPlaced, handle("third"), { name: "third" });
    const buried = gate();
    app.onDeadLetter(() => buried.open());
    await app.start();

    const envelope = await app.publish(placed());
    await envelope.settled();
    await buried.opened;

    expect(envelope.status).toBe("published");
    await vi.waitFor(() =>
      expect(calls.toSorted()).toEqual(["first", "second", "second", "third"]),
    );
  });

  test("K07 exact, * and # subscriptions get an event once, one that matches twice too", async () => {
    const app = new VirtualHost().app();
    const calls: string[] = [];
    const handle = (name: string) => () => void calls.push(name);
    app.eventHandler(OrderPlaced, handle("exact"), { name: "exact" });
    app.eventHandler({ topic: "orders.*" }, handle("star"), { name: "star" });
    app.eventHandler({ topic: "#" }, handle("hash"), { name: "hash" });
    app.eventHandler({ topic: ["orders.#", "*.order_placed"] }, handle("twice"), { name: "twice" });
    app.eventHandler({ topic: "carts.#" }, handle("other"), { name: "other" });
    await app.start();

    await app.publish(placed());

    await vi.waitFor(() => expect(calls.toSorted()).toEqual(["exact", "hash", "star", "twice"]));
  });

  test("K08 what cannot be read is a dead letter at once, and the consumer goes on", async () => {
    const host = new VirtualHost();
    const app = host.app("shop", { store: `sqlite:${folder()}/shop.db` });
    const seen: string[] = [];
    app.eventHandler(OrderPlaced, (event) => void seen.push(event.order_id), { name: "count" });
    const reasons: string[] = [];
    app.onDeadLetter(({ reason }) => reasons.push(reason));
    await app.start();
    const bodies = [
      "nonsense",
      '{"hello":1}',
      '{"__type__":"event_envelope","event_type":"Shop.Orders.OrderPlaced","event_id":"019506b8-9d2a-7c3e-8f00-0123456789ab","data":{"order_id":7}}',
    ];

    for (const body of bodies) host.publish("orkestra.events", "orders.order_placed", body);
    await app.publish(placed("8"));

    await vi.waitFor(() => expect(reasons).toHaveLength(3), PATIENT);
    expect(new Set(reasons)).toEqual(new Set(["undecodable"]));
    await vi.waitFor(() => expect(seen).toEqual(["8"]));
    const { items } = await app.deadLetters.list();
    expect(items.map(({ body }) => body).toSorted()).toEqual(bodies.toSorted());
  });

  test("K13 10,000 messages with prefetch 100, of which each tenth fails once", async () => {
    const app = new VirtualHost().app();
    const attempts = new Map<string, number>();
    app.eventHandler(
      OrderPlaced,
      async ({ order_id }, _metadata, { attempt }) => {
        attempts.set(order_id, attempt);
        if (attempt === 1 && order_id.endsWith("7")) throw new Error("once");
      },
      { name: "count", prefetch: 100, concurrency: 50, retry: SOON },
    );
    await app.start();

    const orders = Array.from({ length: 10_000 }, (_, order) => String(order));
    for (let at = 0; at < orders.length; at += 500) {
      await Promise.all(orders.slice(at, at + 500).map((order) => app.publish(placed(order))));
    }

    await vi.waitFor(
      () => {
        expect(attempts.size).toBe(10_000);
        const again = [...attempts.values()].filter((attempt) => attempt === 2);
        expect(again).toHaveLength(1000);
      },
      { timeout: 25_000, interval: 50 },
    );
  }, 60_000);

  test("K14 two services get an event both, two instances of one share", async () => {
    const host = new VirtualHost();
    const seen: Record<string, string[]> = { one: [], two: [], other: [] };
    for (const [name, instance] of [
      ["shop", "one"],
      ["shop", "two"],
      ["mail", "other"],
    ] as const) {
      const app = host.app(name);
      app.eventHandler(OrderPlaced, (event) => void seen[instance]?.push(event.order_id), {
        name: "count",
      });
      await app.start();
    }
    const sender = host.app("web");

    await Promise.all(
      Array.from({ length: 100 }, (_, order) => sender.publish(placed(String(order)))),
    );

    await vi.waitFor(() => {
      expect(seen.other).toHaveLength(100);
      expect([...(seen.one ?? []), ...(seen.two ?? [])]).toHaveLength(100);
    }, PATIENT);
    expect(new Set([...(seen.one ?? []), ...(seen.two ?? [])]).size).toBe(100);
  });

  test("K16 closing finishes what is in hand and gives the rest back", async () => {
    const host = new VirtualHost();
    const handled: string[] = [];
    const [begun, go] = [gate(), gate()];
    const first = host.app();
    first.eventHandler(
      OrderPlaced,
      async (event, _metadata, context) => {
        begun.open();
        await go.opened;
        // What is under way may still send.
        await context.publish(OrderCancelled({ order_id: event.order_id }));
        handled.push(event.order_id);
      },
      { name: "count" },
    );
    await first.start();
    for (let order = 0; order < 50; order++) await first.publish(placed(String(order)));
    await begun.opened;

    const closed = first.close();
    await expect(first.publish(placed("late"))).rejects.toThrow("is closed");
    go.open();
    await closed;

    expect(handled).toEqual(["0"]);
    const second = host.app();
    second.eventHandler(OrderPlaced, (event) => void handled.push(event.order_id), {
      name: "count",
    });
    await second.start();
    await vi.waitFor(() => expect(new Set(handled).size).toBe(50), PATIENT);
    // At least once: the broker may have forgotten the last acknowledgement.
    expect(handled.filter((order) => order !== "0")).toHaveLength(49);
  });

  test("K17 one consumer with concurrency 1 gets events as published", async () => {
    const app = new VirtualHost().app();
    const seen: number[] = [];
    app.eventHandler(
      OrderPlaced,
      async (event) => {
        await Promise.resolve();
        seen.push(Number(event.order_id));
      },
      { name: "count" },
    );
    await app.start();

    const orders = Array.from({ length: 1000 }, (_, order) => order);
    await Promise.all(orders.map((order) => app.publish(placed(String(order)))));

    await vi.waitFor(() => expect(seen).toHaveLength(1000), PATIENT);
    expect(seen).toEqual(orders);
  });

  test("K20 an answer that does not come in time, and a caller that does not wait", async () => {
    const app = new VirtualHost().app();
    const go = gate();
    app.commandHandler(CancelOrder, () => go.opened);
    await app.start();
    const command = () => CancelOrder({ order_id: "7" });

    const error = await app.dispatch(command(), { timeoutMs: 50 }).catch((caught) => caught);
    const stop = new AbortController();
    const aborted = app.dispatch(command(), { signal: stop.signal }).catch((caught) => caught);
    stop.abort(new Error("enough"));

    expect(error).toBeInstanceOf(DispatchTimeoutError);
    expect((error as DispatchTimeoutError).details).toEqual({
      topic: "orders.cancel_order",
      seconds: 0.05,
    });
    expect(await aborted).toEqual(new Error("enough"));
    go.open();
    expect(await app.dispatch(command())).toBeNull();
  });

  test("K22 what no pattern wants any more is passed over, in the same queue", async () => {
    const host = new VirtualHost();
    const calls: string[] = [];
    const start = async (topics: string[]) => {
      const app = host.app();
      app.eventHandler({ topic: topics }, (event) => void calls.push(app.topicFor(event)), {
        name: "audit",
      });
      await app.start();
      return app;
    };
    const both = await start(["orders.order_placed", "orders.order_cancelled"]);
    await both.close();
    const sender = host.app("web");
    await sender.publish(OrderCancelled({ order_id: "1" }));
    await sender.publish(placed("2"));

    const one = await start(["orders.order_placed"]);

    await vi.waitFor(() => expect(calls).toHaveLength(1), PATIENT);
    await one.close();
    await start(["orders.order_placed", "orders.order_cancelled"]);
    await sender.publish(placed("3"));
    await vi.waitFor(() => expect(calls).toHaveLength(2), PATIENT);
    expect(calls).toEqual(["orders.order_placed", "orders.order_placed"]);
  });

  test("K23 who asks for less wait comes back first", async () => {
    const app = new VirtualHost().app();
    const again: string[] = [];
    app.eventHandler(
      OrderPlaced,
      ({ order_id }, _metadata, { attempt }) => {
        if (attempt === 1) throw new RetryAfter(order_id === "slow" ? 10_000 : 100);
        again.push(order_id);
      },
      { name: "count", maxRetries: 0 },
    );
    await app.start();

    await app.publish(placed("slow"));
    await app.publish(placed("fast"));

    await vi.waitFor(() => expect(again).toEqual(["fast"]), PATIENT);
  });

  test("a handler that runs too long is given up on, and its slot is free", async () => {
    const app = new VirtualHost().app("shop", { store: `sqlite:${folder()}/shop.db` });
    app.commandHandler(
      PlaceOrder,
      ({ order_id }) => (order_id === "stuck" ? new Promise<never>(() => undefined) : { order_id }),
      { timeoutMs: 50, concurrency: 1 },
    );
    await app.start();

    const stuck = await app.dispatch(place("stuck")).catch((error: unknown) => error);

    expect((stuck as HandlerError).details).toMatchObject({ error_type: "HandlerTimeoutError" });
    expect(await app.dispatch(place("7"))).toEqual({ order_id: "7" });
  });

  test("what is sent from a handler is caused by its message", async () => {
    const app = new VirtualHost().app();
    const chain: Array<{ correlation: string; causation: string | null; source: string | null }> =
      [];
    const note = (metadata: {
      correlationId: string;
      causationId: string | null;
      source: string | null;
    }) =>
      chain.push({
        correlation: metadata.correlationId,
        causation: metadata.causationId,
        source: metadata.source,
      });
    const events: string[] = [];
    app.commandHandler(PlaceOrder, async ({ order_id }, metadata) => {
      note(metadata);
      const event = placed(order_id);
      await app.publish(event);
      events.push(idOf(event));
      return { order_id };
    });
    const done = gate();
    app.eventHandler(
      OrderPlaced,
      (event) => {
        note(metadataOf(event));
        done.open();
      },
      { name: "count" },
    );
    await app.start();
    const command = place();

    await app.dispatch(command, { source: "web", actorId: "user_1" });
    await done.opened;

    const id = idOf(command);
    expect(chain).toEqual([
      { correlation: id, causation: null, source: "web" },
      { correlation: id, causation: id, source: "web" },
    ]);
    // Derived from the command, so that a second delivery makes the same event.
    expect(events[0]?.slice(0, 8)).toBe(id.slice(0, 8));
  });

  test("middleware is around what is sent and what is handled", async () => {
    const app = new VirtualHost().app();
    const seen: string[] = [];
    app.aroundSend(async (envelope, next) => {
      const result = await next();
      seen.push(`sent ${envelope.status}`);
      return result;
    });
    app.aroundHandle(async (envelope, next) => {
      const result = await next();
      seen.push(`handled ${"attempts" in envelope ? envelope.attempts : "event"}`);
      return result;
    });
    app.commandHandler(PlaceOrder, ({ order_id }) => ({ order_id }));
    app.eventHandler(OrderPlaced, () => undefined, { name: "count" });
    await app.start();

    await app.dispatch(place());
    await app.publish(placed());

    await vi.waitFor(() =>
      expect(seen.toSorted()).toEqual(
        ["handled 1", "handled event", "sent published", "sent succeeded"].toSorted(),
      ),
    );
  });

  test("a result that JSON cannot hold is told to whoever asked; the command is handled", async () => {
    const warn = vi.fn();
    const app = new VirtualHost().app("shop", { logger: { warn } });
    const handler = vi.fn(() => ({ order_id: 7n as unknown as string }));
    app.commandHandler(PlaceOrder, handler, { maxRetries: 3 });
    await app.start();

    const error = await app.dispatch(place()).catch((caught: unknown) => caught);

    expect(error).toBeInstanceOf(HandlerError);
    expect((error as HandlerError).details.error_type).toBe("NotJsonError");
    expect(handler).toHaveBeenCalledTimes(1);
    expect(warn).toHaveBeenCalledTimes(1);
  });

  test("an event of another service is known by its topic, else it is a raw event", async () => {
    const host = new VirtualHost();
    const app = host.app();
    const seen: unknown[] = [];
    app.eventHandler({ topic: "orders.#" }, (event) => void seen.push(event), { name: "audit" });
    app.addTypes(OrderPlaced);
    await app.start();
    const sender = host.app("web", { appPrefix: "" });
    const theirs = event(
      "Orders.OrderPlaced",
      z.object({ order_id: z.string(), quantity: z.number() }),
    );
    const unknown = event("Orders.OrderLost", z.object({ order_id: z.string() }));

    await sender.publish(theirs({ order_id: "7", quantity: 1 }));
    await sender.publish(unknown({ order_id: "8" }));

    await vi.waitFor(() => expect(seen).toHaveLength(2), PATIENT);
    expect(OrderPlaced.is(seen[0])).toBe(true);
    expect(seen[1]).toMatchObject({ type: "Orders.OrderLost", data: { order_id: "8" } });
  });

  test("events that are appended reach their handlers over the broker", async () => {
    const app = new VirtualHost().app("shop", { store: `sqlite:${folder()}/shop.db` });
    const items: string[] = [];
    app.addAggregate(cart());
    app.eventHandler(ItemAdded, (event) => void items.push(event.sku), { name: "count" });
    await app.start();
    const { AddItem } = await import("./shop.js");

    const answers = [];
    for (const sku of ["a", "b", "c"]) {
      answers.push(await app.dispatch(AddItem({ cart: "1", sku })));
    }

    expect(answers).toEqual([0, 1, 2].map((revision) => ({ stream: "cart-1", revision })));
    await vi.waitFor(() => expect(items).toEqual(["a", "b", "c"]), PATIENT);
  });

  test("K11 both sides recover when the broker closes all connections", async () => {
    const host = new VirtualHost();
    const app = host.app();
    const seen = new Set<string>();
    app.eventHandler(OrderPlaced, async (event) => void seen.add(event.order_id), {
      name: "count",
    });
    await app.start();
    const orders = Array.from({ length: 3000 }, (_, order) => String(order));

    for (let at = 0; at < orders.length; at += 100) {
      if (at === 1000 || at === 2000) host.closeConnections();
      await Promise.all(orders.slice(at, at + 100).map((order) => app.publish(placed(order))));
    }

    await vi.waitFor(() => expect(seen.size).toBe(3000), { timeout: 25_000, interval: 50 });
    const { bus, ok } = await app.health();
    expect(ok).toBe(true);
    expect(bus).toMatchObject({ connected: true, consumers: [{ consuming: true }] });
  }, 60_000);

  test("over TLS, with a certificate of ours", async () => {
    const host = new VirtualHost();
    const tls = process.env.ORKESTRA_TEST_TLS;
    expect(tls, "ORKESTRA_TEST_TLS").toBeTruthy();
    const query = `?cacertfile=${tls}/ca.pem&certfile=${tls}/client.pem&keyfile=${tls}/client.key`;
    const server = process.env.ORKESTRA_TEST_AMQPS ?? "";
    const bus = `${server.slice(0, server.lastIndexOf("/"))}/${host.name}`;
    const app = host.app("shop", { bus: `${bus}${query}` });
    app.commandHandler(PlaceOrder, ({ order_id }) => ({ order_id }));
    await app.start();

    expect(await app.dispatch(place("7"))).toEqual({ order_id: "7" });
    const stranger = host.app("shop", { bus });
    await expect(stranger.send(place("8"))).rejects.toThrow(BusUnavailableError);
  });

  test("health says what is consumed", async () => {
    const app = new VirtualHost().app();
    app.eventHandler(OrderPlaced, () => undefined, { name: "count" });
    await app.start();

    const { bus, ok } = await app.health();

    expect(ok).toBe(true);
    expect(bus).toEqual({
      connected: true,
      blocked: null,
      error: null,
      consumers: [
        {
          handler: "shop.count",
          queue: "orkestra.evt.shop.count",
          consuming: true,
          error: null,
        },
      ],
    });
  });

  test("L01 L03 a dead letter is requeued to its handler alone, with the same id, by any process", async () => {
    const host = new VirtualHost();
    const store = `sqlite:${folder()}/shop.db`;
    const app = host.app("shop", { store });
    const calls: string[] = [];
    let failing = true;
    const ids: string[] = [];
    app.eventHandler(
      OrderPlaced,
      (event) => {
        calls.push("bad");
        ids.push(idOf(event));
        if (failing) throw new Error("no", { cause: new TypeError("because") });
      },
      { name: "bad", maxRetries: 0 },
    );
    app.eventHandler(OrderPlaced, () => void calls.push("good"), { name: "good" });
    const buried = gate();
    app.onDeadLetter(() => buried.open());
    await app.start();
    await app.publish(placed());
    await buried.opened;
    await vi.waitFor(() => expect(calls).toHaveLength(2));

    const [letter] = (await app.deadLetters.list()).items;
    expect(letter).toMatchObject({ handler: "shop.bad", topic: "orders.order_placed" });
    expect(letter?.errors.map(({ type }) => type)).toEqual(["Error", "TypeError"]);
    failing = false;
    const operator = host.app("shop", { store });
    await operator.start();
    expect(await operator.deadLetters.requeue(letter?.id ?? "")).toBe(false);

    await vi.waitFor(() => expect(calls.toSorted()).toEqual(["bad", "bad", "good"]), PATIENT);
    expect(ids[0]).toBe(ids[1]);
    await vi.waitFor(async () => expect((await app.deadLetters.list()).total).toBe(0), PATIENT);
  });

  test("L04 L06 L07 requeued by filter, failing again, and with another payload", async () => {
    const app = new VirtualHost().app("shop", { store: `sqlite:${folder()}/shop.db` });
    const told: string[] = [];
    const seen: number[] = [];
    app.commandHandler(PlaceOrder, ({ order_id, quantity }) => {
      if (quantity < 0) throw new Error("negative");
      seen.push(quantity);
      return { order_id };
    });
    app.onDeadLetter(({ id }) => told.push(id));
    await app.start();
    await app.send(PlaceOrder({ order_id: "7", quantity: -1 }));
    await vi.waitFor(() => expect(told).toHaveLength(1), PATIENT);

    expect(await app.deadLetters.requeueAll({ handler: "shop.orders.place_order" })).toBe(1);
    await vi.waitFor(() => expect(told).toHaveLength(2), PATIENT);
    const { items, total } = await app.deadLetters.list();
    expect(total).toBe(1);
    expect(items[0]?.history).toHaveLength(1);
    expect(told[0]).toBe(told[1]);
    await expect(app.deadLetters.edit(told[0] ?? "", { order_id: 7 })).rejects.toThrow("quantity");
    await app.deadLetters.edit(told[0] ?? "", { order_id: "7", quantity: 3 });

    await vi.waitFor(() => expect(seen).toEqual([3]), PATIENT);
    await vi.waitFor(async () => expect((await app.deadLetters.list()).total).toBe(0), PATIENT);
  });

  test("without a durable store dead letters lie at the broker", async () => {
    const app = new VirtualHost().app();
    app.commandHandler(PlaceOrder, () => {
      throw new TypeError("no");
    });
    await app.start();
    const command = place();
    await app.dispatch(command).catch(() => undefined);

    await vi.waitFor(async () => {
      const letters = await app.deadLetters.broker({ limit: 10 });
      expect(letters).toHaveLength(1);
      expect(letters[0]).toMatchObject({
        handler: "shop.orders.place_order",
        messageId: idOf(command),
        reason: "retries_exhausted",
      });
    }, PATIENT);
    expect((await app.deadLetters.list()).total).toBe(0);

    expect(await app.deadLetters.drain()).toBe(1);

    expect(await app.deadLetters.broker()).toEqual([]);
    const { items } = await app.deadLetters.list();
    expect(items).toMatchObject([{ messageId: idOf(command), requeueable: true }]);
  });
});

describe("bad input", () => {
  test.each([
    ["amqp://guest@127.0.0.1:1:2/", "port"],
    ["amqp://guest:guest@127.0.0.1/%2F?prefetsh=3", "prefetsh"],
    ["amqp://guest:guest@127.0.0.1/%2F?prefetch=many", "prefetch"],
    ["amqp://guest:guest@127.0.0.1/%2F?queue_type=quick", "queue_type"],
  ])("%s names what is wrong: %s", (bus, part) => {
    expect(() => new Orkestra("shop", { bus, store: "memory:", env: {} })).toThrow(part);
    expect(() => new Orkestra("shop", { bus, store: "memory:", env: {} })).toThrow(InvalidUrlError);
  });

  test("an event handler needs a name, as its queue outlives the process", () => {
    const app = new Orkestra("shop", { bus: "amqp://localhost", store: "memory:", env: {} });

    expect(() => app.eventHandler(OrderPlaced, () => undefined)).toThrow(
      "it has no name: the broker outlives this process",
    );
  });

  test("a prefetch that is no number", () => {
    const app = new Orkestra("shop", { bus: "amqp://localhost", store: "memory:", env: {} });
    for (const prefetch of [0, -1, 1.5, 70_000]) {
      const handle = () =>
        app.commandHandler(PlaceOrder, ({ order_id }) => ({ order_id }), { prefetch });
      expect(handle).toThrow("prefetch");
    }
  });

  test("a broker that is away, a host that is none, a port of something else", async () => {
    const other = createServer((socket) => void socket.end("220 mail ready\r\n"));
    await new Promise<void>((resolve) => void other.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void other.close());
    const { port } = other.address() as AddressInfo;
    for (const place of ["127.0.0.1:1", "nowhere.invalid:5672", `127.0.0.1:${port}`]) {
      const bus = `amqp://guest:guest@${place}/%2F?connect_timeout=5`;
      const app = new Orkestra("shop", { bus, store: "memory:", env: {} });
      app.commandHandler(PlaceOrder, ({ order_id }) => ({ order_id }));

      const error = await app.start().catch((caught: unknown) => caught);

      expect(error, place).toBeInstanceOf(BusUnavailableError);
      expect((error as BusUnavailableError).transient).toBe(true);
      await app.close();
    }
  });

  test.skipIf(!hasBroker())("a wrong password and a wrong virtual host", async () => {
    const { url } = new VirtualHost();
    for (const bus of [url.replace("guest:guest", "guest:wrong"), `${url}-other`]) {
      const app = new Orkestra("shop", { bus, store: "memory:", env: {} });
      app.commandHandler(PlaceOrder, ({ order_id }) => ({ order_id }));

      const error = await app.start().catch((caught: unknown) => caught);

      expect(error, bus).toBeInstanceOf(AccessRefusedError);
      expect(String(error)).not.toContain("wrong@");
      await app.close();
    }
  });

  test.skipIf(!hasBroker())("K19 a queue that exists with other arguments", async () => {
    const host = new VirtualHost();
    const start = (query: string) => {
      const app = host.app("shop", { query });
      app.commandHandler(PlaceOrder, ({ order_id }) => ({ order_id }));
      return app.start();
    };
    await (await start("?queue_type=classic")).close();

    const error = await start("").catch((caught: unknown) => caught);

    expect(error).toBeInstanceOf(TopologyMismatchError);
    expect(String(error)).toContain("orkestra.cmd.orders.place_order");
  });

  test.skipIf(!hasBroker())("K18 a payload over the limit, and one that is no JSON", async () => {
    const app = new VirtualHost().app("shop", { maxPayloadBytes: 100 });

    await expect(app.publish(placed("x".repeat(100)))).rejects.toThrow(TooLargeError);
    const wild = event("Shop.Wild", type<{ big: bigint }>());
    await expect(app.publish(wild({ big: 7n }))).rejects.toThrow(NotJsonError);
  });
});
