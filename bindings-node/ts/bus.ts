/**
 * The bus: commands to their handler, events to each of theirs, in process or over a broker (see `broker.ts`, `consumers.ts`).
 *
 * The success path in process is here; what follows on a failure is decided by the core (see `delivery.ts`).
 *
 * @packageDocumentation
 */
import type { Broker } from "./broker.js";
import type { Origin } from "./clock.js";
import { Context, handling, type Sender } from "./context.js";
import { type Attempt, type Deliveries, isThenable } from "./delivery.js";
import { CommandEnvelope, EventEnvelope, type HandlerState, type Middleware } from "./envelope.js";
import { DispatchTimeoutError, RejectedError } from "./errors.js";
import {
  type Command,
  type Event,
  type Message,
  type Model,
  modelOf,
  setStamp,
  stampOf,
  wrongKind,
} from "./message.js";
import { checkId, Metadata, type StampFields } from "./metadata.js";
import { Reject } from "./outcome.js";
import type { Registry } from "./registry.js";
import { checkRetries } from "./retry.js";
import type { Route } from "./route.js";

/** What a sender may say. */
export interface SendOptions extends StampFields {
  /** The message's id, a UUID. Default: a new one. */
  readonly id?: string;
  /** Retries that the sender wants; comes before the handler's. */
  readonly maxRetries?: number;
}

/** What the sender of a command may say. */
export interface DispatchOptions extends SendOptions {
  /** Milliseconds to wait for the result. The command may still be handled afterwards. */
  readonly timeoutMs?: number;
  /** Stops waiting for the result. The command may still be handled afterwards. */
  readonly signal?: AbortSignal;
}

/** How the bus is set up. */
export interface BusOptions {
  readonly app: string;
  readonly origin: Origin;
  readonly registry: Registry;
  readonly deliveries: Deliveries;
  readonly sender: Omit<Sender, "command">;
  /** Whether what handlers send is derived by itself. */
  readonly ambient: boolean;
  /** What carries messages between processes, if there is one. */
  readonly broker: Broker | undefined;
  /** Throws unless what is handled by the given context, or anybody, may send. */
  readonly guard: (cause: Context | undefined) => void;
}

/** The bus. */
export class Bus {
  readonly #origin: Origin;
  readonly #registry: Registry;
  readonly #deliveries: Deliveries;
  /** What sends for the handlers of commands, and for those of events. */
  readonly #fromCommand: Sender;
  readonly #fromEvent: Sender;
  readonly #ambient: boolean;
  readonly #broker: Broker | undefined;
  readonly #guard: (cause: Context | undefined) => void;
  readonly #aroundSend: Middleware[] = [];
  readonly #aroundHandle: Middleware[] = [];
  /** Whether the app is running, in process, and has no middleware: the short way is open. */
  #plain = false;
  #running = false;

  constructor(options: BusOptions) {
    this.#origin = options.origin;
    this.#registry = options.registry;
    this.#deliveries = options.deliveries;
    this.#fromCommand = { ...options.sender, command: true };
    this.#fromEvent = { ...options.sender, command: false };
    this.#ambient = options.ambient;
    this.#broker = options.broker;
    this.#guard = options.guard;
  }

  set running(running: boolean) {
    this.#running = running;
    const middleware = this.#aroundSend.length + this.#aroundHandle.length;
    this.#plain = running && this.#broker === undefined && middleware === 0;
  }

  /** Adds middleware around sending or around handling. */
  use(around: "send" | "handle", middleware: Middleware): void {
    (around === "send" ? this.#aroundSend : this.#aroundHandle).push(middleware);
    this.running = this.#running;
  }

  /** The handling that a call from here belongs to. */
  cause(): Context | undefined {
    return this.#ambient ? handling.getStore() : undefined;
  }

  /** Sends a command to its handler and waits for the result. */
  dispatch(
    command: Command,
    options: DispatchOptions | undefined,
    cause: Context | undefined,
  ): Promise<unknown> {
    const route = this.#registry.commandOf(command);
    if (
      route === undefined ||
      !this.#plain ||
      !route.plain ||
      (options !== undefined &&
        (options.timeoutMs !== undefined || options.signal !== undefined)) ||
      (cause === undefined && route.active >= route.concurrency)
    ) {
      return this.#dispatchSlowly(command, options, cause);
    }
    let stamp: Metadata;
    try {
      stamp = this.stampCommand(command, options, cause);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#handle(route, command, stamp, options?.maxRetries, cause !== undefined);
  }

  /** The success path of a command: `then` on the handler's own promise, which costs half of another async function. */
  #handle(
    route: Route,
    command: Command,
    stamp: Metadata,
    maxRetries: number | undefined,
    inside: boolean,
  ): Promise<unknown> {
    const context = new Context(this.#fromCommand, stamp, 1);
    const failed = (failure: unknown): Promise<unknown> => {
      route.leave();
      const call = this.#caller(route, command, stamp, inside);
      const delivery = { route, message: command, stamp, maxRetries, call };
      return this.#deliveries.deliver(delivery, { failure });
    };
    route.active++;
    let returned: unknown;
    try {
      returned = this.#ambient
        ? handling.run(context, route.call, command, stamp, context)
        : route.call(command, stamp, context);
    } catch (failure) {
      return failed(failure);
    }
    const promise = returned instanceof Promise ? returned : Promise.resolve(returned);
    return promise.then(route.succeeded, failed);
  }

  async #dispatchSlowly(
    command: Command,
    options: DispatchOptions | undefined,
    cause: Context | undefined,
  ): Promise<unknown> {
    if (this.#broker !== undefined)
      return this.#dispatchOver(this.#broker, command, options, cause);
    const { model, route } = this.#resolveCommand(command, cause);
    options?.signal?.throwIfAborted();
    const stamp = this.stampCommand(command, options, cause);
    const work = this.#deliverCommand(route, command, stamp, options?.maxRetries, cause);
    if (options?.timeoutMs === undefined && options?.signal === undefined) return work;
    const topic = this.#registry.topicFor(model.typeName);
    return this.#within(work, topic, options);
  }

  /** Sends a command over the broker and waits for the answer. */
  #dispatchOver(
    broker: Broker,
    command: Command,
    options: DispatchOptions | undefined,
    cause: Context | undefined,
  ): Promise<unknown> {
    const model = this.#commandModel(command, cause);
    options?.signal?.throwIfAborted();
    const stamp = this.stampCommand(command, options, cause);
    const maxRetries = options?.maxRetries;
    const ask = () => broker.ask({ model, message: command, stamp, maxRetries }, options);
    if (this.#aroundSend.length === 0) return ask();
    const envelope = new CommandEnvelope(command, maxRetries ?? null);
    return this.#around(envelope, async () => {
      try {
        envelope.result = await ask();
        envelope.status = "succeeded";
        return envelope.result;
      } catch (error) {
        envelope.status = isRejection(error) ? "rejected" : "failed";
        envelope.error = error;
        throw error;
      } finally {
        envelope.completedAt = new Date(this.#origin.clock.now());
      }
    });
  }

  /** Sends a command over the broker; ends when it has it. */
  #sendOver(
    broker: Broker,
    command: Command,
    options: DispatchOptions | undefined,
    cause: Context | undefined,
  ): Promise<void> {
    const model = this.#commandModel(command, cause);
    const stamp = this.stampCommand(command, options, cause);
    const maxRetries = options?.maxRetries;
    const outgoing = { model, message: command, stamp, maxRetries };
    if (this.#aroundSend.length === 0) return broker.send(outgoing);
    const envelope = new CommandEnvelope(command, maxRetries ?? null);
    return this.#around(envelope, () => broker.send(outgoing)) as Promise<void>;
  }

  /** Publishes an event over the broker; ends when it has it. */
  async #publishOver(
    broker: Broker,
    event: Event,
    options: SendOptions | undefined,
    cause: Context | undefined,
  ): Promise<EventEnvelope> {
    this.#guard(cause);
    const model = modelOf(event);
    if (model?.kind !== "event") throw wrongKind("event", event);
    const stamp = this.stampEvent(event, options, cause);
    const now = this.#origin.clock.now();
    const envelope = new EventEnvelope(event, [], undefined, now, []);
    const maxRetries = options?.maxRetries;
    const send = () => broker.send({ model, message: event, stamp, maxRetries });
    await (this.#aroundSend.length === 0 ? send() : compose(this.#aroundSend, envelope, send)());
    return envelope;
  }

  #around(envelope: CommandEnvelope, send: () => Promise<unknown>): Promise<unknown> {
    envelope.dispatchedAt = new Date(this.#origin.clock.now());
    envelope.status = "dispatched";
    envelope.attempts = 1;
    return compose(this.#aroundSend, envelope, send)();
  }

  /**
   * Calls a handler once with what arrived for it over the broker. Whoever calls keeps to its `concurrency`.
   *
   * @throws what the handler throws, here or in the promise.
   */
  arrived(
    route: Route,
    message: Message,
    stamp: Metadata,
    attempt: number,
    maxRetries: number | undefined,
  ): unknown {
    if (route.plain && this.#aroundHandle.length === 0) {
      const sender = route.isCommand ? this.#fromCommand : this.#fromEvent;
      const context = new Context(sender, stamp, attempt);
      return this.#ambient
        ? handling.run(context, route.call, message, stamp, context)
        : route.call(message, stamp, context);
    }
    const envelope = route.isCommand
      ? new CommandEnvelope(message as Command, maxRetries ?? null)
      : new EventEnvelope(message as Event, [route], ["processing"], this.#origin.clock.now(), []);
    return this.#caller(route, message, stamp, true, envelope)(attempt);
  }

  #commandModel(command: Command, cause: Context | undefined): Model {
    this.#guard(cause);
    const model = modelOf(command);
    if (model?.kind !== "command") throw wrongKind("command", command);
    return model;
  }

  #resolveCommand(command: Command, cause: Context | undefined): { model: Model; route: Route } {
    const model = this.#commandModel(command, cause);
    return { model, route: this.#registry.command(model) ?? this.#registry.noHandler(model) };
  }

  /** A command through every middleware, waiting for a slot unless it comes from a handler. */
  async #deliverCommand(
    route: Route,
    command: Command,
    stamp: Metadata,
    maxRetries: number | undefined,
    cause: Context | undefined,
  ): Promise<unknown> {
    const envelope = new CommandEnvelope(command, maxRetries ?? null);
    const call = this.#caller(route, command, stamp, cause !== undefined, envelope);
    const send = async (): Promise<unknown> => {
      envelope.dispatchedAt = new Date(this.#origin.clock.now());
      try {
        const delivery = { route, message: command, stamp, maxRetries, call };
        envelope.result = await this.#deliveries.deliver(delivery);
        envelope.status = "succeeded";
        envelope.error = undefined;
        return envelope.result;
      } finally {
        envelope.completedAt = new Date(this.#origin.clock.now());
      }
    };
    return compose(this.#aroundSend, envelope, send)();
  }

  /** Ends with `work`, or before it when the caller does not wait any longer. */
  async #within(work: Promise<unknown>, topic: string, options: DispatchOptions): Promise<unknown> {
    const { timeoutMs, signal } = options;
    const over = new AbortController();
    const limits: Array<Promise<never>> = [];
    if (timeoutMs !== undefined) {
      limits.push(
        this.#origin.clock.sleep(timeoutMs, over.signal).then(() => {
          const seconds = timeoutMs / 1000;
          const message = `no answer for ${topic} within ${seconds} s`;
          throw new DispatchTimeoutError(message, { topic, seconds });
        }),
      );
    }
    if (signal !== undefined) {
      limits.push(
        new Promise((_, reject) => {
          const abort = (): void => reject(signal.reason);
          signal.addEventListener("abort", abort, { once: true, signal: over.signal });
        }),
      );
    }
    // Whoever comes second is nobody's business any more.
    for (const promise of [work, ...limits]) promise.catch(() => undefined);
    try {
      return await Promise.race([work, ...limits]);
    } finally {
      over.abort();
    }
  }

  /** Accepts a command; it is handled behind. */
  async send(
    command: Command,
    options: DispatchOptions | undefined,
    cause: Context | undefined,
  ): Promise<void> {
    if (this.#broker !== undefined) return this.#sendOver(this.#broker, command, options, cause);
    const { route } = this.#resolveCommand(command, cause);
    const stamp = this.stampCommand(command, options, cause);
    // Not from this handling: the sender may be done long before.
    const work = handling.exit(() =>
      this.#deliverCommand(route, command, stamp, options?.maxRetries, undefined),
    );
    this.#deliveries.behind(work);
  }

  /** Sends an event to every handler that wants it. Waits for their first attempts. */
  async publish(
    event: Event,
    options: SendOptions | undefined,
    cause: Context | undefined,
  ): Promise<EventEnvelope> {
    if (this.#broker !== undefined) return this.#publishOver(this.#broker, event, options, cause);
    const model = modelOf(event);
    if (!this.#running) this.#guard(cause);
    if (model?.kind !== "event") throw wrongKind("event", event);
    const routes = this.#registry.events(model);
    const stamp = this.stampEvent(event, options, cause);
    const states = new Array<HandlerState>(routes.length).fill("pending");
    const behind: Array<Promise<void>> = [];
    const now = this.#origin.clock.now();
    const envelope = new EventEnvelope(event, routes, states, now, behind);
    if (!this.#plain) {
      const send = async (): Promise<EventEnvelope> => {
        await this.#toAll(routes, event, stamp, states, behind, options, cause, envelope);
        return envelope;
      };
      await compose(this.#aroundSend, envelope, send)();
      return envelope;
    }
    for (let i = 0; i < routes.length; i++) {
      const route = routes[i] as Route;
      if (route.busy || route.timeoutMs !== undefined) {
        await this.#toOne(route, i, event, stamp, states, behind, options, cause);
        continue;
      }
      states[i] = "processing";
      const context = new Context(this.#fromEvent, stamp, 1);
      let failed: { failure: unknown } | undefined;
      route.active++;
      try {
        const returned = this.#ambient
          ? handling.run(context, route.call, event, stamp, context)
          : route.call(event, stamp, context);
        if (isThenable(returned)) await returned;
        states[i] = "succeeded";
      } catch (failure) {
        failed = { failure };
      } finally {
        route.leave();
      }
      if (failed !== undefined) {
        await this.#toOne(route, i, event, stamp, states, behind, options, cause, failed);
      }
    }
    return envelope;
  }

  async #toAll(
    routes: readonly Route[],
    event: Event,
    stamp: Metadata,
    states: HandlerState[],
    behind: Array<Promise<void>>,
    options: SendOptions | undefined,
    cause: Context | undefined,
    envelope: EventEnvelope,
  ): Promise<void> {
    for (const [i, route] of routes.entries()) {
      await this.#toOne(
        route,
        i,
        event,
        stamp,
        states,
        behind,
        options,
        cause,
        undefined,
        envelope,
      );
    }
  }

  /** One handler of an event, by the long way: waits until it succeeded, gave up, or waits for a retry. */
  async #toOne(
    route: Route,
    i: number,
    event: Event,
    stamp: Metadata,
    states: HandlerState[],
    behind: Array<Promise<void>>,
    options: SendOptions | undefined,
    cause: Context | undefined,
    failed?: { failure: unknown },
    envelope?: EventEnvelope,
  ): Promise<void> {
    const call = this.#caller(route, event, stamp, false, envelope, () => {
      states[i] = "processing";
    });
    let retrying: (() => void) | undefined;
    const firstAttempt = new Promise<void>((resolve) => {
      retrying = resolve;
    });
    const delivery = {
      route,
      message: event,
      stamp,
      maxRetries: options?.maxRetries,
      call,
      onRetry: () => {
        states[i] = "pending";
        retrying?.();
      },
    };
    const queued = cause !== undefined && route.busy && failed === undefined;
    const work = this.#deliveries.deliver(delivery, failed).then(
      () => {
        states[i] = "succeeded";
      },
      (error: unknown) => {
        states[i] = isRejection(error) ? "skipped" : "failed";
      },
    );
    behind.push(work);
    this.#deliveries.behind(work);
    // From a handler, to one that is busy: waiting for it could be waiting for oneself.
    if (!queued) await Promise.race([work, firstAttempt]);
  }

  /** Calls a handler once, with its slot, its time limit and the middleware around it. */
  #caller(
    route: Route,
    message: Message,
    stamp: Metadata,
    inside: boolean,
    envelope?: CommandEnvelope | EventEnvelope,
    onStart?: () => void,
  ): Attempt {
    return async (attempt) => {
      if (inside) route.active++;
      else await route.enter();
      onStart?.();
      if (envelope instanceof CommandEnvelope) {
        envelope.status = "dispatched";
        envelope.attempts = attempt;
      }
      const sender = route.isCommand ? this.#fromCommand : this.#fromEvent;
      const context = new Context(sender, stamp, attempt);
      const handle = async (): Promise<unknown> =>
        this.#ambient
          ? handling.run(context, route.call, message, stamp, context)
          : route.call(message, stamp, context);
      const called =
        envelope === undefined ? handle : compose(this.#aroundHandle, envelope, handle);
      try {
        return await this.#deliveries.within(route, called());
      } catch (error) {
        if (envelope instanceof CommandEnvelope) {
          envelope.status = error instanceof Reject ? "rejected" : "failed";
          envelope.error = error;
        }
        throw error;
      } finally {
        route.leave();
      }
    };
  }

  /** Delivers a message that has been stamped to one handler alone. */
  deliverTo(route: Route, message: Message, stamp: Metadata): Promise<unknown> {
    const call = this.#caller(route, message, stamp, false);
    return this.#deliveries.deliver({ route, message, stamp, maxRetries: undefined, call });
  }

  /** Delivers an event of the log to one handler; throws `INTERRUPTED` when the app closes before the end. */
  deliverLogged(route: Route, event: Event, stamp: Metadata, letter: boolean): Promise<unknown> {
    const call = this.#caller(route, event, stamp, false);
    const delivery = { route, message: event, stamp, maxRetries: undefined, call };
    return this.#deliveries.deliver({ ...delivery, letter, logged: true });
  }

  /** The stamp of a sending. Each sending of one command is a new one, unless it was stamped and never sent. */
  stampCommand(
    command: Command,
    options: SendOptions | undefined,
    cause: Context | undefined,
  ): Metadata {
    if (options !== undefined) checkRetries(options.maxRetries);
    const old = stampOf(command);
    if (old !== undefined && options?.id === undefined && Metadata.use(old)) {
      return options === undefined ? old : this.#restamp(command, old, options);
    }
    const id = options?.id === undefined ? undefined : checkId(options.id);
    const stamp = Metadata.stamp(this.#origin, cause?.metadata, id, options);
    Metadata.use(stamp);
    setStamp(command, stamp);
    return stamp;
  }

  /** A stamp that was never sent, with what the sender says on top. */
  #restamp(command: Command, old: Metadata, options: SendOptions): Metadata {
    const stamp = Metadata.amend(old, options);
    setStamp(command, stamp);
    return stamp;
  }

  /** The stamp of an event: an event object is one fact and keeps it. */
  stampEvent(event: Event, options: SendOptions | undefined, cause: Context | undefined): Metadata {
    if (options !== undefined) checkRetries(options.maxRetries);
    const old = stampOf(event);
    if (old !== undefined) return old;
    const made =
      cause?.command === true && options?.id === undefined
        ? Metadata.stampMade(this.#origin, cause.metadata, cause.take(), options)
        : Metadata.stamp(
            this.#origin,
            cause?.metadata,
            options?.id === undefined ? undefined : checkId(options.id),
            options,
          );
    setStamp(event, made);
    return made;
  }
}

/** `core` inside of the middleware, the first registered outermost. */
function compose<E extends CommandEnvelope | EventEnvelope>(
  middleware: readonly Middleware[],
  envelope: E,
  core: () => Promise<unknown>,
): () => Promise<unknown> {
  return middleware.reduceRight<() => Promise<unknown>>(
    (next, around) => () => around(envelope, next),
    core,
  );
}

function isRejection(error: unknown): boolean {
  return error instanceof RejectedError;
}
