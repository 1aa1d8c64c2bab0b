/**
 * How events of the log reach their handlers: a named subscription each, in order per stream, retried in place.
 *
 * @packageDocumentation
 */
import type { Bus } from "./bus.js";
import type { Origin } from "./clock.js";
import { INTERRUPTED } from "./delivery.js";
import { RejectedError, SubscriptionStoppedError } from "./errors.js";
import type { Poison, Start } from "./handlers.js";
import { isClaimed } from "./inbox.js";
import { type Event, stampOf } from "./message.js";
import type { Metadata } from "./metadata.js";
import { eventOf, type Row } from "./recorded.js";
import type { Route } from "./route.js";
import { LogReader, type SubscriptionHost } from "./subscription.js";

/** The wait after a store failed to answer, milliseconds. */
const AFTER_FAILURE = 500;

/** Where a handler's reader stands. */
export interface ReaderState {
  /** Full name of the handler. */
  readonly name: string;
  /** The last position that it finished since the app started, `null` before the first. */
  readonly position: number | null;
  /** Whether it reads. */
  readonly running: boolean;
  /** Why it stopped at an event, `null` unless its `poison` policy made it. */
  readonly stopped: string | null;
}

/** What the readers of handlers need. */
export interface LogHost extends SubscriptionHost {
  readonly bus: Bus;
  readonly origin: Origin;
  readonly warn: (message: string, error: unknown) => void;
  /** Records an event that does not decode; false when the app closed before that. */
  readonly undecodable: (route: Route, row: Row, error: unknown) => Promise<boolean>;
}

/** Brings the events of the log to one handler. */
export class LogFollower {
  readonly #host: LogHost;
  readonly #route: Route;
  readonly #reader: LogReader;
  #position: number | null = null;
  #running = false;
  #stopped: SubscriptionStoppedError | undefined;
  readonly #halted = new AbortController();
  readonly #poison: Poison;

  constructor(host: LogHost, route: Route, start: Start, poison: Poison) {
    this.#host = host;
    this.#route = route;
    this.#poison = poison;
    this.#reader = new LogReader(host, route.fullName, route.index, start);
  }

  /** Where it stands. */
  get state(): ReaderState {
    const { fullName: name } = this.#route;
    return {
      name,
      position: this.#position,
      running: this.#running,
      stopped: this.#stopped?.message ?? null,
    };
  }

  /** Aborted with a `SubscriptionStoppedError` when its `poison` policy stops it. */
  get halted(): AbortSignal {
    return this.#halted.signal;
  }

  /** Finds its place. */
  open(): Promise<void> {
    return this.#reader.open();
  }

  /** Reads until the app closes. */
  async follow(): Promise<void> {
    const { closing, origin, warn } = this.#host;
    this.#running = true;
    while (!closing.aborted) {
      try {
        const batch = await this.#reader.next();
        if (batch === undefined) break;
        const open = await this.#handle(batch.events).catch((error: unknown) => {
          // The reader's place is behind the batch already.
          this.#reader.rewind((batch.events[0]?.position ?? 0) - 1);
          throw error;
        });
        const done = open === undefined ? batch.position : lastBefore(open, batch.events);
        if (done !== undefined) {
          await this.#reader.ack(done);
          this.#position = done;
        }
        if (open !== undefined) break;
      } catch (error) {
        if (closing.aborted) break;
        warn(`${this.#route.fullName}: the log could not be read`, error);
        await origin.clock.sleep(AFTER_FAILURE, closing);
      }
    }
    this.#running = false;
    // Where it is not given back it ends by itself.
    await this.#reader.release().catch(() => undefined);
  }

  /** The position of the first event that is not handled, because the app closes or the reader stops; nothing when all are. */
  async #handle(rows: readonly Row[]): Promise<number | undefined> {
    const lanes = this.#route.concurrency;
    if (lanes === 1) return this.#inOrder(rows);
    const groups = Array.from({ length: lanes }, (): Row[] => []);
    for (const row of rows) groups[laneOf(row.stream, lanes)]?.push(row);
    // All of them: what is read again must not meet what still runs.
    const ended = await Promise.allSettled(groups.map((group) => this.#inOrder(group)));
    const positions: number[] = [];
    for (const lane of ended) {
      if (lane.status === "rejected") throw lane.reason;
      if (lane.value !== undefined) positions.push(lane.value);
    }
    return positions.length === 0 ? undefined : Math.min(...positions);
  }

  #stop(row: Row, error: unknown): false {
    const reason = error instanceof Error ? error.message : String(error);
    const { fullName: name } = this.#route;
    const { position } = row;
    const message = `subscription ${name} stopped at position ${position}: ${reason}`;
    this.#stopped = new SubscriptionStoppedError(message, { name, position, reason });
    this.#halted.abort(this.#stopped);
    this.#host.warn(message, this.#stopped);
    return false;
  }

  async #inOrder(rows: readonly Row[]): Promise<number | undefined> {
    const { closing } = this.#host;
    for (const row of rows) {
      if (closing.aborted || this.#stopped !== undefined) return row.position;
      if (!(await this.#one(row))) return row.position;
    }
    return undefined;
  }

  /** Asked until there is an answer, as what follows must not pass the event over; nothing once the app closes. */
  async #wasHandled({ id, position }: Row): Promise<boolean | undefined> {
    const { bridge, closing, origin, stores, warn } = this.#host;
    const { fullName } = this.#route;
    while (!closing.aborted) {
      try {
        return (await bridge.run(() => stores.wasHandled(fullName, id))) !== null;
      } catch (error) {
        warn(`${fullName}: whether it handled position ${position} could not be asked`, error);
        await origin.clock.sleep(AFTER_FAILURE, closing);
      }
    }
    return undefined;
  }

  async #recordHandled({ id, position }: Row, stamp: Metadata): Promise<void> {
    if (isClaimed(stamp)) return;
    const { bridge, stores, warn } = this.#host;
    const { fullName } = this.#route;
    try {
      await bridge.run(() => stores.recordHandled(fullName, id));
    } catch (error) {
      warn(`${fullName}: it was not recorded that it handled position ${position}`, error);
    }
  }

  /** Whether the event is done with. */
  async #one(row: Row): Promise<boolean> {
    const { bus, registry, undecodable } = this.#host;
    let event: Event;
    try {
      event = eventOf(row, registry.lookup);
    } catch (error) {
      if (this.#poison === "stop") return this.#stop(row, error);
      return this.#poison === "skip" || undecodable(this.#route, row, error);
    }
    if (this.#route.inbox) {
      const handled = await this.#wasHandled(row);
      if (handled !== false) return handled === true;
    }
    try {
      await bus.deliverLogged(
        this.#route,
        event,
        stampOf(event) as Metadata,
        this.#poison === "park",
      );
      if (this.#route.inbox) await this.#recordHandled(row, stampOf(event) as Metadata);
    } catch (error) {
      // The log keeps it: it comes again after the next start.
      if (error === INTERRUPTED) return false;
      // A refusal passes the event over; a failure has become a dead letter by now, if it was to become one.
      if (this.#poison === "stop" && !(error instanceof RejectedError))
        return this.#stop(row, error);
    }
    return true;
  }
}

/** The position of the last of `rows` before `position`. */
function lastBefore(position: number, rows: readonly Row[]): number | undefined {
  return rows.filter((row) => row.position < position).at(-1)?.position;
}

/** Which of `lanes` workers handles a stream: always the same, so that its events keep their order. FNV-1a, 32 bits. */
function laneOf(stream: string, lanes: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < stream.length; i++) {
    hash = Math.imul(hash ^ stream.charCodeAt(i), 0x01000193);
  }
  return (hash >>> 0) % lanes;
}
