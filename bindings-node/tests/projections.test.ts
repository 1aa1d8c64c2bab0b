import { join } from "node:path";
import Database from "better-sqlite3";
import {
  type Checkpoint,
  CheckpointMismatchError,
  DuplicateHandlerNameError,
  Handlers,
  InvalidArgumentError,
  InvalidHandlerError,
  NoSwitchError,
  NoTransactionError,
  type Orkestra,
  type Progress,
  type RecordedEvent,
  StaleLeaseError,
  StoreFileError,
  StoreUnavailableError,
  SubscriptionStoppedError,
  UnknownProjectionError,
} from "orkestra";
import { TestApp } from "orkestra/testing";
import { describe, expect, onTestFinished, test } from "vitest";
import { folder, gate, OrderCancelled, OrderPlaced, shop } from "./shop.js";
import { Board, DRIVERS, eventually } from "./views.js";

const QUICK = { initialMs: 1, maxDelayMs: 2 };
const QUIET = { logger: { warn: () => undefined } };
const BETTER = DRIVERS.find(({ name }) => name === "better-sqlite3") as (typeof DRIVERS)[number];

const sqlite = (): string => `sqlite:${join(folder(), "store.db")}`;
const onDisk = (store = sqlite()): Orkestra => shop({ store, ...QUIET });

async function append(app: Orkestra, ...quantities: number[]): Promise<number> {
  const events = quantities.map((n) => OrderPlaced({ order_id: `o-${n}`, quantity: n }));
  return (await app.store.append("orders", events)).position as number;
}

const count = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

for (const driver of DRIVERS) {
  describe.skipIf(!driver.available())(driver.name, () => {
    const open = async (): Promise<Board> => new Board(await driver.open());

    test("view and checkpoint commit together", async () => {
      const [app, board] = [onDisk(), await open()];
      board.declare(app);
      await app.start();

      const first = await append(app, 1, 2, 3);
      await app.caughtUp("board", first);
      expect([await board.rows(), await board.checkpoint()]).toEqual([[1, 2, 3], first]);

      const second = await append(app, 4);
      await app.caughtUp("board", second);
      expect([await board.rows(), await board.checkpoint()]).toEqual([[1, 2, 3, 4], second]);
    });

    test("E12: a rollback delivers again", async () => {
      const [app, board] = [onDisk(), await open()];
      board.declare(app, { retry: QUICK });
      let failures = 2;
      board.beforeCommit = () => {
        if (failures-- > 0) throw new Error("not yet");
      };
      await app.start();

      const position = await append(app, 1, 2);
      await app.caughtUp("board", position);

      expect([await board.rows(), await board.checkpoint()]).toEqual([[1, 2], position]);
      expect(board.batches).toEqual([board.batches[0], board.batches[0], board.batches[0]]);
    });

    test("E12: a rollback that nobody hears of delivers again", async () => {
      const [app, board] = [onDisk(), await open()];
      let calls = 0;
      app.projection(
        "board",
        {
          events: [OrderPlaced],
          prepare: () =>
            board.sql("CREATE TABLE IF NOT EXISTS board (position bigint, quantity integer)"),
        },
        async (events, checkpoint) => {
          calls++;
          const rolledBack = board.database.transaction(async (tx) => {
            for (const { position, event } of events) {
              await tx.query("INSERT INTO board VALUES ($1, $2)", [position, event.quantity]);
            }
            await tx.save(checkpoint);
            if (calls === 2) throw new Error("swallowed");
          });
          if (calls === 2) await rolledBack.catch(() => undefined);
          else await rolledBack;
        },
      );
      await app.start();
      await app.caughtUp("board", await append(app, 1));
      await app.caughtUp("board", await append(app, 2));
      expect(await board.rows()).toEqual([1]);

      // The next save finds out, and the lost one comes again.
      await board.reaches(await append(app, 3));

      expect(await board.rows()).toEqual([1, 2, 3]);
    });

    test("a stale owner cannot save", async () => {
      const [app, board] = [onDisk(), await open()];
      board.declare(app);
      const [held, goOn] = [gate(), gate()];
      const seen: unknown[] = [];
      app.projection("slow", { events: [OrderPlaced] }, async (_, checkpoint) => {
        held.open();
        await goOn.opened;
        await board.database
          .transaction((tx) => tx.save(checkpoint))
          .catch((error: unknown) => {
            seen.push(error);
            throw error;
          });
      });
      await app.start();
      const position = await append(app, 1);
      await app.caughtUp("board", position);
      await held.opened;

      // Another process has gone on meanwhile.
      await board.sql(
        `INSERT INTO ${board.table} SELECT 'shop.slow', position, 99, saved_at FROM ${board.table} WHERE name = 'shop.board'`,
      );
      goOn.open();

      await eventually(() => seen.length > 0);
      expect(seen[0]).toBeInstanceOf(StaleLeaseError);
      expect((seen[0] as StaleLeaseError).details).toMatchObject({
        name: "shop.slow",
        current: 99,
      });
    });

    test("a restored view gets what it lost", async () => {
      const [app, board] = [onDisk(), await open()];
      board.declare(app, { batchSize: 2 });
      await app.start();
      const first = await append(app, 1, 2);
      await app.caughtUp("board", first);
      await app.caughtUp("board", await append(app, 3, 4));
      // A backup of the view is put back.
      await board.sql(`DELETE FROM board WHERE position > ${first}`);
      await board.sql(`UPDATE ${board.table} SET position = ${first}`);

      await board.reaches(await append(app, 5));

      expect(await board.rows()).toEqual([1, 2, 3, 4, 5]);
    });

    test("a rebuild takes the live view's place", async () => {
      const [app, board] = [onDisk(), await open()];
      board.declare(app, { batchSize: 10 });
      await app.start();
      await app.caughtUp("board", await append(app, ...count(25)));
      await board.sql("UPDATE board SET quantity = 0");

      const seen: Progress[] = [];
      for await (const progress of app.rebuild("board")) seen.push(progress);

      expect(await board.rows()).toEqual(count(25));
      expect(seen.map(({ handled }) => handled)).toEqual([10, 20, 25, 25]);
      const head = await app.store.head();
      expect(seen.at(-1)).toEqual({ position: head, head, handled: 25, caughtUp: true });
      expect(board.prepared.filter((suffix) => suffix === "_rebuild")).toHaveLength(1);
      expect(await board.checkpoint("shop.board_rebuild")).toBeNull();
      const position = await append(app, 25);
      await app.caughtUp("board", position);
      expect([await board.rows(), await board.checkpoint()]).toEqual([count(26), position]);
    });

    test("a switch that rolls back leaves the live view, and the rebuild can be resumed", async () => {
      const [app, board] = [onDisk(), await open()];
      board.declare(app);
      await app.start();
      await app.caughtUp("board", await append(app, 1, 2));
      board.beforeCommit = ({ position }) => {
        if (position === null) throw new Error("not now");
      };

      await expect(app.rebuild("board")).rejects.toThrow("not now");

      expect(await board.rows()).toEqual([1, 2]);
      board.beforeCommit = () => undefined;
      await app.caughtUp("board", await append(app, 3));
      expect(await board.rows()).toEqual([1, 2, 3]);
      expect(await app.rebuild("board", { resume: true })).toMatchObject({ caughtUp: true });
      expect(await board.rows()).toEqual([1, 2, 3]);
    });
  });
}

async function better(): Promise<Board> {
  return new Board(await BETTER.open());
}

function testApp(): TestApp {
  const app = new TestApp("shop", QUIET);
  onTestFinished(() => app.close());
  return app;
}

test("a poison event is found and parked", async () => {
  const [app, board] = [testApp(), await better()];
  board.declare(app, { maxRetries: 0 });
  board.before = (events) => {
    if (events.some(({ event }) => OrderPlaced.is(event) && event.quantity === 2)) {
      throw new RangeError("two");
    }
  };
  await app.start();

  await app.caughtUp("board", await append(app, 1, 2, 3));

  expect(await board.rows()).toEqual([1, 3]);
  const [letter] = (await app.deadLetters.list()).items;
  expect(letter).toMatchObject({
    handler: "shop.board",
    reason: "retries_exhausted",
    requeueable: false,
    type: "Shop.Orders.OrderPlaced",
  });
  expect(letter?.errors[0]).toMatchObject({ type: "RangeError", message: "two" });
  expect(app.letters.map(({ id }) => id)).toEqual([letter?.id]);
});

test("an event that does not decode is parked, and its neighbours are in the view", async () => {
  const store = sqlite();
  const [writer, board] = [onDisk(store), await better()];
  await writer.start();
  const { event, type } = await import("orkestra");
  const Other = event("Shop.Orders.OrderPlaced", type<{ order_id: string; quantity: unknown }>());
  const wrong = ["1", "two", "3"].map((quantity) =>
    Other({ order_id: "o", quantity: quantity === "two" ? quantity : Number(quantity) }),
  );
  const { position } = await writer.store.append("orders", wrong);
  await writer.close();
  const app = onDisk(store);
  board.declare(app);
  await app.start();

  await app.caughtUp("board", position as number);

  expect(await board.rows()).toEqual([1, 3]);
  const { items } = await app.deadLetters.list();
  expect(items.map(({ reason }) => reason)).toEqual(["undecodable"]);
});

test("poison can be skipped, or stop the projection", async () => {
  const app = testApp();
  const seen: number[] = [];
  const picky = (keep: number[]) => (events: readonly RecordedEvent[]) => {
    const quantities = events.map(({ event }) => (OrderPlaced.is(event) ? event.quantity : -1));
    if (quantities.includes(1)) throw new Error("one");
    keep.push(...quantities);
  };
  const events = OrderPlaced;
  app.projection("skips", { events, poison: "skip", maxRetries: 0 }, picky(seen));
  app.projection("stops", { events, poison: "stop", maxRetries: 0 }, picky([]));
  await app.start();

  const position = await append(app, 0, 1, 2);
  await app.caughtUp("skips", position);

  expect(seen).toEqual([0, 2]);
  await expect(app.caughtUp("stops", position)).rejects.toThrow(SubscriptionStoppedError);
  const [skips, stops] = await app.projections();
  expect(skips).toMatchObject({ name: "skips", running: true, stopped: null });
  expect(stops).toMatchObject({ name: "stops", running: false });
  expect(stops?.stopped).toMatch(/stopped at position \d+: one/);
  expect((await app.health()).ok).toBe(false);
});

test.each([
  ["the network", Object.assign(new Error("away"), { code: "ECONNREFUSED" })],
  ["a terminated backend", Object.assign(new Error("away"), { code: "57P01" })],
  ["a client that cannot connect", new Error("timeout expired")],
  ["a statement without an answer", new Error("Query read timeout")],
  ["a full disk", Object.assign(new Error("away"), { errcode: 13 })],
  ["the store", new StoreUnavailableError("away", { reason: "away" })],
])("what is away is waited for, and told: %s", async (_, away) => {
  const [app, board] = [testApp(), await better()];
  board.declare(app, { maxRetries: 0 });
  let calls = 0;
  const told = new Set<string | null>();
  board.beforeCommit = () => {
    if (++calls < 6) throw away;
  };
  await app.start();

  const position = await append(app, 1);
  let done = false;
  const waiting = app.caughtUp("board", position).then(() => {
    done = true;
  });
  await eventually(async () => {
    await app.clock.advance(100);
    if (!done) told.add((await app.projections())[0]?.error ?? null);
    return done;
  });
  await waiting;

  expect(await board.rows()).toEqual([1]);
  expect((await app.deadLetters.list()).total).toBe(0);
  expect(calls).toBe(6);
  expect(told).toContain(away.message);
  expect((await app.projections())[0]?.error).toBeNull();
});

test("states tell how far it is", async () => {
  const [app, board] = [onDisk(), await better()];
  board.declare(app);
  await app.start();
  const [before] = await app.projections();
  expect(before).toEqual({
    name: "board",
    position: null,
    head: null,
    lag: 0,
    running: true,
    replaying: false,
    rebuilding: false,
    stopped: null,
    error: null,
  });

  const position = await append(app, 1);
  await app.caughtUp("board", position);

  const [after] = await app.projections();
  expect(after).toMatchObject({ position, head: position, lag: 0 });
  const health = await app.health();
  expect([health.ok, health.projections]).toEqual([true, [after]]);
});

test("history is told from what is new", async () => {
  const store = sqlite();
  const [before, board] = [onDisk(store), await better()];
  await before.start();
  await append(before, 1);
  await before.close();
  const app = onDisk(store);
  board.declare(app);
  await app.start();
  await app.caughtUp("board", (await app.store.head()) as number);

  await app.caughtUp("board", await append(app, 2));

  expect(board.replayed).toEqual([true, false]);
});

test("a handler that saves nothing gets each event at least once, and goes on where it was", async () => {
  const store = sqlite();
  async function once(...quantities: number[]): Promise<number[]> {
    const seen: number[] = [];
    const app = onDisk(store);
    app.projection("index", { events: [OrderPlaced] }, (events, checkpoint) => {
      // A search engine takes the position as the version of its document.
      expect(checkpoint.position).not.toBeNull();
      seen.push(...events.map(({ event }) => event.quantity));
    });
    await app.start();
    await app.caughtUp("index", await append(app, ...quantities));
    await app.close();
    return seen;
  }

  expect(await once(1, 2)).toEqual([1, 2]);
  expect(await once(3)).toEqual([3]);
});

test("events, topics and streams choose", async () => {
  const app = onDisk();
  const seen: Record<string, string[]> = {};
  const remember = (name: string, options: object) =>
    app.projection(name, options, (events) => {
      seen[name] = [...(seen[name] ?? []), ...events.map(({ type }) => type)];
    });
  remember("all", {});
  remember("placed", { events: [OrderPlaced] });
  remember("cancelled", { topics: "orders.order_cancelled" });
  remember("both", { events: OrderPlaced, topics: ["orders.order_cancelled"] });
  remember("a", { streamPrefix: "a-" });
  await app.start();

  await app.store.append("a-1", [OrderPlaced({ order_id: "1", quantity: 1 })]);
  const { position } = await app.store.append("b-1", [OrderCancelled({ order_id: "1" })]);
  for (const { name } of await app.projections()) await app.caughtUp(name, position as number);

  const [one, two] = ["Shop.Orders.OrderPlaced", "Shop.Orders.OrderCancelled"];
  expect(seen).toEqual({
    all: [one, two],
    placed: [one],
    cancelled: [two],
    both: [one, two],
    a: [one],
  });
});

test("a group declares projections", async () => {
  const seen: number[] = [];
  const group = new Handlers().projection("board", { events: [OrderPlaced] }, (events) => {
    seen.push(...events.map(({ event }) => event.quantity));
  });
  const app = shop();
  app.include(group);
  await app.start();

  await app.caughtUp("board", await append(app, 1));

  expect(seen).toEqual([1]);
});

test("the store's own file is refused, whatever its name", async () => {
  const path = join(folder(), "store.db");
  const app = onDisk(`sqlite:${path}`);
  const refused: unknown[] = [];
  app.projection("board", { maxRetries: 0, poison: "skip" }, (_, checkpoint) => {
    const db = new Database(":memory:");
    try {
      db.exec(`ATTACH '${path}' AS other; BEGIN`);
      checkpoint.save(db);
    } catch (error) {
      refused.push(error);
      throw error;
    } finally {
      db.close();
    }
  });
  await app.start();

  await app.caughtUp("board", await append(app, 1));

  expect(refused[0]).toBeInstanceOf(StoreFileError);
  expect((refused[0] as StoreFileError).details).toEqual({ path });
});

test("a save outside of a transaction is refused and the events are not lost", async () => {
  const app = testApp();
  const db = new Database(":memory:");
  app.projection("board", { maxRetries: 0 }, (_, checkpoint) => checkpoint.save(db));
  await app.start();

  await app.caughtUp("board", await append(app, 1));

  expect(app.letters[0]?.errors[0]?.type).toBe(NoTransactionError.name);
});

test("mistakes are named", async () => {
  const [app, board] = [testApp(), await better()];
  board.declare(app);
  expect(() => board.declare(app)).toThrow(DuplicateHandlerNameError);
  expect(() => app.eventHandler(OrderPlaced, () => undefined, { name: "board" })).toThrow(
    DuplicateHandlerNameError,
  );
  const handler = (): void => undefined;
  expect(() => app.projection("", {}, handler)).toThrow(InvalidHandlerError);
  expect(() => app.projection("x", { batchSize: 0 }, handler)).toThrow(/batchSize/);
  expect(() => app.projection("x", { poison: "ignore" as "skip" }, handler)).toThrow(/poison/);
  expect(() => app.projection("x", {}, "y" as unknown as () => void)).toThrow(InvalidHandlerError);
  app.projection("plain", {}, handler);
  const kept: Checkpoint[] = [];
  app.projection("keeps", {}, (_, checkpoint) => kept.push(checkpoint));
  await app.start();
  await app.caughtUp("keeps", await append(app, 1));

  expect(() => app.rebuild("nothing")).toThrow(UnknownProjectionError);
  await expect(app.rebuild("plain")).rejects.toThrow(NoSwitchError);
  const db = new Database(":memory:");
  expect(() => kept[0]?.switch(db)).toThrow(/nothing to switch/);
  expect(() => app.projection("late", {}, handler)).toThrow(/has been started/);
});

test("a switch function that forgets the checkpoint is told", async () => {
  const [app, board] = [onDisk(), await better()];
  board.declare(app, { switch: () => undefined });
  await app.start();
  await app.caughtUp("board", await append(app, 1));

  await expect(app.rebuild("board")).rejects.toThrow(/checkpoint\.switch/);
});

test("a view ahead of its mirror is not written twice, as after a crash in between", async () => {
  const [app, board] = [onDisk(), await better()];
  board.declare(app);
  await app.start();
  await app.caughtUp("board", await append(app, 1, 2));
  await app.close();
  // The same log, and a state store that knows nothing.
  const again = shop({ ...QUIET });
  const seen: unknown[] = [];
  again.projection("board", { events: [OrderPlaced] }, async (events, checkpoint) => {
    await board.database
      .transaction(async (tx) => {
        await tx.save(checkpoint);
        for (const { position, event } of events) {
          const values = [position, event.order_id, event.quantity];
          await tx.query("INSERT INTO board VALUES ($1, $2, $3)", values);
        }
      })
      .catch((error: unknown) => {
        seen.push(error);
        throw error;
      });
  });
  await again.start();

  await append(again, 1, 2);
  await board.reaches(await append(again, 3));

  expect(await board.rows()).toEqual([1, 2, 3]);
  expect(seen[0]).toBeInstanceOf(CheckpointMismatchError);
});

test("closing in the middle finishes the batch in hand, and the next start goes on there", async () => {
  const store = sqlite();
  const [app, board] = [onDisk(store), await better()];
  board.declare(app, { batchSize: 1 });
  const [held, goOn] = [gate(), gate()];
  board.beforeCommit = async () => {
    held.open();
    await goOn.opened;
  };
  await app.start();
  const last = await append(app, 1, 2, 3);
  await held.opened;
  const closed = app.close();
  goOn.open();
  await closed;
  expect(await board.rows()).toEqual([1]);

  const next = onDisk(store);
  board.beforeCommit = () => undefined;
  board.declare(next);
  await next.start();
  await next.caughtUp("board", last);

  expect(await board.rows()).toEqual([1, 2, 3]);
});

test("tables that cannot be made are told, and tried again", async () => {
  const app = onDisk();
  let failures = 1;
  const seen: number[] = [];
  app.projection(
    "board",
    {
      events: [OrderPlaced],
      prepare: () => {
        if (failures-- > 0) throw new Error("no permission");
      },
    },
    (events) => {
      seen.push(...events.map(({ event }) => event.quantity));
    },
  );
  await app.start();
  const position = await append(app, 1);

  await eventually(async () => (await app.projections())[0]?.error === "no permission");
  await app.caughtUp("board", position);

  expect(seen).toEqual([1]);
  expect((await app.projections())[0]?.error).toBeNull();
});

test("a place is a whole number from 0", async () => {
  const app = onDisk();
  app.projection("board", {}, () => undefined);
  await app.start();

  for (const position of [Number.NaN, -1, 1.5, null, "7"] as number[]) {
    await expect(app.caughtUp("board", position)).rejects.toThrow(InvalidArgumentError);
  }
});

test("closing while the view is switched does not take the switch back, nor hide it", async () => {
  const store = sqlite();
  const [app, board] = [onDisk(store), await better()];
  board.declare(app);
  await app.start();
  const position = await append(app, 1, 2);
  await app.caughtUp("board", position);
  await board.sql("UPDATE board SET quantity = 0");
  let closed: Promise<void> | undefined;
  board.beforeCommit = ({ position: saved }) => {
    if (saved === null) closed ??= app.close();
  };

  const end = await app.rebuild("board");
  await closed;

  expect(end).toMatchObject({ position, caughtUp: true });
  expect(await board.rows()).toEqual([1, 2]);
});

test("closing in the middle of a rebuild ends it with an error and leaves the live view", async () => {
  const [app, board] = [onDisk(), await better()];
  board.declare(app, { batchSize: 1 });
  await app.start();
  await app.caughtUp("board", await append(app, 1, 2, 3));
  const begun = gate();
  board.beforeCommit = () => begun.open();

  const rebuild = (async () => app.rebuild("board"))();
  const ended = expect(rebuild).rejects.toThrow(/closed/);
  await begun.opened;
  await app.close();
  await ended;

  expect(await board.rows()).toEqual([1, 2, 3]);
});
