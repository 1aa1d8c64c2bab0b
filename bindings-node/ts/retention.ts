/**
 * Letting go of what is old, while the system runs.
 *
 * @packageDocumentation
 */
import { checkMillis, checkOptions, checkTexts, invalid } from "./arguments.js";
import type { Bridge } from "./bridge.js";
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
    const olderThanMs = ageOf(options);
    const { streams = null, archive = null } = options;
    checkTexts({ streams, archive });
    const json = JSON.stringify({ older_than_ms: olderThanMs, streams, archive });
    const text = await this.#run((stores) => stores.purgeStreams(json));
    return JSON.parse(text ?? "{}") as PurgedStreams;
  }

  /** Removes dead letters that last failed longer ago. Ends with how many. */
  async purgeDeadLetters(options: PurgeDeadLettersOptions): Promise<number> {
    const olderThanMs = ageOf(options);
    const handler = options.handler ?? undefined;
    checkTexts({ handler });
    return this.#count((stores) => stores.purgeDeadLetters(olderThanMs, handler));
  }

  /** Removes messages from the outbox that were put in longer ago: they never leave. Ends with how many. */
  async purgeOutbox(age: Age): Promise<number> {
    const olderThanMs = ageOf(age);
    return this.#count((stores) => stores.purgeOutbox(olderThanMs));
  }

  /** Forgets what handlers handled longer ago: such a message would be handled again. Ends with how many records. */
  async purgeInbox(age: Age): Promise<number> {
    const olderThanMs = ageOf(age);
    return this.#count((stores) => stores.purgeInbox(olderThanMs));
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

function ageOf(options: Age): number {
  checkOptions(options);
  const { olderThanMs } = options;
  checkMillis("olderThanMs", olderThanMs);
  if (olderThanMs === Infinity) throw invalid("olderThanMs", "a number from 0", olderThanMs);
  return olderThanMs;
}
