/**
 * Projections: views that are built from the log.
 *
 * @packageDocumentation
 */
import { flawOf, shown } from "./arguments.js";
import type { Checkpoint } from "./checkpoint.js";
import { InvalidHandlerError, UnknownProjectionError } from "./errors.js";
import type { Poison, Selected, Start } from "./handlers.js";
import { type AnyEventType, definitionOf, type Event, wrongKind } from "./message.js";
import { attempt } from "./native.js";
import { Projector } from "./projector.js";
import { Rebuild, type RebuildOptions } from "./rebuild.js";
import type { RecordedEvent } from "./recorded.js";
import { checkReading } from "./registry.js";
import { policyToWire, type RetryPolicy } from "./retry.js";
import type { ViewHost } from "./view.js";

/** How a projection reads the log and where it writes. */
export interface ProjectionOptions {
  /** The events. Default, without `topics` too: all. */
  readonly events?: AnyEventType | readonly AnyEventType[];
  /** AMQP patterns of topics, beside `events`. */
  readonly topics?: string | readonly string[];
  /** Only streams whose names begin so. */
  readonly streamPrefix?: string;
  /** Where in the log it begins at its first start. Default `origin`. */
  readonly start?: Start;
  /** At most this many events at a time, 1 to 10,000. Default 500. */
  readonly batchSize?: number;
  /** Retries of a batch, and then of each of its events by itself. Default 3. A database that is away is waited for and uses up none. */
  readonly maxRetries?: number;
  /** When to try again; `maxRetries` beside it comes first. */
  readonly retry?: RetryPolicy;
  /** What becomes of an event that it cannot handle, after the retries. Default `park`. */
  readonly poison?: Poison;
  /**
   * Makes the view's tables. Called before the first batch, whenever this process takes the live view over, and so creates only what is
   * missing; of a rebuild once, with `checkpoint.suffix` `_rebuild`: the tables of that name must be empty after.
   */
  readonly prepare?: (checkpoint: Checkpoint) => unknown;
  /**
   * Puts a rebuilt view in the live one's place: in one transaction it renames the tables and calls `checkpoint.switch(connection)`. The live
   * view waits meanwhile.
   */
  readonly switch?: (checkpoint: Checkpoint) => unknown;
}

/** The events that a projection with these options gets. */
export type Projected<O> = O extends { readonly topics: string | readonly string[] }
  ? Event
  : O extends { readonly events: infer S }
    ? Extract<Selected<S>, Event>
    : Event;

/** Brings events into a view. What it returns is awaited. */
export type ProjectionHandler<E extends Event = Event> = (
  events: readonly RecordedEvent<E>[],
  checkpoint: Checkpoint,
) => unknown;

/** How far a projection is. */
export interface ProjectionState {
  /** Its name. */
  readonly name: string;
  /** How far its live view is, `null` before the first event. While it catches up this is a quarter of a second behind. */
  readonly position: number | null;
  /** The position of the log's last event. */
  readonly head: number | null;
  /** Positions between the two: no more events than this are missing. */
  readonly lag: number;
  /** Whether this process reads the log for it, or waits to take it over. */
  readonly running: boolean;
  /** Whether what it handled last was history. */
  readonly replaying: boolean;
  /** Whether a rebuild of it has not come to its end, here or in another process, running or not. */
  readonly rebuilding: boolean;
  /** Why it has stopped, `null` unless its `poison` policy made it. */
  readonly stopped: string | null;
  /** What it failed with last here and tries again after, `null` if it does not. */
  readonly error: string | null;
}

/** How far a rebuild is. */
export interface Progress {
  /** How far it has handled the log. */
  readonly position: number | null;
  /** The position of the log's last event. */
  readonly head: number | null;
  /** Events handled so far. */
  readonly handled: number;
  /** Whether it came to the end of the log. */
  readonly caughtUp: boolean;
}

/** A projection as it was declared, its options checked. */
export interface Declared {
  readonly name: string;
  /** `<app>.<projection>`. */
  readonly fullName: string;
  readonly topics: readonly string[] | null;
  readonly streamPrefix: string | null;
  readonly start: Start;
  readonly batchSize: number;
  readonly policy: object;
  readonly poison: Poison;
  readonly prepare: ((checkpoint: Checkpoint) => unknown) | undefined;
  readonly switch: ((checkpoint: Checkpoint) => unknown) | undefined;
  readonly handler: ProjectionHandler<never>;
}

/** The projections of an app. */
export class Projections {
  readonly #host: ViewHost;
  readonly #declared = new Map<string, Declared>();
  #projectors: Projector[] = [];

  constructor(host: ViewHost) {
    this.#host = host;
  }

  /** The name that its checkpoint has, and when its `poison` policy stopped it; nothing for another name. */
  reader(name: string): { readonly fullName: string; readonly halted?: AbortSignal } | undefined {
    const declared = this.#declared.get(name);
    if (declared === undefined) return undefined;
    const halted = this.#projectors.find((one) => one.declared === declared)?.halted;
    return { fullName: declared.fullName, ...(halted && { halted }) };
  }

  /** Declares one. */
  add(name: string, options: ProjectionOptions, handler: ProjectionHandler<never>): void {
    const { registry } = this.#host;
    check(name, options, handler);
    const { events = [], topics = [], maxRetries, retry = {} } = options;
    const models = listOf<AnyEventType>(events).map((type) => {
      const model = definitionOf(type);
      if (model?.kind !== "event") throw wrongKind("event", type);
      return model;
    });
    const chosen = options.events !== undefined || options.topics !== undefined;
    const json = JSON.stringify({
      name,
      types: models.map((model) => registry.addType(model)),
      patterns: chosen ? listOf(topics) : ["#"],
    });
    const { fullName, patterns } = JSON.parse(
      attempt(() => registry.native.addProjection(json)),
    ) as { fullName: string; patterns: string[] };
    this.#declared.set(name, {
      name,
      fullName,
      // Without a choice also those that have no topic.
      topics: chosen ? patterns : null,
      streamPrefix: options.streamPrefix ?? null,
      start: options.start ?? "origin",
      batchSize: options.batchSize ?? 500,
      policy: policyToWire(maxRetries === undefined ? retry : { ...retry, maxRetries }),
      poison: options.poison ?? "park",
      prepare: options.prepare,
      switch: options.switch,
      handler,
    });
  }

  /** Finds their places. */
  async open(): Promise<void> {
    this.#projectors = [...this.#declared.values()].map((one) => new Projector(this.#host, one));
    for (const projector of this.#projectors) await projector.open();
  }

  /** Begins to read. */
  follow(): void {
    for (const projector of this.#projectors) this.#host.deliveries.behind(projector.follow());
  }

  /** Builds a view anew. */
  rebuild(name: string, options: RebuildOptions): Rebuild {
    const declared = this.#declared.get(name);
    if (declared === undefined) {
      const asked = shown(name);
      throw new UnknownProjectionError(`there is no projection ${asked}`, { name: asked });
    }
    return new Rebuild(this.#host, declared, options);
  }

  /** How far each is. */
  async states(): Promise<ProjectionState[]> {
    const states: ProjectionState[] = [];
    for (const declared of this.#declared.values()) states.push(await this.#state(declared));
    return states;
  }

  async #state(declared: Declared): Promise<ProjectionState> {
    const { bridge, stores } = this.#host;
    const here = this.#projectors.find((one) => one.declared === declared);
    const text = await bridge.run(() => stores.projectionState(declared.fullName));
    const { rebuild, ...place } = JSON.parse(text ?? "{}") as {
      position: number | null;
      head: number | null;
      lag: number;
      rebuild: number | null;
    };
    return {
      name: declared.name,
      ...place,
      running: here?.running ?? false,
      replaying: here?.replaying ?? false,
      rebuilding: rebuild !== null,
      stopped: here?.stopped?.message ?? null,
      error: here?.error ?? null,
    };
  }
}

function listOf<T>(given: T | readonly T[]): readonly T[] {
  return Array.isArray(given) ? given : [given as T];
}

function check(name: unknown, options: ProjectionOptions, handler: unknown): void {
  const about = typeof name === "string" && name !== "" ? name : "a projection";
  const refuse = (reason: string): never => {
    throw new InvalidHandlerError(`handler ${about}: ${reason}`, { handler: about, reason });
  };
  if (about !== name) refuse("expected a name");
  if (typeof options !== "object" || options === null) {
    refuse(`options: expected an object, found ${shown(options)}`);
  }
  if (typeof handler !== "function") refuse(`expected a function, found ${typeof handler}`);
  const { batchSize = 500, start, poison, topics = [], streamPrefix = "", retry = {} } = options;
  if (!Number.isInteger(batchSize) || batchSize < 1 || batchSize > 10_000) {
    refuse(`batchSize: expected 1 to 10000, found ${shown(batchSize)}`);
  }
  checkReading(about, start ?? undefined, poison);
  for (const topic of listOf(topics)) if (flawOf(topic)) refuse(`topics: ${flawOf(topic)}`);
  if (flawOf(streamPrefix)) refuse(`streamPrefix: ${flawOf(streamPrefix)}`);
  if (typeof retry !== "object" || retry === null) {
    refuse(`retry: expected a retry policy, found ${shown(retry)}`);
  }
  for (const what of ["prepare", "switch"] as const) {
    const given: unknown = options[what];
    if (given !== undefined && typeof given !== "function") {
      refuse(`${what}: expected a function, found ${typeof given}`);
    }
  }
}
