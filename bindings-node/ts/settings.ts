/**
 * How an app is set up, and how it is.
 *
 * @packageDocumentation
 */
import type { Clock, IdSource } from "./clock.js";
import type { ReaderState } from "./log.js";

/** Where warnings go: any pino-like logger. */
export interface Logger {
  warn(facts: object, message: string): void;
}

/** How an app is set up. */
export interface OrkestraOptions {
  /** `memory:`, or `amqp[s]://user:password@host:port/vhost?…` for RabbitMQ. Default: `ORKESTRA_BUS`, then `memory:`. */
  readonly bus?: string;
  /** `sqlite:<path>` or `memory:`. Default: `ORKESTRA_STORE`, then `sqlite:orkestra.db`. */
  readonly store?: string;
  /** Where checkpoints, leases and dead letters are kept. Default: `ORKESTRA_STATE`, then in the store. */
  readonly state?: string;
  /** The leading segments of type names that topics leave out. Default: the app's name, camelised; empty for none. */
  readonly appPrefix?: string;
  /** The longest payload in bytes. Default 1 MiB. */
  readonly maxPayloadBytes?: number;
  /**
   * Whether what a handler sends is derived from the message it handles by itself (`async`, the default), or only what it sends through its
   * context argument (`explicit`), which is faster. There a handler that calls `app.dispatch` itself may wait for a slot that it holds.
   */
  readonly context?: "async" | "explicit";
  /** Milliseconds that `close` waits for what is under way. Default 10,000. */
  readonly closeTimeoutMs?: number;
  /** Where warnings go. Default `process.emitWarning`. */
  readonly logger?: Logger;
  /** Another clock: for tests. */
  readonly clock?: Clock;
  /** Another source of ids: for tests. */
  readonly ids?: IdSource;
  /** Where the `ORKESTRA_…` variables are read. Default `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** How an app is. */
export interface Health {
  /** Whether it runs, its store answers, every reader reads and every consumer consumes. */
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
  /** Dead letters that wait for somebody. */
  readonly deadLetters: number;
  /** How the broker is, `null` without one. */
  readonly bus: BusHealth | null;
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

/** Whether a bus that is in use works. */
export function isWell(bus: BusHealth | null): boolean {
  return bus === null || (bus.connected && bus.consumers.every(({ consuming }) => consuming));
}
