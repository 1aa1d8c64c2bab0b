/**
 * Messages given up on.
 *
 * @packageDocumentation
 */
import type { Bridge } from "./bridge.js";
import type { NativeStores } from "./native.js";
import type { ErrorRecord } from "./outcome.js";
import type { Redelivered, Redelivery } from "./redelivery.js";

/** Why a message was given up. */
export type DeadLetterReason =
  | "retries_exhausted"
  | "not_retryable"
  | "undecodable"
  | "crash_limit"
  | "broker";

/** A message given up on, for one handler. */
export interface DeadLetter {
  /** The entry's id; stays the same when the message fails again. */
  readonly id: string;
  /** Full name of the handler, `<app>.<handler>`. */
  readonly handler: string;
  readonly kind: "command" | "event";
  /** The message's id. */
  readonly messageId: string;
  /** The message's type name. */
  readonly type: string;
  readonly topic: string;
  /** The body as on the wire; for what did not decode, the text as it came. */
  readonly body: string;
  /** Whether the body can be handed to the handler again. */
  readonly requeueable: boolean;
  readonly reason: DeadLetterReason;
  /** The last attempt's error and its chain of causes. */
  readonly errors: readonly ErrorRecord[];
  /** Attempts in all. */
  readonly attempts: number;
  readonly firstFailedAt: Date;
  readonly lastFailedAt: Date;
  readonly correlationId: string;
  readonly traceId: string | null;
  readonly status: "dead" | "requeued";
  /** The earlier times that it was given up, oldest first. */
  readonly history: readonly FailedAttempts[];
}

/** One time that a message was given up. */
export interface FailedAttempts {
  readonly reason: DeadLetterReason;
  readonly errors: readonly ErrorRecord[];
  readonly attempts: number;
  readonly firstFailedAt: Date;
  readonly lastFailedAt: Date;
}

/** Which dead letters. Default: all of them, the last failed first, 100 a page. */
export interface DeadLetterFilter {
  /** Full name of the handler. */
  readonly handler?: string;
  /** A topic pattern. */
  readonly topic?: string;
  /** Last failed at this time or later. */
  readonly since?: Date;
  /** Last failed before this time. */
  readonly until?: Date;
  /** In body, type, topic or error messages; case not regarded. */
  readonly text?: string;
  readonly status?: "dead" | "requeued";
  /** At most this many. Default 100. */
  readonly limit?: number;
  /** Passing over this many. */
  readonly offset?: number;
}

/** A page of dead letters. */
export interface DeadLetterPage {
  readonly items: readonly DeadLetter[];
  /** How many the filter finds in all. */
  readonly total: number;
}

/** Which of the dead letters at the broker. */
export interface BrokerLettersOptions {
  /** At most this many. Default 100. */
  readonly limit?: number;
}

/** How many dead letters to move. */
export interface DrainOptions {
  /** At most this many. Default all that are there. */
  readonly limit?: number;
}

interface WireLetter {
  readonly [key: string]: unknown;
  readonly history: ReadonlyArray<Record<string, unknown>>;
}

/** A dead letter as the core writes it. */
export function deadLetterOf(wire: unknown): DeadLetter {
  const { history, ...letter } = wire as WireLetter;
  return { ...camel(letter), history: history.map(camel) } as unknown as DeadLetter;
}

function camel(wire: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(wire).map(([key, value]) => [
      key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()),
      key.endsWith("_at") ? new Date(value as string) : value,
    ]),
  );
}

/** The dead letters of an app: `app.deadLetters`. */
export class DeadLetters {
  readonly #bridge: Bridge;
  readonly #stores: NativeStores;
  readonly #redelivery: Redelivery;

  /** @internal */
  constructor(bridge: Bridge, stores: NativeStores, redelivery: Redelivery) {
    this.#bridge = bridge;
    this.#stores = stores;
    this.#redelivery = redelivery;
  }

  /** A page of the entries that `filter` finds. */
  async list(filter: DeadLetterFilter = {}): Promise<DeadLetterPage> {
    const { since, until, limit = 100, offset = 0, ...rest } = filter;
    const json = JSON.stringify({
      ...rest,
      since: since && since.getTime() * 1000,
      until: until && until.getTime() * 1000,
      limit,
      offset,
    });
    const text = await this.#bridge.run(() => this.#stores.listDeadLetters(json));
    const page = JSON.parse(text ?? "{}") as { items: unknown[]; total: number };
    return { items: page.items.map(deadLetterOf), total: page.total };
  }

  /**
   * One entry.
   *
   * @throws {NoDeadLetterError} if there is none of that id.
   */
  async show(id: string): Promise<DeadLetter> {
    return deadLetterOf(
      JSON.parse((await this.#bridge.run(() => this.#stores.deadLetter(id))) ?? "{}"),
    );
  }

  /**
   * Hands the message, with the same id, to its handler alone, and waits until it succeeds, is refused or is given up again. Returns whether
   * the entry is gone; if not it is the same entry with one more line of history.
   *
   * With a broker the message is put into the queue of its handler, which may be another process's, and nobody waits: the entry is marked as
   * requeued (so this is false) until the handler succeeds; where the state store is in memory it is gone at once, and a message that fails again
   * lies at the broker. What the relay of the log could not publish is published.
   *
   * @throws {NoDeadLetterError} if there is none of that id.
   * @throws {InvalidHandlerError} if this app has no such handler, or the body cannot be handed over.
   * @throws {TopologyMissingError} if the broker has no queue of that handler.
   */
  async requeue(id: string): Promise<boolean> {
    return (await this.#requeue(id, undefined)) === "gone";
  }

  /** Requeues all that `filter` finds; returns how many of them are gone, or with a broker on their way. */
  async requeueAll(filter: DeadLetterFilter = {}): Promise<number> {
    const { items } = await this.list({ ...filter, status: "dead" });
    let requeued = 0;
    for (const { id } of items) if ((await this.#requeue(id, undefined)) !== "kept") requeued++;
    return requeued;
  }

  /**
   * As {@link DeadLetters.requeue} with another payload.
   *
   * @throws {InvalidPayloadError} if the payload does not fit its type.
   */
  async edit(id: string, payload: object): Promise<boolean> {
    return (await this.#requeue(id, payload)) === "gone";
  }

  /** Removes an entry; returns whether there was one. */
  async discard(id: string): Promise<boolean> {
    return (await this.#bridge.run(() => this.#stores.discardDeadLetter(id))) === "true";
  }

  /**
   * Dead letters that lie at the broker, of whatever app of this toolkit, oldest first: what was given up where no durable state store is, and what
   * the broker itself gave up. They stay there. Nothing without a broker.
   */
  async broker(options: BrokerLettersOptions = {}): Promise<readonly DeadLetter[]> {
    const { limit = 100 } = options;
    if (!this.#stores.hasBroker) return [];
    const text = await this.#bridge.run(() => this.#stores.busLetters(limit));
    return (JSON.parse(text ?? "[]") as unknown[]).map(deadLetterOf);
  }

  /**
   * Moves the dead letters of {@link DeadLetters.broker} into the state store, oldest first, where they can be requeued. Returns how many.
   *
   * @throws {StoreUnavailableError} and what else keeps the store from taking one; those before it have moved.
   */
  async drain(options: DrainOptions = {}): Promise<number> {
    if (!this.#stores.hasBroker) return 0;
    return Number(await this.#bridge.run(() => this.#stores.drainBusLetters(options.limit)));
  }

  async #requeue(id: string, payload: object | undefined): Promise<Redelivered> {
    const letter = await this.show(id);
    const body = this.#redelivery.prepare(letter, payload);
    const text = await this.#bridge.run(() => this.#stores.requeueDeadLetter(id, body));
    const requeued = deadLetterOf(JSON.parse(text ?? "{}"));
    const outcome = await this.#redelivery.redeliver(requeued, letter.body);
    if (outcome === "gone") await this.discard(id);
    return outcome;
  }
}
