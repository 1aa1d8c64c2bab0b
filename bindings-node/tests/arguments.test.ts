import {
  aggregate,
  ClosedError,
  InvalidAggregateError,
  InvalidArgumentError,
  InvalidHandlerError,
  InvalidSettingError,
  Orkestra,
} from "orkestra";
import { describe, expect, test } from "vitest";
import { OrderPlaced, placed, shop } from "./shop.js";

// As a program in JavaScript does it, or a value that came as `any`.
// biome-ignore lint/suspicious/noExplicitAny: it is what this is about
type Untyped = any;

const started = async () => {
  const app = shop().addTypes(OrderPlaced);
  app.projection("board", { events: OrderPlaced }, () => undefined);
  await app.start();
  await app.store.append("order-7", [placed()]);
  return app as Untyped;
};

const drained = async (events: AsyncIterable<unknown>) => {
  let count = 0;
  for await (const _ of events) count += 1;
  return count;
};

describe("what cannot be meant is refused with the argument's name", () => {
  test.each<[string, string, (app: Untyped) => unknown]>([
    ["events that are no list", "events", (app) => app.store.append("a", placed())],
    ["no events", "events", (app) => app.store.append("a")],
    ["options that are none", "options", (app) => app.store.append("a", [placed()], "no_stream")],
    ["appends that are no list", "appends", (app) => app.store.appendMany({})],
    ["an append that is none", "appends[0]", (app) => app.store.appendMany([null])],
    ["backwards: 1", "backwards", (app) => drained(app.store.readStream("a", { backwards: 1 }))],
    // It read nothing, as if the stream were empty.
    ["pageSize: 0", "pageSize", (app) => drained(app.store.readStream("a", { pageSize: 0 }))],
    ["topics: text", "topics", (app) => drained(app.store.readAll({ topics: "orders.#" }))],
    // It read everything.
    ["topics: NaN", "topics", (app) => drained(app.store.readAll({ topics: Number.NaN }))],
    ["a topic: 7", "topics[1]", (app) => drained(app.store.readAll({ topics: ["a", 7] }))],
    [
      "half a pair",
      "streamPrefix",
      (app) => drained(app.store.readAll({ streamPrefix: "\ud800" })),
    ],
    // It began at the origin.
    ["start: latest", "start", (app) => app.subscribe({ start: "latest" })],
    ["start: -1", "start", (app) => app.subscribe({ start: -1 })],
    ["name: empty", "name", (app) => app.subscribe({ name: "" })],
    ["name: 7", "name", (app) => app.subscribe({ name: 7 })],
    ["batchSize: 0", "batchSize", (app) => app.subscribe({ batchSize: 0 })],
    ["signal: text", "signal", (app) => app.subscribe({ signal: "no" })],
    ["subscribe(null)", "options", (app) => app.subscribe(null)],
    ["ack(NaN)", "position", (app) => app.subscribe({ name: "reader" }).ack(Number.NaN)],
    ["ack(-1)", "position", (app) => app.subscribe({ name: "reader" }).ack(-1)],
    // It waited for ever.
    ["timeoutMs: a BigInt", "timeoutMs", (app) => app.caughtUp("board", 9, { timeoutMs: 1n })],
    ["a name that is none", "name", (app) => app.caughtUp(undefined, 1)],
    // Every stream went, and none of them into the archive.
    ["streams: NaN", "streams", (app) => purge(app, { streams: Number.NaN })],
    ["archive: a function", "archive", (app) => purge(app, { archive: () => "orders.jsonl" })],
    ["no age", "options", (app) => app.retention.purgeOutbox()],
    ["age: text", "olderThanMs", (app) => app.retention.purgeInbox({ olderThanMs: "1" })],
    [
      "handler: 7",
      "handler",
      (app) => app.retention.purgeDeadLetters({ olderThanMs: 0, handler: 7 }),
    ],
    // All dead letters were requeued.
    ["since: no date", "since", (app) => app.deadLetters.requeueAll({ since: new Date("x") })],
    ["until: text", "until", (app) => app.deadLetters.list({ until: "today" })],
    ["limit: -1", "limit", (app) => app.deadLetters.list({ limit: -1 })],
    ["status: Dead", "status", (app) => app.deadLetters.list({ status: "Dead" })],
    ["id: undefined", "id", (app) => app.deadLetters.requeue()],
  ])("%s", async (_, argument, call) => {
    const app = await started();

    const error = await Promise.resolve()
      .then(() => call(app))
      .catch((caught: unknown) => caught);

    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect((error as InvalidArgumentError).details.argument).toBe(argument);
    expect(await drained(app.store.readAll())).toBe(1);
  });

  const purge = (app: Untyped, options: object) =>
    app.retention.purgeStreams({ olderThanMs: 0, ...options });
});

test("a rejection, not a throw, answers a purge without an age", async () => {
  const { retention } = await started();
  for (const method of ["purgeStreams", "purgeDeadLetters", "purgeOutbox", "purgeInbox"]) {
    const answer = retention[method]();
    expect(answer).toBeInstanceOf(Promise);
    await expect(answer).rejects.toThrow(InvalidArgumentError);
  }
});

test("a page may be larger than the core's", async () => {
  const app = await started();
  expect(await drained(app.store.readStream("order-7", { pageSize: 2 ** 32 }))).toBe(1);
  expect(await drained(app.store.readAll({ pageSize: 2 ** 40 }))).toBe(1);
});

test.each([
  [{ start: "latest" }, "start: expected origin, now or a position, found latest"],
  [{ start: 1.5 }, "start: expected origin, now or a position, found 1.5"],
  [{ poison: "Stop" }, "poison: expected park, skip or stop, found Stop"],
  [{ retry: null }, "retry: expected a retry policy, found null"],
])("a handler and a projection with %o are refused", (options: Untyped, reason) => {
  for (const register of [
    () => shop().eventHandler(OrderPlaced, () => undefined, { name: "reserve", ...options }),
    () => shop().projection("reserve", options, () => undefined),
  ]) {
    expect(register).toThrow(InvalidHandlerError);
    expect(register).toThrow(`handler reserve: ${reason}`);
  }
});

test("settings of another type are refused by name", () => {
  const made = (options: Untyped) => () => new Orkestra("shop", { env: {}, ...options });
  const wrong: Record<string, unknown> = {
    store: 7,
    bus: () => "memory:",
    state: Symbol("memory"),
    appPrefix: 7,
    maxPayloadBytes: "1 MiB",
    closeTimeoutMs: Number.NaN,
    logger: () => undefined,
  };
  for (const [setting, value] of Object.entries(wrong)) {
    expect(made({ store: "memory:", [setting]: value })).toThrow(InvalidSettingError);
    expect(made({ store: "memory:", [setting]: value })).toThrow(`${setting}: expected`);
  }
  expect(() => new Orkestra(undefined as Untyped, { store: "memory:" })).toThrow("name: expected");
  expect(() => new Orkestra("shop", null as Untyped)).toThrow(InvalidSettingError);
});

test("what is no aggregate, group or listener is refused by name", async () => {
  const app = shop() as Untyped;
  expect(() => app.addAggregate(null)).toThrow(InvalidAggregateError);
  expect(() => app.addAggregate(class Cart {})).toThrow("expected what aggregate() makes");
  expect(() => aggregate(null as Untyped)).toThrow(InvalidAggregateError);
  expect(() => aggregate({ name: "cart" } as Untyped)).toThrow(InvalidAggregateError);
  expect(() => app.include({})).toThrow(InvalidArgumentError);
  expect(() => app.onDeadLetter("log")).toThrow(InvalidArgumentError);
  await app.start();
  await expect(app.execute(undefined)).rejects.toThrow(InvalidAggregateError);
});

test("a closed app does not start again, and says so", async () => {
  const app = await shop().start();
  await app.close();

  await expect(app.start()).rejects.toThrow(ClosedError);
  await expect(app.deadLetters.list()).rejects.toThrow(ClosedError);
});

test("dead letters can be looked at before the start, as what waits in the outbox", async () => {
  expect((await shop().deadLetters.list()).total).toBe(0);
});
