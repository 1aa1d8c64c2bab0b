/**
 * Letting go of what is old, while the system runs.
 *
 * @packageDocumentation
 */
import type { Bridge } from "./bridge.js";
import { InvalidArgumentError } from "./errors.js";
import type { NativeStores, Started } from "./native.js";

/** How old is old. */
export interface Age {
  /** Milliseconds. */
  readonly olderThanMs: number;
}

/** Which streams to let go of: those whose last event is older. */
export interface PurgeStreamsOptions extends Age {
  /** Those whose names match; `*` stands for any characters. Default all. */
  readonly streams?: string;
  /** A file to which their events are appended first, one JSON object in each line. Default none: they are gone. */
  readonly archive?: string;
}

/** Which dead letters to let go of. */
export interface PurgeDeadLettersOptions extends Age {
  /** Full name of the handler. Default all. */
  readonly handler?: string;
}

/** What became of the idle streams. */
export interface PurgedStreams {
  /** Streams that are gone. */
  readonly streams: number;
  /** Events that they had. */
  readonly events: number;
  /** Streams to which something was appended meanwhile: they stay whole. */
  readonly wentOn: number;
  /** Streams with softly deleted events, which no archive can have: they stay. Without an archive there are none of these. */
  readonly hidden: number;
}

/** What retention needs of its app. */
export interface RetentionHost {
  readonly bridge: Bridge;
  readonly stores: NativeStores;
  /** Opens the stores if they are not open; throws if the app is closed. */
  readonly opened: () => Promise<unknown>;
}

/**
 * Lets go of what is old, in small steps, each a short transaction of its own: `app.retention`. What is left when it ends in the middle is done by the
 * next call.
 */
export class Retention {
  readonly #host: RetentionHost;

  /** @internal */
  constructor(host: RetentionHost) {
    this.#host = host;
  }

  /**
   * Deletes whole streams for good, so that no aggregate loses only its beginning. With `archive` their events are on the disk before; a stream that
   * got an event meanwhile stays as it is. Readers that have not come to the events yet never will: choose an age that every reader keeps up with.
   *
   * @throws {CannotOpenStoreError} {@link DiskFullError} if the archive cannot be written.
   *
   * @example
   * ```ts
   * await app.retention.purgeStreams({ olderThanMs: 90 * 86_400_000, streams: "order-*", archive: "orders.jsonl" });
   * ```
   */
  async purgeStreams(options: PurgeStreamsOptions): Promise<PurgedStreams> {
    const { olderThanMs, streams = null, archive = null } = options;
    const json = JSON.stringify({ older_than_ms: checked(olderThanMs), streams, archive });
    const text = await this.#run((stores) => stores.purgeStreams(json));
    return JSON.parse(text ?? "{}") as PurgedStreams;
  }

  /** Removes dead letters that last failed longer ago. Ends with how many. */
  purgeDeadLetters({ olderThanMs, handler }: PurgeDeadLettersOptions): Promise<number> {
    return this.#count((stores) => stores.purgeDeadLetters(checked(olderThanMs), handler));
  }

  /** Removes messages from the outbox that were put in longer ago: they never leave. Ends with how many. */
  purgeOutbox({ olderThanMs }: Age): Promise<number> {
    return this.#count((stores) => stores.purgeOutbox(checked(olderThanMs)));
  }

  /** Forgets what handlers handled longer ago: such a message would be handled again. Ends with how many records. */
  purgeInbox({ olderThanMs }: Age): Promise<number> {
    return this.#count((stores) => stores.purgeInbox(checked(olderThanMs)));
  }

  async #count(call: (stores: NativeStores) => Started): Promise<number> {
    return Number(await this.#run(call));
  }

  async #run(call: (stores: NativeStores) => Started): Promise<string | null> {
    const { bridge, stores, opened } = this.#host;
    await opened();
    return bridge.run(() => call(stores));
  }
}

function checked(olderThanMs: number): number {
  if (Number.isFinite(olderThanMs) && olderThanMs >= 0) return olderThanMs;
  const [argument, reason] = [
    "olderThanMs",
    `expected a number from 0, found ${String(olderThanMs)}`,
  ];
  throw new InvalidArgumentError(`${argument}: ${reason}`, { argument, reason });
}
