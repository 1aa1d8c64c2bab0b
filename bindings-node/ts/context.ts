/**
 * The message being handled, and sending from there.
 *
 * @packageDocumentation
 */
import { AsyncLocalStorage } from "node:async_hooks";
import type { Executed, Executor } from "./aggregate.js";
import type { DispatchOptions, SendOptions } from "./bus.js";
import type { EventEnvelope } from "./envelope.js";
import { InvalidHandlerError } from "./errors.js";
import type { Inbox } from "./inbox.js";
import type { Command, Event } from "./message.js";
import type { Metadata } from "./metadata.js";
import type { Appended, AppendOptions } from "./store.js";

/** Beside the contexts, most of which have none. */
const inboxes = new WeakMap<Context, Inbox>();

/** What sends on behalf of a handler: the app. */
export interface Sender {
  /** Whether what it handles is a command, from whose id those of its events follow. */
  readonly command: boolean;
  dispatchFrom(
    command: Command,
    options: DispatchOptions | undefined,
    from: Context,
  ): Promise<unknown>;
  sendFrom(command: Command, options: DispatchOptions | undefined, from: Context): Promise<void>;
  publishFrom(
    event: Event,
    options: SendOptions | undefined,
    from: Context,
  ): Promise<EventEnvelope>;
  executeFrom(
    aggregate: Executor,
    command: Command,
    options: SendOptions | undefined,
    from: Context,
  ): Promise<unknown>;
  appendFrom(
    stream: string,
    events: readonly Event[],
    options: AppendOptions | undefined,
    from: Context,
  ): Promise<Appended>;
}

/**
 * The message being handled. What is sent through it is caused by that message: it keeps correlation, actor and source.
 *
 * With `context: "async"` (the default) the app's own methods do the same inside a handler.
 */
export class Context {
  /** The metadata of the message being handled. */
  readonly metadata: Metadata;
  /** 1 for the first call of the handler with this message. */
  readonly attempt: number;
  readonly #app: Sender;
  #made = 0;

  /** @internal */
  constructor(app: Sender, metadata: Metadata, attempt: number) {
    this.#app = app;
    this.metadata = metadata;
    this.attempt = attempt;
  }

  /** @internal */
  get command(): boolean {
    return this.#app.command;
  }

  /**
   * The inbox of the handler, for the message at hand.
   *
   * @throws {InvalidHandlerError} if the handler has not the option `inbox`.
   */
  get inbox(): Inbox {
    const inbox = inboxes.get(this);
    if (inbox !== undefined) return inbox;
    const [handler, reason] = ["a handler", "context.inbox: expected the option inbox"];
    throw new InvalidHandlerError(`handler ${handler}: ${reason}`, { handler, reason });
  }

  /** @internal */
  setInbox(inbox: Inbox): void {
    inboxes.set(this, inbox);
  }

  /** @internal The number of the next event made here. */
  take(): number {
    return this.#made++;
  }

  /** As `app.dispatch`. It never waits for one of the handler's slots, which would stop both. */
  dispatch<Result>(command: Command<Result>, options?: DispatchOptions): Promise<Result> {
    return this.#app.dispatchFrom(command, options, this) as Promise<Result>;
  }

  /** As `app.send`. */
  send(command: Command, options?: DispatchOptions): Promise<void> {
    return this.#app.sendFrom(command, options, this);
  }

  /** As `app.publish`. */
  publish(event: Event, options?: SendOptions): Promise<EventEnvelope> {
    return this.#app.publishFrom(event, options, this);
  }

  /** As `app.execute`. */
  execute<State>(
    aggregate: Executor<State>,
    command: Command,
    options?: SendOptions,
  ): Promise<Executed<State>> {
    return this.#app.executeFrom(aggregate, command, options, this) as Promise<Executed<State>>;
  }

  /** As `app.store.append`. */
  append(stream: string, events: readonly Event[], options?: AppendOptions): Promise<Appended> {
    return this.#app.appendFrom(stream, events, options, this);
  }
}

/** The handling that the running code belongs to. */
export const handling = new AsyncLocalStorage<Context>();
