/**
 * The event store of an app.
 *
 * @packageDocumentation
 */
import {
  checkCounts,
  checkList,
  checkOptions,
  checkTexts,
  flawOf,
  invalid,
  shown,
} from "./arguments.js";
import type { Bridge } from "./bridge.js";
import { InvalidStreamNameError } from "./errors.js";
import { type Event, modelOf, wrongKind } from "./message.js";
import type { Metadata } from "./metadata.js";
import type { NativeStores, Started } from "./native.js";
import { BREAK, encodeEvent, type RecordedEvent, type Row, recordedOf, safe } from "./recorded.js";
import type { Registry } from "./registry.js";

/** What an append asks of its stream: anything, that it has no events, that it has some, or that its last revision is this one. */
export type ExpectedRevision = "any" | "no_stream" | "stream_exists" | number;

/** How to append. */
export interface AppendOptions {
  /** Default `any`. */
  readonly expected?: ExpectedRevision;
}

/** One append of several. */
export interface Append extends AppendOptions {
  readonly stream: string;
  /** In the order to record. */
  readonly events: readonly Event[];
}

/** What an append did. */
export interface Appended {
  /** The revision of the last event of the batch; of the stream, `null` if it has none, when the batch was empty. */
  readonly revision: number | null;
  /** The position of the last event of the batch; `null` when the batch was empty. */
  readonly position: number | null;
  /** Whether the same batch had been stored before and nothing was stored now. */
  readonly repeated: boolean;
}

/** How to read a stream. */
export interface ReadStreamOptions {
  /** The first revision to read, inclusive. Default: the first one forwards, the last one backwards. */
  readonly fromRevision?: number;
  /** At most this many events. Default all. */
  readonly limit?: number;
  /** Newest first. */
  readonly backwards?: boolean;
  /** Events that are in memory at a time. Default 500. */
  readonly pageSize?: number;
}

/** How to read the whole store. */
export interface ReadAllOptions {
  /** Events after this position, exclusive. Default from the first. */
  readonly after?: number | null;
  /** At most this many events. Default all. */
  readonly limit?: number;
  /** Only events whose topic matches one of these patterns. */
  readonly topics?: readonly string[];
  /** Only streams whose names begin so. */
  readonly streamPrefix?: string;
  /** Events that are in memory at a time. Default 1,000. */
  readonly pageSize?: number;
}

/** How to delete a stream. */
export interface DeleteOptions {
  /** Default `any`. */
  readonly expected?: ExpectedRevision;
  /** The events are gone and revisions start again at 0. Without it the stream reads empty and goes on counting. */
  readonly hard?: boolean;
}

/** The most that the core reads at a time. */
const PAGE = 10_000;

/** What the store needs of its app. */
export interface StoreHost {
  readonly bridge: Bridge;
  readonly stores: NativeStores;
  readonly registry: Registry;
  readonly guard: () => void;
  readonly stamp: (event: Event) => Metadata;
}

/** The event store of an app: `app.store`. */
export class Store {
  readonly #host: StoreHost;

  /** @internal */
  constructor(host: StoreHost) {
    this.#host = host;
  }

  /**
   * Appends `events` to `stream` atomically, in their order. The same batch again returns the first result.
   *
   * @throws {RevisionConflictError} if `expected` does not hold.
   * @throws {DuplicateEventError} if an event is stored elsewhere.
   * @throws {NotJsonError} {@link TooLargeError} {@link TooDeepError} if a payload cannot be stored.
   *
   * @example
   * ```ts
   * await app.store.append("order-7", [OrderPlaced({ order_id: "7" })], { expected: "no_stream" });
   * ```
   */
  append(stream: string, events: readonly Event[], options?: AppendOptions): Promise<Appended> {
    return this.appendStamped(stream, events, options, this.#host.stamp);
  }

  /** @internal */
  async appendStamped(
    stream: string,
    events: readonly Event[],
    options: AppendOptions | undefined,
    stamp: (event: Event) => Metadata,
  ): Promise<Appended> {
    this.#host.guard();
    checkName(stream);
    const expected = expectedOf(options);
    const encoded = this.encodeAll(events, stamp);
    const text = await this.#run((stores) => stores.append(stream, expected, encoded));
    return appendedOf(JSON.parse(text ?? "{}") as Appended);
  }

  /**
   * Appends to several streams in one transaction: all or nothing. One result per append, in order.
   *
   * @throws {RevisionConflictError} and as {@link Store.append}, for the first append that fails.
   */
  async appendMany(appends: readonly Append[]): Promise<Appended[]> {
    this.#host.guard();
    if (!Array.isArray(appends)) throw invalid("appends", "a list of appends", appends);
    for (const [i, append] of appends.entries()) checkOptions(append, `appends[${i}]`);
    const streams = appends.map(({ stream }) => checkName(stream));
    const expected = appends.map(expectedOf);
    const encoded = appends.map(({ events }) => this.encodeAll(events, this.#host.stamp));
    const text = await this.#run((stores) => stores.appendMany(streams, expected, encoded));
    return (JSON.parse(text ?? "[]") as Appended[]).map(appendedOf);
  }

  /** Reads a stream, a page at a time. An unknown stream has no events. */
  async *readStream(
    stream: string,
    options: ReadStreamOptions = {},
  ): AsyncGenerator<RecordedEvent> {
    checkOptions(options);
    const { backwards = false, limit = Number.MAX_SAFE_INTEGER, pageSize = 500 } = options;
    checkName(stream);
    checkCounts({ limit, fromRevision: options.fromRevision ?? 0 });
    checkCounts({ pageSize }, 1);
    if (typeof backwards !== "boolean") throw invalid("backwards", "true or false", backwards);
    let from = options.fromRevision;
    let left = limit;
    while (left > 0) {
      const size = Math.min(left, pageSize, PAGE);
      const text = await this.#run((stores) => stores.readStream(stream, from, backwards, size));
      const page = JSON.parse(text ?? "{}") as { events: Row[]; end: boolean };
      for (const row of page.events) yield recordedOf(row, this.#host.registry.lookup);
      const last = page.events.at(-1);
      if (page.end || last === undefined) return;
      left -= page.events.length;
      from = last.revision + (backwards ? -1 : 1);
      if (from < 0) return;
    }
  }

  /** Reads the whole store in increasing position, a page at a time. A reader that remembers the last position never misses an event. */
  async *readAll(options: ReadAllOptions = {}): AsyncGenerator<RecordedEvent> {
    checkOptions(options);
    const { limit = Number.MAX_SAFE_INTEGER, pageSize = 1000, topics, streamPrefix } = options;
    checkCounts({ limit, after: options.after ?? 0 });
    checkCounts({ pageSize }, 1);
    checkList("topics", topics);
    checkTexts({ streamPrefix });
    let after = options.after ?? null;
    let left = limit;
    while (left > 0) {
      const json = JSON.stringify({
        after,
        limit: Math.min(left, pageSize, PAGE),
        topics: topics ?? null,
        stream_prefix: streamPrefix ?? null,
      });
      const text = await this.#run((stores) => stores.readAll(this.#host.registry.native, json));
      const page = JSON.parse(text ?? "{}") as {
        events: Row[];
        end: boolean;
        position: number | null;
      };
      for (const row of page.events) yield recordedOf(row, this.#host.registry.lookup);
      if (page.end || page.position === null) return;
      left -= page.events.length;
      after = safe(page.position);
    }
  }

  /** The position of the last event, `null` for an empty store. */
  async head(): Promise<number | null> {
    const text = await this.#run((stores) => stores.head());
    return text === null ? null : safe(Number(text));
  }

  /** Whether the stream has events. */
  async streamExists(stream: string): Promise<boolean> {
    for await (const _ of this.readStream(stream, { limit: 1 })) return true;
    return false;
  }

  /**
   * Deletes a stream; an unknown one is no error. Returns whether there was something to delete.
   *
   * @throws {RevisionConflictError} if `expected` does not hold.
   */
  async deleteStream(stream: string, options: DeleteOptions = {}): Promise<boolean> {
    checkName(stream);
    const expected = expectedOf(options);
    const hard = options.hard === true;
    return (await this.#run((stores) => stores.deleteStream(stream, expected, hard))) === "true";
  }

  #run(call: (stores: NativeStores) => Started): Promise<string | null> {
    const { bridge, stores, guard } = this.#host;
    return bridge.run(() => {
      guard();
      return call(stores);
    });
  }

  /** @internal Events for the core, stamped. */
  encodeAll(events: readonly Event[], stamp: (event: Event, index: number) => Metadata): string {
    if (!Array.isArray(events)) throw invalid("events", "a list of events", events);
    const { maxPayloadBytes } = this.#host.stores;
    const texts = events.map((event: Event, index) => {
      const model = modelOf(event);
      if (model?.kind !== "event") throw wrongKind("event", event);
      return encodeEvent(event, model, stamp(event, index), maxPayloadBytes);
    });
    return texts.join(BREAK);
  }
}

function appendedOf(appended: Appended): Appended {
  if (appended.revision !== null) safe(appended.revision);
  if (appended.position !== null) safe(appended.position);
  return appended;
}

function expectedOf(options: AppendOptions = {}): number | string {
  checkOptions(options);
  const { expected = "any" } = options;
  // The core says which words there are.
  if (typeof expected !== "string") checkCounts({ expected });
  return expected;
}

/** The name, which the core checks once it is text. */
export function checkName(name: unknown): string {
  const flaw = flawOf(name);
  if (flaw === undefined) return name as string;
  const reason = typeof name === "string" ? flaw : "expected text";
  const stream = shown(name).replace(/\p{Surrogate}/gu, "\ufffd");
  throw new InvalidStreamNameError(`stream name ${stream}: ${reason}`, { stream, reason });
}
