/**
 * Aggregates: state folded from one stream, and commands decided on it.
 *
 * @packageDocumentation
 */

import { shown } from "./arguments.js";
import type { Origin } from "./clock.js";
import { rejected } from "./delivery.js";
import {
  InvalidAggregateError,
  InvalidDecisionError,
  UnexpectedCommandError,
  UnknownEventError,
} from "./errors.js";
import {
  type AnyCommandType,
  type AnyEventType,
  type Command,
  definitionOf,
  type Event,
  type Model,
  modelOf,
  setStamp,
  stampOf,
  wrongKind,
} from "./message.js";
import { Metadata } from "./metadata.js";
import { attempt, native, type Started } from "./native.js";
import { Reject } from "./outcome.js";
import { encodeValue } from "./payload.js";
import { eventOf, type FoldedRow, safe, stepOf } from "./recorded.js";
import { describe } from "./schema.js";
import { checkName, type Store, type StoreHost } from "./store.js";

type MadeBy<D> = D extends { is(value: unknown): value is infer M } ? M : never;

/** What `decide` returns: an event, events, none, or a refusal. */
export type Decision<E> = E | readonly E[] | Reject;

/** A thing that decides. Its functions are pure: no I/O, no clock, no randomness. */
export interface AggregateSpec<State, C extends AnyCommandType, E extends AnyEventType> {
  /** Its name, for errors and spans. */
  readonly name: string;
  /** The commands it takes. */
  readonly commands: readonly C[];
  /** The events in its stream. */
  readonly events: readonly E[];
  /** Take a snapshot after this many events. Default never. */
  readonly snapshotEvery?: number;
  /** The version of the state's shape; raise it when the shape changes, so that old snapshots are rebuilt. Default 1. */
  readonly schemaVersion?: number;
  /** Keep the states of this many streams folded; they are checked by their revision at the append. Default 0: none. */
  readonly cache?: number;
  /** How often to decide again after a conflict. Default 3. */
  readonly conflictRetries?: number;
  /** The state of a stream without events. */
  initial(): State;
  /** The whole name of the stream that a command is for. */
  streamId(command: MadeBy<C>): string;
  /** The events that follow from `command`. `throw new Reject(…)` or return one to refuse it. */
  decide(state: State, command: MadeBy<C>): Decision<MadeBy<E>>;
  /** The state after `event`. */
  evolve(state: State, event: MadeBy<E>): State;
}

/** What executing a command did. */
export interface Executed<State, E = Event> {
  /** The stream. */
  readonly stream: string;
  /** The events that the command made, now or when it was executed before. */
  readonly events: readonly E[];
  /** The state after them. */
  readonly state: State;
  /** The stream's last revision that belongs to the answer; `null` if it has no events. */
  readonly revision: number | null;
  /** The position of the command's last event, `null` if it made none: what a projection is waited for with. */
  readonly position: number | null;
  /** Whether the command had been executed before and nothing was appended now. */
  readonly repeated: boolean;
}

/** What a dispatched command of an aggregate answers. */
export interface AggregateAnswer {
  /** The stream. */
  readonly stream: string;
  /** The stream's last revision after the command; `null` if it has no events. */
  readonly revision: number | null;
}

interface AnySpec<State> {
  readonly name: string;
  readonly commands: readonly AnyCommandType[];
  readonly events: readonly AnyEventType[];
  readonly snapshotEvery?: number;
  readonly schemaVersion?: number;
  readonly cache?: number;
  readonly conflictRetries?: number;
  initial(): State;
  streamId(command: Command): string;
  decide(state: State, command: Command): unknown;
  evolve(state: State, event: Event): State;
}

/** An aggregate that an app can execute commands on. */
export interface Executor<State = unknown, E = Event> {
  /** Its name. */
  readonly name: string;
  /** @internal */
  readonly spec: AnySpec<State>;
  /** @internal Types only. */
  readonly made?: E;
}

/**
 * Defines an aggregate.
 *
 * @throws {InvalidAggregateError} if something is missing.
 *
 * @example
 * ```ts
 * const Order = aggregate({
 *   name: "order",
 *   commands: [PlaceOrder],
 *   events: [OrderPlaced],
 *   initial: () => ({ placed: false }),
 *   streamId: (command) => `order-${command.order_id}`,
 *   decide: (state, command) =>
 *     state.placed ? new Reject("placed already") : OrderPlaced({ order_id: command.order_id }),
 *   evolve: () => ({ placed: true }),
 * });
 * ```
 */
export function aggregate<State, C extends AnyCommandType, E extends AnyEventType>(
  spec: AggregateSpec<State, C, E>,
): Executor<State, MadeBy<E>> {
  const refuse = (reason: string): never => {
    const name = shown(spec?.name);
    throw new InvalidAggregateError(`aggregate ${name}: ${reason}`, { aggregate: name, reason });
  };
  if (typeof spec !== "object" || spec === null) refuse(`expected an object, found ${shown(spec)}`);
  if (typeof spec.name !== "string" || spec.name === "") refuse("it has no name");
  for (const key of ["initial", "streamId", "decide", "evolve"] as const) {
    if (typeof spec[key] !== "function") refuse(`${key} is no function`);
  }
  for (const key of ["commands", "events"] as const) {
    if (!Array.isArray(spec[key])) refuse(`${key} is no list`);
  }
  if (spec.commands.length === 0) refuse("it takes no command");
  for (const type of spec.commands) {
    if (definitionOf(type)?.kind !== "command") throw wrongKind("command", type);
  }
  for (const type of spec.events) {
    if (definitionOf(type)?.kind !== "event") throw wrongKind("event", type);
  }
  return { name: spec.name, spec: spec as unknown as AnySpec<State> };
}

/** What JavaScript has to do next. */
interface Step {
  readonly reset?: true;
  readonly snapshot?: unknown;
  events?: readonly FoldedRow[];
  recorded?: readonly FoldedRow[];
  readonly next: "load" | "decide" | "append" | "snapshot" | "refuse" | "done";
  readonly revision?: number | null;
  readonly position?: number | null;
  readonly repeated?: boolean;
}

const EVENTS = ["events", "recorded"] as const;

interface Folded {
  readonly state: unknown;
  readonly revision: number | null;
}

/** The host of the core's execution machine for one aggregate of an app. */
export class AggregateHost {
  readonly #spec: AnySpec<unknown>;
  readonly #host: StoreHost;
  readonly #store: Store;
  readonly #origin: Origin;
  readonly #models: ReadonlySet<Model>;
  readonly #commands: ReadonlySet<Model>;
  readonly #cache = new Map<string, Folded>();

  constructor(spec: AnySpec<unknown>, host: StoreHost, store: Store, origin: Origin) {
    this.#spec = spec;
    this.#host = host;
    this.#store = store;
    this.#origin = origin;
    this.#models = new Set(spec.events.map((type) => definitionOf(type) as Model));
    this.#commands = new Set(spec.commands.map((type) => definitionOf(type) as Model));
  }

  /** Throws unless the aggregate takes this command. */
  check(command: Command): void {
    const model = modelOf(command);
    if (model !== undefined && this.#commands.has(model)) return;
    const facts = { aggregate: this.#spec.name, type_name: model?.typeName ?? describe(command) };
    throw new UnexpectedCommandError(
      `aggregate ${facts.aggregate} does not take ${facts.type_name}`,
      facts,
    );
  }

  /** Loads, folds, decides, appends; decides again when somebody else was faster. */
  async execute(command: Command, stamp: Metadata): Promise<Executed<unknown>> {
    const { snapshotEvery, schemaVersion = 1, conflictRetries = 3 } = this.#spec;
    const stream = checkName(this.#spec.streamId(command));
    const cached = this.#cache.get(stream);
    const json = JSON.stringify({
      stream,
      command_id: Metadata.idOf(stamp),
      snapshot_every: snapshotEvery ?? null,
      schema_version: schemaVersion,
      conflict_retries: conflictRetries,
      cached: cached === undefined ? null : { revision: cached.revision },
    });
    const execution = attempt(() => new native.Execution(this.#host.stores, json));
    const run = async (call: () => Started): Promise<Step> =>
      stepOf<Step, "events" | "recorded">((await this.#host.bridge.run(call)) ?? "{}", EVENTS);
    let state: unknown = cached?.state;
    let events: readonly Event[] = [];
    let refusal: { error: unknown } | undefined;
    try {
      let step = await run(() => execution.advance());
      for (;;) {
        if (step.reset === true) state = this.#spec.initial();
        if ("snapshot" in step) state = step.snapshot;
        if (step.events !== undefined) state = this.#fold(state, step.events, stream);
        switch (step.next) {
          case "decide": {
            refusal = undefined;
            try {
              events = this.#decided(this.#spec.decide(state, command));
            } catch (error) {
              refusal = { error };
            }
            if (refusal === undefined) {
              const texts = this.#store.encodeAll(events, this.#stamper(stamp));
              step = await run(() => execution.decided(texts));
              if (events.length > 0 && (step.next === "done" || step.next === "snapshot")) {
                if (step.repeated !== true) state = this.#evolveAll(state, events);
              }
            } else step = await run(() => execution.refused());
            break;
          }
          case "snapshot": {
            const text = encodeValue(`the state of ${this.#spec.name}`, state);
            const { revision } = step;
            const now = Math.round(this.#origin.clock.now() * 1000);
            step = await run(() => execution.snapshot(text, revision ?? 0, now));
            break;
          }
          case "refuse":
            throw refusal?.error ?? new Reject("the command was refused");
          case "done": {
            const revision = step.revision == null ? null : safe(step.revision);
            const position = step.position == null ? null : safe(step.position);
            const repeated = step.repeated === true;
            if (step.recorded !== undefined)
              events = step.recorded.map((row) => this.#read(row, stream));
            if (repeated) this.#cache.delete(stream);
            else this.#keep(stream, { state, revision });
            return { stream, events, state, revision, position, repeated };
          }
          default:
            step = await run(() => execution.advance());
        }
      }
    } catch (error) {
      this.#cache.delete(stream);
      throw error;
    }
  }

  #stamper(cause: Metadata): (event: Event, index: number) => Metadata {
    return (event, index) => {
      const old = stampOf(event);
      if (old !== undefined) return old;
      const stamp = Metadata.stampMade(this.#origin, cause, index);
      setStamp(event, stamp);
      return stamp;
    };
  }

  #decided(decision: unknown): readonly Event[] {
    if (decision instanceof Reject) throw decision;
    const events: readonly unknown[] = Array.isArray(decision) ? decision : [decision];
    for (const event of events) {
      const model = modelOf(event);
      if (model !== undefined && this.#models.has(model)) continue;
      const found = model === undefined ? describe(event) : `the ${model.kind} ${model.typeName}`;
      const { name } = this.#spec;
      throw new InvalidDecisionError(`aggregate ${name}: decide returned ${found}`, {
        aggregate: name,
        found,
      });
    }
    return events as readonly Event[];
  }

  #evolveAll(state: unknown, events: readonly Event[]): unknown {
    return events.reduce((folded, event) => this.#spec.evolve(folded, event), state);
  }

  #fold(state: unknown, rows: readonly FoldedRow[], stream: string): unknown {
    let folded = state;
    for (const row of rows) folded = this.#spec.evolve(folded, this.#read(row, stream));
    return folded;
  }

  #read(row: FoldedRow, stream: string): Event {
    const event = eventOf(row, this.#host.registry.lookup);
    const model = modelOf(event);
    if (model !== undefined && this.#models.has(model)) return event;
    const { name: aggregateName } = this.#spec;
    const { type: type_name, revision } = row;
    throw new UnknownEventError(
      `aggregate ${aggregateName}: event ${revision} of ${stream} has the unknown type ${type_name}`,
      { aggregate: aggregateName, stream, revision, type_name },
    );
  }

  #keep(stream: string, folded: Folded): void {
    const { cache = 0 } = this.#spec;
    if (cache === 0) return;
    // The least recently used one goes.
    this.#cache.delete(stream);
    this.#cache.set(stream, folded);
    if (this.#cache.size > cache) {
      const [oldest] = this.#cache.keys();
      if (oldest !== undefined) this.#cache.delete(oldest);
    }
  }
}

/** As {@link AggregateHost.execute} for callers: a refusal is a `RejectedError`. */
export async function executed(
  host: AggregateHost,
  command: Command,
  stamp: Metadata,
): Promise<Executed<unknown>> {
  try {
    return await host.execute(command, stamp);
  } catch (error) {
    throw error instanceof Reject ? rejected(error) : error;
  }
}
