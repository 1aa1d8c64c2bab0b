/**
 * Named readers of the log, and the ones that bring logged events to their handlers.
 *
 * @packageDocumentation
 */
import {
  checkCounts,
  checkList,
  checkMillis,
  checkOptions,
  checkTexts,
  invalid,
  notAStart,
} from "./arguments.js";
import type { Bridge } from "./bridge.js";
import type { Clock } from "./clock.js";
import { InvalidArgumentError, NotCaughtUpError } from "./errors.js";
import type { Start } from "./handlers.js";
import { attempt, type NativeStores, type NativeSubscription, native } from "./native.js";
import { type RecordedEvent, type Row, recordedOf, safe } from "./recorded.js";
import type { Registry } from "./registry.js";
import { Ends, either } from "./signals.js";

/** How a subscription reads. */
export interface SubscribeOptions {
  /** Its name: its place is kept under it. Without one the place is kept in memory only. */
  readonly name?: string;
  /** Where to start when there is no place yet. Default `origin`. */
  readonly start?: Start;
  /** Only events whose topic matches one of these patterns. */
  readonly topics?: readonly string[];
  /** Only streams whose names begin so. */
  readonly streamPrefix?: string;
  /** At most this many events in a batch. Default 500. */
  readonly batchSize?: number;
  /** Ends the iteration. */
  readonly signal?: AbortSignal;
}

/** Events that a subscription read. */
export interface Batch {
  readonly events: readonly RecordedEvent[];
  /** How far was read: acknowledge this when all of it is handled. */
  readonly position: number;
}

/** Events as they were read. */
interface Page {
  readonly events: readonly Row[];
  readonly position: number;
}

/** What a subscription needs of its app. */
export interface SubscriptionHost {
  readonly bridge: Bridge;
  readonly stores: NativeStores;
  readonly registry: Registry;
  readonly closing: AbortSignal;
  /** Those that are read: the app lets go of their names when it closes. */
  readonly reading: Set<Subscription>;
}

/**
 * A named reader of the log: an async iterable of recorded events, live once it has caught up.
 *
 * Iterating acknowledges an event when the next one is asked for. `batches` leaves acknowledging to the caller.
 *
 * @example
 * ```ts
 * for await (const recorded of app.subscribe({ name: "audit", topics: ["orders.#"] })) {
 *   await audit(recorded.event);
 * }
 * ```
 */
export class Subscription implements AsyncIterable<RecordedEvent> {
  readonly #host: SubscriptionHost;
  readonly #given: AbortSignal | undefined;
  #acknowledged: number | undefined;
  /** Ends when the reading has. */
  #ended: Promise<void> | undefined;
  /** Whether the caller has what was read, and may never ask for more. */
  #isHeld = false;
  /** Whether the closing app has let go of the name. */
  #isLetGo = false;
  readonly #native: NativeSubscription;

  /** @internal */
  constructor(host: SubscriptionHost, options: SubscribeOptions) {
    checkSubscribe(options);
    const { name, start = "origin", topics, streamPrefix, batchSize = 500, signal } = options;
    const json = JSON.stringify({
      name: name ?? null,
      start,
      handler: null,
      topics: topics ?? null,
      stream_prefix: streamPrefix ?? null,
      batch_size: batchSize,
    });
    this.#host = host;
    this.#given = signal;
    this.#native = attempt(() => new native.Subscription(host.stores, host.registry.native, json));
  }

  /** Finds the place to start at: call it first when `start: "now"` has to mean the time of the call. */
  async open(): Promise<this> {
    this.#host.reading.add(this);
    await this.#host.bridge.run(() => this.#native.open());
    return this;
  }

  /** Everything up to `position` is handled. */
  async ack(position: number): Promise<void> {
    checkCounts({ position });
    await this.#host.bridge.run(() => this.#native.ack(position));
    this.#acknowledged = position;
  }

  /** Lets another process read under this name at once. Leaving an iteration does it too; reading on takes the name again. */
  async close(): Promise<void> {
    this.#host.reading.delete(this);
    if (this.#isLetGo) return;
    try {
      await this.#host.bridge.run(() => this.#native.release());
    } catch (error) {
      // Closed before this: the name is free when its lease ends.
      if (!this.#host.closing.aborted) throw error;
    }
  }

  /** @internal Lets go of the name as the app closes; one that is reading does so itself. */
  async letGo(): Promise<void> {
    if (this.#ended !== undefined && !this.#isHeld) return this.#ended;
    this.#isLetGo = true;
    await this.#host.bridge.run(() => this.#native.release());
  }

  /** The batches from here on; each waits for events. Ends when the app closes or the signal is aborted. */
  async *batches(): AsyncGenerator<Batch> {
    const { closing, reading, bridge } = this.#host;
    const ends = new Ends(this.#given, closing);
    const { signal } = ends;
    reading.add(this);
    let end = (): void => undefined;
    this.#ended = new Promise((resolve) => {
      end = resolve;
    });
    try {
      for (;;) {
        if (signal.aborted) return;
        const text = await bridge.run(() => this.#native.next(), { signal });
        if (text === null) return;
        const { position, events } = JSON.parse(text) as Page;
        const { lookup } = this.#host.registry;
        const batch = {
          position: safe(position),
          events: events.map((row) => recordedOf(row, lookup)),
        };
        this.#isHeld = true;
        yield batch;
        this.#isHeld = false;
      }
    } finally {
      ends.dispose();
      this.#isHeld = false;
      await this.close().finally(end);
      this.#ended = undefined;
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<RecordedEvent> {
    let isLeft = false;
    try {
      for await (const { events, position } of this.batches()) {
        isLeft = true;
        this.#isHeld = false;
        for (const recorded of events) {
          this.#isHeld = true;
          yield recorded;
          // The name may be another's by now: there the event is handled again.
          if (this.#isLetGo) return;
          this.#isHeld = false;
          await this.ack(recorded.position);
          if (this.#host.closing.aborted) return;
        }
        await this.ack(position);
        isLeft = false;
      }
    } finally {
      // The rest of the batch comes again to who reads on. A name is read from its checkpoint then, whatever is done here.
      if (isLeft && !this.#host.closing.aborted) {
        attempt(() => this.#native.goBack(this.#acknowledged));
      }
    }
  }
}

function checkSubscribe(options: SubscribeOptions): void {
  checkOptions(options);
  const { name, start = "origin", topics, streamPrefix, batchSize = 500, signal } = options;
  checkTexts({ name, streamPrefix });
  if (name === "") throw invalid("name", "text that is not empty", "none");
  checkList("topics", topics);
  checkCounts({ batchSize }, 1);
  const reason = notAStart(start);
  if (reason !== undefined) {
    throw new InvalidArgumentError(`start: ${reason}`, { argument: "start", reason });
  }
  // Of another realm, in tests with a DOM of their own, it is no instance of ours.
  if (signal !== undefined && typeof signal?.addEventListener !== "function") {
    throw invalid("signal", "an AbortSignal", signal);
  }
}

/** A handler's reader of the log: rows, as what does not decode is the caller's to report. */
export class LogReader {
  readonly #host: SubscriptionHost;
  readonly #native: NativeSubscription;

  constructor(host: SubscriptionHost, name: string, handler: number, start: Start) {
    const json = JSON.stringify({
      name,
      start,
      handler,
      topics: null,
      stream_prefix: null,
      batch_size: 500,
    });
    this.#host = host;
    this.#native = attempt(() => new native.Subscription(host.stores, host.registry.native, json));
  }

  /** Finds the place to start at. */
  async open(): Promise<void> {
    await this.#host.bridge.run(() => this.#native.open());
  }

  /** Everything up to `position` is handled. */
  async ack(position: number): Promise<void> {
    await this.#host.bridge.run(() => this.#native.ack(position));
  }

  /** What follows `position` is read again. */
  rewind(position: number): void {
    attempt(() => this.#native.rewind(position));
  }

  /** Lets another process read under this name at once. */
  async release(): Promise<void> {
    await this.#host.bridge.run(() => this.#native.release());
  }

  /** The next rows; nothing once the app closes. Waiting does not keep the process alive. */
  async next(): Promise<Page | undefined> {
    const text = await this.#host.bridge.run(() => this.#native.next(), {
      signal: this.#host.closing,
      background: true,
    });
    return text === null ? undefined : (JSON.parse(text) as Page);
  }
}

/**
 * Waits until the subscription `name` has finished `position`, or `halted` is aborted.
 *
 * @throws {NotCaughtUpError} if it does not get there in `timeoutMs` milliseconds.
 */
export async function caughtUp(
  host: SubscriptionHost & { readonly clock: Clock },
  name: string,
  position: number,
  timeoutMs: number,
  halted: AbortSignal | undefined,
): Promise<void> {
  checkTexts({ name });
  checkMillis("timeoutMs", timeoutMs);
  const late = new AbortController();
  const over = new AbortController();
  const limit = host.clock.sleep(timeoutMs, over.signal).then(() => late.abort());
  const signal = halted === undefined ? late.signal : either(late.signal, halted);
  let aborted = false;
  try {
    await host.bridge.run(() => host.stores.caughtUp(name, position), { signal });
    aborted = signal.aborted;
  } finally {
    // Also when it fails: the limit would keep the process alive.
    over.abort();
    await limit;
  }
  if (!aborted) return;
  halted?.throwIfAborted();
  const seconds = timeoutMs / 1000;
  throw new NotCaughtUpError(
    `subscription ${name} did not reach position ${position} within ${seconds} s`,
    { name, position, seconds },
  );
}
