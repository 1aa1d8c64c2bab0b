/**
 * How an app is set up.
 *
 * @packageDocumentation
 */
import type { Clock, IdSource } from "./clock.js";

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
