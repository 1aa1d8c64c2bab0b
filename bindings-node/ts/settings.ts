/**
 * How an app is set up.
 *
 * @packageDocumentation
 */
import { flawOf, shown } from "./arguments.js";
import type { Clock, IdSource } from "./clock.js";
import { InvalidSettingError } from "./errors.js";

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

function isSize(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/**
 * Checks what the core would read as something else.
 *
 * @throws {InvalidSettingError} names the setting.
 */
export function checkSettings(name: unknown, options: OrkestraOptions): void {
  const refuse = (setting: string, reason: string): never => {
    throw new InvalidSettingError(`${setting}: ${reason}`, { setting, reason });
  };
  const given: unknown = options;
  if (typeof given !== "object" || given === null) {
    refuse("options", `expected an object, found ${shown(given)}`);
  }
  const { bus, store, state, appPrefix, maxPayloadBytes, closeTimeoutMs, logger } = options;
  for (const [setting, value] of Object.entries({ name, bus, store, state, appPrefix })) {
    const isLeftOut = (value ?? undefined) === undefined && setting !== "name";
    const flaw = isLeftOut ? undefined : flawOf(value);
    if (flaw !== undefined) refuse(setting, flaw);
  }
  if ((maxPayloadBytes ?? undefined) !== undefined && !isSize(maxPayloadBytes)) {
    refuse("maxPayloadBytes", `expected a whole number, found ${shown(maxPayloadBytes)}`);
  }
  if (
    closeTimeoutMs !== undefined &&
    !(typeof closeTimeoutMs === "number" && closeTimeoutMs >= 0)
  ) {
    refuse("closeTimeoutMs", `expected a number from 0, found ${shown(closeTimeoutMs)}`);
  }
  if ((logger ?? undefined) !== undefined && typeof logger?.warn !== "function") {
    refuse("logger", `expected an object with warn(), found ${shown(logger)}`);
  }
}
