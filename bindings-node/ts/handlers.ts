/**
 * Handlers and how they are registered.
 *
 * @packageDocumentation
 */
import type { Context } from "./context.js";
import type { AnyCommandType, AnyEventType, Command, CommandType, Event } from "./message.js";
import type { Metadata } from "./metadata.js";
import type { Projected, ProjectionHandler, ProjectionOptions } from "./projections.js";
import type { RetryPolicy } from "./retry.js";

/** Handles a command and returns its result. */
export type CommandHandler<C, Result> = (
  command: C,
  metadata: Metadata,
  context: Context,
) => Result | Promise<Result>;

/** Handles an event. */
export type EventHandler<E> = (event: E, metadata: Metadata, context: Context) => unknown;

/** How a handler is called. */
export interface HandlerOptions {
  /** Its name within the app: part of queues, checkpoints and dead letters, so keep it when the function is renamed. */
  readonly name?: string;
  /** Retries after the first attempt. Default 0 for commands, 3 for events. */
  readonly maxRetries?: number;
  /** When to try again; `maxRetries` beside it comes first. */
  readonly retry?: RetryPolicy;
  /** Milliseconds that an attempt may take. Default no limit. */
  readonly timeoutMs?: number;
  /** Calls at the same time. Default 16 for commands; 1 for events, which keeps their order. */
  readonly concurrency?: number;
  /**
   * Whether no message is given to it twice that it has handled and that came over the broker, from the log or out of the outbox: what it has
   * handled is recorded in the state store. Default false. See `context.inbox` for the handler's own transaction.
   */
  readonly inbox?: boolean;
  /** Messages that a broker delivers before the first of them is settled, 1 to 65,535. Default: the bus's own, 64 unless its URL says otherwise. */
  readonly prefetch?: number;
}

/** How an event handler is called. `start` and `poison` are about reading the log: with a broker events come from their queue instead. */
export interface EventHandlerOptions extends HandlerOptions {
  /** Where in the log it begins at its first start; later it goes on where it was. Default `now`. */
  readonly start?: Start;
  /** What becomes of a logged event when its retries are used up. Default `park`. */
  readonly poison?: Poison;
}

/** A logged event that cannot be handled becomes a dead letter and the rest goes on, is passed over, or stops the handler's reader. */
export type Poison = "park" | "skip" | "stop";

/** A place in the log: its beginning, its end, or after a position. */
export type Start = "origin" | "now" | number;

/** What an event handler takes: a definition, several, or a topic pattern (`*` one word, `#` any number of words). */
export type EventSelector = AnyEventType | readonly AnyEventType[] | TopicSelector;

/** Events by their topics, known to the app or not. */
export interface TopicSelector {
  /** An AMQP pattern: `orders.events.#`. */
  readonly topic: string | readonly string[];
}

/** An event of a type that the app does not know, as it was recorded or published. */
export interface RawEvent extends Event {
  /** The type name. */
  readonly type: string;
  /** The payload. */
  readonly data: Readonly<Record<string, unknown>>;
}

/** The event that a selector selects. */
export type Selected<S> = S extends readonly (infer D)[] ? MadeBy<D> : MadeBy<S>;

type MadeBy<D> = D extends { is(value: unknown): value is infer E } ? E : Event;

/** One registration, kept until an app takes it. */
export type Registration =
  | {
      readonly kind: "command";
      readonly type: AnyCommandType;
      readonly handler: CommandHandler<never, unknown>;
      readonly options: HandlerOptions;
    }
  | {
      readonly kind: "projection";
      readonly name: string;
      readonly handler: ProjectionHandler<never>;
      readonly options: ProjectionOptions;
    }
  | {
      readonly kind: "event";
      readonly selector: EventSelector;
      readonly handler: EventHandler<never>;
      readonly options: EventHandlerOptions;
    };

/**
 * A group of handlers for `app.include`, so that a module can declare its handlers without knowing the app.
 *
 * @example
 * ```ts
 * export const orders = new Handlers();
 * orders.commandHandler(PlaceOrder, async (command) => ({ order_id: command.product_id }));
 * app.include(orders);
 * ```
 */
export class Handlers {
  readonly #registrations: Registration[] = [];

  /** Registers the one handler of a command. */
  commandHandler<Input, Output, Result>(
    type: CommandType<Input, Output, Result>,
    handler: CommandHandler<{ readonly [K in keyof Output]: Output[K] } & Command<Result>, Result>,
    options: HandlerOptions = {},
  ): this {
    this.#registrations.push({ kind: "command", type, handler, options });
    return this;
  }

  /** Registers an event handler. */
  eventHandler<const S extends EventSelector>(
    selector: S,
    handler: EventHandler<Selected<S>>,
    options: EventHandlerOptions = {},
  ): this {
    this.#registrations.push({ kind: "event", selector, handler, options });
    return this;
  }

  /** Declares a projection. */
  projection<const O extends ProjectionOptions>(
    name: string,
    options: O,
    handler: ProjectionHandler<Projected<O>>,
  ): this {
    this.#registrations.push({ kind: "projection", name, handler, options });
    return this;
  }

  /** @internal */
  registrations(): readonly Registration[] {
    return this.#registrations;
  }
}
