import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import {
  AlreadyStartedError,
  CannotOpenStoreError,
  ClosedError,
  command,
  DuplicateTypeError,
  type Event,
  event,
  InvalidArgumentError,
  InvalidHandlerError,
  InvalidIdError,
  InvalidMetadataError,
  InvalidRetryPolicyError,
  InvalidSettingError,
  InvalidStreamNameError,
  InvalidUrlError,
  NewerSchemaError,
  NotADatabaseError,
  NotJsonError,
  NotStartedError,
  Orkestra,
  OrkestraError,
  TooDeepError,
  TooLargeError,
  TopicConflictError,
  WrongKindError,
} from "orkestra";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { folder, OrderPlaced, PlaceOrder, place, placed, shop } from "./shop.js";

const Any = event("Shop.Any", z.object({ value: z.any() }));

/** What appending an event with `value` in it is refused with. */
async function refusal(value: unknown, options = {}): Promise<OrkestraError> {
  const app = await shop(options).start();
  const error = await app.store.append("any", [Any({ value })]).catch((caught: unknown) => caught);
  if (error instanceof OrkestraError) return error;
  throw new Error("it was stored");
}

function nested(levels: number): unknown {
  let value: unknown = 1;
  for (let n = 0; n < levels; n++) value = { a: value };
  return value;
}

describe("bad input: what JSON cannot hold", () => {
  const cycle: Record<string, unknown> = {};
  cycle.again = { cycle };
  class Secret {
    readonly #hidden = 1;
    reveal = (): number => this.#hidden;
  }
  test.each([
    ["NaN", Number.NaN, "$.value", "NaN"],
    ["infinity", [1, -Infinity], "$.value[1]", "-Infinity"],
    ["bytes", { data: Buffer.from("x") }, "$.value.data", "Buffer"],
    ["a typed array", new Float64Array(1), "$.value", "Float64Array"],
    ["a BigInt", { a: [{ b: 1n }] }, "$.value.a[0].b", "bigint"],
    ["a map", new Map([[1, 2]]), "$.value", "Map"],
    ["a set", new Set([1]), "$.value", "Set"],
    ["a function", { f: () => 1 }, "$.value.f", "f"],
    ["a symbol", Symbol("s"), "$.value", "symbol"],
    ["an error", new Error("x"), "$.value", "Error"],
    ["a promise", Promise.resolve(), "$.value", "Promise"],
    ["a date that is none", new Date(Number.NaN), "$.value", "Date"],
    ["undefined in a list", [undefined], "$.value[0]", "undefined"],
    ["an object with a function in it", new Secret(), "$.value.reveal", "reveal"],
    ["a cycle", cycle, "$.value.again.cycle", "a cycle"],
  ])("%s", async (_, value, path, found) => {
    const error = await refusal(value);

    expect(error).toBeInstanceOf(NotJsonError);
    expect(error.details).toMatchObject({ type_name: "Shop.Any", path });
    expect(error.message).toBe(`Shop.Any: ${path}: JSON cannot hold ${found}`);
  });

  test("10,000 levels of nesting", async () => {
    expect(await refusal(nested(10_000))).toBeInstanceOf(TooDeepError);
    expect(await refusal(nested(128))).toBeInstanceOf(TooDeepError);
    const app = await shop().start();
    await app.store.append("any", [Any({ value: nested(126) })]);
  });

  test("50 MiB against the default limit and another one", async () => {
    const error = await refusal("x".repeat(50 * 1024 * 1024));

    expect(error).toBeInstanceOf(TooLargeError);
    expect(error.details).toMatchObject({ type_name: "Shop.Any", limit: 1024 * 1024 });
    expect(await refusal("€".repeat(40), { maxPayloadBytes: 100 })).toBeInstanceOf(TooLargeError);
    const app = await shop({ maxPayloadBytes: 100 * 1024 * 1024 }).start();
    await app.store.append("any", [Any({ value: "x".repeat(50 * 1024 * 1024) })]);
  });

  test("dates, undefined fields and objects that say their JSON are held", async () => {
    const app = await shop().addTypes(Any).start();
    const value = { at: new Date(0), left_out: undefined, own: { toJSON: () => "own" } };
    await app.store.append("any", [Any({ value })]);

    for await (const { event: read } of app.store.readAll()) {
      expect({ ...read }).toEqual({ value: { at: "1970-01-01T00:00:00.000Z", own: "own" } });
    }
  });

  test("a handler's result is the caller's as it is, JSON or not", async () => {
    const Ask = command("Shop.Ask", z.object({}));
    const result = new Map([[1, () => 1n]]);
    const app = await shop()
      .commandHandler(Ask, () => result)
      .start();

    expect(await app.dispatch(Ask({}))).toBe(result);
  });
});

describe("bad input: handlers", () => {
  test("a handler that throws what is no Error: the caller gets it, the dead letter keeps it as data", async () => {
    for (const [thrown, type, message] of [
      [1, "number", "1"],
      ["text", "string", "text"],
      [undefined, "undefined", "undefined"],
      [null, "null", "null"],
      [{ code: 7 }, "object", '{"code":7}'],
    ] as const) {
      const app = shop();
      app.commandHandler(PlaceOrder, () => {
        throw thrown;
      });
      await app.start();

      const caught = await app.dispatch(place()).then(
        () => "nothing",
        (error: unknown) => error,
      );

      expect(caught).toBe(thrown);
      const [letter] = (await app.deadLetters.list()).items;
      expect(letter?.errors).toEqual([{ type, message, trace: "" }]);
    }
  });

  test("a payload that cannot be encoded leaves a dead letter that cannot be requeued", async () => {
    const Odd = command("Shop.Odd", z.object({ f: z.any() }));
    const app = shop().commandHandler(Odd, () => {
      throw new Error("no");
    });
    await app.start();

    await expect(app.dispatch(Odd({ f: () => 1 }))).rejects.toThrow("no");

    const [letter] = (await app.deadLetters.list()).items;
    expect(letter).toMatchObject({ requeueable: false, body: "" });
    await expect(app.deadLetters.requeue(letter?.id ?? "")).rejects.toThrow(InvalidHandlerError);
  });

  test("a handler for something that is no command, or no event", () => {
    const app = shop();
    const register = app.commandHandler.bind(app) as unknown as (...args: unknown[]) => void;
    const listen = app.eventHandler.bind(app) as unknown as (...args: unknown[]) => void;

    expect(() => register(OrderPlaced, () => 1)).toThrow(WrongKindError);
    expect(() => register(class Order {}, () => 1)).toThrow("expected a command, found Order");
    expect(() => register(undefined, () => 1)).toThrow("expected a command, found undefined");
    expect(() => listen(PlaceOrder, () => 1)).toThrow(
      "expected an event, found the command type Shop.Orders.PlaceOrder",
    );
    expect(() => listen([], () => 1)).toThrow(InvalidHandlerError);
    expect(() => register(PlaceOrder, "no function")).toThrow(InvalidHandlerError);
    expect(() => register(PlaceOrder, () => 1, { concurrency: 0 })).toThrow(InvalidHandlerError);
    expect(() => register(PlaceOrder, () => 1, { timeoutMs: 0 })).toThrow(InvalidHandlerError);
    expect(() => register(PlaceOrder, () => 1, { retry: { jitter: 2 } })).toThrow(OrkestraError);
    for (const options of [
      { maxRetries: -1 },
      { maxRetries: 1.5 },
      { concurrency: 1.5 },
      { timeoutMs: Number.NaN },
      { name: 7 },
    ]) {
      expect(() => register(PlaceOrder, () => 1, options)).toThrow(InvalidHandlerError);
    }
    expect(() => listen(OrderPlaced, () => 1, { name: "a b" })).toThrow(InvalidHandlerError);
    expect(() => listen({ topic: "a b" }, () => 1)).toThrow(OrkestraError);
  });

  test("something that is no command dispatched, no event published", async () => {
    const app = await shop().start();
    const dispatch = (value: unknown) => app.dispatch(value as ReturnType<typeof place>);
    const publish = (value: unknown) => app.publish(value as Event);

    for (const value of [placed(), {}, null, undefined, 1, "x", PlaceOrder]) {
      await expect(dispatch(value)).rejects.toThrow(WrongKindError);
    }
    await expect(publish(place())).rejects.toThrow(
      "expected an event, found the command Shop.Orders.PlaceOrder",
    );
    await expect(app.store.append("x", [place() as unknown as Event])).rejects.toThrow(
      WrongKindError,
    );
  });

  test("a type defined twice, and two types on one topic", () => {
    const Again = event("Shop.Orders.OrderPlaced", z.object({}));
    const Clash = event("Orders.OrderPlaced", z.object({}));
    const app = shop().addTypes(OrderPlaced, OrderPlaced);

    expect(() => app.addTypes(Again)).toThrow(DuplicateTypeError);
    expect(() => app.addTypes(Clash)).toThrow(TopicConflictError);
    expect(() =>
      app.addTypes(event("Shop.New", z.object({}), { aliases: ["Shop.Orders.OrderPlaced"] })),
    ).toThrow(DuplicateTypeError);
  });
});

describe("bad input: ids and metadata", () => {
  test("ids that are not ids", async () => {
    const app = shop().commandHandler(PlaceOrder, () => ({ order_id: "7" }));
    await app.start();

    for (const id of [
      "",
      "7",
      "019506b89d2a7c3e8f000123456789ab",
      "00000000-0000-0000-0000-000000000000",
      7,
    ]) {
      await expect(app.dispatch(place(), { id: id as string })).rejects.toThrow(InvalidIdError);
      await expect(app.publish(placed(), { id: id as string })).rejects.toThrow(InvalidIdError);
    }
  });

  test("retries that are no number of retries", async () => {
    const app = shop().commandHandler(PlaceOrder, () => ({ order_id: "7" }));
    await app.start();

    for (const maxRetries of [
      -1,
      1.5,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      "2" as unknown as number,
    ]) {
      await expect(app.dispatch(place(), { maxRetries })).rejects.toThrow(InvalidRetryPolicyError);
      await expect(app.publish(placed(), { maxRetries })).rejects.toThrow(InvalidRetryPolicyError);
    }
  });

  test("versions that are none", () => {
    for (const version of [0, -1, 1.5, Number.NaN]) {
      expect(() => event("Shop.Odd", z.object({}), { version })).toThrow(InvalidSettingError);
    }
  });

  test("metadata out of its range", async () => {
    const app = shop().commandHandler(PlaceOrder, () => ({ order_id: "7" }));
    await app.start();

    for (const options of [
      { actorId: "" },
      { actorId: "x".repeat(256) },
      { actorType: "User" },
      { source: "a\nb" },
      { correlationId: "" },
      { actorId: 7 as unknown as string },
    ]) {
      await expect(app.dispatch(place(), options)).rejects.toThrow(InvalidMetadataError);
    }
    await app.dispatch(place(), { actorId: "x".repeat(255), source: "größe 😀" });
  });
});

describe("bad input: an app's life", () => {
  test("calls before the start, after close, and close twice", async () => {
    const app = shop().commandHandler(PlaceOrder, () => ({ order_id: "7" }));
    await expect(app.dispatch(place())).rejects.toThrow(NotStartedError);
    await expect(app.store.head()).rejects.toThrow(NotStartedError);
    expect(await app.start()).toBe(await app.start());
    expect(() => app.commandHandler(PlaceOrder, () => ({ order_id: "7" }))).toThrow(
      AlreadyStartedError,
    );

    await app.close();
    await app.close();

    await expect(app.dispatch(place())).rejects.toThrow(ClosedError);
    await expect(app.send(place())).rejects.toThrow(ClosedError);
    await expect(app.publish(placed())).rejects.toThrow("the app shop is closed");
    await expect(app.store.append("x", [placed()])).rejects.toThrow(ClosedError);
    expect(() => app.subscribe()).toThrow(ClosedError);
    expect(await app.health()).toMatchObject({ ok: false, status: "closed" });
    await expect(
      new Orkestra("shop", { store: "memory:", env: {} }).close(),
    ).resolves.toBeUndefined();
  });

  test("await using closes it", async () => {
    const app = shop();
    await app.start();

    await app[Symbol.asyncDispose]();

    expect((await app.health()).status).toBe("closed");
  });

  test("settings come from the argument, then the environment", () => {
    const wrong = { ORKESTRA_STORE: "mysql://host/db" };

    expect(() => shop({ env: wrong })).not.toThrow();
    expect(() => new Orkestra("shop", { env: wrong })).toThrow(InvalidUrlError);
    for (const options of [
      { bus: "kafka://x" },
      { store: "sqlite:" },
      { state: "nonsense" },
      { store: "sqlite::memory:" },
    ]) {
      expect(() => shop({ ...options })).toThrow(InvalidUrlError);
    }
    expect(() => shop({ maxPayloadBytes: 1 })).toThrow(InvalidSettingError);
    expect(() => shop({ context: "none" as "async" })).toThrow(InvalidSettingError);
    expect(() => new Orkestra("1 shop", { store: "memory:" })).toThrow(OrkestraError);
  });
});

describe("bad input: store files", () => {
  const start = (path: string) => shop({ store: `sqlite:${path}` }).start();

  test("a file that is not a database", async () => {
    const path = `${folder()}/notes.db`;
    writeFileSync(
      path,
      "these are notes, not a database, and longer than a header of SQLite is\n".repeat(20),
    );

    await expect(start(path)).rejects.toThrow(NotADatabaseError);
  });

  test("a folder that is not there", async () => {
    await expect(start(`${folder()}/no/such/folder/shop.db`)).rejects.toThrow(CannotOpenStoreError);
  });

  test("a folder where the file should be", async () => {
    const path = `${folder()}/shop.db`;
    mkdirSync(path);

    await expect(start(path)).rejects.toThrow(OrkestraError);
  });

  test("a database of a newer release", async () => {
    const path = `${folder()}/shop.db`;
    await (await start(path)).close();
    // Python's sqlite3 writes what a newer release would have written.
    const script = `import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
table = [r[0] for r in db.execute("select name from sqlite_master where type='table' and name like '%schema%'")][0]
column = [r[1] for r in db.execute(f"pragma table_info({table})")][0]
db.execute(f"update {table} set {column} = 999 where {column} = (select max({column}) from {table})")
db.commit()`;
    execFileSync("python3", ["-c", script, path]);

    await expect(start(path)).rejects.toThrow(NewerSchemaError);
  });

  test("a start that failed may be tried again", async () => {
    const path = folder();
    const app = shop({ store: `sqlite:${path}/later/shop.db` });
    await expect(app.start()).rejects.toThrow(CannotOpenStoreError);
    mkdirSync(`${path}/later`);

    await app.start();

    expect((await app.health()).ok).toBe(true);
  });

  test("an app whose store did not open is closed without an error", async () => {
    const app = shop({ store: `sqlite:${folder()}/no/such/shop.db` });
    await expect(app.start()).rejects.toThrow(CannotOpenStoreError);

    await expect(app.close()).resolves.toBeUndefined();
  });
});

describe("bad input: what no other language can read", () => {
  const HALF = "a\ud800b";

  test.each([HALF, 5, null, undefined])("a stream %j", async (stream) => {
    const app = await shop().start();
    const name = stream as string;

    await expect(app.store.append(name, [placed()])).rejects.toThrow(InvalidStreamNameError);
    const many = [{ stream: name, events: [placed()] }];
    await expect(app.store.appendMany(many)).rejects.toThrow(InvalidStreamNameError);
    await expect(app.store.readStream(name).next()).rejects.toThrow(InvalidStreamNameError);
    await expect(app.store.deleteStream(name)).rejects.toThrow(InvalidStreamNameError);
    expect(await app.store.head()).toBeNull();
  });

  test.each([null, {}, "7", -1])("an expected revision %j", async (expected) => {
    const app = await shop().start();
    const options = { expected: expected as number };

    await expect(app.store.append("order-1", [placed()], options)).rejects.toThrow(
      InvalidArgumentError,
    );
    await expect(app.store.deleteStream("order-1", options)).rejects.toThrow(InvalidArgumentError);
  });

  test.each(["actorId", "source", "correlationId"])("a half character as %s", async (field) => {
    const app = await shop().start();

    await expect(app.publish(placed(), { [field]: HALF })).rejects.toThrow(InvalidMetadataError);
  });
});

test("what separates events on their way to the store may be in them", async () => {
  const app = await shop().addTypes(Any).start();
  const value = '\u001e\u001f"\\\u2028';
  const options = { actorId: 'a"b\\c', source: "ünder\u2028" };
  const event = Any({ value });
  await app.publish(event, options);

  await app.store.append("any", [event]);

  for await (const { event: read, metadata } of app.store.readAll()) {
    expect(read).toEqual(event);
    expect([metadata.actorId, metadata.source]).toEqual([options.actorId, options.source]);
  }
});
