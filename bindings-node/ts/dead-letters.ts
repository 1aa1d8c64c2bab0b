/**
 * Messages given up on.
 *
 * @packageDocumentation
 */
import { checkCounts, checkOptions, checkTexts, invalid } from "./arguments.js";
import type { Bridge } from "./bridge.js";
import { InvalidHandlerError, NoDeadLetterError, TopologyMissingError } from "./errors.js";
import type { NativeStores, Started } from "./native.js";
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

/** The most that the core counts to. */
const MOST = 0xffff_ffff;

/** What leaves an entry where it is when many are requeued. */
const STAYS = [InvalidHandlerError, NoDeadLetterError, TopologyMissingError];

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

/** What dead letters need of their app. */
export interface DeadLettersHost {
  readonly bridge: Bridge;
  readonly stores: NativeStores;
  readonly redelivery: Redelivery;
  /** Opens the stores if they are not open; throws if the app is closed. */
  readonly opened: () => Promise<unknown>;
}

/** The dead letters of an app: `app.deadLetters`. */
export class DeadLetters {
  readonly #host: DeadLettersHost;

  /** @internal */
  constructor(host: DeadLettersHost) {
    this.#host = host;
  }

  /** A page of the entries that `filter` finds. */
  async list(filter: DeadLetterFilter = {}): Promise<DeadLetterPage> {
    checkFilter(filter);
    const { since, until, limit = 100, offset = 0, ...rest } = filter;
    const json = JSON.stringify({
      ...rest,
      since: since && since.getTime() * 1000,
      until: until && until.getTime() * 1000,
      limit,
      offset,
    });
    const text = await this.#run((stores) => stores.listDeadLetters(json));
    const page = JSON.parse(text ?? "{}") as { items: unknown[]; total: number };
    return { items: page.items.map(deadLetterOf), total: page.total };
  }

  /**
   * One entry.
   *
   * @throws {NoDeadLetterError} if there is none of that id.
   */
  async show(id: string): Promise<DeadLetter> {
    checkId(id);
    return deadLetterOf(JSON.parse((await this.#run((stores) => stores.deadLetter(id))) ?? "{}"));
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

  /**
   * Requeues all that `filter` finds, `limit` of them if that is given; returns how many are gone, or with a broker on their way. What cannot be
   * handed over ({@link DeadLetters.requeue}) stays as it is.
   */
  async requeueAll(filter: DeadLetterFilter = {}): Promise<number> {
    checkFilter(filter);
    let requeued = 0;
    for (const id of await this.#found({ ...filter, status: "dead" })) {
      try {
        if ((await this.#requeue(id, undefined)) !== "kept") requeued++;
      } catch (error) {
        if (!STAYS.some((type) => error instanceof type)) throw error;
      }
    }
    return requeued;
  }

  /** The ids, before any of them is tried: what fails again has another place in the list. */
  async #found({ limit = Number.MAX_SAFE_INTEGER, offset = 0, ...rest }: DeadLetterFilter) {
    const ids = new Set<string>();
    for (let passed = offset; passed < offset + limit; passed += 100) {
      const left = Math.min(100, offset + limit - passed);
      const { items } = await this.list({ ...rest, limit: left, offset: passed });
      for (const { id } of items) ids.add(id);
      if (items.length < left) break;
    }
    return ids;
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
    checkId(id);
    return (await this.#run((stores) => stores.discardDeadLetter(id))) === "true";
  }

  /**
   * Dead letters that lie at the broker, of whatever app of this toolkit, oldest first: what was given up where no durable state store is, and what
   * the broker itself gave up. They stay there. Nothing without a broker.
   */
  async broker(options: BrokerLettersOptions = {}): Promise<readonly DeadLetter[]> {
    checkOptions(options);
    const { limit = 100 } = options;
    checkCounts({ limit });
    if (!this.#host.stores.hasBroker) return [];
    const text = await this.#run((stores) => stores.busLetters(Math.min(limit, MOST)));
    return (JSON.parse(text ?? "[]") as unknown[]).map(deadLetterOf);
  }

  /**
   * Moves the dead letters of {@link DeadLetters.broker} into the state store, oldest first, where they can be requeued. Returns how many.
   *
   * @throws {StoreUnavailableError} and what else keeps the store from taking one; those before it have moved.
   */
  async drain(options: DrainOptions = {}): Promise<number> {
    checkOptions(options);
    const { limit = MOST } = options;
    checkCounts({ limit });
    if (!this.#host.stores.hasBroker) return 0;
    return Number(await this.#run((stores) => stores.drainBusLetters(Math.min(limit, MOST))));
  }

  async #requeue(id: string, payload: object | undefined): Promise<Redelivered> {
    const { redelivery } = this.#host;
    const letter = await this.show(id);
    const body = redelivery.prepare(letter, payload);
    const text = await this.#run((stores) => stores.requeueDeadLetter(id, body));
    const requeued = deadLetterOf(JSON.parse(text ?? "{}"));
    const outcome = await redelivery.redeliver(requeued, letter.body);
    if (outcome === "gone") await this.discard(id);
    return outcome;
  }

  async #run(call: (stores: NativeStores) => Started): Promise<string | null> {
    const { bridge, stores, opened } = this.#host;
    await opened();
    return bridge.run(() => call(stores));
  }
}

function checkId(id: unknown): void {
  if (typeof id !== "string") throw invalid("id", "the id of a dead letter", id);
}

function checkFilter(filter: DeadLetterFilter): void {
  checkOptions(filter, "filter");
  const { handler, topic, text, since, until, status, limit = 0, offset = 0 } = filter;
  checkTexts({ handler, topic, text });
  checkCounts({ limit, offset });
  for (const [argument, time] of Object.entries({ since, until })) {
    if (time === undefined) continue;
    const isDate = time instanceof Date && !Number.isNaN(time.getTime());
    if (!isDate) throw invalid(argument, "a Date", time instanceof Date ? "an invalid one" : time);
  }
  if (status !== undefined && status !== "dead" && status !== "requeued") {
    throw invalid("status", "dead or requeued", status);
  }
}
