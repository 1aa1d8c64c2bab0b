import {
  type CommandEnvelope,
  DispatchTimeoutError,
  DuplicateHandlerError,
  type EventEnvelope,
  Handlers,
  HandlerTimeoutError,
  InvalidHandlerError,
  idOf,
  type Metadata,
  metadataOf,
  NoHandlerError,
  Reject,
  RejectedError,
  RetryAfter,
} from "orkestra";
import { TestApp } from "orkestra/testing";
import { describe, expect, test, vi } from "vitest";
import {
  CancelOrder,
  folder,
  gate,
  OrderCancelled,
  OrderPlaced,
  PlaceOrder,
  place,
  placed,
  shop,
} from "./shop.js";

const NOW = { initialMs: 0, jitter: 0 };

describe.each(["async", "explicit"] as const)("K, context %s", (context) => {
  test("K01 a command reaches its handler and its result comes back", async () => {
    const app = shop({ context });
    const handler = vi.fn(async (command: { order_id: string }) => ({
      order_id: command.order_id,
    }));
    app.commandHandler(PlaceOrder, handler);
    await app.start();
    const command = place("7");

    const result = await app.dispatch(command);

    expect(result).toEqual({ order_id: "7" });
    expect(handler.mock.calls[0]?.[0]).toBe(command);
  });

  test("K02 a command without a handler is NoHandlerError with the topic", async () => {
    const app = shop({ context });
    await app.start();

    const error = await app.dispatch(place()).catch((caught: unknown) => caught);

    expect(error).toBeInstanceOf(NoHandlerError);
    expect((error as NoHandlerError).details.topic).toBe("orders.place_order");
    await expect(app.send(place())).rejects.toThrow("no handler for orders.place_order");
  });

  test("K03 a second handler for a command is refused at registration", () => {
    const app = shop({ context });
    app.commandHandler(PlaceOrder, () => ({ order_id: "7" }));

    expect(() => app.commandHandler(PlaceOrder, () => ({ order_id: "8" }))).toThrow(
      DuplicateHandlerError,
    );
  });

  test("K04 a handler that fails is retried as often as it said, then a dead letter", async () => {
    for (const { retries, failures, calls, dead } of [
      { retries: 0, failures: 1, calls: 1, dead: 1 },
      { retries: 2, failures: 2, calls: 3, dead: 0 },
      { retries: 1, failures: 9, calls: 2, dead: 1 },
    ]) {
      const app = shop({ context });
      const letters: number[] = [];
      let called = 0;
      app.commandHandler(
        PlaceOrder,
        async () => {
          if (++called <= failures) throw new TypeError(`attempt ${called}`);
          return { order_id: "7" };
        },
        { maxRetries: retries, retry: NOW },
      );
      app.onDeadLetter(({ attempts }) => letters.push(attempts));
      await app.start();

      const result = await app.dispatch(place()).catch((error: unknown) => error);

      expect(called).toBe(calls);
      expect(letters).toEqual(dead === 0 ? [] : [calls]);
      if (dead === 0) expect(result).toEqual({ order_id: "7" });
      else expect(result).toEqual(new TypeError(`attempt ${calls}`));
    }
  });

  test("K05 a refusal is neither retried nor a dead letter", async () => {
    const app = shop({ context });
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
    expect((await app.deadLetters.list()).total).toBe(0);
  });

  test("K06 one failing handler of three fails alone and is retried alone", async () => {
    const app = shop({ context });
    const calls: string[] = [];
    const handle = (name: string) => async () => {
      calls.push(name);
      if (name === "second") throw new Error("no");
    };
    app.eventHandler(OrderPlaced, handle("first"), { name: "first" });
    app.eventHandler(OrderPlaced, handle("second"), { name: "second", maxRetries: 1, retry: NOW });
    app.eventHandler(OrderPlaced, handle("third"), { name: "third" });
    await app.start();

    const envelope = await app.publish(placed());
    await envelope.settled();

    expect(envelope.status).toBe("partially_handled");
    expect(Object.fromEntries(envelope.handlers)).toEqual({
      "shop.first": "succeeded",
      "shop.second": "failed",
      "shop.third": "succeeded",
    });
    expect(calls.filter((name) => name === "second")).toHaveLength(2);
    expect(calls).toHaveLength(4);
    expect((await app.deadLetters.list()).items.map(({ handler }) => handler)).toEqual([
      "shop.second",
    ]);
  });

  test("K07 exact, * and # subscriptions get an event once, one that matches twice too", async () => {
    const app = shop({ context });
    const calls: string[] = [];
    const handle = (name: string) => () => {
      calls.push(name);
    };
    app.eventHandler(OrderPlaced, handle("exact"), { name: "exact" });
    app.eventHandler({ topic: "orders.*" }, handle("star"), { name: "star" });
    app.eventHandler({ topic: "#" }, handle("hash"), { name: "hash" });
    app.eventHandler({ topic: ["orders.#", "*.order_placed"] }, handle("twice"), { name: "twice" });
    app.eventHandler([OrderPlaced, OrderCancelled], handle("both"), { name: "both" });
    app.eventHandler({ topic: "billing.#" }, handle("other"), { name: "other" });
    await app.start();

    const envelope = await app.publish(placed());

    expect(calls).toEqual(["exact", "star", "hash", "twice", "both"]);
    expect(envelope.status).toBe("handled");
  });

  test("K17 events reach a handler in the order they were published", async () => {
    const app = shop({ context });
    const seen: string[] = [];
    app.eventHandler(OrderPlaced, async ({ order_id }) => {
      await Promise.resolve();
      seen.push(order_id);
    });
    await app.start();

    const ids = Array.from({ length: 50 }, (_, n) => String(n));
    await Promise.all(ids.map((id) => app.publish(placed(id))));

    expect(seen).toEqual(ids);
  });

  test("what a handler sends is caused by the message that it handles", async () => {
    const app = shop({ context });
    const seen: Metadata[] = [];
    app.commandHandler(PlaceOrder, async (command, _, handled) => {
      const event = placed(command.order_id);
      await (context === "async" ? app.publish(event) : handled.publish(event));
      return { order_id: idOf(event) };
    });
    app.eventHandler(OrderPlaced, async (_, metadata, handled) => {
      seen.push(metadata);
      const cancel = CancelOrder({ order_id: "7" });
      await (context === "async" ? app.dispatch(cancel) : handled.dispatch(cancel));
    });
    app.commandHandler(CancelOrder, (_, metadata) => {
      seen.push(metadata);
    });
    await app.start();
    const command = place();

    const { order_id: eventId } = await app.dispatch(command, {
      actorId: "user_123",
      source: "web",
    });

    const [event, cancel] = seen;
    expect(event?.causationId).toBe(idOf(command));
    expect(event?.correlationId).toBe(idOf(command));
    expect(cancel?.causationId).toBe(eventId);
    expect(cancel?.correlationId).toBe(idOf(command));
    expect(cancel?.actorId).toBe("user_123");
    expect(cancel?.source).toBe("web");
  });

  test("event ids follow from the command's, on a retry the same ones", async () => {
    const app = shop({ context });
    const ids: string[] = [];
    app.commandHandler(
      PlaceOrder,
      async (_, __, handled) => {
        for (const event of [placed("1"), placed("2")]) {
          await (context === "async" ? app.publish(event) : handled.publish(event));
          ids.push(idOf(event));
        }
        if (ids.length < 4) throw new Error("again");
        return { order_id: "7" };
      },
      { maxRetries: 1, retry: NOW },
    );
    await app.start();

    await app.dispatch(place(), { id: "019506b8-9d2a-7c3e-8f00-0123456789ab" });

    expect(ids.slice(0, 2)).toEqual([
      "019506b8-9d2a-7de7-8a62-ac9e8e4b286b",
      "019506b8-9d2a-7e7b-99db-b53c350e9f75",
    ]);
    expect(ids.slice(2)).toEqual(ids.slice(0, 2));
  });
});

describe("sending", () => {
  test("each sending of one command has a new id, a given one is kept", async () => {
    const app = shop();
    app.commandHandler(PlaceOrder, (_, metadata) => ({ order_id: metadata.correlationId }));
    await app.start();
    const command = place();

    const first = await app.dispatch(command);
    const second = await app.dispatch(command);
    await app.dispatch(command, { id: "019506B8-9D2A-7C3E-8F00-0123456789AB" });

    expect(first.order_id).not.toBe(second.order_id);
    expect(idOf(command)).toBe("019506b8-9d2a-7c3e-8f00-0123456789ab");
  });

  test("an event is one fact and keeps its id", async () => {
    const app = shop();
    await app.start();
    const event = placed();

    await app.publish(event);
    const id = idOf(event);
    await app.publish(event);

    expect(idOf(event)).toBe(id);
  });

  test("what the sender says is in the metadata", async () => {
    const app = shop();
    await app.start();
    const event = placed();

    await app.publish(event, {
      actorId: "bot-1",
      actorType: "expert",
      source: "cron",
      correlationId: "req-1",
      causationId: "job-1",
    });
    const next = placed();
    await app.publish(next, { metadata: metadataOf(event), source: "web" });

    const said = {
      actorId: "bot-1",
      actorType: "expert",
      correlationId: "req-1",
      causationId: "job-1",
    };
    expect(metadataOf(event)).toMatchObject({ ...said, source: "cron" });
    expect(metadataOf(next)).toMatchObject({ ...said, source: "web" });
  });

  test("send returns before the command is handled, and its failure is a dead letter", async () => {
    const app = new TestApp("shop");
    const { opened, open } = gate();
    app.commandHandler(PlaceOrder, async () => {
      await opened;
      throw new Error("no");
    });
    await app.start();

    await app.send(place());
    expect(app.letters).toEqual([]);
    open();
    await app.close();

    expect(app.letters.map(({ errors }) => errors[0]?.message)).toEqual(["no"]);
  });

  test("a sender's retries come before the handler's", async () => {
    const app = shop();
    const handler = vi.fn(async () => {
      throw new Error("no");
    });
    app.commandHandler(PlaceOrder, handler, { maxRetries: 5, retry: NOW });
    await app.start();

    await expect(app.dispatch(place(), { maxRetries: 1 })).rejects.toThrow("no");

    expect(handler).toHaveBeenCalledTimes(2);
  });

  test("retries wait as the policy says", async () => {
    const app = new TestApp("shop");
    const handler = vi.fn(async () => {
      throw new Error("no");
    });
    app.eventHandler(OrderPlaced, handler, {
      maxRetries: 2,
      retry: { initialMs: 1000, jitter: 0 },
    });
    await app.start();

    const envelope = await app.publish(placed());
    expect(envelope.status).toBe("published");
    expect(await app.clock.nextWake()).toBe(1000);
    app.clock.advance(1000);
    expect(await app.clock.nextWake()).toBe(2000);
    app.clock.advance(2000);
    await envelope.settled();

    expect(handler).toHaveBeenCalledTimes(3);
    expect(envelope.status).toBe("failed");
    await app.close();
  });

  test("RetryAfter waits as it says and uses up no retry", async () => {
    const app = new TestApp("shop");
    const attempts: number[] = [];
    app.commandHandler(PlaceOrder, async (_, __, { attempt }) => {
      attempts.push(attempt);
      if (attempt < 3) throw new RetryAfter(250);
      return { order_id: "7" };
    });
    await app.start();

    const result = app.dispatch(place());
    for (let n = 0; n < 2; n++) {
      expect(await app.clock.nextWake()).toBe(250);
      app.clock.advance(250);
    }

    expect(await result).toEqual({ order_id: "7" });
    expect(attempts).toEqual([1, 2, 3]);
    await app.close();
  });

  test("an error type that the policy gives up on is not retried", async () => {
    const app = shop();
    const handler = vi.fn(async () => {
      throw new RangeError("no");
    });
    app.commandHandler(PlaceOrder, handler, { maxRetries: 5, retry: { giveUpOn: [RangeError] } });
    await app.start();

    await expect(app.dispatch(place())).rejects.toThrow(RangeError);

    expect(handler).toHaveBeenCalledTimes(1);
    expect((await app.deadLetters.list()).items[0]?.reason).toBe("not_retryable");
  });

  test("a handler that runs too long is a failed attempt", async () => {
    const app = new TestApp("shop");
    app.commandHandler(PlaceOrder, () => new Promise(() => undefined), { timeoutMs: 500 });
    await app.start();

    const result = app.dispatch(place()).catch((error: unknown) => error);
    expect(await app.clock.nextWake()).toBe(500);
    app.clock.advance(500);

    expect(await result).toBeInstanceOf(HandlerTimeoutError);
    expect(app.letters).toHaveLength(1);
  });

  test("K20 a caller stops waiting; what comes late is dropped", async () => {
    const app = new TestApp("shop");
    const { opened, open } = gate();
    app.commandHandler(PlaceOrder, async () => {
      await opened;
      return { order_id: "7" };
    });
    await app.start();
    const stop = new AbortController();

    const limited = app.dispatch(place(), { timeoutMs: 100 }).catch((error: unknown) => error);
    const aborted = app.dispatch(place(), { signal: stop.signal }).catch((error: unknown) => error);
    await app.clock.nextWake();
    app.clock.advance(100);
    stop.abort(new Error("enough"));

    expect(await limited).toBeInstanceOf(DispatchTimeoutError);
    expect(await aborted).toEqual(new Error("enough"));
    open();
    await app.close();
  });

  test("dispatches wait for one of the handler's slots, in their order; nested ones never wait", async () => {
    const app = shop();
    const started: string[] = [];
    const gates = new Map(
      [place("1"), place("2"), place("3")].map(({ order_id }) => [order_id, gate()]),
    );
    app.commandHandler(
      PlaceOrder,
      async ({ order_id }) => {
        started.push(order_id);
        if (order_id === "1") await app.dispatch(place("nested"));
        await gates.get(order_id)?.opened;
        return { order_id };
      },
      { concurrency: 1 },
    );
    await app.start();

    const results = ["1", "2", "3"].map((id) => app.dispatch(place(id)));
    gates.get("1")?.open();
    await results[0];
    gates.get("2")?.open();
    gates.get("3")?.open();
    await Promise.all(results);

    expect(started).toEqual(["1", "nested", "2", "3"]);
  });

  test("a handler that publishes to itself does not wait for itself", async () => {
    const app = shop();
    const seen: string[] = [];
    let inner: EventEnvelope | undefined;
    app.eventHandler(OrderPlaced, async ({ order_id }) => {
      seen.push(order_id);
      if (order_id === "outer") {
        inner = await app.publish(placed("inner"));
        expect(inner.status).toBe("published");
      }
    });
    await app.start();

    await app.publish(placed("outer"));
    await inner?.settled();

    expect(seen).toEqual(["outer", "inner"]);
    expect(inner?.status).toBe("handled");
  });
});

describe("middleware", () => {
  test("goes around sending and handling, in order of registration", async () => {
    const app = shop();
    const steps: string[] = [];
    for (const name of ["a", "b"]) {
      app.aroundSend(async (_, next) => {
        steps.push(`send ${name}`);
        const result = await next();
        steps.push(`sent ${name}`);
        return result;
      });
      app.aroundHandle(async (_, next) => {
        steps.push(`handle ${name}`);
        return next();
      });
    }
    app.commandHandler(PlaceOrder, async () => ({ order_id: "7" }));
    await app.start();

    expect(await app.dispatch(place())).toEqual({ order_id: "7" });

    expect(steps).toEqual(["send a", "send b", "handle a", "handle b", "sent b", "sent a"]);
  });

  test("sees the envelope through its states and may answer instead", async () => {
    const app = shop();
    const statuses: string[] = [];
    let envelope: CommandEnvelope | undefined;
    app.aroundSend(async (sent, next) => {
      envelope = sent as CommandEnvelope;
      statuses.push(envelope.status);
      try {
        return await next();
      } finally {
        statuses.push(envelope.status);
      }
    });
    let failures = 1;
    app.commandHandler(
      PlaceOrder,
      async () => {
        if (failures-- > 0) throw new Error("no");
        return { order_id: "7" };
      },
      { maxRetries: 1, retry: NOW },
    );
    app.aroundHandle(async (handled, next) => {
      statuses.push((handled as CommandEnvelope).status);
      return next();
    });
    await app.start();

    await app.dispatch(place(), { maxRetries: 3 });

    expect(statuses).toEqual(["pending", "dispatched", "dispatched", "succeeded"]);
    expect(envelope).toMatchObject({ attempts: 2, maxRetries: 3, result: { order_id: "7" } });
  });
});

describe("handlers", () => {
  test("are grouped and included", async () => {
    const orders = new Handlers()
      .commandHandler(PlaceOrder, ({ order_id }) => ({ order_id }))
      .eventHandler(OrderPlaced, () => undefined, { name: "confirm" });
    const app = shop().include(orders);
    await app.start();

    expect(await app.dispatch(place("9"))).toEqual({ order_id: "9" });
    expect([...(await app.publish(placed())).handlers.keys()]).toEqual(["shop.confirm"]);
  });

  test("of events need a name where the store outlives the process", () => {
    const app = shop({ store: `sqlite:${folder()}/shop.db` });

    expect(() => app.eventHandler(OrderPlaced, async function confirm() {})).toThrow(
      InvalidHandlerError,
    );
    app.eventHandler(OrderPlaced, () => undefined, { name: "confirm" });
  });

  test("in memory take the function's name", async () => {
    const app = shop();
    app.eventHandler(OrderPlaced, async function confirm() {});
    app.eventHandler(OrderPlaced, () => undefined);
    await app.start();

    expect([...(await app.publish(placed())).handlers.keys()]).toEqual([
      "shop.confirm",
      "shop.handler_2",
    ]);
  });
});
