/**
 * From the first failure on: steps the core's delivery machine, which says when to try again and when to give up.
 *
 * @packageDocumentation
 */
import { setMaxListeners } from "node:events";
import type { Bridge } from "./bridge.js";
import type { Origin } from "./clock.js";
import { type DeadLetter, deadLetterOf } from "./dead-letters.js";
import { HandlerTimeoutError, RejectedError } from "./errors.js";
import { type Message, modelOf, payloadOf } from "./message.js";
import { Metadata } from "./metadata.js";
import {
  attempt,
  type NativeDelivery,
  type NativeStores,
  type NativeWork,
  native,
  type Started,
} from "./native.js";
import { errorRecords, errorTypes, Reject, RetryAfter } from "./outcome.js";
import { encodePayload } from "./payload.js";
import type { Row } from "./recorded.js";
import type { Registry } from "./registry.js";
import type { Route } from "./route.js";

/** The wait after a store failed to answer, milliseconds. */
const AFTER_FAILURE = 500;

/** Calls the handler; `number` is 1 for the first call. */
export type Attempt = (number: number) => Promise<unknown>;

/** A message on its way to one handler. */
export interface Delivery {
  readonly route: Route;
  readonly message: Message;
  readonly stamp: Metadata;
  readonly maxRetries: number | undefined;
  readonly call: Attempt;
  /** Told before each wait for a retry. */
  readonly onRetry?: () => void;
  /** Whether giving up leaves a dead letter. Default true. */
  readonly letter?: boolean;
  /** Whether the log keeps the message: closing then interrupts the delivery instead of giving it up. */
  readonly logged?: boolean;
}

/** Thrown when the app closes in the middle of a delivery from the log. */
export const INTERRUPTED = new Error("the app closed in the middle of a delivery");

/** A recorded event that does not decode. */
export interface Undecodable {
  readonly type: string;
  readonly version: number;
  readonly data: object;
  readonly stamp: Metadata;
  readonly error: unknown;
}

/** What a dead letter says. */
interface Given {
  readonly type: string;
  readonly stamp: Metadata;
  readonly body: string | undefined;
  readonly reason: string;
}

/** Records a dead letter; `json` says what it is about, the time is in microseconds. */
type Record = (json: string, nowMicros: number) => Started;

/** How deliveries are set up. */
export interface DeliveriesOptions {
  readonly origin: Origin;
  readonly registry: Registry;
  readonly bridge: Bridge;
  readonly stores: NativeStores;
  readonly warn: (message: string, error: unknown) => void;
}

/** Steps deliveries, keeps what goes on behind, and records dead letters. */
export class Deliveries {
  readonly #options: DeliveriesOptions;
  readonly #listeners: Array<(letter: DeadLetter) => unknown> = [];
  readonly #behind = new Set<Promise<unknown>>();
  readonly #closing = new AbortController();

  constructor(options: DeliveriesOptions) {
    this.#options = options;
    // Every reader and every wait listens; that is no leak.
    setMaxListeners(0, this.#closing.signal);
  }

  /** Aborted when the app closes. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /** Tells `listener` about every dead letter. */
  onDeadLetter(listener: (letter: DeadLetter) => unknown): void {
    this.#listeners.push(listener);
  }

  /** Keeps `work` until it ends; nobody else waits for it. */
  behind(work: Promise<unknown>): void {
    this.#behind.add(work);
    const done = (): void => {
      this.#behind.delete(work);
    };
    work.then(done, done);
  }

  /** Waits for all that goes on behind. */
  async settled(): Promise<void> {
    while (this.#behind.size > 0) await Promise.allSettled(this.#behind);
  }

  /** No more waiting for retries: what waits becomes a dead letter. */
  async close(): Promise<void> {
    this.interrupt();
    await this.settled();
  }

  /** Tells everything that it is to end, and waits for nothing. */
  interrupt(): void {
    this.#closing.abort();
  }

  /**
   * Calls the handler until it succeeds or the core gives up. `failed` is what the first attempt failed with, if it was made already.
   *
   * @throws {RejectedError} if the handler refused; else what the last attempt threw.
   */
  async deliver(delivery: Delivery, failed?: { failure: unknown }): Promise<unknown> {
    const { route, call } = delivery;
    const { origin, registry } = this.#options;
    let machine: NativeDelivery | undefined;
    let failure = failed;
    for (;;) {
      if (failure === undefined) {
        try {
          return await call((machine?.attempts ?? 0) + 1);
        } catch (error) {
          failure = { failure: error };
        }
      }
      const error = failure.failure;
      failure = undefined;
      if (error instanceof Reject) throw rejected(error);
      machine ??= new native.Delivery(registry.native, route.index, delivery.maxRetries);
      machine.begin();
      const next = this.#judge(machine, error);
      if (typeof next === "number" && !this.closing.aborted) {
        delivery.onRetry?.();
        await origin.clock.sleep(next, this.closing);
        if (!this.closing.aborted) continue;
      }
      if (typeof next === "number" && delivery.logged === true) throw INTERRUPTED;
      const reason = typeof next === "string" ? next : "retries_exhausted";
      if (!(await this.#giveUp(delivery, machine, reason))) throw INTERRUPTED;
      throw error;
    }
  }

  /** Records a message of the log that does not decode, as it was recorded; false when the app closed before that. */
  async park(route: Route, about: Undecodable): Promise<boolean> {
    const { registry } = this.#options;
    const machine = new native.Delivery(registry.native, route.index, undefined);
    machine.begin();
    this.#judge(machine, about.error);
    const { type, version, stamp, data } = about;
    const body = encoded("event", {
      type,
      version,
      stamp,
      data: JSON.stringify(data),
      attempts: 1,
    });
    const given = { type, stamp, body, reason: "undecodable" };
    return this.#bury(route.fullName, this.#recording(machine), given);
  }

  /** Records a logged event that a projection gave up; false when the app closed before that. */
  async parkEvent(work: NativeWork, handler: string, row: Row, reason: string): Promise<boolean> {
    const { stores } = this.#options;
    const { type, version, data } = row;
    const stamp = Metadata.read(row.id, row.metadata);
    const attempts = work.attempt();
    const body = encoded("event", { type, version, stamp, data: JSON.stringify(data), attempts });
    const record: Record = (json, now) => stores.parkEvent(work, handler, json, now);
    return this.#bury(handler, record, { type, stamp, body, reason });
  }

  #recording(machine: NativeDelivery): Record {
    return (json, now) => this.#options.stores.recordDeadLetter(machine, json, now);
  }

  #judge(machine: NativeDelivery, error: unknown): number | string {
    const { clock, ids } = this.#options.origin;
    const records = JSON.stringify(errorRecords(error));
    const now = Math.round(clock.now() * 1000);
    return attempt(() =>
      error instanceof RetryAfter
        ? machine.retryAfter(error.delayMs, records, now)
        : machine.failed(errorTypes(error), records, now, ids.draw()),
    );
  }

  /** False when the app closed before an event of the log was recorded as a dead letter. */
  async #giveUp(delivery: Delivery, machine: NativeDelivery, reason: string): Promise<boolean> {
    const { message, stamp, route, letter = true, logged = false } = delivery;
    if (!letter) return true;
    const type = modelOf(message)?.typeName ?? "";
    const body = bodyOf(message, stamp, machine.attempts);
    const about = { type, stamp, body, reason };
    const record = this.#recording(machine);
    if (logged) return this.#bury(route.fullName, record, about);
    await this.#record(route.fullName, record, about);
    return true;
  }

  /** An event of the log counts as handled once it is recorded, so that is tried until it succeeds or the app closes. */
  async #bury(handler: string, record: Record, about: Given): Promise<boolean> {
    while (!(await this.#record(handler, record, about))) {
      await this.#options.origin.clock.sleep(AFTER_FAILURE, this.closing);
      if (this.closing.aborted) return false;
    }
    return true;
  }

  async #record(handler: string, record: Record, about: Given): Promise<boolean> {
    const { origin, registry, bridge, warn } = this.#options;
    const { type, stamp, body, reason } = about;
    const now = origin.clock.now();
    try {
      const json = JSON.stringify({
        id: origin.ids.next(now),
        message_id: Metadata.idOf(stamp),
        type_name: type,
        topic: registry.topicFor(type),
        body,
        correlation_id: stamp.correlationId,
        traceparent: Metadata.traceOf(stamp)?.traceparent ?? null,
        reason,
      });
      const micros = Math.round(now * 1000);
      const text = await bridge.run(() => record(json, micros));
      await this.announce(deadLetterOf(JSON.parse(text ?? "{}")));
      return true;
    } catch (error) {
      warn(`${handler}: the dead letter of ${type} was not recorded`, error);
      return false;
    }
  }

  /** Tells the listeners about what the relay of the log parks, until the app closes. */
  async announceParked(): Promise<void> {
    const { bridge, stores } = this.#options;
    const waiting = { background: true, signal: this.closing };
    for (;;) {
      const text = await bridge.run(() => stores.nextParked(), waiting);
      if (text === null) return;
      await this.announce(deadLetterOf(JSON.parse(text)));
    }
  }

  /** Tells the listeners about a dead letter that is recorded. */
  async announce(letter: DeadLetter): Promise<void> {
    for (const listener of this.#listeners) {
      try {
        await listener(letter);
      } catch (error) {
        this.#options.warn(`${letter.handler}: a listener of dead letters failed`, error);
      }
    }
  }

  /**
   * Ends with `work`, or when the route's time is over.
   *
   * @throws {HandlerTimeoutError} if the handler ran too long; what it still does is not waited for.
   */
  async within(route: Route, work: Promise<unknown>): Promise<unknown> {
    const { timeoutMs } = route;
    if (timeoutMs === undefined) return work;
    const over = new AbortController();
    const limit = this.#options.origin.clock.sleep(timeoutMs, over.signal).then(() => {
      const seconds = timeoutMs / 1000;
      throw new HandlerTimeoutError(`handler ${route.fullName} ran longer than ${seconds} s`, {
        handler: route.fullName,
        seconds,
      });
    });
    for (const promise of [work, limit]) promise.catch(() => undefined);
    try {
      return await Promise.race([work, limit]);
    } finally {
      over.abort();
    }
  }
}

/** What the caller gets for a refusal. */
export function rejected(refusal: Reject): RejectedError {
  const { message: reason, data } = refusal;
  return new RejectedError(`rejected: ${reason}`, { reason, data }, { cause: refusal });
}

/** The body on the wire, nothing if the payload cannot be encoded. */
function bodyOf(message: Message, stamp: Metadata, attempts: number): string | undefined {
  const model = modelOf(message);
  if (model === undefined) return undefined;
  try {
    const { typeName: type, version } = model;
    const data = encodePayload(type, payloadOf(message), Number.MAX_SAFE_INTEGER);
    return encoded(model.kind, { type, version, stamp, data, attempts });
  } catch {
    return undefined;
  }
}

interface Encoding {
  readonly type: string;
  readonly version: number;
  readonly stamp: Metadata;
  /** JSON. */
  readonly data: string;
  readonly attempts: number;
}

function encoded(kind: string, { type, version, stamp, data, attempts }: Encoding): string {
  const facts = JSON.stringify({
    id: Metadata.idOf(stamp),
    type,
    version,
    occurred_at: Metadata.micros(stamp),
    attempts,
    status: "failed",
  });
  const metadata = Metadata.encode(stamp);
  const json = `${facts.slice(0, -1)},"metadata":${metadata},"data":${data}}`;
  return attempt(() => native.encodeMessage(kind, json));
}

/** Whether a handler returned something to wait for. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === "object" &&
    value !== null &&
    typeof (value as { then?: unknown }).then === "function"
  );
}
