/**
 * Which types and handlers an app has: what the core resolved, kept by definition.
 *
 * @packageDocumentation
 */
import { checkOptions, notAStart, shown } from "./arguments.js";
import { InvalidHandlerError, NoHandlerError } from "./errors.js";
import type {
  EventHandlerOptions,
  EventSelector,
  HandlerOptions,
  Poison,
  Start,
} from "./handlers.js";
import type { Inbox } from "./inbox.js";
import {
  type AnyCommandType,
  type AnyEventType,
  type Command,
  definitionOf,
  type Model,
  modelOf,
  wrongKind,
} from "./message.js";
import type { Metadata } from "./metadata.js";
import { attempt, type NativeRegistry, native } from "./native.js";
import { isCount, policyToWire } from "./retry.js";
import { type Call, Route } from "./route.js";

/** The types and handlers of an app. */
export class Registry {
  readonly native: NativeRegistry;
  readonly #models: Model[] = [];
  readonly #byName = new Map<string, Model | undefined>();
  readonly #byTopic = new Map<string, Model>();
  readonly #commands = new Map<Model, Route>();
  readonly #byIdentity: Route[] = [];
  readonly #events = new Map<Model, readonly Route[]>();
  readonly #routes: Route[] = [];
  #inboxOf: (handler: string, stamp: Metadata) => Inbox = () => {
    throw new TypeError("the app has no stores");
  };

  constructor(name: string, appPrefix: string | undefined) {
    this.native = attempt(() => new native.Registry(name, appPrefix));
  }

  /** Makes the inboxes of handlers. */
  set inboxes(inboxOf: (handler: string, stamp: Metadata) => Inbox) {
    this.#inboxOf = inboxOf;
  }

  /** The handlers, in order of registration. */
  get routes(): readonly Route[] {
    return this.#routes;
  }

  /** Makes a type known and returns its number. */
  addType(model: Model): number {
    const { kind, typeName, version, aliases, identity } = model;
    const json = JSON.stringify({
      kind,
      type_name: typeName,
      version,
      aliases,
      identity,
      origin: `${kind}("${typeName}")`,
    });
    const index = attempt(() => this.native.addType(json));
    this.#models[index] = model;
    this.#byTopic.set(this.topicFor(typeName), model);
    this.#byName.clear();
    this.#events.clear();
    return index;
  }

  /** Registers the handler of a command. */
  addCommand(type: AnyCommandType, call: Call, options: HandlerOptions): Route {
    const model = definitionOf(type);
    if (model?.kind !== "command") throw wrongKind("command", type);
    checkCallable(call, options);
    const spec = specOf([this.addType(model)], [], options);
    const route = this.#add(
      this.native.addCommandHandler.bind(this.native),
      spec,
      call,
      options,
      model,
    );
    this.#commands.set(model, route);
    this.#byIdentity[model.identity] = route;
    return route;
  }

  /** Registers an event handler. */
  addEvent(selector: EventSelector, call: Call, options: HandlerOptions): Route {
    const { types, topics } = split(selector);
    const models = types.map((type) => {
      const model = definitionOf(type);
      if (model?.kind !== "event") throw wrongKind("event", type);
      return model;
    });
    checkCallable(call, options);
    const spec = specOf(
      models.map((model) => this.addType(model)),
      topics,
      options,
    );
    this.#events.clear();
    return this.#add(this.native.addEventHandler.bind(this.native), spec, call, options, undefined);
  }

  #add(
    register: (json: string) => number,
    spec: object,
    call: Call,
    options: HandlerOptions,
    model: Model | undefined,
  ): Route {
    const index = attempt(() => register(JSON.stringify(spec)));
    const facts = JSON.parse(this.native.handler(index)) as {
      name: string;
      full_name: string;
      concurrency: number;
    };
    const { name, full_name: fullName, concurrency } = facts;
    const { timeoutMs, inbox = false } = options;
    const isCommand = model !== undefined;
    const route = new Route(
      { index, name, fullName, concurrency, timeoutMs, isCommand, inbox, model },
      inbox ? withInbox(call, (stamp) => this.#inboxOf(fullName, stamp)) : call,
    );
    this.#routes[index] = route;
    return route;
  }

  /** The handler of a command; `undefined` for anything else too. An array, as this is the hottest of all lookups. */
  commandOf(command: Command): Route | undefined {
    const model = modelOf(command);
    return model === undefined ? undefined : this.#byIdentity[model.identity];
  }

  /** The handler of a command. */
  command(model: Model): Route | undefined {
    return this.#commands.get(model);
  }

  /** Throws that nobody handles a command. */
  noHandler(model: Model): never {
    const topic = this.topicFor(model.typeName);
    throw new NoHandlerError(`no handler for ${topic}`, { topic });
  }

  /** The handlers of an event, each once, in order of registration. */
  events(model: Model): readonly Route[] {
    return this.#events.get(model) ?? this.#resolve(model);
  }

  #resolve(model: Model): readonly Route[] {
    // A raw event has no definition to make known.
    if (model.identity > 0) this.addType(model);
    const indexes = this.native.eventHandlers(model.typeName);
    const routes = indexes.map((index) => this.#routes[index] as Route);
    if (model.identity > 0) this.#events.set(model, routes);
    return routes;
  }

  /** The model of a type name or alias, `undefined` if the app does not know it. */
  readonly lookup = (typeName: string): Model | undefined => {
    if (this.#byName.has(typeName)) return this.#byName.get(typeName);
    const index = this.native.typeNamed(typeName);
    const model = index === null ? undefined : this.#models[index];
    // Names come from the log: only known ones are kept, so that the map stays small.
    if (model !== undefined) this.#byName.set(typeName, model);
    return model;
  };

  /**
   * The model of what arrived: by its type name, else by its topic, which is what services agree on: another service may have another name for
   * the type.
   */
  arrived(typeName: string, topic: string): Model | undefined {
    return this.lookup(typeName) ?? this.#byTopic.get(topic);
  }

  /** The topic of a type name, known or not. */
  topicFor(typeName: string): string {
    return attempt(() => this.native.topicFor(typeName));
  }

  /** A free name for an event handler that has none: the function's own, or a number. */
  nameFor(handler: unknown): string {
    const name = typeof handler === "function" ? handler.name : "";
    const taken = this.#routes.some((route) => route.name === name);
    return /^\w+$/.test(name) && !taken ? name : `handler_${this.#routes.length + 1}`;
  }

  /** The handler of that full name. */
  routeNamed(fullName: string): Route | undefined {
    return this.#routes.find((route) => route.fullName === fullName);
  }
}

function split(selector: EventSelector): { types: readonly AnyEventType[]; topics: string[] } {
  if (Array.isArray(selector)) return { types: selector as readonly AnyEventType[], topics: [] };
  if (typeof selector === "object" && selector !== null && "topic" in selector) {
    const { topic } = selector;
    return { types: [], topics: typeof topic === "string" ? [topic] : [...topic] };
  }
  return { types: [selector as AnyEventType], topics: [] };
}

function specOf(
  types: readonly number[],
  patterns: readonly string[],
  options: HandlerOptions,
): object {
  const { name, maxRetries, retry = {}, concurrency, timeoutMs, prefetch, inbox } = options;
  const { start, poison } = options as EventHandlerOptions;
  const refuse = (what: string, expected: string, found: unknown): never => {
    const handler = typeof name === "string" ? name : "a handler";
    const reason = `${what}: expected ${expected}, found ${shown(found)}`;
    throw new InvalidHandlerError(`handler ${handler}: ${reason}`, { handler, reason });
  };
  if (name !== undefined && typeof name !== "string") refuse("name", "text", name);
  for (const [what, value] of Object.entries({ maxRetries, concurrency, prefetch })) {
    if (value !== undefined && !isCount(value)) refuse(what, "a whole number", value);
  }
  if ((prefetch ?? 0) > 0xffff) refuse("prefetch", "at most 65535", prefetch);
  if (timeoutMs !== undefined && !(typeof timeoutMs === "number" && timeoutMs > 0)) {
    refuse("timeoutMs", "more than 0", timeoutMs);
  }
  if (typeof retry !== "object" || retry === null) refuse("retry", "a retry policy", retry);
  checkReading(typeof name === "string" ? name : "a handler", start, poison);
  const policy = policyToWire(maxRetries === undefined ? retry : { ...retry, maxRetries });
  return {
    name: name ?? null,
    types,
    patterns,
    policy,
    concurrency: concurrency ?? null,
    timeout_ms: timeoutMs ?? null,
    prefetch: prefetch ?? null,
    inbox: inbox === true,
  };
}

/** The handler, which finds its inbox in its context. */
function withInbox(call: Call, inboxOf: (stamp: Metadata) => Inbox): Call {
  return (message, stamp, context) => {
    context.setInbox(inboxOf(stamp));
    return call(message, stamp, context);
  };
}

/**
 * Checks how a handler reads the log.
 *
 * @throws {InvalidHandlerError} if it begins nowhere, or its policy is none.
 */
export function checkReading(
  handler: string,
  start: Start | undefined,
  poison: Poison | undefined,
): void {
  let reason: string | undefined;
  if (start !== undefined && notAStart(start)) reason = `start: ${notAStart(start)}`;
  if (poison !== undefined && !["park", "skip", "stop"].includes(poison)) {
    reason = `poison: expected park, skip or stop, found ${shown(poison)}`;
  }
  if (reason === undefined) return;
  throw new InvalidHandlerError(`handler ${handler}: ${reason}`, { handler, reason });
}

function checkCallable(call: unknown, options: HandlerOptions): void {
  checkOptions(options);
  if (typeof call === "function") return;
  const handler = options.name ?? "a handler";
  const reason = `expected a function, found ${typeof call}`;
  throw new InvalidHandlerError(`handler ${handler}: ${reason}`, { handler, reason });
}
