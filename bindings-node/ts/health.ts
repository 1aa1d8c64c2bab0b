/**
 * How an app is.
 *
 * @packageDocumentation
 */
import type { DeadLetters } from "./dead-letters.js";
import type { ReaderState } from "./log.js";
import type { NativeStores } from "./native.js";
import type { Outbox, OutboxBacklog } from "./outbox.js";
import type { ProjectionState, Projections } from "./projections.js";
import type { Store } from "./store.js";

/** How an app is. */
export interface Health {
  /** Whether it runs, its store answers, every reader reads, and its bus takes and delivers. */
  readonly ok: boolean;
  /** The app's name. */
  readonly app: string;
  readonly status: "new" | "running" | "closed";
  /** What the store says when it does not answer, `null` when it does. */
  readonly error: string | null;
  /** The position of the last event in the store. */
  readonly head: number | null;
  /** The handlers' readers of the log. */
  readonly readers: readonly ReaderState[];
  /** The projections. */
  readonly projections: readonly ProjectionState[];
  /** Dead letters in the state store that wait for somebody. */
  readonly deadLetters: number;
  /** Messages in the outbox, and since when the oldest is there. */
  readonly outbox: OutboxBacklog;
  /** The broker's connection and consumers, `null` without a broker. */
  readonly bus: BusHealth | null;
  /** What publishes the log to the broker, `null` without a broker. */
  readonly relay: RelayHealth | null;
}

/** How the bus between processes is. */
export interface BusHealth {
  /** Whether there is a connection now; a bus that nobody has used yet has none. */
  readonly connected: boolean;
  /** Why the broker takes no messages now, for example a memory alarm. */
  readonly blocked: string | null;
  /** The last connection error, while there is no connection. */
  readonly error: string | null;
  /** Each handler's consumer. */
  readonly consumers: readonly ConsumerHealth[];
}

/** How one handler's consumer is. */
export interface ConsumerHealth {
  /** Full name of the handler. */
  readonly handler: string;
  readonly queue: string;
  /** Whether the broker delivers to it now. */
  readonly consuming: boolean;
  /** The last error, while it is not consuming. */
  readonly error: string | null;
}

/** How the relay is. */
export interface RelayHealth {
  /** How far this process has published the log; `null` before the first event, and where another process does it. */
  readonly position: number | null;
  /** Why it does not go on now. It tries again by itself. */
  readonly error: string | null;
}

/** What of an app is looked at. */
export interface Examined {
  readonly app: string;
  readonly status: "new" | "running" | "closed";
  readonly readers: readonly ReaderState[];
  readonly projections: Projections;
  readonly store: Store;
  readonly deadLetters: DeadLetters;
  readonly outbox: Outbox;
  readonly stores: NativeStores;
}

/** Looks how an app is. Never rejects. */
export async function examine(app: Examined): Promise<Health> {
  const { status, readers, stores } = app;
  let head: number | null = null;
  let projections: readonly ProjectionState[] = [];
  let deadLetters = 0;
  let outbox: OutboxBacklog = { messages: 0, oldest: null };
  let error: string | null = null;
  try {
    head = await app.store.head();
    projections = await app.projections.states();
    deadLetters = (await app.deadLetters.list({ status: "dead", limit: 1 })).total;
    outbox = await app.outbox.pending();
  } catch (problem) {
    error = problem instanceof Error ? problem.message : String(problem);
  }
  const reading = [...readers, ...projections].every(
    ({ running, stopped }) => running && stopped === null,
  );
  const { bus, relay } = JSON.parse(stores.busHealth()) as Pick<Health, "bus" | "relay">;
  const ok = status === "running" && error === null && reading && isWell(bus) && !relay?.error;
  const found = { head, readers, projections, deadLetters, outbox, bus, relay };
  return { ok, app: app.app, status, error, ...found };
}

function isWell(bus: BusHealth | null): boolean {
  if (bus === null) return true;
  const { blocked, error, consumers } = bus;
  return blocked === null && error === null && consumers.every(({ consuming }) => consuming);
}
