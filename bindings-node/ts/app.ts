/**
 * The app: handlers, bus and stores wired together.
 *
 * @packageDocumentation
 */
import {
  type AggregateAnswer,
  AggregateHost,
  type Executed,
  type Executor,
  executed,
} from "./aggregate.js";
import { checkCounts, checkOptions, checkTexts, invalid, shown } from "./arguments.js";
import { Bridge } from "./bridge.js";
import { Broker } from "./broker.js";
import { Bus, type DispatchOptions, type SendOptions } from "./bus.js";
import { type Origin, SYSTEM } from "./clock.js";
import { Consumers } from "./consumers.js";
import type { Context, Sender } from "./context.js";
import { type DeadLetter, DeadLetters } from "./dead-letters.js";
import { Deliveries } from "./delivery.js";
import type { EventEnvelope, Middleware } from "./envelope.js";
import {
  AlreadyStartedError,
  ClosedError,
  InvalidAggregateError,
  InvalidHandlerError,
  InvalidSettingError,
  NotStartedError,
} from "./errors.js";
import type {
  CommandHandler,
  EventHandler,
  EventHandlerOptions,
  EventSelector,
  HandlerOptions,
  Handlers,
  Poison,
  Selected,
  Start,
} from "./handlers.js";
import { examine, type Health } from "./health.js";
import { Inbox } from "./inbox.js";
import { LogFollower } from "./log.js";
import {
  type AnyCommandType,
  type AnyMessageType,
  type Command,
  type CommandType,
  definitionOf,
  type Event,
  type Message,
  type Payload,
  typeOf,
} from "./message.js";
import { Metadata } from "./metadata.js";
import { attempt, type NativeStores, native } from "./native.js";
import { Outbox } from "./outbox.js";
import {
  type Projected,
  type ProjectionHandler,
  type ProjectionOptions,
  type ProjectionState,
  Projections,
} from "./projections.js";
import type { Rebuild, RebuildOptions } from "./rebuild.js";
import type { Row } from "./recorded.js";
import { Redelivery } from "./redelivery.js";
import { Registry } from "./registry.js";
import { Retention } from "./retention.js";
import type { Call, Route } from "./route.js";
import { checkSettings, type Logger, type OrkestraOptions } from "./settings.js";
import { ToldToEnd } from "./signals.js";
import { type Appended, type AppendOptions, Store, type StoreHost } from "./store.js";
import { caughtUp, type SubscribeOptions, Subscription } from "./subscription.js";

type Status = "new" | "running" | "closed";

/**
 * An app: declares handlers, dispatches commands, publishes events, and stores them.
 *
 * @example
 * ```ts
 * const app = new Orkestra("MyApp", { bus: "memory:", store: "sqlite:orders.db" });
 * app.commandHandler(PlaceOrder, async (command) => ({ order_id: randomUUID() }), { maxRetries: 2 });
 * await app.start();
 * const result = await app.dispatch(PlaceOrder({ product_id: "sku_42", quantity: 3 }), { actorId: "user_123" });
 * await app.close();
 * ```
 */
export class Orkestra {
  /** The app's name. */
  readonly name: string;
  /** The event store. */
  readonly store: Store;
  /** Messages given up on. */
  readonly deadLetters: DeadLetters;
  /** Messages that leave once what they belong to is committed. */
  readonly outbox: Outbox;
  /** Lets go of what is old, while the system runs. */
  readonly retention: Retention;

  readonly #origin: Origin;
  readonly #bridge = Bridge.here();
  readonly #stores: NativeStores;
  readonly #registry: Registry;
  readonly #deliveries: Deliveries;
  readonly #bus: Bus;
  readonly #storeHost: StoreHost;
  readonly #named: boolean;
  readonly #hasBroker: boolean;
  readonly #closeTimeoutMs: number;
  readonly #logger: Logger | undefined;
  readonly #projections: Projections;
  readonly #readers = new Map<Route, { readonly start: Start; readonly poison: Poison }>();
  readonly #aggregates = new Map<Executor, AggregateHost>();
  readonly #reading = new Set<Subscription>();
  #followers: LogFollower[] = [];
  #consumers: Consumers | undefined;
  #status: Status = "new";
  /** While it closes: what is under way may still send. */
  #draining = false;
  #opened = false;
  #opening: Promise<unknown> | undefined;
  #starting: Promise<this> | undefined;
  #closed: Promise<void> | undefined;

  /**
   * @throws {InvalidUrlError} names the setting and what is wrong with its URL.
   * @throws {InvalidTypeNameError} if `name` cannot name an app.
   */
  constructor(name: string, options: OrkestraOptions = {}) {
    checkSettings(name, options);
    const { context = "async", env = process.env } = options;
    this.name = name;
    this.#logger = options.logger;
    this.#closeTimeoutMs = options.closeTimeoutMs ?? 10_000;
    this.#origin = { clock: options.clock ?? SYSTEM.clock, ids: options.ids ?? SYSTEM.ids };
    if (context !== "async" && context !== "explicit") {
      const reason = `expected async or explicit, found ${shown(context)}`;
      throw new InvalidSettingError(`context: ${reason}`, { setting: "context", reason });
    }
    const settings = JSON.stringify({
      bus: options.bus ?? (env.ORKESTRA_BUS || null),
      store: options.store ?? (env.ORKESTRA_STORE || null),
      state: options.state ?? (env.ORKESTRA_STATE || null),
      max_payload_bytes: options.maxPayloadBytes ?? null,
    });
    this.#registry = new Registry(name, options.appPrefix);
    this.#stores = attempt(() => new native.Stores(this.#bridge.native, settings));
    this.#named = !this.#stores.memoryOnly;
    this.#hasBroker = this.#stores.hasBroker;
    this.#deliveries = new Deliveries({
      origin: this.#origin,
      registry: this.#registry,
      bridge: this.#bridge,
      stores: this.#stores,
      warn: (message, error) => this.#warn(message, error),
    });
    const sender = this.#sender();
    const broker = new Broker({
      bridge: this.#bridge,
      stores: this.#stores,
      registry: this.#registry,
      opening: () => (this.#opened ? undefined : this.#open()),
    });
    this.#bus = new Bus({
      app: name,
      origin: this.#origin,
      registry: this.#registry,
      deliveries: this.#deliveries,
      sender,
      ambient: context === "async",
      broker: this.#hasBroker ? broker : undefined,
      guard: (cause) => this.#guardSending(cause),
    });
    this.#storeHost = {
      bridge: this.#bridge,
      stores: this.#stores,
      registry: this.#registry,
      guard: () => this.#guard(),
      stamp: (event) => this.#bus.stampEvent(event, undefined, this.#bus.cause()),
    };
    this.#registry.inboxes = (handler, stamp) => new Inbox(this.#stores, handler, stamp);
    const state = {
      bridge: this.#bridge,
      stores: this.#stores,
      opened: async (): Promise<void> => {
        if (this.#status === "closed") throw this.#closedError();
        if (!this.#opened) await this.#open();
      },
    };
    this.outbox = new Outbox({ ...state, bus: this.#bus, registry: this.#registry });
    this.retention = new Retention(state);
    this.store = new Store(this.#storeHost);
    const redelivery = new Redelivery({
      bus: this.#bus,
      bridge: this.#bridge,
      stores: this.#stores,
      registry: this.#registry,
      clock: this.#origin.clock,
      guard: () => this.#guard(),
    });
    this.#projections = new Projections({
      ...this.#subscriptionHost(),
      origin: this.#origin,
      deliveries: this.#deliveries,
      warn: (message, error) => this.#warn(message, error),
    });
    this.deadLetters = new DeadLetters({ ...state, redelivery });
  }

  // Registration.

  /**
   * Registers the one handler of a command.
   *
   * @throws {DuplicateHandlerError} if it has one already.
   * @throws {WrongKindError} if `type` is no command's definition.
   */
  commandHandler<Input, Output, Result>(
    type: CommandType<Input, Output, Result>,
    handler: CommandHandler<Payload<Output> & Command<Result>, Result>,
    options: HandlerOptions = {},
  ): this {
    this.#registering("the handler of a command");
    this.#registry.addCommand(type, handler, options);
    return this;
  }

  /**
   * Registers an event handler: for a definition, several, or `{ topic: "orders.events.#" }`. It gets published events, and those appended to
   * the store after the commit, with a broker from there.
   *
   * @throws {InvalidHandlerError} if it has no name and the app is not in memory.
   * @throws {DuplicateHandlerNameError} if another one has its name.
   */
  eventHandler<const S extends EventSelector>(
    selector: S,
    handler: EventHandler<Selected<S>>,
    options: EventHandlerOptions = {},
  ): this {
    this.#registering("an event handler");
    checkOptions(options);
    const name = options.name ?? this.#nameOf(handler);
    const route = this.#registry.addEvent(selector, handler as Call, { ...options, name });
    const { start = "now", poison = "park" } = options;
    this.#readers.set(route, { start, poison });
    return this;
  }

  /**
   * Declares a projection: what builds a view from the log.
   *
   * The handler gets events in the order of the log and saves the checkpoint in the transaction of its view, so that each event is in the view
   * exactly once. One that saves none gets each event at least once. Of all processes one at a time runs it.
   *
   * @throws {DuplicateHandlerNameError} if a handler or another projection has its name.
   * @throws {InvalidHandlerError} if an option cannot be used.
   *
   * @example
   * ```ts
   * app.projection("board", { events: [FlightLanded] }, async (events, checkpoint) => {
   *   const client = await pool.connect();
   *   try {
   *     await client.query("BEGIN");
   *     for (const { event } of events) await client.query(…);
   *     await checkpoint.save(client);
   *     await client.query("COMMIT");
   *   } catch (error) {
   *     await client.query("ROLLBACK");
   *     throw error;
   *   } finally {
   *     client.release();
   *   }
   * });
   * ```
   */
  projection<const O extends ProjectionOptions>(
    name: string,
    options: O,
    handler: ProjectionHandler<Projected<O>>,
  ): this {
    this.#registering("a projection");
    this.#projections.add(name, options, handler);
    return this;
  }

  /** Registers a group of handlers. */
  include(handlers: Handlers): this {
    if (typeof (handlers as Handlers | undefined)?.registrations !== "function") {
      throw invalid("handlers", "a group made by new Handlers()", handlers);
    }
    for (const registration of handlers.registrations()) {
      const { options } = registration;
      if (registration.kind === "projection") {
        this.#registering("a projection");
        this.#projections.add(registration.name, registration.options, registration.handler);
      } else if (registration.kind === "command") {
        this.#registering("the handler of a command");
        this.#registry.addCommand(registration.type, registration.handler, options);
      } else {
        const handler = registration.handler as EventHandler<unknown>;
        this.eventHandler(registration.selector, handler, options);
      }
    }
    return this;
  }

  /**
   * Adds an aggregate: its commands can be dispatched and executed, its events are known.
   *
   * @throws {InvalidAggregateError} if it was added before.
   * @throws {DuplicateHandlerError} if one of its commands has a handler already.
   */
  addAggregate<State, E>(aggregate: Executor<State, E>, options: HandlerOptions = {}): this {
    this.#registering("an aggregate");
    const executor = executorOf(aggregate);
    if (this.#aggregates.has(executor)) {
      const reason = "it was added before";
      throw new InvalidAggregateError(`aggregate ${executor.name}: ${reason}`, {
        aggregate: executor.name,
        reason,
      });
    }
    const host = new AggregateHost(executor.spec, this.#storeHost, this.store, this.#origin);
    for (const type of executor.spec.events) this.addTypes(type);
    for (const type of executor.spec.commands) {
      const call = async (command: Command, stamp: Metadata): Promise<AggregateAnswer> => {
        const { stream, revision } = await host.execute(command, stamp);
        return { stream, revision };
      };
      this.#registry.addCommand(type as AnyCommandType, call as Call, options);
    }
    this.#aggregates.set(executor, host);
    return this;
  }

  /** Makes types known, so that they are read as themselves and not as raw events. */
  addTypes(...types: readonly AnyMessageType[]): this {
    for (const type of types) {
      const model = definitionOf(type);
      if (model === undefined) {
        const reason = "expected a definition made by command() or event()";
        throw new InvalidSettingError(`types: ${reason}`, { setting: "types", reason });
      }
      this.#registry.addType(model);
    }
    return this;
  }

  /** Adds code around each sending, in order of registration. */
  aroundSend(middleware: Middleware): this {
    this.#bus.use("send", middleware);
    return this;
  }

  /** Adds code around each attempt to handle, in order of registration. */
  aroundHandle(middleware: Middleware): this {
    this.#bus.use("handle", middleware);
    return this;
  }

  /** Calls `listener` with every dead letter, after it is recorded. */
  onDeadLetter(listener: (letter: DeadLetter) => unknown): this {
    if (typeof listener !== "function") throw invalid("listener", "a function", listener);
    this.#deliveries.onDeadLetter(listener);
    return this;
  }

  // Sending.

  /**
   * Sends a command to its handler and waits for the result, retries included.
   *
   * Over a broker the result is JSON (`null` for nothing), `timeoutMs` is 60,000 unless given, and it works before `start()` too.
   *
   * @throws what the handler threw, when its retries are used up; over a broker a {@link HandlerError}.
   * @throws {NoHandlerError} if nobody handles it.
   * @throws {RejectedError} if the handler refused it.
   * @throws {DispatchTimeoutError} if `timeoutMs` is over.
   * @throws {BusUnavailableError} if the broker is away.
   */
  dispatch<Result>(command: Command<Result>, options?: DispatchOptions): Promise<Result> {
    return this.#bus.dispatch(command, options, this.#bus.cause()) as Promise<Result>;
  }

  /**
   * Sends a command; it is handled behind. Its failure is a dead letter. Over a broker this ends when the broker has it safely.
   *
   * @throws {NoHandlerError} if nobody handles it.
   * @throws {BusUnavailableError} if the broker is away.
   */
  send(command: Command, options?: DispatchOptions): Promise<void> {
    return this.#bus.send(command, options, this.#bus.cause());
  }

  /**
   * Publishes an event now, not stored, and waits for the first attempt of each handler; over a broker, until the broker has it safely. Never
   * rejects because a handler failed.
   *
   * @throws {BusUnavailableError} if the broker is away.
   */
  publish(event: Event, options?: SendOptions): Promise<EventEnvelope> {
    return this.#bus.publish(event, options, this.#bus.cause());
  }

  /**
   * Executes a command on an aggregate: loads, decides, appends at the loaded revision, and decides again when somebody else was faster.
   *
   * @throws {RejectedError} if the aggregate refused it.
   * @throws {RevisionConflictError} if others were faster too often.
   */
  execute<State, E>(
    aggregate: Executor<State, E>,
    command: Command,
    options?: SendOptions,
  ): Promise<Executed<State, E>> {
    const executor = aggregate as unknown as Executor;
    return this.#execute(executor, command, options, this.#bus.cause()) as unknown as Promise<
      Executed<State, E>
    >;
  }

  async #execute(
    aggregate: Executor,
    command: Command,
    options: SendOptions | undefined,
    cause: Context | undefined,
  ): Promise<Executed<unknown>> {
    this.#guard();
    executorOf(aggregate);
    const host = this.#aggregates.get(aggregate);
    if (host === undefined) {
      const reason = "it was not added to the app";
      throw new InvalidAggregateError(`aggregate ${aggregate.name}: ${reason}`, {
        aggregate: aggregate.name,
        reason,
      });
    }
    host.check(command);
    return executed(host, command, this.#bus.stampCommand(command, options, cause));
  }

  // Reading.

  /** A named reader of the log. */
  subscribe(options: SubscribeOptions = {}): Subscription {
    this.#guard();
    return new Subscription(this.#subscriptionHost(), options);
  }

  /**
   * Waits until the projection, event handler or subscription `name` has finished `position`: of a projection, until its transaction is
   * committed, so that what a command appended (`Executed.position`) can be read in the view.
   *
   * @throws {NotCaughtUpError} if it does not get there in `timeoutMs` milliseconds, by default 30,000.
   * @throws {InvalidArgumentError} if `position` is none.
   * @throws {SubscriptionStoppedError} if its `poison` policy stops it before.
   */
  async caughtUp(
    name: string,
    position: number,
    options: { readonly timeoutMs?: number } = {},
  ): Promise<void> {
    this.#guard();
    if (typeof name !== "string") throw invalid("name", "text", name);
    checkTexts({ name });
    checkCounts({ position });
    checkOptions(options);
    const { timeoutMs = 30_000 } = options;
    const route = this.#registry.routes.find((other) => other.name === name);
    const follower = this.#followers.find(({ state }) => state.name === route?.fullName);
    const projection = this.#projections.reader(name);
    const reader = projection?.fullName ?? route?.fullName ?? name;
    const halted = projection?.halted ?? follower?.halted;
    const host = { ...this.#subscriptionHost(), clock: this.#origin.clock };
    await caughtUp(host, reader, position, timeoutMs, halted);
  }

  /**
   * Builds a projection's view anew, beside the live one, and switches to it. The projection gets the log from the origin, with
   * `checkpoint.suffix` `_rebuild`; when it has caught up, the live view waits for what came in meanwhile and for the switch, wherever it runs.
   *
   * @throws {UnknownProjectionError} at once, if there is no projection of that name.
   * @throws {NoSwitchError} if it has no `switch`.
   * @throws {RebuildRunningError} if it is being rebuilt already, here or elsewhere.
   * @throws {SubscriptionStoppedError} if it cannot handle an event and wants to stop.
   */
  rebuild(name: string, options: RebuildOptions = {}): Rebuild {
    this.#guard();
    checkOptions(options);
    return this.#projections.rebuild(name, options);
  }

  /** How far each projection is, in whichever process it runs. */
  async projections(): Promise<ProjectionState[]> {
    this.#guard();
    return this.#projections.states();
  }

  /** The topic of a definition, a message or a type name. */
  topicFor(type: AnyMessageType | Message | string): string {
    if (typeof type === "string") return this.#registry.topicFor(type);
    return this.#registry.topicFor(definitionOf(type)?.typeName ?? typeOf(type as Message));
  }

  /** How the app is. Never rejects. */
  health(): Promise<Health> {
    return examine({
      app: this.name,
      status: this.#status,
      readers: this.#followers.map(({ state }) => state),
      projections: this.#projections,
      store: this.store,
      deadLetters: this.deadLetters,
      outbox: this.outbox,
      stores: this.#stores,
    });
  }

  // Life.

  /**
   * Opens the stores and begins to read the log; with a broker, declares and consumes a queue for each handler. Safe to call again, also after it
   * failed.
   *
   * @throws {BusUnavailableError} {@link AccessRefusedError} {@link TopologyMismatchError} and what else keeps a queue from being consumed.
   * @throws {CannotOpenStoreError} {@link NotADatabaseError} {@link NewerSchemaError} and what else keeps a store from opening.
   */
  start(): Promise<this> {
    if (this.#status === "closed") return Promise.reject(this.#closedError());
    this.#starting ??= this.#start().catch(async (error: unknown) => {
      this.#starting = undefined;
      await this.#shut().catch(() => undefined);
      throw error;
    });
    return this.#starting;
  }

  /** Opens the adapters, once; a broker is connected to when something is sent. */
  #open(): Promise<unknown> {
    this.#opening ??= this.#bridge
      .run(() => this.#stores.open(this.#registry.native.app))
      .then(
        () => {
          this.#opened = true;
        },
        (error) => {
          this.#opening = undefined;
          throw error;
        },
      );
    return this.#opening;
  }

  /** Closes the adapters. */
  async #shut(): Promise<void> {
    this.#opened = false;
    this.#opening = undefined;
    this.#consumers?.close();
    this.#consumers = undefined;
    await this.#bridge.run(() => this.#stores.close());
    this.#bridge.forget(this.#heard);
  }

  async #start(): Promise<this> {
    if (this.#status === "closed") throw this.#closedError();
    this.#bridge.hear(this.#heard);
    await this.#open();
    const host = {
      ...this.#subscriptionHost(),
      bus: this.#bus,
      origin: this.#origin,
      deliveries: this.#deliveries,
      warn: (message: string, error: unknown) => this.#warn(message, error),
      local: !this.#hasBroker,
      undecodable: (route: Route, row: Row, error: unknown) => this.#undecodable(route, row, error),
    };
    this.#consumers = new Consumers(host);
    await this.#consumers.start();
    this.#deliveries.behind(this.#deliveries.announceParked());
    if (this.#hasBroker) {
      await this.#bridge.run(() => this.#stores.startRelay(this.#registry.native));
    } else {
      this.#followers = [...this.#readers].map(
        ([route, { start, poison }]) => new LogFollower(host, route, start, poison),
      );
      for (const follower of this.#followers) await follower.open();
    }
    await this.#projections.open();
    this.#status = "running";
    this.#bus.running = true;
    this.#projections.follow();
    for (const follower of this.#followers) this.#deliveries.behind(follower.follow());
    this.#consumers.begin();
    return this;
  }

  /**
   * Stops accepting, waits for what is under way, and closes the stores. Safe to call again. What waits for a retry becomes a dead letter; with a
   * broker it waits there, and what no handler has begun goes back to its queue.
   *
   * @throws {StoreUnavailableError} if what was accepted could not be stored.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const started = this.#starting;
    this.#status = "closed";
    this.#bus.running = false;
    if (started === undefined && this.#opening === undefined) return;
    // A start that failed was reported to whoever started.
    await (started ?? this.#opening)?.catch(() => undefined);
    this.#status = "closed";
    this.#bus.running = false;
    const over = new AbortController();
    const limit = SYSTEM.clock.sleep(this.#closeTimeoutMs, over.signal);
    await Promise.race([this.#drain(), limit]);
    over.abort();
    // Also when a handler did not end in time: who reads the log would ask the closed store for ever.
    this.#deliveries.interrupt();
    await this.#shut();
  }

  /** Finishes what is under way. */
  async #drain(): Promise<void> {
    this.#draining = true;
    try {
      await this.#consumers?.pause();
      await this.#consumers?.settled();
    } finally {
      this.#draining = false;
    }
    await this.#deliveries.close();
    // So that another process reads on at once.
    await Promise.allSettled([...this.#reading].map((one) => one.letGo()));
    this.#reading.clear();
  }

  /**
   * Starts, runs until `signal` is aborted or the process is told to end (SIGINT, SIGTERM), and closes. A second SIGINT or SIGTERM ends the
   * process at once.
   */
  async run(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const told = new ToldToEnd(options.signal);
    try {
      await this.start();
      await told.first;
      await this.close();
    } finally {
      told.dispose();
    }
  }

  /** As {@link Orkestra.close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  // Within.

  #sender(): Omit<Sender, "command"> {
    return {
      dispatchFrom: (command, options, from) => this.#bus.dispatch(command, options, from),
      sendFrom: (command, options, from) => this.#bus.send(command, options, from),
      publishFrom: (event, options, from) => this.#bus.publish(event, options, from),
      executeFrom: (aggregate, command, options, from) =>
        this.#execute(aggregate, command, options, from),
      appendFrom: (
        stream: string,
        events: readonly Event[],
        options: AppendOptions | undefined,
        from: Context,
      ): Promise<Appended> =>
        this.store.appendStamped(stream, events, options, (event) =>
          this.#bus.stampEvent(event, undefined, from),
        ),
    };
  }

  #subscriptionHost(): {
    bridge: Bridge;
    stores: NativeStores;
    registry: Registry;
    closing: AbortSignal;
    reading: Set<Subscription>;
  } {
    return {
      bridge: this.#bridge,
      stores: this.#stores,
      registry: this.#registry,
      closing: this.#deliveries.closing,
      reading: this.#reading,
    };
  }

  /** With a broker one may send before the app has started; while it closes, only what is under way may. */
  #guardSending(cause: Context | undefined): void {
    if (!this.#hasBroker) {
      this.#guard();
      return;
    }
    if (this.#status !== "closed" || (this.#draining && cause !== undefined)) return;
    throw this.#closedError();
  }

  #guard(): void {
    if (this.#status === "running") return;
    if (this.#status === "closed") throw this.#closedError();
    throw new NotStartedError(`the app ${this.name} has not been started`, { app: this.name });
  }

  #closedError(): ClosedError {
    return new ClosedError(`the app ${this.name} is closed`, { app: this.name });
  }

  #registering(what: string): void {
    if (this.#starting === undefined && this.#status === "new") return;
    if (this.#status === "closed") throw this.#closedError();
    throw new AlreadyStartedError(
      `the app ${this.name} has been started: register ${what} before`,
      {
        app: this.name,
        what,
      },
    );
  }

  #nameOf(handler: unknown): string {
    if (!this.#named) return this.#registry.nameFor(handler);
    const what = this.#hasBroker ? "the broker" : "the store";
    const reason = `it has no name: ${what} outlives this process, so its place needs one`;
    const about = "an event handler";
    throw new InvalidHandlerError(`handler ${about}: ${reason}`, { handler: about, reason });
  }

  /** What the core warns of. */
  readonly #heard = (text: string): void => {
    try {
      if (this.#logger !== undefined) this.#logger.warn({}, text);
      else process.emitWarning(text, "OrkestraWarning");
    } catch (error) {
      // Nobody waits for this: a logger that fails would end the process.
      process.emitWarning(`${text} (the logger: ${String(error)})`, "OrkestraWarning");
    }
  };

  #warn(message: string, error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    if (this.#logger !== undefined) this.#logger.warn({ app: this.name, err: error }, message);
    else process.emitWarning(`${message}: ${text}`, "OrkestraWarning");
  }

  /** A recorded event that does not decode: a dead letter at once. */
  #undecodable(route: Route, row: Row, error: unknown): Promise<boolean> {
    const { type, version, data } = row;
    const stamp = Metadata.read(row.id, row.metadata);
    return this.#deliveries.park(route, { type, version, data, stamp, error });
  }
}

/** What `aggregate()` made. */
function executorOf(given: unknown): Executor {
  if (typeof given === "object" && given !== null && "spec" in given) return given as Executor;
  const [aggregate, reason] = [shown(given), "expected what aggregate() makes"];
  throw new InvalidAggregateError(`aggregate ${aggregate}: ${reason}`, { aggregate, reason });
}
