import { join } from "node:path";
import Database from "better-sqlite3";
import {
  InvalidArgumentError,
  InvalidConnectionError,
  InvalidHandlerError,
  InvalidIdError,
  idOf,
  metadataOf,
  NoTransactionError,
  type Orkestra,
  Reject,
  WrongKindError,
} from "orkestra";
import pg from "pg";
import { describe, expect, test } from "vitest";
import { folder, OrderCancelled, OrderPlaced, PlaceOrder, place, placed, shop } from "./shop.js";
import { STORES } from "./stores.js";
import { eventually } from "./views.js";

const sqlite = (): string => `sqlite:${join(folder(), "store.db")}`;

async function gone(app: Orkestra): Promise<void> {
  await eventually(async () => (await app.outbox.pending()).messages === 0);
}

describe.each(STORES)("on $name", (store) => {
  test("what is added reaches its handlers", async () => {
    const app = shop({ store: await store.url() });
    const seen: unknown[] = [];
    app.eventHandler(
      OrderPlaced,
      (event, metadata) => seen.push(["mail", event, metadata.actorId, idOf(event)]),
      { name: "mail" },
    );
    app.eventHandler(
      [OrderPlaced, OrderCancelled],
      (event) => {
        seen.push(["count", event]);
      },
      { name: "count" },
    );
    app.commandHandler(PlaceOrder, (command) => {
      seen.push(["place", command]);
      return { order_id: command.order_id };
    });

    const event = placed();
    const id = await app.outbox.add(event, { actorId: "anna" });
    await app.outbox.add(place());
    const backlog = await app.outbox.pending();
    expect(backlog).toEqual({ messages: 2, oldest: expect.any(Date) });
    await app.start();
    await gone(app);

    expect(seen).toContainEqual(["mail", event, "anna", id]);
    expect(seen).toContainEqual(["count", event]);
    expect(seen).toContainEqual(["place", place()]);
    expect(metadataOf(event).actorId).toBe("anna");
    expect(await app.outbox.pending()).toEqual({ messages: 0, oldest: null });

    await app.outbox.add(OrderCancelled({ order_id: "7" }));
    await gone(app);
    expect(seen).toContainEqual(["count", OrderCancelled({ order_id: "7" })]);
  });

  test("a message is kept once under its id", async () => {
    const app = shop({ store: await store.url() });
    const id = "0190aaaa-0000-7000-8000-000000000001";

    for (const event of [placed(), placed()]) expect(await app.outbox.add(event, { id })).toBe(id);

    expect((await app.outbox.pending()).messages).toBe(1);
    await expect(app.outbox.add(placed(), { id: "no id" })).rejects.toThrow(InvalidIdError);
    await expect(app.outbox.add("nothing" as never)).rejects.toThrow(WrongKindError);
  });

  test("an inbox handles what comes again once", async () => {
    const app = shop({ store: await store.url() });
    const seen: string[] = [];
    app.eventHandler(OrderPlaced, () => seen.push("once"), { name: "once", inbox: true });
    app.eventHandler(OrderPlaced, () => seen.push("always"), { name: "always" });
    await app.start();
    const id = "0190aaaa-0000-7000-8000-000000000002";

    for (const event of [placed(), placed()]) {
      await app.outbox.add(event, { id });
      await gone(app);
    }

    expect(seen.sort()).toEqual(["always", "always", "once"]);
  });

  test("an inbox keeps what came from the log", async () => {
    const app = shop({ store: await store.url() });
    const seen: string[] = [];
    const options = { name: "once", inbox: true, start: "origin" } as const;
    app.eventHandler(OrderPlaced, (event) => seen.push(event.order_id), options);
    await app.start();
    const event = placed();
    const { position } = await app.store.append("orders", [event]);
    await app.caughtUp("once", position as number);

    // The same event by another way.
    await app.outbox.add(placed(), { id: idOf(event) });
    await gone(app);

    expect(seen).toEqual(["7"]);
  });
});

test("what fails is retried, and then a dead letter; a refusal is none", async () => {
  const app = shop({ store: sqlite() });
  const attempts: string[] = [];
  app.eventHandler(
    OrderPlaced,
    () => {
      attempts.push("fails");
      throw new Error("no");
    },
    { name: "fails", maxRetries: 1 },
  );
  app.commandHandler(PlaceOrder, () => {
    attempts.push("refuses");
    throw new Reject("never");
  });
  await app.outbox.add(placed());
  await app.outbox.add(place());
  await app.start();

  await gone(app);

  expect(attempts.sort()).toEqual(["fails", "fails", "refuses"]);
  const { items } = await app.deadLetters.list();
  expect(items.map(({ handler }) => handler)).toEqual(["shop.fails"]);
});

test("a command that nobody handles is a dead letter, and told", async () => {
  const app = shop({ store: sqlite() });
  const told: string[] = [];
  app.onDeadLetter(({ type }) => told.push(type));
  // An app without handlers leaves the outbox to those that have some.
  app.eventHandler(OrderPlaced, () => {}, { name: "mail" });
  await app.outbox.add(place());
  await app.start();

  await eventually(() => told.length > 0);

  expect(told).toEqual(["Shop.Orders.PlaceOrder"]);
});

test("what is in hand when the app closes comes again at the next start", async () => {
  const store = sqlite();
  const warned: string[] = [];
  const logger = { warn: (_: unknown, message: string) => void warned.push(message) };
  const first = shop({ store, closeTimeoutMs: 50, logger });
  let begun = 0;
  first.eventHandler(
    OrderPlaced,
    () => {
      begun++;
      return new Promise(() => undefined);
    },
    { name: "hangs" },
  );
  await first.start();
  await first.outbox.add(placed());
  await eventually(() => begun === 1);
  await first.close();

  const second = shop({ store });
  const seen: string[] = [];
  second.eventHandler(OrderPlaced, (event) => seen.push(event.order_id), { name: "hangs" });
  await second.start();
  await gone(second);

  expect(seen).toEqual(["7"]);
  // Its reader of the log has ended, too, and asks nobody any more.
  expect(warned).toEqual([]);
});

test("connections that cannot be used are named", async () => {
  const app = shop({ store: sqlite() });
  const db = new Database(":memory:");
  const refused: unknown[] = [];
  app.eventHandler(
    OrderPlaced,
    async (_event, _metadata, { inbox }) => {
      expect(inbox.handler).toBe("shop.claims");
      for (const connection of [db, new pg.Pool(), new pg.Client(), {}]) {
        try {
          await inbox.claim(connection as never);
        } catch (error) {
          refused.push((error as Error).constructor);
        }
      }
    },
    { name: "claims", inbox: true, maxRetries: 0 },
  );
  const add = (connection: unknown) => app.outbox.add(placed(), connection as never);
  await expect(add(db)).rejects.toThrow(/PostgreSQL database that keeps the app's state/);
  await expect(add(new pg.Pool())).rejects.toThrow(InvalidConnectionError);
  await expect(add("postgres://")).rejects.toThrow(InvalidConnectionError);
  // As in Python: it would be taken for an option, and the message would commit apart.
  await expect(add({ connection: db })).rejects.toThrow(InvalidArgumentError);
  expect((await app.outbox.pending()).messages).toBe(0);
  await app.start();
  await app.outbox.add(placed());
  await gone(app);

  // One is in no transaction, one is a pool, one is to another database than the state's, one is none.
  const wrong = InvalidConnectionError;
  expect(refused).toEqual([NoTransactionError, wrong, wrong, wrong]);
});

test("a handler without the option has no inbox", async () => {
  const app = shop({ store: sqlite() });
  app.commandHandler(PlaceOrder, (_command, _metadata, context) => {
    void context.inbox;
    return { order_id: "" };
  });
  await app.start();

  await expect(app.dispatch(place())).rejects.toThrow(InvalidHandlerError);
});
