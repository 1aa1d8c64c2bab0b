/** `tests/vectors/store/*.json`: scripts of calls on a store, through the public API. */
import { readdirSync, readFileSync } from "node:fs";
import {
  type Batch,
  type Event,
  type EventType,
  event,
  idOf,
  Orkestra,
  type RecordedEvent,
  type,
} from "orkestra";
import { describe, expect, onTestFinished, test } from "vitest";
import { STORES } from "./stores.js";

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
type Arguments = { readonly [key: string]: Json };

interface Call {
  readonly call: string;
  readonly arguments: Arguments;
  readonly result?: Json;
  readonly error?: Arguments;
}

interface Case {
  readonly id: string;
  readonly needs?: "append_many" | "hard_delete" | "unique_ids" | "durable";
  readonly calls: readonly Call[];
  readonly increasing?: readonly string[];
}

interface Script {
  readonly events: Readonly<Record<string, { readonly type: string; readonly data: Arguments }>>;
  readonly cases: readonly Case[];
}

const folder = new URL("../../tests/vectors/store/", import.meta.url);
const scripts = readdirSync(folder).map((file): [string, Script] => [
  file.replace(".json", ""),
  JSON.parse(readFileSync(new URL(file, folder), "utf8")) as Script,
]);

const order = type<{ order_id: string }>();
const TYPES: Readonly<Record<string, EventType<object, object>>> = Object.fromEntries(
  [
    event("Shop.Orders.Events.OrderPlaced", order),
    event("Shop.Orders.Events.OrderShipped", order),
    event("Shop.Carts.Events.ItemAdded", type<{ quantity: number }>()),
    event("Shop.Notes.Events.NoteTaken", type<{ note: object }>()),
  ].map((one) => [one.typeName, one as unknown as EventType<object, object>]),
);

interface Reader {
  readonly close: () => Promise<void>;
  readonly batches: AsyncGenerator<Batch>;
  readonly ack: (position: number) => Promise<void>;
}

/** What a case knows: its events, and what its variables stand for. */
class Run {
  readonly #script: Script;
  readonly #store: string;
  readonly #facts = new Map<string, Event>();
  readonly #readers = new Map<string, Reader>();
  readonly variables = new Map<string, Json>();
  app: Orkestra;

  constructor(script: Script, store: string) {
    this.#script = script;
    this.#store = store;
    this.app = this.#open();
  }

  #open(): Orkestra {
    const app = new Orkestra("shop", { store: this.#store, appPrefix: "Shop", env: {} });
    return app.addTypes(...Object.values(TYPES));
  }

  /** What a variable stands for, or the value itself. */
  #value(value: Json | undefined): Json | undefined {
    return typeof value === "string" ? (this.variables.get(value) ?? value) : value;
  }

  /** The same object each time that it is named. */
  #event(name: string): Event {
    let fact = this.#facts.get(name);
    if (fact === undefined) {
      const { type: typeName, data } = this.#script.events[name] as Script["events"][string];
      fact = (TYPES[typeName] as EventType<object, object>)(data);
      this.#facts.set(name, fact);
    }
    return fact;
  }

  #events(names: Json | undefined): Event[] {
    return (names as string[]).map((name) => this.#event(name));
  }

  #shown(recorded: readonly RecordedEvent[]): Json {
    return recorded.map(({ event: found, id, type: typeName, stream, revision, position }) => {
      const named = [...this.#facts].find(([, fact]) => idOf(fact) === id);
      const name = named?.[0] ?? "";
      const fact = this.#script.events[name];
      expect([typeName, JSON.parse(JSON.stringify(found))]).toEqual([fact?.type, fact?.data]);
      return { event: name, stream, revision, position };
    });
  }

  async call(call: string, a: Arguments): Promise<Json> {
    const { store } = this.app;
    const stream = a.stream as string;
    const expected = a.expected === undefined ? {} : { expected: a.expected as "any" };
    switch (call) {
      case "append":
        return { ...(await store.append(stream, this.#events(a.events), expected)) };
      case "append_many": {
        const appends = (a.appends as readonly Arguments[]).map((one) => ({
          stream: one.stream as string,
          events: this.#events(one.events),
          ...(one.expected !== undefined && { expected: one.expected as "any" }),
        }));
        return (await store.appendMany(appends)).map((done) => ({ ...done }));
      }
      case "read_stream":
        return this.#shown(
          await collect(
            store.readStream(stream, given({ ...a, from_revision: this.#value(a.from_revision) })),
          ),
        );
      case "read_all":
        return this.#shown(
          await collect(store.readAll(given({ ...a, after: this.#value(a.after) }))),
        );
      case "head":
        return store.head();
      case "stream_exists":
        return store.streamExists(stream);
      case "delete_stream":
        return store.deleteStream(stream, { ...expected, hard: a.hard === true });
      case "caught_up": {
        const seconds = (a.timeout as number | undefined) ?? 30;
        const position = this.#value(a.position) as number;
        await this.app.caughtUp(a.name as string, position, { timeoutMs: seconds * 1000 });
        return null;
      }
      case "reopen":
        for (const reader of this.#readers.values()) await reader.close();
        this.#readers.clear();
        await this.app.close();
        this.app = this.#open();
        await this.app.start();
        return null;
      default:
        return this.#read(call, a.reader as string, a);
    }
  }

  async #read(call: string, name: string, a: Arguments): Promise<Json> {
    if (call === "subscribe") {
      const { reader: _, ...options } = a;
      const subscription = this.app.subscribe(given({ ...options, start: this.#value(a.start) }));
      await subscription.open();
      const batches = subscription.batches();
      this.#readers.set(name, {
        batches,
        close: () => subscription.close(),
        ack: (position) => subscription.ack(position),
      });
      return null;
    }
    const reader = this.#readers.get(name) as Reader;
    if (call === "next") {
      const { events, position } = (await reader.batches.next()).value as Batch;
      return { events: this.#shown(events), position };
    }
    if (call === "ack") await reader.ack(this.#value(a.position) as number);
    else if (call === "close_reader") await reader.close();
    else throw new Error(`no call ${call}`);
    return null;
  }

  /** Whether `found` is what `wanted` says: of objects the keys that it names, a variable as what it stands for. */
  check(wanted: Json, found: Json | undefined, at: string): void {
    if (typeof wanted === "string" && wanted.startsWith("$")) {
      if (!this.variables.has(wanted)) this.variables.set(wanted, found ?? null);
      expect(found, `${at}.${wanted}`).toEqual(this.variables.get(wanted));
    } else if (Array.isArray(wanted)) {
      expect(found, at).toHaveLength(wanted.length);
      for (const [n, one] of wanted.entries()) {
        this.check(one, (found as readonly Json[])[n], `${at}[${n}]`);
      }
    } else if (typeof wanted === "object" && wanted !== null) {
      for (const [key, one] of Object.entries(wanted)) {
        this.check(one, (found as Arguments)[key], `${at}.${key}`);
      }
    } else {
      expect(found ?? null, at).toEqual(wanted);
    }
  }
}

async function collect<T>(found: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const one of found) all.push(one);
  return all;
}

/** The options that a script gives, under their names here. */
function given(options: Readonly<Record<string, Json | undefined>>): object {
  const camel = (name: string) =>
    name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
  const there = Object.entries(options).filter(
    ([name, value]) => name !== "stream" && value !== undefined,
  );
  return Object.fromEntries(there.map(([name, value]) => [camel(name), value]));
}

for (const place of STORES) {
  describe(place.name, () => {
    for (const [file, script] of scripts) {
      test.for(script.cases)(
        `${file}: $id`,
        async ({ needs, calls, increasing = [] }, { skip }) => {
          skip(needs === "durable" && !place.durable, "the store ends with its app");
          const run = new Run(script, await place.url());
          onTestFinished(() => run.app.close());
          await run.app.start();
          for (const [n, { call, arguments: a, result, error }] of calls.entries()) {
            const at = `call ${n} ${call}`;
            if (error === undefined) {
              const found = await run.call(call, a);
              if (result !== undefined) run.check(result, found, at);
              continue;
            }
            const failure = await run.call(call, a).then(
              (found) => expect.unreachable(`${at}: ${JSON.stringify(found)}`),
              (thrown: unknown) => thrown as { code: string; details: Json },
            );
            run.check(error, { code: failure.code, details: failure.details }, at);
          }
          const numbers = increasing.map((name) => run.variables.get(name) as number);
          expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
        },
      );
    }
  });
}
