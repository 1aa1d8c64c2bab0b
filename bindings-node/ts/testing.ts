/**
 * The test kit: an app in memory with captured messages, a manual clock, and given / when / then for aggregates.
 *
 * @example
 * ```ts
 * const app = new TestApp("shop");
 * app.include(orders);
 * await app.start();
 * await app.dispatch(PlaceOrder({ order_id: "7" }));
 * expect(app.published).toEqual([OrderPlaced({ order_id: "7" })]);
 * ```
 *
 * @packageDocumentation
 */
import { isDeepStrictEqual } from "node:util";
import type { AggregateSpec, Executor } from "./aggregate.js";
import { Orkestra } from "./app.js";
import { ManualClock, ManualIds } from "./clock.js";
import type { DeadLetter } from "./dead-letters.js";
import { CommandEnvelope } from "./envelope.js";
import { type Command, type Event, modelOf } from "./message.js";
import { Reject } from "./outcome.js";
import type { OrkestraOptions } from "./settings.js";

export { ManualClock, ManualIds } from "./clock.js";

/** An app in memory with a manual clock and ids that count, whose messages are captured. */
export class TestApp extends Orkestra {
  /** Its clock, which stands still until it is advanced. */
  readonly clock: ManualClock;
  /** The commands that were dispatched or sent, in order. */
  readonly dispatched: readonly Command[];
  /** The events that were published, in order; not those that were appended. */
  readonly published: readonly Event[];
  /** The dead letters recorded, in order. */
  readonly letters: readonly DeadLetter[];

  constructor(name = "test", options: OrkestraOptions = {}) {
    const clock = new ManualClock();
    const memory = { store: "memory:", state: "memory:", env: {}, clock, ids: new ManualIds() };
    super(name, { ...memory, ...options });
    this.clock = clock;
    const dispatched: Command[] = [];
    const published: Event[] = [];
    const letters: DeadLetter[] = [];
    this.dispatched = dispatched;
    this.published = published;
    this.letters = letters;
    this.aroundSend((envelope, next) => {
      if (envelope instanceof CommandEnvelope) dispatched.push(envelope.command);
      else published.push(envelope.event);
      return next();
    });
    this.onDeadLetter((letter) => letters.push(letter));
  }

  /** The events in the store, in order. */
  async recorded(): Promise<readonly Event[]> {
    const events: Event[] = [];
    for await (const { event } of this.store.readAll()) events.push(event);
    return events;
  }
}

/** What follows on a command: made by {@link given}. */
export interface Then<State> {
  /** The events decided, or the refusal. */
  readonly events: readonly Event[];
  readonly refusal: Reject | undefined;
  /** The state with the decided events folded in. */
  readonly state: State;
  /** Expects exactly these events. */
  then(...expected: readonly Event[]): void;
  /** Expects a refusal, for this reason if one is given. */
  thenRejects(reason?: string | RegExp): void;
  /** Expects this state afterwards. */
  thenState(expected: State): void;
}

/**
 * Decides without any store: what happened, a command, and what follows.
 *
 * @example
 * ```ts
 * given(Order, OrderPlaced({ order_id: "7" }))
 *   .when(PlaceOrder({ order_id: "7" }))
 *   .thenRejects("placed already");
 * ```
 */
export function given<State>(
  aggregate: Executor<State, unknown>,
  ...history: readonly Event[]
): { when(command: Command): Then<State> } {
  const spec = aggregate.spec as unknown as AggregateSpec<State, never, never>;
  const evolve = (state: State, event: Event): State => spec.evolve(state, event as never);
  const before = history.reduce(evolve, spec.initial());
  return {
    when(command) {
      const { events, refusal } = decide(() => spec.decide(before, command as never));
      const state = events.reduce(evolve, before);
      return {
        events,
        refusal,
        state,
        // biome-ignore lint/suspicious/noThenProperty: the word of the trade; nobody awaits it
        then: (...expected) => {
          if (refusal !== undefined) throw refusal;
          same("events", events.map(shown), expected.map(shown));
        },
        thenRejects: (reason) => {
          if (refusal === undefined) fail("a refusal", events.map(shown));
          else if (
            reason instanceof RegExp
              ? !reason.test(refusal.message)
              : reason !== undefined && reason !== refusal.message
          ) {
            fail(String(reason), refusal.message);
          }
        },
        thenState: (expected) => same("state", state, expected),
      };
    },
  };
}

interface Decided {
  readonly events: readonly Event[];
  readonly refusal: Reject | undefined;
}

function decide(call: () => unknown): Decided {
  try {
    const decision = call();
    if (decision instanceof Reject) return { events: [], refusal: decision };
    const events = Array.isArray(decision) ? decision : [decision];
    return { events: events as Event[], refusal: undefined };
  } catch (error) {
    if (error instanceof Reject) return { events: [], refusal: error };
    throw error;
  }
}

function shown(event: Event): { type: string; data: object } {
  return { type: modelOf(event)?.typeName ?? "no event", data: { ...event } };
}

function same(what: string, actual: unknown, expected: unknown): void {
  if (!isDeepStrictEqual(actual, expected)) fail(expected, actual, what);
}

function fail(expected: unknown, actual: unknown, what = "decision"): never {
  const error = new Error(`${what}: expected ${text(expected)}, found ${text(actual)}`);
  // Test runners show the difference of these two.
  throw Object.assign(error, { expected, actual });
}

function text(value: unknown): string {
  return typeof value === "string" ? value : (JSON.stringify(value) ?? String(value));
}
